"""What commands are made of: options read, lines printed, errors of one line."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.console import check_sheet_name, cosine, share, whole_number
from naruto_vision.cli.data import add_reading_options, read_aliases, read_renames, rules_of
from naruto_vision.cli.evaluate import remarks
from naruto_vision.cli.gallery import add_row_options, chosen_ids
from naruto_vision.cli.main import main
from naruto_vision.errors import FormatError, InputError, JsonError, MissingPathError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.edits import relabel_rows, remove_rows, roll_back
from naruto_vision.gallery.gallery import Gallery, edit_gallery
from naruto_vision.gallery.thresholds import Thresholds


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("007", 7), ("12345678901234567890", 12345678901234567890)])
def test_whole_numbers(text: str, value: int) -> None:
    assert whole_number(text) == value


@pytest.mark.parametrize("text", [" 1", "+1", "1_0", "1e3", "0x1", "²"])
def test_what_looks_like_a_whole_number_and_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number of 0 or more, found"):
        whole_number(text)


@pytest.mark.parametrize(
    ("read", "text", "value"), [(share, "1e-3", 0.001), (cosine, "-1.0", -1.0), (cosine, "1", 1.0)]
)
def test_numbers_within_their_bounds(read: Any, text: str, value: float) -> None:
    assert read(text) == value


@pytest.mark.parametrize("name", ["a.png", "a.JPG", "deep/a.webp"])
def test_sheets_are_images(name: str) -> None:
    check_sheet_name(Path(name))


@pytest.mark.parametrize("name", ["a", "a.gif", "a.png.txt", ".png"])
def test_sheets_of_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"expected a name ending in \.png or \.jpg or \.webp"):
        check_sheet_name(Path(name))


@pytest.mark.parametrize(
    ("words", "renames"),
    [
        (None, {}),
        ([], {}),
        (["Mira=Myra"], {"Mira": "Myra"}),
        (["a b=c d", "ナ=ル"], {"a b": "c d", "ナ": "ル"}),
        (["x=y=z"], {"x": "y=z"}),
        (["x=1", "x=2"], {"x": "2"}),
    ],
)
def test_renames(words: list[str] | None, renames: dict[str, str]) -> None:
    assert read_renames(words) == renames


@pytest.mark.parametrize("word", ["Mira", "=Myra", "Mira=", "="])
def test_renames_of_another_form_are_refused(word: str) -> None:
    with pytest.raises(InputError, match=f"--rename {word}: expected OLD=NEW"):
        read_renames(["a=b", word])


def test_aliases_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"Mira": "Myra", "ö": "o"}', encoding="utf-8")
    assert read_aliases(tmp_path / "a.json") == {"Mira": "Myra", "ö": "o"}
    assert read_aliases(None) == {}
    with pytest.raises(MissingPathError, match=r"gone\.json: no such alias file"):
        read_aliases(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", JsonError, "not JSON"),
        ("[]", FormatError, "an object of names"),
        ('{"a": 1}', FormatError, "an object of names"),
        ('{"a": ""}', FormatError, "an object of names"),
        ('{"a": ["pink hair"]}', FormatError, r"lists of texts for each class belong to --model\.texts\.aliases_json"),
    ],
)
def test_other_files_are_no_aliases(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(error, match=words) as caught:
        read_aliases(tmp_path / "a.json")
    assert str(caught.value).startswith(str(tmp_path / "a.json"))


def _parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_reading_options(parser)
    return parser.parse_args(words)


def test_options_become_rules_and_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": "file", "b": "file"}')
    words = ["--aliases", str(tmp_path / "a.json"), "--rename", "b=line", "--labels", "x", "y", "--policy", "first"]
    rules = rules_of(_parsed(*words, "--include-unlabeled"), need_files=False)
    assert rules.aliases == {"a": "file", "b": "line"}
    assert (rules.labels, rules.policy, rules.include_unlabeled, rules.need_files) == (("x", "y"), "first", True, False)


def test_without_options_the_rules_are_the_defaults() -> None:
    rules = rules_of(_parsed())
    assert (rules.aliases, rules.labels, rules.policy) == ({}, None, "single_only")
    assert (rules.include_unlabeled, rules.need_files, _parsed().reader) == (False, True, "auto")


@pytest.mark.parametrize("words", [("--policy", "some"), ("--reader", "coco"), ("--labels",)])
def test_impossible_choices_end_the_parser(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parsed(*words)
    assert words[0] in capsys.readouterr().err


def _files(**changes: Any) -> dict[str, Any]:
    return {"missing": [], "unknown": [], "refused": [], "seen": 9, **changes}


def test_folders_without_faults_are_not_remarked_on() -> None:
    assert remarks(_files()) == []


def test_faults_of_a_folder_are_counted_and_five_are_named() -> None:
    lines = remarks(
        _files(missing=list("abcdefg"), unknown=["x.json"], refused=[{"path": "bad.json", "reason": "not JSON"}])
    )
    assert lines == [
        "scenes without a file: 7 (counted as scenes without predictions): a, b, c, d, e and 2 more",
        "files of no scene of the ground truth: 1 (passed over): x.json",
        "1 of 9 files cannot be read; their scenes count as without predictions:",
        "  bad.json: not JSON",
    ]
    assert remarks(_files(missing=list("abcde")))[0].endswith("a, b, c, d, e")


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    rows = [GalleryRow(f"p{k}.png", name) for k, name in enumerate(["ann", "bob", "ann", "Zoë"])]
    built = Gallery.build(
        np.eye(4, dtype=np.float32), rows, fingerprint="cd" * 32, index="exact", thresholds=Thresholds(0.5)
    )
    built.save(tmp_path / "g")
    return tmp_path / "g"


def _chosen(gallery: Path, *words: str) -> list[int]:
    parser = argparse.ArgumentParser()
    add_row_options(parser)
    arguments = parser.parse_args(words)
    arguments.gallery = gallery
    return chosen_ids(arguments, Gallery.open(gallery, index="exact").content)


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (("--id", "2"), {2}),
        (("--label", "ann"), {0, 2}),
        (("--path", "p1.png", "p3.png"), {1, 3}),
        (("--id", "1", "--label", "Zoë", "--path", "p0.png"), {0, 1, 3}),
        (("--id", "0", "--label", "ann"), {0, 2}),
    ],
)
def test_rows_are_named_by_id_label_or_path(gallery: Path, words: tuple[str, ...], ids: set[int]) -> None:
    assert set(_chosen(gallery, *words)) == ids


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no rows chosen: give --id, --label or --path"),
        (("--id", "9", "7", "0"), "no row of id 7, id 9; "),
        (("--label", "eve", "ann"), "no row of 'eve'; "),
        (("--path", "x.png", "--id", "8"), "no row of id 8, 'x.png'; "),
    ],
)
def test_rows_that_are_not_there_are_named(gallery: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError) as caught:
        _chosen(gallery, *words)
    assert str(caught.value).startswith(told)
    assert "naruto-vision gallery list" in str(caught.value)


def _printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(["gallery", *words]) == 0
    return capsys.readouterr().out


def test_a_list_for_people_has_labels_thresholds_and_rows(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = _printed(capsys, "list", str(gallery), "--rows").splitlines()
    assert lines[0].startswith(f"{gallery}: generation 1, 4 rows, 3 labels, vectors of length 4, index ")
    assert lines[0].endswith("encoder cdcdcdcdcdcd")
    assert lines[1:4] == ["  Zoë       1", "  ann       2", "  bob       1"]
    assert lines[4] == "thresholds: 0.5, 0 labels have their own"
    assert lines[6].split() == ["ID", "LABEL", "AUG", "PATH"]
    assert [line.split() for line in lines[7:]] == [
        [str(k), name, "none", f"p{k}.png"] for k, name in enumerate(["ann", "bob", "ann", "Zoë"])
    ]


def test_a_list_without_rows_ends_with_the_thresholds(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_gallery(gallery, relabel_rows, [1], "ann")
    last = _printed(capsys, "list", str(gallery)).splitlines()[-1]
    assert last.endswith("; STALE: rows changed in generation 2, choose them again with `validate`")


def test_a_list_for_programs_is_json(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(_printed(capsys, "list", str(gallery), "--json", "--rows"))
    assert told["labels"] == {"Zoë": 1, "ann": 2, "bob": 1}
    assert [row["id"] for row in told["meta"]] == [0, 1, 2, 3]
    assert "meta" not in json.loads(_printed(capsys, "list", str(gallery), "--json"))


def test_a_log_has_a_line_a_generation(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit_gallery(gallery, remove_rows, [0, 2])
    edit_gallery(gallery, relabel_rows, [1], "eve")
    edit_gallery(gallery, roll_back, 1)
    lines = _printed(capsys, "log", str(gallery)).splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["1", "build", "4"], ["2", "remove", "2"], ["3", "relabel", "2"], ["4", "rollback", "4"],
    ]  # fmt: skip
    assert lines[0].endswith("4 added")
    assert lines[1].endswith("2 removed")
    assert lines[2].endswith("1 relabelled")
    assert "to 1; 2 added, 1 relabelled" in lines[3]
    records = [json.loads(line) for line in _printed(capsys, "log", str(gallery), "--json").splitlines()]
    assert [record["generation"] for record in records] == [1, 2, 3, 4]


def test_an_edit_says_what_it_came_to(gallery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _printed(capsys, "remove", str(gallery), "--label", "ann")
    assert told.startswith(f"{gallery}: 2 removed; 2 rows in generation 2\nits thresholds were chosen with other rows;")
    told = _printed(capsys, "relabel", str(gallery), "--id", "1", "--to", "eve")
    assert told.startswith(f"{gallery}: 1 relabelled; 2 rows in generation 3")
    assert _printed(capsys, "rollback", str(gallery), "--to", "1").startswith(
        f"{gallery}: 2 added, 1 relabelled; 4 rows"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("remove", "--id", "9"), "no row of id 9"),
        (("remove", "--label", "ann", "bob", "Zoë"), "that is all 4 rows"),
        (("relabel", "--id", "0", "--to", "ann"), "all of these rows are 'ann' already"),
        (("rollback", "--to", "1"), "generation"),
    ],
)
def test_an_edit_that_cannot_be_is_one_line_with_the_folder(
    gallery: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    capsys.readouterr()
    assert main(["gallery", words[0], str(gallery), *words[1:]]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert str(gallery) in error
    assert error.count("\n") == 1
