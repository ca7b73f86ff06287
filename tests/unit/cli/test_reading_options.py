"""Options that commands share: types, how class data are read, labels to rename."""

import argparse
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.cli.console import cosine, fraction, progress, sheet_path, whole_number
from naruto_vision.cli.data import (
    add_reading_options,
    read_aliases,
    read_renames,
    rules_of,
)
from naruto_vision.cli.evaluate import read_label_map, warn_unused_labels
from naruto_vision.cli.main import main
from naruto_vision.cli.weights import weights_table
from naruto_vision.data.tables import ReadRules
from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError
from naruto_vision.io.bundles import packaged_bundles
from naruto_vision.io.downloads import OFFICIAL
from naruto_vision.records import LabelledBox

NAMES = st.text("abc é名'-", min_size=1, max_size=6).filter(lambda text: text == text.strip())


def _rules(*words: str, need_files: bool = True) -> ReadRules:
    parser = argparse.ArgumentParser()
    add_reading_options(parser)
    return rules_of(parser.parse_args(words), need_files=need_files)


def test_without_options_the_rules_are_the_plain_ones() -> None:
    assert _rules() == ReadRules()
    assert _rules(need_files=False) == ReadRules(need_files=False)


def test_every_option_reaches_the_rules(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"Mira": "Myra", "Bo": "Boh"}')
    rules = _rules(
        "--labels", "b", "a", "--rename", "Bo=Bob", "x=y", "--aliases", str(tmp_path / "a.json"), "--policy", "all",
        "--include-unlabeled",
    )  # fmt: skip
    assert rules == ReadRules(
        aliases={"Mira": "Myra", "Bo": "Bob", "x": "y"},  # what is typed wins over what is in the file
        policy="all",
        labels=("b", "a"),
        include_unlabeled=True,
    )


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda t: "=" not in t), NAMES, max_size=4))
def test_renames_are_read_back(renames: dict[str, str]) -> None:
    assert read_renames([f"{old}={new}" for old, new in renames.items()]) == renames


@pytest.mark.parametrize("word", ["", "a", "=", "a=", "=b", "a:b"])
def test_a_rename_without_both_names_is_shown(word: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"--rename {word}: expected OLD=NEW")):
        read_renames(["x=y", word])


def test_a_new_name_may_hold_an_equals_sign_and_the_last_rename_counts() -> None:
    assert read_renames(["a=b=c", "d=e", "d=f"]) == {"a": "b=c", "d": "f"}
    assert read_renames([]) == {}


@pytest.mark.parametrize("value", [[], "x", 3, None, {"a": ""}, {"a": None}, {"a": ["b"]}, {"a": "b", "c": 1}])
def test_a_file_of_something_else_points_to_the_option_that_takes_texts(tmp_path: Path, value: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(FormatError, match=r"a\.json: expected an object of names .*--model\.texts\.aliases_json"):
        read_aliases(tmp_path / "a.json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(JsonError, match=r"a\.json: ") as caught:
        read_aliases(tmp_path / "a.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingPathError, match=r"b\.json: no such alias file"):
        read_aliases(tmp_path / "b.json")


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(NAMES, NAMES, max_size=4))
def test_labels_to_mend_are_read_back_with_blanks_around(names: dict[str, str]) -> None:
    assert read_label_map("; ".join(f" {old} : {new} " for old, new in names.items())) == names
    assert read_label_map(";".join(f"{old}:{new}" for old, new in names.items()) + ";;") == names


@pytest.mark.parametrize("text", ["a", "a:", ":b", ":", "a:b;c", "a=b"])
def test_a_part_that_is_no_pair_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--label-map: expected pairs like 'Mira:Myra;Bo:Boh', found '"):
        read_label_map(text)


def test_a_label_is_mended_in_one_way_only() -> None:
    assert read_label_map("a:b;a:b") == {"a": "b"}
    assert read_label_map("a:b:c") == {"a": "b:c"}
    with pytest.raises(InputError, match="'a' is renamed to both 'b' and 'c'"):
        read_label_map("a:b;a:c")


def _boxes(*labels: str) -> list[LabelledBox]:
    return [LabelledBox((0, 0, 1, 1), label) for label in labels]


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ({}, ""),
        ({"a": "x"}, ""),
        ({"b": "x"}, ""),
        (
            {"nobody": "x", "a": "y", "none": "z"},
            "--label-map: no object and no prediction has the label nobody, none\n",
        ),
        ({"same": "same"}, ""),  # says nothing, and so cannot be wrong
    ],
)
def test_labels_that_nothing_carries_are_told(
    capsys: pytest.CaptureFixture[str], names: dict[str, str], told: str
) -> None:
    warn_unused_labels(names, [{"1.png": _boxes("a")}, {"1.png": [], "2.png": _boxes("b", "c")}])
    assert capsys.readouterr() == ("", told)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**12))
def test_whole_numbers_are_read(number: int) -> None:
    assert whole_number(str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "\uff11", "²", "0x1", "one"])
def test_other_numbers_are_shown(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of 0 or more, found"):
        whole_number(text)


@pytest.mark.parametrize(("read", "low"), [(fraction, 0.0), (cosine, -1.0)])
def test_numbers_between_the_ends_pass(read: type[float], low: float) -> None:
    assert [read(str(value)) for value in (low, 0.25, 1)] == [low, 0.25, 1.0]
    for text in (str(low - 1e-9), "1.0000001", "nan", "inf", "-inf", "", "x", "0,5"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected a number from {low:g} to 1, found {text!r}"):
            read(text)


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "b/c.webp"])
def test_sheets_are_images(name: str) -> None:
    assert sheet_path(name) == Path(name)


@pytest.mark.parametrize("name", ["a", "a.pdf", "a.jpeg", ".png", "png", "a.png.txt"])
def test_other_sheets_are_refused_before_any_work(name: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"expected a name ending in \.png or \.jpg or \.webp, found"):
        sheet_path(name)


def test_a_bar_is_silent_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("counting", 2) as advance:
        advance()
        advance()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("long", [False, True])
def test_the_list_of_weights_has_every_file_once_under_its_family(long: bool) -> None:
    text = weights_table(long=long)
    titles = [line for line in text.splitlines() if line and not line.startswith((" ", "`"))]
    groups = [title.partition(",")[0].partition(":")[0] for title in titles]
    assert groups == ["packaged", "SAM", "SAM 2.1", "CLIP", "DINOv2"]
    for name in [*packaged_bundles(), *(row.name for row in OFFICIAL)]:
        assert len(re.findall(rf"^  {re.escape(name)} ", text, flags=re.MULTILINE)) == 1
    for row in OFFICIAL:
        assert (row.url in text) is long
        assert (bool(row.sha256) and row.sha256 in text) is (long and bool(row.sha256))
    if not long:
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "prepare", "--root", "nowhere"], "nowhere: no such folder of class data"),
        (["data", "audit", "nowhere"], "nowhere"),
        (["data", "split", "nowhere", "--out", "o"], "nowhere: no such folder of class data"),
        (["data", "shard", "nowhere", "--out", "o"], "nowhere: no such folder of class data"),
        (["evaluate", "--gt", "nowhere.json", "--preds-dir", "."], "nowhere.json"),
        (["gallery", "log", "nowhere"], "nowhere: no such gallery"),
        (["gallery", "reindex", "nowhere", "--index", "flat"], "nowhere: no such gallery"),
        (["gallery", "rollback", "nowhere", "--to", "1"], "nowhere: no such gallery"),
        (["gallery", "import", "nowhere", "--out", "o", "--encoder", "tiny-clip"], "nowhere"),
        (["weights", "import", "nowhere.pt", "--out", "o"], "nowhere.pt: no such checkpoint"),
        (["weights", "download", "nobody"], "nobody: no such official weights"),
        (["search", "--gallery", "nowhere", "--image", "x.png"], "nowhere"),
    ],
)
def test_what_is_not_there_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--policy", "some"), ("--reader", "coco"), ("--labels",)])
def test_impossible_choices_end_the_parser(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _rules(*words)
    assert words[0] in capsys.readouterr().err
