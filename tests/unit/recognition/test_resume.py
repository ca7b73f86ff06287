import hashlib
import json
from pathlib import Path

from naruto_vision.recognition.writer import forget_changed

LOG = "predictions.jsonl"


def write_log(path: Path, images: Path, scenes: list[str]) -> None:
    digests = {scene: hashlib.sha256((images / scene).read_bytes()).hexdigest() for scene in scenes}
    path.write_text("".join(json.dumps({"scene": s, "sha256": digests[s]}) + "\n" for s in scenes))


def scenes_of(path: Path) -> list[str]:
    return [json.loads(line)["scene"] for line in path.read_text().splitlines()]


def test_only_scenes_with_other_bytes_are_forgotten_in_every_part(tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    out.mkdir()
    for name in "abc":
        (images / name).write_bytes(name.encode())
    write_log(out / LOG, images, ["a", "b"])
    write_log(out / "predictions.rank1.jsonl", images, ["c"])
    with (out / LOG).open("a") as log:
        log.write('{"scene": "\\ud800"}\n{"scene": "\\u0000"}\n')  # names that no file has
    assert forget_changed(out, images, LOG) == []
    (images / "a").write_bytes(b"z")  # as long as before
    (images / "b").unlink()
    (images / "c").write_bytes(b"cc")
    assert forget_changed(out, images, LOG) == ["a", "c"]
    assert scenes_of(out / LOG) == ["b", "\ud800", "\0"]
    assert scenes_of(out / "predictions.rank1.jsonl") == []


def test_a_new_folder_has_nothing_to_forget(tmp_path: Path) -> None:
    assert forget_changed(tmp_path / "out", tmp_path, LOG) == []
