"""The tab Search: name a whole image or a text by a gallery, and see its nearest entries."""

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from naruto_vision.errors import InputError
from naruto_vision.ui.context import Context, columns, select, slider, tile
from naruto_vision.ui.service import StoredFile


class SearchTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.asked = 0
        side, self.main = columns()
        with side:
            self.preset = select("Gallery", list(context.service.presets))
            with ui.row().classes("w-full no-wrap items-center gap-1"):
                self.text = ui.input("Search by text").props("outlined dense clearable").classes("grow")
                self.text.on("keydown.enter", self.by_text)
                ui.button(icon="search", on_click=self.by_text).props('flat round dense aria-label="search"')
            context.inputs(self.add)
            self.again = ui.button(icon="image_search", on_click=self.by_image).props("no-caps outline")
            self.again.classes("w-full")
            self.k = slider("Entries to show", 1, 20, 1, value=8)
        with self.main:
            try:
                context.service.gallery_folder(str(self.preset.value or ""))
                ui.label("Bring an image, or type what to look for: the nearest images are shown.").classes("nv-muted")
            except InputError as error:
                ui.label(str(error)).classes("nv-card")
        context.on_choice.append(self._offer)
        self._offer(context.chosen)

    def _offer(self, file: StoredFile | None) -> None:
        """Offer to search the image that all tabs work on."""
        self.again.set_visibility(file is not None)
        if file is not None:
            self.again.set_text(f"Search with {file.name}")

    async def add(self, files: list[StoredFile]) -> None:
        """Take an image, and search with it."""
        await self.context.choose(files[0])
        await self.by_image()

    async def by_image(self) -> None:
        """Search with the image that all tabs work on."""
        if (file := self.context.chosen) is not None:
            await self._search("", file)

    async def by_text(self) -> None:
        """Search with the text, which may not be empty."""
        text = str(self.text.value or "").strip()
        if not text:
            self.context.complain("search: type what to look for, or bring an image")
            return
        await self._search(text, None)

    async def _search(self, text: str, file: StoredFile | None) -> None:
        context, self.asked = self.context, self.asked + 1
        asked = self.asked
        self.main.classes("nv-busy").props("aria-busy=true")
        found = await context.attempt(
            context.service.search(
                context.session, str(self.preset.value or ""), text=text, path="" if file is None else str(file.path),
                k=int(self.k.value),
            )
        )  # fmt: skip
        if asked != self.asked:  # a later search may have answered first
            return
        self.main.classes(remove="nv-busy").props("aria-busy=false")
        if found is not None:
            self._show(found, file)

    def _show(self, found: Mapping[str, Any], file: StoredFile | None) -> None:
        answer = found["answer"]
        self.main.clear()
        with self.main:
            with ui.element("div").classes("nv-card nv-answer"):
                if file is not None:
                    ui.image(self.context.url(file.view)).classes("nv-query").props('alt="the query" fit=contain')
                with ui.column().classes("gap-1 grow"):
                    ui.label(_title(found)).classes("text-lg font-medium").props("role=status")
                    ui.label(found["sentence"]).classes("nv-muted")
                    ui.label(file.name if file is not None else f"text: {found['query']}").classes("nv-muted text-sm")
            with ui.element("div").classes("nv-grid"):
                for row, thumbnail in zip(found["neighbours"], found["thumbnails"], strict=True):
                    with tile(thumbnail, f"{row['rank']}. {row['label']}  {row['score']:.3f}", row["path"]) as each:
                        each.classes("nv-on" if answer["known"] and row["label"] == answer["label"] else "")


def _title(found: Mapping[str, Any]) -> str:
    answer = found["answer"]
    if answer["known"] is None:
        return f"Best guess: {answer['label']}"
    return str(answer["name"]) if answer["known"] else "Not in the gallery"
