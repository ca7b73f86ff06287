"""Videos of a session: checked when they arrive, indexed for it alone, and deleted with it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import clips
import pytest

from naruto_vision.errors import InputError
from naruto_vision.ui.service import Service
from naruto_vision.ui.settings import UiConfig

pytestmark = pytest.mark.slow


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _use(service: Service, folder: Path) -> None:
    session, other = service.open_session(), service.open_session()
    data = clips.write(folder / "shown" / "old.mp4").read_bytes()
    first = await service.store(session, "../../a clip.mp4", _chunks(data))
    second = await service.store(session, "a clip.mp4", _chunks(data))
    assert (first.name, first.kind, first.frames, first.width) == ("a clip.mp4", "video", 24, clips.WIDTH)
    assert second.name == "a clip_2.mp4"
    with pytest.raises(InputError, match=r"^bad\.mp4: ") as refused:
        await service.store(session, "bad.mp4", _chunks(b"no video"))
    assert str(session.folder) not in str(refused.value)
    assert "bad.mp4" not in {path.name for path in session.folder.rglob("*")}
    chosen = await service.choose(session, "0/old.mp4")
    job = service.index_videos(session, [first, second, chosen])
    await job.finished.wait()
    assert job.state == "done", job.error
    assert sorted(job.result["videos"]) == ["old.mp4", "uploads/a clip.mp4", "uploads/a clip_2.mp4"]
    assert [each["name"] for each in await service.banks(other)] == ["old.mp4"]
    found = await service.search_videos(session, text="a yellow bar", videos=["uploads/a clip.mp4"], top_k=3)
    assert {each["video"] for each in found["nearest"]} == {"uploads/a clip.mp4"}
    assert [(words, query["text"]) for words, _, query in session.queries] == [("a yellow bar", "a yellow bar")]
    assert other.queries == []
    with pytest.raises(InputError, match="at most 1000 letters"):
        await service.search_videos(session, text="a" * 1001)
    service.close_session(session)
    assert not session.folder.exists()
    assert [each["name"] for each in await service.banks(other)] == ["old.mp4"]


def test_uploads_are_of_their_session_and_videos_of_the_folders_are_for_all(tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    service = Service(UiConfig(folders=(tmp_path / "shown",), store=f"faiss:{tmp_path / 'store'}"))
    try:
        asyncio.run(_use(service, tmp_path))
    finally:
        service.close()
    assert not service.folder.exists()
    shutil.rmtree(tmp_path / "store")  # the server's own videos stay
