"""Bad files are counted and noted, and stop a run only where there are too many."""

import json
from pathlib import Path

import pytest

from naruto_vision.errors import InputError
from naruto_vision.io.quarantine import Quarantine


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
    with pytest.raises(InputError, match=r"^none of 1 files can be read; first a\.jpg: empty$"):
        quarantine.check(1.0)
