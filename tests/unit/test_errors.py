"""Messages: one line that names the thing, what was expected, what was found and what to do."""

import json
from collections.abc import Callable

import pytest

from naruto_vision.errors import (
    BadImageError,
    FingerprintError,
    FormatError,
    InputError,
    JsonError,
    MissingPackageError,
    MissingPathError,
    NarutoVisionError,
    StateDictError,
    TrainingStoppedError,
)
from naruto_vision.io.machine import has_package, require_package

EVERY: list[Callable[[], NarutoVisionError]] = [
    lambda: BadImageError("a.png", "the file is empty"),
    lambda: FingerprintError("gallery", "ab" * 32, "cd" * 32),
    lambda: FormatError("x.csv", "two columns", "three"),
    lambda: JsonError("x.json", ValueError("odd")),
    lambda: MissingPackageError("faiss", "cpu"),
    lambda: MissingPathError("x", "file"),
    lambda: StateDictError("w.pt", "ViT-B-32", ["a"]),
]


@pytest.mark.parametrize("make", EVERY)
def test_what_the_user_can_mend_is_one_line_and_exits_with_2(make: Callable[[], NarutoVisionError]) -> None:
    error = make()
    assert isinstance(error, InputError)
    assert error.exit_code == 2
    assert "\n" not in str(error)


def test_other_ends_have_exit_codes_of_their_own() -> None:
    assert NarutoVisionError("x").exit_code == 1
    assert TrainingStoppedError("x").exit_code == 3
    assert not isinstance(TrainingStoppedError("x"), InputError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MissingPathError("a/b", "scene folder"), "a/b: no such scene folder"),
        (MissingPathError("a/b", "scene folder", "make one"), "a/b: no such scene folder; make one"),
        (BadImageError("ü.png", "too large"), "ü.png: too large"),
        (FormatError("x.csv", "2 columns", "3"), "x.csv: expected 2 columns, found 3"),
        (FormatError("x.csv", "2 columns", "3", "drop one"), "x.csv: expected 2 columns, found 3; drop one"),
        (MissingPackageError("faiss", "cpu"), "faiss is not installed; run: pip install 'naruto-vision[cpu]'"),
    ],
)
def test_messages_are_made_of_what_is_wrong(error: InputError, text: str) -> None:
    assert str(error) == text


def test_a_bad_image_remembers_which_and_why() -> None:
    error = BadImageError("a.png", "truncated")
    assert (error.path, error.reason) == ("a.png", "truncated")


def _decoding(text: str | bytes) -> Exception:
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (_decoding("{\n 1"), "x: not JSON (Expecting property name enclosed in double quotes: line 2 column 2)"),
        (_decoding(b"\xff"), "x: not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte)"),
        (ValueError("a key twice"), "x: JSON that cannot be used (a key twice)"),
        (ValueError("first\nsecond"), "x: JSON that cannot be used (first)"),
    ],
)
def test_json_that_is_broken_and_json_that_is_refused_are_told_apart(error: Exception, text: str) -> None:
    assert str(JsonError("x", error)) == text
    assert str(JsonError("x", error, "mend it")) == f"{text}; mend it"


def test_json_that_nests_too_deep_is_not_json() -> None:
    assert str(JsonError("x", _decoding("[" * 100_000))).startswith("x: not JSON (maximum recursion depth exceeded")


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"missing": ["b", "a"]}, "2 missing (a, b)"),
        ({"unexpected": ["d", "c", "b", "a"]}, "4 unexpected (a, b, c, …)"),
        ({"reshaped": ["w (1, 2)"]}, "1 of another shape (w (1, 2))"),
        ({"missing": ["a"], "unexpected": ["b"]}, "1 missing (a); 1 unexpected (b)"),
    ],
)
def test_weights_that_do_not_fit_name_three_keys_of_a_kind(keys: dict[str, list[str]], text: str) -> None:
    told = str(StateDictError("w.pt", "ViT-B-32", **keys))
    assert told == f"w.pt: not weights of ViT-B-32: {text}; choose the matching architecture"


@pytest.mark.parametrize("options", ["", "--model.encoder.init_args.model=tiny-clip"])
def test_another_encoder_is_told_by_twelve_digits_and_how_to_open_the_right_one(options: str) -> None:
    told = str(FingerprintError("gallery", "a" * 64, "b" * 64, options))
    assert told.startswith(f"gallery: built by encoder {'a' * 12}, opened with encoder {'b' * 12}; use the encoder")
    assert (f"({options})" in told) == bool(options)
    assert "()" not in told
    assert "naruto-vision fit --config gallery.yaml" in told


def test_packages_that_are_there_are_given_and_others_name_their_extra() -> None:
    assert has_package("json")
    assert not has_package("no_such_package_anywhere")
    assert require_package("json", "cpu") is json
    assert require_package("xml.dom", "cpu").__name__ == "xml.dom"
    with pytest.raises(MissingPackageError, match=r"no_such_package\.part is not installed; .*naruto-vision\[gpu\]"):
        require_package("no_such_package.part", "gpu")


@pytest.mark.parametrize("path", ["a\0b/c.png", "\ud800/c.png"])
def test_a_path_that_no_file_system_takes_is_missing(path: str) -> None:
    assert str(MissingPathError(path, "image")) == f"{path}: no such image"
