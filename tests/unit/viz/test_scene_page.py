"""``index.html``: every scene with its names and files, nothing that a name or a path can break out of."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from typing_extensions import override

from naruto_vision.viz.scene_page import SceneCard, write_scene_page

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "%CARDS%",
    "%NAMES%",
    "a\x1b[31m\u202eb",
    "&amp;",
)


class Page(HTMLParser):
    """Keeps every element with its attributes, and the text by the element it is in."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    @override
    def handle_data(self, data: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def values(self, tag: str, name: str) -> list[str | None]:
        return [attributes.get(name) for each, attributes in self.elements if each == tag]


def write(path: Path, *cards: SceneCard, refused: tuple[tuple[str, str], ...] = ()) -> Page:
    write_scene_page(path, "Scenes", lambda: iter(cards), refused, {"ayame": (255, 0, 128)}, ["run.json"])
    return Page(path)


def test_a_scene_has_its_names_its_files_and_its_place_in_the_filter(tmp_path: Path) -> None:
    page = write(
        tmp_path / "index.html",
        SceneCard("a.png", "overlay/a.jpg", "json/a.json", [("ayame", 0.9), ("unknown", 0.4), ("ayame", 0.3)], 5),
        SceneCard("b.png", "overlay/b.jpg", "json/b.json", [("unknown", 0.2)], 1),
        SceneCard("c.png", "", "json/c.json", []),
        refused=(("d.png", "d.png: truncated"), ("e.png", "empty")),
    )
    assert page.values("article", "data-names") == ["0 1", "1", "2"]
    assert page.values("button", "value") == ["0", "1", "2", None]
    assert page.values("img", "loading") == ["lazy", "lazy"]
    assert [text for tag, text in page.texts if tag == "h2"] == ["a.png", "b.png", "c.png"]
    text = " ".join(" ".join(text for _, text in page.texts).split())
    assert "3 scenes searched, 2 could not be read; 4 of 6 regions shown: 2 named, 2 unknown" in text
    assert "ayame 1 unknown 2 nothing shown 1 Show all" in text
    assert [each for each in ("d.png: truncated", "e.png: empty", "3 of 5 regions shown") if each not in text] == []


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_paths_are_text(name: str, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.html", SceneCard("x", "x", "x", [("x", 1.0)], 1, "x"), refused=(("x", "x"),))
    page = write(tmp_path / "index.html", SceneCard(name, name, name, [(name, 1.0)], 1, name), refused=((name, name),))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert [set(own) for _, own in page.elements] == [set(own) for _, own in plain.elements]
    shown = name.replace("\x1b", r"\x1b").replace("\u202e", r"\u202e")
    assert [text for tag, text in page.texts if tag == "h2"] == [shown]
    assert page.values("img", "src") == [url for url in page.values("img", "src") if url and unquote(url) == name]


def test_a_file_name_that_is_not_unicode_is_linked_by_its_bytes(tmp_path: Path) -> None:
    page = write(tmp_path / "index.html", SceneCard("caf\udce9", "overlay/caf\udce9#1?.jpg", "j", []))
    assert page.values("img", "src") == ["overlay/caf%E9%231%3F.jpg"]


def test_any_number_of_scenes_is_read_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    class Counted(SceneCard):
        def __del__(self) -> None:
            alive.pop()

    def cards() -> Iterator[SceneCard]:
        for number in range(50):
            card = Counted(f"{number}.png", "o", "j", [])
            alive.append(number)
            assert len(alive) <= 3
            yield card

    write_scene_page(tmp_path / "index.html", "Scenes", cards, (), {})
    assert len(Page(tmp_path / "index.html").values("article", "data-names")) == 50
