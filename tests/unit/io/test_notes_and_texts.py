"""Notes of bad files, and texts, bytes and JSON as they are written."""

import json
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import InputError
from naruto_vision.io.atomic import remove_leftovers, write_bytes, write_json, write_text
from naruto_vision.io.quarantine import Quarantine, QuarantinedFile


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 30), st.integers(0, 30), st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_a_run_goes_on_while_enough_is_good(good: int, bad: int, share: float) -> None:
    quarantine = Quarantine("files")
    for _ in range(good):
        quarantine.accept()
    for number in range(bad):
        quarantine.refuse(f"{number}.jpg", "broken")
    assert (quarantine.seen, quarantine.ok, quarantine.quarantined) == (good + bad, good, bad)
    stops = bad > 0 and (good == 0 or bad / (good + bad) > share)
    if stops:
        with pytest.raises(InputError, match=r"first 0\.jpg: broken$"):
            quarantine.check(share)
    else:
        quarantine.check(share)


def test_notes_of_bad_files_keep_their_order_and_letters(tmp_path: Path) -> None:
    quarantine = Quarantine()
    for name in ("名.jpg", 'q"uote.png', "a\nb.gif", "名.jpg"):
        quarantine.refuse(name, "why\nand more")
    quarantine.write(tmp_path / "new" / "q.jsonl")
    text = (tmp_path / "new" / "q.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line)["path"] for line in text.splitlines()] == [row.path for row in quarantine.rows]
    assert "名.jpg" in text  # as itself, for people to read
    assert {row.reason for row in quarantine.rows} == {"why"}
    Quarantine().write(tmp_path / "new" / "q.jsonl")
    assert (tmp_path / "new" / "q.jsonl").read_bytes() == b""


def test_a_note_of_a_bad_file_cannot_be_changed() -> None:
    row = QuarantinedFile("a", "b")
    with pytest.raises(FrozenInstanceError):
        row.path = "c"


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=40).filter(lambda text: text < "\ud800" or text.isascii()))
def test_text_and_bytes_are_written_as_they_are(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    write_text(folder / "a", text)
    assert (folder / "a").read_bytes() == text.encode()
    write_bytes(folder / "a", b"\r\n\0")
    assert (folder / "a").read_bytes() == b"\r\n\0"


@pytest.mark.parametrize(("indent", "text"), [(None, '{"a": [1, "é"]}\n'), (1, '{\n "a": [\n  1,\n  "é"\n ]\n}\n')])
def test_json_is_written_on_one_line_or_laid_out(tmp_path: Path, indent: int | None, text: str) -> None:
    write_json(tmp_path / "a.json", {"a": [1, "é"]}, indent=indent)
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


def test_leftovers_that_are_links_go_and_what_they_point_to_stays(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("x")
    (tmp_path / ".tmp-link").symlink_to(tmp_path / "kept.txt")
    assert remove_leftovers(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]
