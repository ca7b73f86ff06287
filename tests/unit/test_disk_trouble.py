"""What the disk refuses is one line that names the place and says what to do; defects stay loud."""

import errno
import os
from pathlib import Path

import pytest

from naruto_vision.cli.main import main

TRUTH = '{"a.png": [{"bbox": [0, 0, 9, 9], "label": "Koba"}]}'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("gt.json").write_text(TRUTH)
    Path("run").mkdir()
    Path("run/a.json").write_text('{"preds": []}')
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], out: str) -> str:
    assert main(["evaluate", "--gt", "gt.json", "--preds-dir", "run", "--bootstrap", "0", "--json-out", out]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("out", "told"),
    [
        ("gt.json/deep/out.json", "expected a folder, found a file; choose another path"),
        ("x" * 300 + "/out.json", "the name is too long for this file system"),
    ],
)
def test_places_that_cannot_be_written_are_named(out: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told in refused(capsys, out)
    assert Path("gt.json").read_text() == TRUTH  # nothing was lost


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EACCES, "out/here: permission denied; change it, or choose another path"),
        (errno.EROFS, "out/here: the file system is read-only"),
        (errno.ENOSPC, "out/here: the disk is full; free some space"),
        (errno.EIO, "out/here: the disk cannot be read or written"),
        (errno.ELOOP, "out/here: the link leads back to itself"),
        (errno.EISDIR, "out/here: expected a file, found a folder"),
    ],
)
def test_what_can_be_mended_is_told(
    code: int, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_words: object, **_options: object) -> None:
        raise OSError(code, os.strerror(code), "out/here")

    monkeypatch.setattr("naruto_vision.io.atomic.write_json", fail)
    assert told in refused(capsys, "out.json")


@pytest.mark.usefixtures("world")
def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_words: object, **_options: object) -> None:
        raise MemoryError("9 TiB")

    monkeypatch.setattr("naruto_vision.io.atomic.write_json", fail)
    assert "error: not enough memory (9 TiB); give fewer" in refused(capsys, "out.json")


@pytest.mark.usefixtures("world")
def test_other_failures_of_the_disk_are_defects(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_words: object, **_options: object) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr("naruto_vision.io.atomic.write_json", fail)
    with pytest.raises(OSError, match="descriptor"):
        main(["evaluate", "--gt", "gt.json", "--preds-dir", "run", "--bootstrap", "0", "--json-out", "out.json"])


def test_a_group_of_commands_wants_one_more_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gallery"]) == 2
    assert "gallery: a command is missing; expected one of import, copy, list," in capsys.readouterr().err
    assert main(["gallery", "nothing"]) == 2
    assert "gallery nothing: no such command; expected one of import, copy, list," in capsys.readouterr().err
