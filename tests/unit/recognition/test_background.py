"""Writing behind the search: in order, not far behind, and with every failure told."""

import threading
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from naruto_vision.io.bundles import file_sha256
from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.recognition.writer import LOG, BackgroundWriter, SceneWriter
from naruto_vision.records import ImageArray, ScenePrediction
from naruto_vision.segmentation.crops import CropConfig

IMAGE = np.zeros((8, 8, 3), np.uint8)
SCENES = tuple(f"{number}.png" for number in range(6))
WAIT = 20.0  # seconds until a test that hangs is a failed one


class _Held(SceneWriter):
    """Writes each scene only when it is let, and fails at one of them."""

    def __init__(self, out: Path, fails_at: str = "") -> None:
        super().__init__(out, SCENES, ["a"], {}, crop=CropConfig())
        self.let = threading.Semaphore(0)
        self.threads: set[int] = set()
        self._fails_at = fails_at

    @override
    def write(self, image: ImageArray, prediction: ScenePrediction, sha256: str = "") -> None:
        assert self.let.acquire(timeout=WAIT)
        self.threads.add(threading.get_ident())
        if prediction.scene == self._fails_at:
            raise OSError(28, "No space left on device")
        super().write(image, prediction, sha256)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for scene in SCENES:
        (tmp_path / scene).write_bytes(scene.encode())
    return tmp_path


def prediction(scene: str) -> ScenePrediction:
    return ScenePrediction(scene, 8, 8)


def written(out: Path) -> list[str]:
    return [record["scene"] for record in read_json_lines(out / LOG, dict)]


def test_scenes_are_written_in_order_by_another_thread(images: Path) -> None:
    writer = _Held(images / "out")
    writer.let.release(len(SCENES))
    behind = BackgroundWriter(writer, images)
    for scene in SCENES:
        behind.write(IMAGE, prediction(scene))
    behind.close()
    writer.close()
    assert written(writer.out) == list(SCENES)
    hashes = [record["sha256"] for record in read_json_lines(writer.out / LOG, dict)]
    assert hashes == [file_sha256(images / scene) for scene in SCENES]
    assert len(writer.threads) == 1
    assert threading.get_ident() not in writer.threads


def test_searching_goes_on_until_two_scenes_wait(images: Path) -> None:
    writer = _Held(images / "out")
    behind = BackgroundWriter(writer, images)
    for scene in SCENES[:2]:
        behind.write(IMAGE, prediction(scene))  # returns at once, although nothing can be written yet
    assert written(writer.out) == []
    third = threading.Thread(target=behind.write, args=(IMAGE, prediction(SCENES[2])))
    third.start()
    third.join(timeout=0.2)
    assert third.is_alive()  # memory stays flat: it waits for the first
    writer.let.release(3)
    third.join(timeout=WAIT)
    assert not third.is_alive()
    behind.close()
    writer.close()
    assert written(writer.out) == list(SCENES[:3])


def test_a_failure_is_told_and_nothing_is_written_behind_it(images: Path) -> None:
    writer = _Held(images / "out", fails_at=SCENES[1])
    writer.let.release(len(SCENES))
    behind = BackgroundWriter(writer, images)
    for scene in SCENES[:2]:
        behind.write(IMAGE, prediction(scene))
    for waiting in list(vars(behind)["_waiting"]):
        waiting.exception(timeout=WAIT)
    with pytest.raises(OSError, match="No space left"):
        behind.write(IMAGE, prediction(SCENES[2]))
    behind.close()
    writer.close()
    assert written(writer.out) == [SCENES[0]]


def test_a_failure_of_the_last_scene_is_told_when_closing(images: Path) -> None:
    writer = _Held(images / "out", fails_at=SCENES[0])
    behind = BackgroundWriter(writer, images)
    for scene in SCENES[:2]:
        behind.write(IMAGE, prediction(scene))
    writer.let.release(2)
    with pytest.raises(OSError, match="No space left"):
        behind.close()
    writer.close()
    assert written(writer.out) == []
