"""The guard and the service without a server: links, slow bodies, limits of a session, leftovers of killed servers."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.ui.api import add_api
from naruto_vision.ui.engine import BusyError, LostError
from naruto_vision.ui.guard import COOKIE, Guard
from naruto_vision.ui.service import PREFIX, Service, Session, remove_leftovers
from naruto_vision.ui.settings import Limits, UiConfig


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    limits = Limits(session_bytes=1000, session_waiting=2, jobs=3, sessions=4, receive_seconds=0.5, idle_seconds=100.0)
    made = Service(UiConfig(limits=limits, presets={"own": tmp_path / "secret place/runs"}))
    yield made
    made.close()


def _guarded(service: Service) -> Guard:
    app = FastAPI()
    add_api(app, service)
    return Guard(app, service, ["testserver"])


def _client(service: Service, session: Session | None = None) -> httpx.AsyncClient:
    cookies = {} if session is None else {COOKIE: session.key}
    transport = httpx.ASGITransport(_guarded(service))
    return httpx.AsyncClient(transport=transport, base_url="http://testserver", cookies=cookies)


def test_links_are_of_one_session_and_run_no_scripts(service: Service) -> None:
    first, second = service.open_session(), service.open_session()
    page = first.new_folder() / "index.html"
    page.write_text("<script>alert(1)</script>", encoding="utf-8")
    address = f"/files/{first.link(page)}/index.html"

    async def check() -> None:
        async with _client(service, first) as own, _client(service, second) as other, _client(service) as nobody:
            found = await own.get(address)
            assert (found.status_code, found.text) == (200, "<script>alert(1)</script>")
            assert found.headers["content-security-policy"] == "sandbox"  # without scripts and an origin of its own
            assert found.headers["x-content-type-options"] == "nosniff"
            assert (await other.get(address)).status_code == 404
            assert (await nobody.get(address)).status_code == 401
            service.close_session(first)
            assert (await own.get(address)).status_code == 401

    asyncio.run(check())
    assert not page.exists()
    with pytest.raises(InputError, match="this session has ended"):
        first.new_folder()


@pytest.mark.parametrize("parts", [[], [b"1"], [b"1"] * 50])
def test_a_slow_body_is_given_up(service: Service, parts: list[bytes]) -> None:
    sent: list[dict[str, Any]] = []
    left = list(parts)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.06 if left else 60.0)
        return {"type": "http.request", "body": left.pop(), "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"testserver"), (b"content-type", b"application/json"), (b"content-length", b"1000")]
    scope = {
        "type": "http", "method": "POST", "path": "/api/search", "raw_path": b"/api/search", "query_string": b"",
        "headers": headers, "http_version": "1.1", "scheme": "http", "client": ("1.2.3.4", 1), "server": ("x", 1),
    }  # fmt: skip
    began = time.monotonic()
    asyncio.run(_guarded(service)(scope, receive, send))
    assert sent[0]["status"] == 408
    assert time.monotonic() - began < 2.5  # although parts kept on coming


async def _some(size: int) -> AsyncIterator[bytes]:
    yield b"x" * size


def test_uploads_of_a_session_are_bounded_together(service: Service) -> None:
    session = service.open_session()
    session.bytes = 900
    with pytest.raises(InputError, match=r"a\.png: is larger"):
        asyncio.run(service.store(session, "a.png", _some(101)))
    assert not list(session.folder.rglob("*.png"))


def test_jobs_of_a_session_are_bounded_and_old_results_deleted(service: Service) -> None:
    session = service.open_session()

    async def run() -> None:
        answers: list[asyncio.Future[Any]] = []

        def queue(*_: Any, **__: Any) -> tuple[int, "asyncio.Future[Any]"]:
            answers.append(asyncio.get_running_loop().create_future())
            return len(answers), answers[-1]

        service.engine.job = queue  # type: ignore[method-assign]  # a task that ends when the test wants
        jobs = []
        for number in range(6):
            jobs.append(service.start(session, str(number), "x.y"))
            (jobs[-1].out / "a.txt").write_text("a", encoding="utf-8")
            assert service.results(session, jobs[-1])
            answers[-1].set_result(None)
            await jobs[-1].finished.wait()
        assert [job.title for job in session.jobs.values()] == ["3", "4", "5"]
        assert [job.out.exists() for job in jobs] == [False] * 3 + [True] * 3
        assert len(session.links) == 3
        service.start(session, "a", "x.y")
        last = service.start(session, "b", "x.y")
        with pytest.raises(BusyError, match="2 jobs of this session"):
            service.start(session, "c", "x.y")
        answers[-1].set_exception(LostError())
        await last.finished.wait()
        assert isinstance(last.fault, LostError)
        service.start(session, "c", "x.y")

    asyncio.run(run())


def test_empty_sessions_make_room_before_others(service: Service) -> None:
    kept = [service.open_session() for _ in range(2)]
    for session in kept:
        session.files["x"] = None  # type: ignore[assignment]  # that there is one is enough
    for _ in range(20):
        service.open_session()
    assert len(service.sessions) == 4
    assert all(service.session(session.key) is session for session in kept)
    kept[0].used -= 1000
    service.sweep()
    assert service.session(kept[0].key) is None
    assert not kept[0].folder.exists()


def test_errors_name_no_place_of_the_server(service: Service) -> None:
    session = service.open_session()
    place = service.presets["own"]
    for error in (
        InputError(f"{place}/gallery/meta.jsonl: is damaged"),
        NarutoVisionError(f"{session.folder}/a.png: x"),
    ):
        found = service.readable(session, error)
        assert type(found) is type(error)
        assert "/" + place.parts[1] not in str(found)


def test_what_killed_servers_left_is_removed_and_living_ones_stay(service: Service, tmp_path: Path) -> None:
    code = (
        "import time; from naruto_vision.ui.service import *; Service(UiConfig()); print(1, flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (left,) = set(tmp_path.glob(f"{PREFIX}*")) - {service.folder}
        (left / "a.png").write_bytes(b"x")
        remove_leftovers(tmp_path)
        assert left.exists()
        other.send_signal(signal.SIGKILL)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".server").touch()
    (tmp_path / f"{PREFIX}link").symlink_to(elsewhere)
    remove_leftovers(tmp_path)
    assert not left.exists()
    assert service.folder.exists()
    assert elsewhere.exists()
