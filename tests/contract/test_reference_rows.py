"""Every row of the reference system says how a user gets it, and names a test that exists."""

import ast
import re

import pytest
from source import ROOT

TABLE = (ROOT / "docs" / "reference-rows.md").read_text(encoding="utf-8").splitlines()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE if re.match(r"\| [SP]\d", line)]
EXPECTED = [
    *(f"S1-{number:03d}" for number in range(1, 14)),
    *(f"S1-{number:03d}" for number in range(20, 34)),
    *(f"S1-{number:03d}" for number in range(40, 51)),
    *(f"S1-{number:03d}" for number in range(60, 80)),
    *(f"S1-{number:03d}" for number in range(90, 98)),
    *(f"S1-{number:03d}" for number in (110, 111, *range(120, 127), 130, 131, 132)),
    *(f"S2-{number:03d}" for number in (*range(1, 8), 10, 11, *range(20, 24), *range(30, 36), 40, 41, *range(50, 54))),
    *(f"S3-{number:03d}" for number in (*range(1, 15), *range(20, 25), *range(30, 36))),
    "S5-018",
    "P11",
    "P14",
    *(f"S5-{number:03d}" for number in (*range(1, 18), *range(20, 24), *range(30, 39))),
    *(f"S5-{number:03d}" for number in (39, 40, 41)),
    *(f"S4-{number:03d}" for number in (*range(1, 16), 20, 21, 22, 23, 24, 25)),
]


def _tests() -> set[str]:
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


TESTS = _tests()


def test_every_row_is_listed_once() -> None:
    assert sorted(row[0] for row in ROWS) == sorted(EXPECTED)


@pytest.mark.parametrize("cells", ROWS, ids=[cells[0] for cells in ROWS])
def test_row_has_a_use_and_a_test(cells: list[str]) -> None:
    row, _, how, tests = cells
    named = re.findall(r"test_\w+", tests)
    assert how
    assert named, f"{row} names no test"
    assert set(named) <= TESTS
