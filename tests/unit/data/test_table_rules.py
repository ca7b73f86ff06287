"""The rules that every reader shares, and the table that comes of them."""

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naruto_vision.data.tables import (
    UNLABELLED,
    ClassTable,
    Policy,
    ReadRules,
    SourceRow,
    TableReport,
    build_table,
    hold_out,
    row_groups,
    sorted_rows,
)
from naruto_vision.errors import InputError
from naruto_vision.records import LabelledImage

_QUICK = settings(max_examples=60, deadline=None, derandomize=True)
_NAMES = st.sampled_from(["a", "b", "c", "ナ", "B"])
_PAIRS = st.lists(st.tuples(st.text("xyz/é", min_size=1, max_size=4), _NAMES), max_size=30)


def _table(pairs: list[tuple[str, str]], classes: tuple[str, ...] = ("a", "b", "c", "ナ", "B")) -> ClassTable:
    return ClassTable(Path("root"), sorted_rows(pairs), classes)


def test_a_class_twice_among_the_wanted_ones_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"expected every class once, found a, c several times"):
        ReadRules(labels=("a", "b", "a", "c", "c", "c"))
    ReadRules(labels=())


def test_names_are_mended_once_and_others_stay() -> None:
    rules = ReadRules({"Kobba": "Koba", "Koba": "Kobba"})
    assert [rules.aliases.get(name, name) for name in ("Kobba", "Koba", "Odran")] == ["Koba", "Kobba", "Odran"]


@pytest.mark.parametrize(
    ("rules", "classes"),
    [
        (ReadRules(), ("b", "a", "c")),
        (ReadRules({"a": "b"}), ("b", "c")),
        (ReadRules(labels=("c", "b")), ("c", "b")),
        (ReadRules(labels=("z", "a")), ("a",)),
        (ReadRules({"c": "z"}, labels=("z", "a")), ("z", "a")),
        (ReadRules(labels=()), ()),
        (ReadRules(include_unlabeled=True), ("b", "a", "c", UNLABELLED)),
        (ReadRules({"b": UNLABELLED}, include_unlabeled=True), ("a", "c", UNLABELLED)),
    ],
)
def test_classes_come_in_the_order_found_or_asked_for(rules: ReadRules, classes: tuple[str, ...]) -> None:
    assert rules.classes_of(["b", "a", "c", "a"]) == classes


@pytest.mark.parametrize(
    ("rules", "names", "positives"),
    [
        (ReadRules(), ["a", "z", "b"], ["a", "b"]),
        (ReadRules({"x": "a"}), ["x", "a", "b"], ["a", "b"]),
        (ReadRules(), [], []),
        (ReadRules(include_unlabeled=True), [], [UNLABELLED]),
        (ReadRules(include_unlabeled=True), ["z"], []),
    ],
)
def test_only_classes_that_count_are_positive_and_each_once(
    rules: ReadRules, names: list[str], positives: list[str]
) -> None:
    assert rules.positives_of(names, ("a", "b")) == positives


@pytest.mark.parametrize(
    ("policy", "none", "one", "two"),
    [("single_only", (), ("a",), ()), ("first", (), ("a",), ("a",)), ("all", (), ("a",), ("a", "b"))],
)
def test_policies_say_which_labels_a_image_gets(
    policy: Policy, none: tuple[str, ...], one: tuple[str, ...], two: tuple[str, ...]
) -> None:
    rules = ReadRules(policy=policy)
    assert (rules.labels_of([]), rules.labels_of(["a"]), rules.labels_of(["a", "b"])) == (none, one, two)


def test_every_policy_is_covered_above() -> None:
    assert set(get_args(Policy)) == {"single_only", "first", "all"}


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_of_the_reasons_to_leave_a_row_out_the_first_counts(tmp_path: Path) -> None:
    _touch(tmp_path, "one.png", "two.png")
    rows = [
        SourceRow("../one.png", ()),  # refused, though it has no class either
        SourceRow("gone.png", ()),  # missing
        SourceRow("gone.png", ("a",)),  # missing again: a file that is not there repeats nothing
        SourceRow("one.png", ()),  # left out: no class
        SourceRow("one.png", ("a",)),  # a repeat, though it has a class now
        SourceRow("two.png", ("a", "b")),  # left out: two classes
    ]
    report = build_table(tmp_path, rows, ("a", "b"), ReadRules()).report
    assert (report.seen, report.kept) == (6, 0)
    assert report.refused == ("'../one.png' climbs out with '..'",)
    assert report.missing == ("gone.png", "gone.png")
    assert report.duplicates == ("one.png",)
    assert report.discarded_by_positives == {0: 1, 2: 1}
    assert (report.discarded, report.discarded_by_positives[0]) == (2, 1)


def test_positives_that_were_left_out_are_counted_by_number_in_order(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"{k}.png" for k in range(6)))
    rows = [SourceRow(f"{k}.png", tuple("abc"[: (3, 0, 2, 3, 0, 1)[k]])) for k in range(6)]
    report = build_table(tmp_path, rows, ("a", "b", "c"), ReadRules()).report
    assert list(report.discarded_by_positives.items()) == [(0, 2), (2, 1), (3, 2)]


def test_without_need_of_files_absent_ones_are_kept_under_a_plain_path(tmp_path: Path) -> None:
    _touch(tmp_path, "here.png")
    rows = [SourceRow("gone//far.png", ("a",)), SourceRow("here.png", ("a",)), SourceRow("/etc/passwd", ("a",))]
    table = build_table(tmp_path, rows, ("a",), ReadRules(need_files=False))
    assert [row.path for row in table.rows] == ["gone/far.png", "here.png"]
    assert (table.report.missing, len(table.report.refused)) == ((), 1)


def test_images_that_no_row_names_are_listed_if_wanted(tmp_path: Path) -> None:
    _touch(tmp_path, "b.png", "sub/a.JPG", "notes.txt", "known.png")
    rows = [SourceRow("known.png", ())]
    assert build_table(tmp_path, rows, (), ReadRules()).report.unlisted == ("b.png", "sub/a.JPG")
    assert build_table(tmp_path, rows, (), ReadRules(), list_unnamed=False).report.unlisted == ()


def test_only_names_that_changed_are_told_as_renamed(tmp_path: Path) -> None:
    report = build_table(tmp_path, [], ("x", "y"), ReadRules({"x": "z", "y": "y", "q": "r"})).report
    assert report.renamed == {"x": "z"}


def test_one_image_of_several_classes_gives_a_row_each_under_all(tmp_path: Path) -> None:
    _touch(tmp_path, "p.png")
    table = build_table(tmp_path, [SourceRow("p.png", ("b", "a"))], ("b", "a"), ReadRules(policy="all"))
    assert table.rows == (LabelledImage("p.png", "a"), LabelledImage("p.png", "b"))
    assert table.report.kept == 1


def test_the_summary_says_only_what_happened() -> None:
    assert TableReport(seen=3, kept=3).summary() == "3 of 3 rows kept"
    report = TableReport(
        seen=11, kept=1, discarded_by_positives={0: 2, 3: 1}, missing=("m",) * 4, refused=("r",), duplicates=("d", "e")
    )
    assert report.summary() == (
        "1 of 11 rows kept (4 without their file, 3 left out by the policy, 1 refused, 2 named twice)"
    )


@pytest.mark.parametrize(
    "field",
    ["kept", "missing", "refused", "duplicates", "discarded_by_positives"],
)
def test_every_kind_of_row_has_to_be_accounted_for(field: str) -> None:
    value = {"kept": 1, "discarded_by_positives": {2: 1}}.get(field, ("x",))
    TableReport(seen=1, **{field: value})  # type: ignore[arg-type]  # one field of each type
    with pytest.raises(ValueError, match="0 rows seen but 1 accounted for"):
        TableReport(seen=0, **{field: value})  # type: ignore[arg-type]  # one field of each type
    TableReport(seen=0, unlisted=("x",), renamed={"a": "b"})  # no rows


@_QUICK
@given(_PAIRS)
def test_rows_have_one_order_whatever_they_came_in(pairs: list[tuple[str, str]]) -> None:
    rows = sorted_rows(pairs)
    assert rows == sorted_rows(pairs[::-1]) == sorted_rows(pairs * 2)
    assert {(row.path, row.label) for row in rows} == set(pairs)
    assert [(row.label, row.path) for row in rows] == sorted({(label, path) for path, label in pairs})


@_QUICK
@given(_PAIRS)
def test_counts_are_in_class_order_and_add_up(pairs: list[tuple[str, str]]) -> None:
    table = _table(pairs)
    counts = table.counts()
    assert tuple(counts) == table.classes
    assert sum(counts.values()) == len(table) == len(set(pairs))


@pytest.mark.parametrize("classes", [("a", "a"), ("a", "b", "a")])
def test_a_class_may_not_be_twice_in_a_table(classes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="not among the classes"):
        ClassTable(Path(), (), classes)


def test_other_rows_keep_root_classes_and_report() -> None:
    report = TableReport(seen=2, kept=2)
    table = ClassTable(Path("r"), sorted_rows([("p", "a"), ("q", "a")]), ("a",), report)
    fewer = table.with_rows([table.rows[0]])
    assert (fewer.root, fewer.classes, fewer.report, len(fewer)) == (Path("r"), ("a",), report, 1)
    with pytest.raises(ValueError, match=r"labels \['a'\] are not among the classes \('z',\)"):
        ClassTable(Path("r"), table.rows, ("z",), report)
    with pytest.raises(ValueError, match="sorted by label and path without repeats"):
        table.with_rows([table.rows[0], table.rows[0]])


@_QUICK
@given(_PAIRS, st.floats(0.01, 0.99))
def test_holding_out_parts_every_class_and_leaves_one_to_learn_from(
    pairs: list[tuple[str, str]], fraction: float
) -> None:
    table = _table(pairs)
    kept, held = hold_out(table, fraction)
    assert set(kept.rows) | set(held.rows) == set(table.rows)
    assert not set(kept.rows) & set(held.rows)
    assert kept.classes == held.classes == table.classes
    for name, count in table.counts().items():
        assert kept.counts()[name] >= min(count, 1)
        assert held.counts()[name] == min(round(count * fraction), max(count - 1, 0))


def test_what_is_held_out_of_a_class_does_not_hang_on_the_other_classes() -> None:
    alone = [(f"{k}.png", "a") for k in range(20)]
    _, held = hold_out(_table(alone), 0.3)
    _, more = hold_out(_table([*alone, *((f"{k}.png", "b") for k in range(7))]), 0.3)
    assert held.rows == tuple(row for row in more.rows if row.label == "a")
    assert len(held) == 6


def test_groups_take_turns_by_class_or_all_together() -> None:
    table = _table([("1", "b"), ("2", "a"), ("3", "b"), ("4", "c")])
    assert row_groups(table, balanced=True) == [[0], [1, 2], [3]]
    assert row_groups(table, balanced=False) == [[0, 1, 2, 3]]
    with pytest.raises(InputError, match="root: no images to train on"):
        row_groups(_table([]), balanced=False)
