"""``video copy``: what one store has is in another, of any kind."""

from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.gallery.vector_store import open_store

ROWS = np.eye(4, dtype=np.float32)


@pytest.fixture
def source(tmp_path: Path) -> str:
    uri = f"faiss:{tmp_path / 'source'}"
    with open_store(uri) as store:
        for name in ("a.mp4", "b.mp4"):
            collection = store.create(name, {"dim": 4, "source": f"/videos/{name}"})
            collection.add(["0.png", "1.png", "2.png"], ROWS[:3], [{"frame": row} for row in range(3)])
            collection.remove(["1.png"])
    return uri


def _content(uri: str) -> dict[str, tuple[list[str], list[list[float]], list[object], object]]:
    found = {}
    with open_store(uri) as store:
        for name in store.collections():
            ids, vectors, metadata = store.open(name).read()
            found[name] = (ids, vectors.tolist(), list(metadata), store.open(name).note)
    return found


@pytest.mark.parametrize("target", ["faiss:target", "chroma:target"])
def test_a_copy_has_the_same_ids_vectors_metadata_and_notes(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    kind, _, name = target.partition(":")
    if kind == "chroma":
        pytest.importorskip("chromadb")
    target = f"{kind}:{tmp_path / name}"
    for _ in range(2):  # again changes nothing
        assert main(["video", "copy", "--store", source, "--to", target]) == 0
        assert "2 videos with 4 entries copied" in capsys.readouterr().out
        assert _content(target) == _content(source)
    assert list(_content(source)) == ["a.mp4", "b.mp4"]


def test_named_videos_alone_are_copied_and_a_missing_one_is_named(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["video", "copy", "b.mp4", "--store", source, "--to", str(tmp_path / "target")]) == 0
    assert list(_content(str(tmp_path / "target"))) == ["b.mp4"]
    assert main(["video", "copy", "c.mp4", "--store", source, "--to", str(tmp_path / "target")]) == 2
    assert "no collection 'c.mp4'; there are: a.mp4, b.mp4" in capsys.readouterr().err
    assert main(["video", "copy", "--store", str(tmp_path / "none"), "--to", str(tmp_path / "target")]) == 2
    assert "no such vector store" in capsys.readouterr().err
