"""``gt.json`` is believed only when every part of it is as the format says."""

import json
from pathlib import Path

import pytest

from naruto_vision.data.ground_truth import read_gt
from naruto_vision.errors import FormatError, MissingPathError
from naruto_vision.export.writers import write_gt
from naruto_vision.records import MAX_BOXES, LabelledBox


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    truth = {
        "b.jpg": (LabelledBox((0, 0, 0, 0), "ナルト"), LabelledBox((1, 2, 3, 4), "x y")),
        "a/b.jpg": (),
    }
    write_gt(tmp_path / "gt.json", truth.items())
    assert read_gt(tmp_path / "gt.json") == truth
    assert list(json.loads((tmp_path / "gt.json").read_text(encoding="utf-8"))) == ["b.jpg", "a/b.jpg"]


def test_whole_floats_and_a_byte_order_mark_pass(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(
        '\ufeff{"a.jpg": [{"bbox": [1.0, 2, 3e1, 40], "label": " x "}]}', encoding="utf-8"
    )
    assert read_gt(tmp_path / "gt.json") == {"a.jpg": (LabelledBox((1, 2, 30, 40), "x"),)}


GOOD = '"label": "x"'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("[]", "an object, found"),
        ('{"a.jpg": {}}', "in scene 'a.jpg' a list, found {}"),
        ('{"a.jpg": [3]}', r"in scene 'a.jpg'\[0\] an object, found 3"),
        ('{"a.jpg": [{"label": "x"}]}', "an object with 'bbox'"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, 1]}]}', "an object with 'label'"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, 1], "label": " "}]}', "non-empty"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, 1], "label": 3}]}', r"\[0\].label text, found 3"),
        ('{"a.jpg": [{"bbox": [0, 0, 1], %s}]}', r"\[0\].bbox a list of length 4, found \[0, 0, 1\]"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, 1, 1], %s}]}', "length 4"),
        ('{"a.jpg": [{"bbox": "0011", %s}]}', "a list, found '0011'"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, true], %s}]}', r"bbox\[3\] a number, found True"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, 1.5], %s}]}', "four whole numbers"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, NaN], %s}]}', "four whole numbers"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, Infinity], %s}]}', "four whole numbers"),
        ('{"a.jpg": [{"bbox": [0, 0, 1, null], %s}]}', r"bbox\[3\] a number, found None"),
        ('{"a.jpg": [{"bbox": [-1, 0, 1, 1], %s}]}', "inclusive corners"),
        ('{"a.jpg": [{"bbox": [5, 0, 1, 1], %s}]}', "inclusive corners"),
        ('{"a.jpg": [], "a.jpg": []}', "'a.jpg' 2 times"),
        (json.dumps({"a.jpg": [{}] * (MAX_BOXES + 1)}), "in scene 'a.jpg' a list of length <="),
        ('{"../a.jpg": []}', "climbs out"),
        ('{"/a.jpg": []}', "absolute"),
        ('{"a\\\\b.jpg": []}', "backslash"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "gt.json"
    path.write_text(text % GOOD if "%s" in text else text)
    with pytest.raises(FormatError, match=words) as caught:
        read_gt(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="ground truth"):
        read_gt(tmp_path / "gt.json")
    (tmp_path / "gt.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(FormatError):
        read_gt(tmp_path / "gt.json")
