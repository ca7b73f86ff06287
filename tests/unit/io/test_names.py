"""One form of names, names of output files, and the escape of file names that are not UTF-8."""

import json
import unicodedata
from pathlib import Path

import pytest

from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.names import label_name, output_name
from naruto_vision.recognition.writer import output_stems

LATIN = "caf\udce9"  # caf\xe9 of an old archive, as Python reads it


@pytest.mark.parametrize("text", ["Zoë", " Zoë\u00a0", "Zoe\u0308", "\tZoe\u0308 "])
def test_one_form_of_a_name(text: str) -> None:
    assert label_name(text) == "Zoë"


@pytest.mark.parametrize("name", ["a" * 251, "鳴" * 83, "é" * 125, "x/" + "b" * 240, LATIN, f"{LATIN}/a"])
def test_output_names_are_short_utf8_and_stable(name: str) -> None:
    short = output_name(name)
    assert all(len(part.encode()) <= 200 for part in short.split("/"))
    assert short == output_name(name) != output_name(name + "b")
    assert output_name("scene_1") == "scene_1"


@pytest.mark.parametrize(
    "scenes",
    [
        ("A.jpg", "a.jpg"),
        ("A.jpg", "a.jpg", "a.png", "A_overlay.jpg"),
        (unicodedata.normalize("NFC", "é.jpg"), unicodedata.normalize("NFD", "é.jpg")),
        ("x" * 251 + ".jpg", "x" * 250 + "y.jpg"),
        (f"{LATIN}.jpg", "caf\udce8.jpg"),
    ],
)
def test_scenes_never_share_a_file(scenes: tuple[str, ...]) -> None:
    stems = output_stems(scenes)
    names = [name for stem in stems.values() for name in (stem, f"{stem}_overlay")]
    assert len({unicodedata.normalize("NFC", name).casefold() for name in names}) == 2 * len(scenes)
    assert output_stems(scenes) == stems


def test_a_byte_that_is_not_utf8_is_escaped_and_comes_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"path": LATIN, "other": "back\\udce9"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert r"caf\udce9" in text
    assert json.loads(text) == {"path": LATIN, "other": "back\\udce9"}
    write_text(tmp_path / "a.csv", f"{LATIN}\n")
    assert (tmp_path / "a.csv").read_bytes() == b"caf\\udce9\n"
