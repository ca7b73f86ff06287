"""The tasks of the tab Gallery over a small drawn gallery: edits, suspects, unknown regions, and the service's part."""

import asyncio
import importlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_gallery import COLOURS, build, noisy
from fastapi import FastAPI
from fastapi.testclient import TestClient

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import InputError
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.store import writer_lock
from naruto_vision.io.images import read_image, write_image
from naruto_vision.ui.api import add_api
from naruto_vision.ui.engine import Engine, Watch
from naruto_vision.ui.guard import Guard
from naruto_vision.ui.models import Models
from naruto_vision.ui.service import Job, Service
from naruto_vision.ui.settings import UiConfig
from naruto_vision.ui.tasks import gallery as tasks


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Models]:
    """A gallery of two names with four images each, and what has opened it."""
    folder = tmp_path_factory.mktemp("made")
    build(folder, ClipEncoder("tiny-clip"))
    (folder / "runs").rename(folder / "kept")
    return folder, Models({"p": str(folder / "runs")}, ("tiny-sam",), "faiss:none")


@pytest.fixture
def place(made: tuple[Path, Models]) -> Path:
    """The folder with the gallery as it was built, in ``runs``."""
    shutil.rmtree(made[0] / "runs", ignore_errors=True)
    shutil.copytree(made[0] / "kept", made[0] / "runs")
    return made[0]


@pytest.fixture
def models(made: tuple[Path, Models], place: Path) -> Models:  # noqa: ARG001 - the gallery is there
    return made[1]


def labels(place: Path) -> list[str]:
    return [row.label for row in Gallery.open(place / "runs" / "gallery").rows]


def test_entries_are_removed_relabelled_and_restored(models: Models, place: Path) -> None:
    assert tasks.relabel(models, preset="p", ids=[0, 1], label=" kenta ")["relabelled"] == 2
    found = tasks.remove(models, preset="p", ids=[7])
    assert (found["generation"], found["rows"], found["removed"], found["stale_since"]) == (3, 7, 1, 3)
    assert labels(place) == ["kenta"] * 2 + ["ayame"] * 2 + ["kenta"] * 3
    assert len(models.analyzer("p").gallery) == 7  # what is open has the change too
    back = tasks.rollback(models, preset="p", generation=1)
    assert (back["added"], back["relabelled"], back["stale_since"]) == (1, 2, None)
    assert labels(place) == ["ayame"] * 4 + ["kenta"] * 4


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        (tasks.remove, {"ids": [99]}, "no entry with id 99"),
        (tasks.remove, {"ids": list(range(8))}, "at least one"),
        (tasks.relabel, {"ids": [0], "label": "  "}, "expected 1 to 200 characters, found 0"),
        (tasks.relabel, {"ids": [0], "label": "unknown"}, "reserved"),
        (tasks.rollback, {"generation": 1}, "an earlier generation, of which there is none yet"),
    ],
)
def test_a_wrong_edit_changes_nothing(
    models: Models, place: Path, task: Callable[..., Any], arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        task(models, preset="p", **arguments)
    assert Gallery.open(place / "runs" / "gallery").generation == 1


def test_images_are_added_in_one_generation_and_found(models: Models, place: Path) -> None:
    files = []
    for number in range(2):
        path = place / f"new{number}.png"
        write_image(path, noisy((60, 200, 60), 50 + number))
        files.append((f"brought {number}.png", str(path)))
    found = tasks.add(models, preset="p", files=[*files, files[0]], label="noel <b>")
    assert (found["generation"], found["added"], found["already"], found["label"]) == (2, 2, 1, "noel <b>")
    hit = models.analyzer("p").search(files[1][1], k=1).hits[0].neighbour
    assert hit.label == "noel <b>"
    assert hit.score > 0.999
    assert np.array_equal(read_image(place / "runs" / "gallery" / hit.path), read_image(files[1][1]))
    with pytest.raises(InputError, match="the gallery has it as noel <b> already"):
        tasks.add(models, preset="p", files=files, label="noel <b>")
    with pytest.raises(InputError, match="in the gallery as noel <b>; relabel it"):
        tasks.add(models, preset="p", files=files[:1], label="ayame")


def test_a_gallery_without_a_folder_takes_no_images(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = models.analyzer("p")
    monkeypatch.setattr(opened.gallery, "folder", "chroma:store")
    monkeypatch.setattr(models, "analyzer", lambda _: opened)
    with pytest.raises(InputError, match="chroma:store: a vector store keeps no images; add files with `naruto-vision"):
        tasks.add(models, preset="p", files=[], label="noel")


def test_a_region_is_added_by_its_box(models: Models, place: Path) -> None:
    scene = np.full((48, 64, 3), 255, np.uint8)
    scene[8:40, 10:42] = crop = noisy((60, 200, 60), 7)
    write_image(place / "scene.png", scene)
    tasks.add_region(
        models, preset="p", path=str(place / "scene.png"), name="scene.png", box=(10, 8, 41, 39), label="noel"
    )
    row = Gallery.open(place / "runs" / "gallery").rows[-1]
    assert row.label == "noel"
    assert np.array_equal(read_image(place / "runs" / "gallery" / row.path), crop)


def test_suspects_are_the_entries_among_another_label(models: Models) -> None:
    steps: list[tuple[int, int]] = []

    def step(done: int, total: int, _news: object) -> None:
        steps.append((done, total))

    assert tasks.suspects(models, step, preset="p", out="")["suspects"] == []
    tasks.relabel(models, preset="p", ids=[1], label="kenta")
    found = tasks.suspects(models, step, preset="p", out="")
    (one,) = found["suspects"]
    assert (one["id"], one["label"], one["rival"], found["compared"], found["found"]) == (1, "kenta", "ayame", 8, 1)
    assert one["path"] == "ayame/1.png"
    assert one["nearest"] in {"ayame/0.png", "ayame/2.png", "ayame/3.png"}
    assert all(jpeg[:2] == b"\xff\xd8" for jpeg in one["thumbnails"])
    assert steps[-1] == (2, 2)


def test_unknown_regions_are_grouped_and_named(models: Models, place: Path) -> None:
    colours = {"green": (60, 200, 60), "grey": (128, 128, 128)}
    for index, (name, seed) in enumerate([("green", 1), ("grey", 2), ("green", 3), ("green", 4)]):
        image = noisy(colours[name], seed)
        write_image(place / "runs" / "ui" / "one" / "a_crops" / f"seg_{index:02d}_unknown_0.{index}0.jpg", image)
    write_image(place / "runs" / "ui" / "one" / "a_crops" / "seg_09_ayame_0.95.jpg", noisy(COLOURS["ayame"], 5))
    known = noisy(COLOURS["kenta"], 6)  # unknown then, and named by the gallery now
    write_image(place / "runs" / "ui" / "one" / "a_crops" / "seg_10_unknown_0.10.jpg", known)
    folders = [("one", str(place / "runs" / "ui" / "one"))]

    def group(alike: float | None = 0.97) -> dict[str, Any]:
        return tasks.unknown(models, lambda *_: None, preset="p", folders=folders, alike=alike, out="")

    found = group()
    captions = [[crop["caption"] for crop in crops] for crops in found["groups"]]
    assert captions == [["one: a, region 1", "one: a, region 3", "one: a, region 4"], ["one: a, region 2"]]
    assert (found["seen"], found["named"]) == (5, 1)
    assert len(group(-1.0)["groups"]) == 1
    files = [(crop["name"], crop["path"]) for crop in found["groups"][0]]
    assert tasks.add(models, preset="p", files=files, label="noel", crops=True)["added"] == 3
    again = group(None)
    assert [[crop["caption"] for crop in crops] for crops in again["groups"]] == [["one: a, region 2"]]
    assert again["named"] == 4


def test_groups_are_joined_down_to_a_mean_cosine() -> None:
    angles = np.radians([0, 10, 80, 90, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert tasks.grouped(vectors, 0.95) == [[0, 1], [2, 3], [4]]
    assert tasks.grouped(vectors, -1.0) == [[0, 1, 2, 3, 4]]
    assert tasks.grouped(vectors[:1], 0.95) == [[0]]


def test_the_cosine_of_groups_separates_the_labels_of_the_gallery(models: Models) -> None:
    gallery = models.analyzer("p").gallery
    cosines = gallery.vectors @ gallery.vectors.T
    found = tasks.alike_from(gallery)
    assert cosines[:4, 4:].max() < found
    assert np.median(cosines[:4, :4]) >= found


class Here(Engine):
    """Runs the tasks in this process."""

    def __init__(self, models: Models) -> None:
        super().__init__({})
        self.models = models

    async def call(self, task: str, /, **arguments: Any) -> Any:
        module, _, name = task.partition(".")
        return getattr(importlib.import_module(f"naruto_vision.ui.tasks.{module}"), name)(self.models, **arguments)

    def job(self, task: str, watch: Watch, /, **arguments: Any) -> tuple[int, asyncio.Future[Any]]:
        return 0, asyncio.ensure_future(self.call(task, step=watch, **arguments))


@pytest.fixture
def service(models: Models, place: Path) -> Iterator[Service]:
    service = Service(UiConfig(presets={"p": place / "runs"}, out=place / "runs" / "ui"))
    service.engine = Here(models)
    yield service
    service.close()


def test_edits_through_the_service_say_what_stands_in_their_way(service: Service, place: Path) -> None:
    session = service.open_session()

    async def edit(preset: str) -> dict[str, Any]:
        return await service.edit_gallery(session, preset, "remove", ids=[0])

    with writer_lock(place / "runs" / "gallery"), pytest.raises(InputError, match=r"^p: process \d+ is changing this"):
        asyncio.run(edit("p"))
    with pytest.raises(InputError, match="expected one of p"):
        asyncio.run(edit("q"))
    assert service.generation("p") == 1
    assert asyncio.run(edit("p"))["removed"] == 1
    assert service.generation("p") == 2


def test_a_page_of_a_deleted_session_is_told_to_reload(service: Service) -> None:
    session = service.open_session()
    service.close_session(session)
    with pytest.raises(InputError, match="reload the page"):
        asyncio.run(service.edit_gallery(session, "p", "remove", ids=[0]))
    with pytest.raises(InputError, match="reload the page"):
        service.start(session, "any", "gallery.suspects", preset="p")
    assert service.generation("p") == 1
    assert not session.folder.exists()


def test_work_on_an_open_page_keeps_its_session(service: Service) -> None:
    session = service.open_session()
    session.used = -1e9
    asyncio.run(service.call(session, "scenes.thumbnails", preset="p", rows=[]))
    service.sweep()
    assert service.session(session.key) is session


def test_only_listed_results_are_read(service: Service, place: Path) -> None:
    session = service.open_session()
    (place / "runs" / "ui" / "kept").mkdir(parents=True)
    (place / "runs" / "ui" / "kept" / "predictions.jsonl").write_text("", encoding="utf-8")
    write_image(place / "runs" / "ui" / "kept" / "b_crops" / "seg_00_unknown_0.10.jpg", noisy((60, 200, 60), 1))
    assert list(service.past_runs(session)) == ["kept"]
    for runs in ([], ["../data"]):
        with pytest.raises(InputError, match="choose one or more of the listed results"):
            service.group_unknown(session, "p", runs, None)

    async def group() -> Job:
        job = service.group_unknown(session, "p", ["kept"], None)
        await job.finished.wait()
        return job

    found = asyncio.run(group()).result
    assert [crop["caption"] for crops in found["groups"] for crop in crops] == ["kept: b, region 1"]


def test_a_gallery_is_edited_through_the_api(service: Service, place: Path) -> None:
    app = FastAPI()
    add_api(app, service)
    with TestClient(Guard(app, service, ("testserver",))) as client:
        write_image(place / "new.png", noisy((60, 200, 60), 9))
        (file,) = client.post("/api/files", files={"files": (place / "new.png").open("rb")}).json()
        added = client.post("/api/gallery/p/add", json={"files": [file["id"]], "label": "noel"}).json()
        assert (added["generation"], added["added"], added["label"]) == (2, 1, "noel")
        assert client.post("/api/gallery/p/remove", json={"ids": [1, 2]}).json()["removed"] == 2
        assert client.post("/api/gallery/p/relabel", json={"ids": [0], "label": "kenta"}).json()["relabelled"] == 1
        back = client.post("/api/gallery/p/rollback", json={"generation": 1}).json()
        assert (back["generation"], back["rows"], back["added"]) == (5, 8, 2)
        assert client.get("/api/gallery/p").json()["labels"] == {"ayame": 4, "kenta": 4}
        for route, body in {
            "remove": {"ids": []},
            "relabel": {"ids": [1 << 70], "label": "kenta"},
            "rollback": {"generation": 9},
            "add": {"files": ["forged"], "label": "kenta"},
        }.items():
            assert client.post(f"/api/gallery/p/{route}", json=body).status_code == 422
        assert service.generation("p") == 5


def test_the_gallery_of_the_examples_is_used_when_they_are_drawn(service: Service) -> None:
    service.preparing = job = Job("key", "drawing the examples", service.folder)
    with pytest.raises(InputError, match="still being drawn"):
        service.gallery("p")
    assert str(service.readable(None, InputError("as it is"))) == "as it is"
    job.finished.set()
    assert service.gallery("p").total == 8
