"""Manifests of any names and labels read back as they went, and every wrong line is refused by its number."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.readers import (
    is_positive,
    manifest_base,
    manifest_text,
    read_manifest,
    statistics,
    write_manifests,
)
from naruto_vision.data.tables import ClassTable, ReadRules, Split, TableReport, sorted_rows
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.csv_files import read_csv
from naruto_vision.io.names import refusal

ANY = ReadRules(need_files=False, policy="all")
LABELS = st.text("abc ,\"'é名;#=\n", min_size=1, max_size=6).filter(lambda text: text == text.strip())
PATHS = st.text("abc ,\"'é名;#=\n.", min_size=1, max_size=6).filter(lambda t: t == t.strip() and not refusal(t))


def _table(root: Path, pairs: list[tuple[str, str]]) -> ClassTable:
    classes = tuple(sorted({label for _, label in pairs}))
    return ClassTable(root, sorted_rows(pairs), classes, TableReport(seen=len(pairs), kept=len(pairs)))


def _write(folder: Path, text: str, classes: str = "") -> Path:
    (folder / "train.csv").write_text(text, encoding="utf-8")
    if classes:
        (folder / "classes.json").write_text(classes, encoding="utf-8")
    return folder / "train.csv"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(PATHS, LABELS), min_size=1, max_size=6))
def test_any_table_reads_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    folder = tmp_path_factory.mktemp("m")
    table = _table(folder / "d", pairs)
    (folder / "train.csv").write_bytes(manifest_text(table, folder).encode())
    back = read_manifest(folder / "train.csv", rules=ANY)
    expected = {(f"d/{Path(row.path).as_posix()}", row.label) for row in table.rows}
    assert {(row.path, row.label) for row in back.rows} == expected
    assert back.classes == table.classes


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(PATHS, LABELS), max_size=6))
def test_a_manifest_is_plain_csv_that_other_programs_read(pairs: list[tuple[str, str]]) -> None:
    table = _table(Path("/x/d"), pairs)
    lines = list(csv.reader(io.StringIO(manifest_text(table, "/x"), newline="")))
    assert lines[0] == ["path", "label"]
    assert lines[1:] == [[f"d/{Path(row.path).as_posix()}", row.label] for row in table.rows]
    assert "\r" not in manifest_text(table, "/x")


@pytest.mark.parametrize(
    ("lines", "number", "found"),
    [
        ("a.png", 2, 1),
        ("a.png,x,more", 2, 3),
        ("a.png,x\nb.png", 3, 1),
        ("a.png,x\n\n\nb.png,y,z,z", 5, 4),  # blank lines count as lines
        ('"two\nlines",x\nb', 4, 1),
    ],
)
def test_a_line_of_other_length_is_refused_by_its_number(tmp_path: Path, lines: str, number: int, found: int) -> None:
    path = _write(tmp_path, f"path,label\n{lines}\n")
    with pytest.raises(FormatError, match=rf"train\.csv: expected 2 values in line {number}, found {found}$"):
        read_manifest(path, rules=ANY)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", "an empty file"),
        ("\n\n", "an empty file"),
        ("file,label", "file, label"),
        ("path", "path"),
        ("paths,labels", "paths, labels"),
        ("path label", "path label"),
        ("path|label", r"path\|label"),
    ],
)
def test_a_header_without_both_columns_is_shown(tmp_path: Path, header: str, found: str) -> None:
    path = _write(tmp_path, header)
    with pytest.raises(FormatError, match=rf"train\.csv: expected columns 'path' and 'label', found {found}$"):
        read_manifest(path)


def test_a_long_header_is_cut_to_a_line(tmp_path: Path) -> None:
    path = _write(tmp_path, ",".join(f"column{number}" for number in range(100)))
    with pytest.raises(FormatError) as caught:
        read_manifest(path)
    assert len(str(caught.value).partition("found ")[2]) == 80


def test_a_line_that_is_there_twice_is_told_as_a_duplicate_and_counts_once(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\na.png,x\na.png,x\nb.png,y\na.png,x\n")
    table = read_manifest(path, rules=ANY)
    assert [(row.path, row.label) for row in table.rows] == [("a.png", "x"), ("b.png", "y")]
    assert (table.report.seen, table.report.kept, table.report.duplicates) == (4, 2, ("a.png", "a.png"))
    assert statistics(table, "")["duplicates"] == ["a.png", "a.png"]


def test_labels_of_a_image_come_in_the_order_of_the_lines(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\na.png,z\na.png,b\na.png,m\n")
    first = read_manifest(path, rules=ReadRules(need_files=False, policy="first"))
    assert [row.label for row in first.rows] == ["z"]
    assert read_manifest(path, rules=ANY).counts() == {"b": 1, "m": 1, "z": 1}
    alone = read_manifest(path, rules=ReadRules(need_files=False))
    assert alone.report.discarded_by_positives == {3: 1}


def test_classes_without_a_image_stay_in_the_list(tmp_path: Path) -> None:
    table = read_manifest(_write(tmp_path, "path,label\na.png,x\n", '["y", "x", "w"]'), rules=ANY)
    assert table.classes == ("y", "x", "w")
    assert table.counts() == {"y": 0, "x": 1, "w": 0}


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("path,label\na.png,x\n", encoding="utf-8-sig")
    (tmp_path / "classes.json").write_text('["x"]', encoding="utf-8-sig")
    assert read_manifest(tmp_path / "train.csv", rules=ANY).counts() == {"x": 1}


@pytest.mark.parametrize("text", ["path,label\r\na.png,x\r\n", "path , label \n a.png , x \n", "path,label\na.png,x"])
def test_line_ends_and_blanks_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "train.csv").write_bytes(text.encode())
    table = read_manifest(tmp_path / "train.csv", rules=ANY)
    assert [(row.path, row.label) for row in table.rows] == [("a.png", "x")]


def test_names_are_mended_and_chosen_while_reading(tmp_path: Path) -> None:
    path = _write(tmp_path, "path,label\na.png,Kobba\nb.png,Koba\nc.png,Odran\n")
    rules = ReadRules(aliases={"Kobba": "Koba"}, labels=("Koba",), need_files=False)
    table = read_manifest(path, rules=rules)
    assert table.counts() == {"Koba": 2}
    assert table.report.renamed == {"Kobba": "Koba"}
    assert table.report.discarded_by_positives == {0: 1}


def test_a_folder_that_is_given_is_looked_in_and_no_other(tmp_path: Path) -> None:
    for place in ("right", "."):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "a.png").write_bytes(b"")
    path = _write(tmp_path, "path,label\na.png,x\n")
    assert read_manifest(path, tmp_path / "right").root == tmp_path / "right"
    empty = read_manifest(path, tmp_path / "nowhere")
    assert (len(empty), empty.report.missing) == (0, ("a.png",))


def test_the_first_fifty_names_decide_where_the_images_are(tmp_path: Path) -> None:
    """A manifest of a million images that are elsewhere is not looked for image by image."""
    (tmp_path / "50.png").write_bytes(b"")
    names = "".join(f"{number}.png,x\n" for number in range(51))
    with pytest.raises(MissingPathError, match=r"0\.png: no such image of "):
        read_manifest(_write(tmp_path, f"path,label\n{names}"))
    (tmp_path / "49.png").write_bytes(b"")
    assert read_manifest(tmp_path / "train.csv").report.kept == 2


def test_tables_under_one_root_are_written_relative_to_the_folder_above(tmp_path: Path) -> None:
    tables: dict[Split, ClassTable] = {
        "train": _table(tmp_path / "set" / "train", [("1.png", "a")]),
        "valid": _table(tmp_path / "set" / "valid", [("2.png", "a")]),
    }
    base = manifest_base(tmp_path / "set", tables)
    write_manifests(tmp_path / "out", tables, base, ("a",), "n")
    assert (tmp_path / "out" / "train.csv").read_text() == "path,label\nset/train/1.png,a\n"
    assert (tmp_path / "out" / "valid.csv").read_text() == "path,label\nset/valid/2.png,a\n"
    with pytest.raises(MissingPathError):
        read_manifest(tmp_path / "out" / "test.csv")


@pytest.mark.parametrize(
    ("cell", "positive"),
    [
        ("1", True),
        ("0", False),
        ("", False),
        ("nan", False),
        ("0.5", True),
        ("-1", False),
        ("1e-9", True),
        ("inf", True),
    ],
)
def test_cells_of_a_one_hot_table(cell: str, positive: bool) -> None:
    assert is_positive(cell) is positive


@pytest.mark.parametrize("cell", ["x", "yes", "1,0", "0x1", "--1"])
def test_other_cells_are_no_numbers(cell: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        is_positive(cell)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        ("a,b\n", [(1, ["a", "b"])]),
        (",,\n\na\n", [(3, ["a"])]),
        ('"x\ny",z\nend', [(2, ["x\ny", "z"]), (3, ["end"])]),
        ('  "a b" , c ', [(1, ["a b", "c"])]),
    ],
)
def test_rows_of_a_csv_file_with_their_lines(tmp_path: Path, text: str, rows: list[tuple[int, list[str]]]) -> None:
    (tmp_path / "t.csv").write_text(text)
    assert list(read_csv(tmp_path / "t.csv")) == rows


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfea,b", "expected UTF-8 text, found another encoding in line 1; save it as UTF-8"),
        (b"a" * 200_000, "expected comma-separated values, found field larger than field limit"),
    ],
)
def test_what_is_no_csv_is_refused_by_name(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=rf"t\.csv: {words}"):
        list(read_csv(tmp_path / "t.csv"))
