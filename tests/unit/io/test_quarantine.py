"""Bad files are counted and noted, and stop a run only where there are too many."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.errors import InputError
from naruto_vision.io.quarantine import Quarantine, QuarantinedFile


def test_counts_add_up_and_reasons_are_kept(tmp_path: Path) -> None:
    quarantine = Quarantine("images")
    for _ in range(9):
        quarantine.accept()
    quarantine.refuse(tmp_path / "ü.jpg", "truncated\nwith a second line")
    assert quarantine.counts() == {"seen": 10, "ok": 9, "quarantined": 1}
    quarantine.write(tmp_path / "quarantine.jsonl")
    lines = (tmp_path / "quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"path": str(tmp_path / "ü.jpg"), "reason": "truncated"}]
    quarantine.check(0.1)
    with pytest.raises(InputError, match=r"1 of 10 images cannot be read, more than the 9% .*ü\.jpg: truncated"):
        quarantine.check(0.09)


def test_nothing_seen_is_fine_and_nothing_good_is_not() -> None:
    quarantine = Quarantine()
    quarantine.check(0.0)
    quarantine.refuse("a.jpg", "empty")
    with pytest.raises(InputError, match=r"^a\.jpg: empty$"):
        quarantine.check(1.0)


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
    with pytest.raises(AttributeError):
        row.path = "c"
