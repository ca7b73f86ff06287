"""YAML files that are small and would be large, deep or endless once read."""

import string
from pathlib import Path

import pytest

from naruto_vision.errors import FormatError
from naruto_vision.io.yaml_files import read_yaml


def _bomb(make: str) -> str:
    """Nine levels, each with nine aliases of the level before."""
    lines = [f"a: &a {make.format('x: 1')}" if "<<" in make else "a: &a [x]"]
    for before, name in zip(string.ascii_lowercase, string.ascii_lowercase[1:10], strict=False):
        lines.append(f"{name}: &{name} {make.format(', '.join([f'*{before}'] * 9))}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        "{a: " * 20_000,
        "- " * 200_000,
        _bomb("[{}]"),
        "a: &a {x: 1}\n" + _bomb("{{<<: [{}]}}").partition("\n")[2],
        "a: &a [*a]",
        "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
        "a: " + "9" * 6000,
        "a: 1" + ":1" * 100_000,
        "a: 2020-13-45",
        "a: !!bool x",
        "a: !!python/object/apply:os.system [ls]",
        "a: 1\n" * 120_000,
    ],
    ids=lambda text: text[:20],
)
def test_a_hostile_file_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FormatError, match=r"own\.yaml: [^\n]+\Z"):
        read_yaml(path)


def test_aliases_and_merges_of_ordinary_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]\n", encoding="utf-8")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": [{"x": 1}, {"x": 1}]}
