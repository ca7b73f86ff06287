"""``Context``: what the tabs of one browser window share, and the parts that several of them show."""

import asyncio
import base64
import html
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from nicegui import ui
from nicegui.events import GenericEventArguments

from naruto_vision.errors import NarutoVisionError
from naruto_vision.io.inputs import is_movie
from naruto_vision.ui.service import ENDED, Job, Service, Session, StoredFile

_REFRESH = 0.15
_ERRORS = 5  # of an upload that are shown


@dataclass
class Context:
    """One browser window."""

    service: Service
    session: Session
    open_tab: Callable[[str], Any] = lambda _name: None  # by its name
    is_open: Callable[[str], bool] = lambda _name: False  # whether it is the one that is seen
    chosen: StoredFile | None = None  # the image that the tabs work on, shared by them
    on_choice: list[Callable[[StoredFile], Any]] = field(default_factory=list)
    on_open: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def url(self, token: str, name: str = "file") -> str:
        """Return the address of a file of the session, by its token."""
        return f"/files/{token}/{quote(name.rpartition('/')[2] or 'file', safe='')}"

    async def choose(self, file: StoredFile) -> None:
        """Make an image that of all tabs."""
        self.chosen = file
        for call in self.on_choice:
            await maybe(call(file))

    async def attempt(self, work: Awaitable[Any]) -> Any:  # noqa: ANN401 - what the work returns
        """Wait for something; an error is shown to the user, and None returned."""
        try:
            return await work
        except NarutoVisionError as error:
            self.complain(str(error))
            return None

    def queue(self, start: Callable[..., Job], /, *arguments: Any, **options: Any) -> Job | None:
        """Start a job; an error is shown to the user, and None returned."""
        try:
            return start(*arguments, **options)
        except NarutoVisionError as error:
            self.complain(str(error))
            return None

    def complain(self, text: str) -> None:
        """Show an error until it is dismissed."""
        ui.notify(text, type="negative", multi_line=True, timeout=0, close_button="OK", html=False)

    def inputs(self, on_files: Callable[[list[StoredFile]], Any], *, video: bool = False) -> None:
        """Show the ways to bring files: upload, drop, paste, webcam, and the folders that the server offers."""
        what = "videos" if video else "images"
        zone = ui.element("div").classes("nv-drop")
        zone.props(f'data-accept="{"video/*,.mkv" if video else "image/*"}" tabindex=0 role=button')
        zone.props(f'aria-label="choose, drop or paste {what}"')
        with zone:
            ui.icon("upload_file").classes("text-2xl")
            ui.label(f"Choose, drop or paste {what}")

        async def arrived(event: GenericEventArguments) -> None:
            found: dict[str, Any] = event.args
            ids, errors = found["ids"], found["errors"]
            for error in errors[:_ERRORS]:
                self.complain(str(error))
            if len(errors) > _ERRORS:
                self.complain(f"and {len(errors) - _ERRORS} more files")
            files = [self.session.files[key] for key in ids if key in self.session.files]
            if len(files) < len(ids):  # the browser has a new session by now
                self.complain(ENDED)
            for file in (each for each in files if (each.kind == "video") != video):
                self.complain(f"{file.name}: this tab takes {what}" + ("" if video else "; videos go to the tab Video"))
            files = [file for file in files if (file.kind == "video") == video]
            if files:
                await maybe(on_files(files))

        zone.on("files", arrived, js_handler="(event) => emit(event.detail)")
        with ui.row().classes("gap-2 items-center"):
            if not video:
                webcam = ui.button("Webcam", icon="photo_camera").props("flat dense no-caps")
                webcam.on("click", js_handler=f"() => nvWebcam({zone.id})")
            self._picker(on_files, video=video)

    def _picker(self, on_files: Callable[[list[StoredFile]], Any], *, video: bool) -> None:
        """Show the files that the server offers, if there are any."""
        names = {each: each.partition("/")[2] for each in self.service.choices() if is_movie(each) == video}
        if not names:
            return
        picker = ui.select(names, label="from the server's folder", with_input=True).props("dense outlined")

        async def picked() -> None:
            if picker.value and (file := await self.attempt(self.service.choose(self.session, picker.value))):
                await maybe(on_files([file]))

        picker.classes("min-w-48").on_value_change(picked)

    def watch(self, job: Job, bar: "JobBar", news: Callable[[Any], Any], end: Callable[[], Any]) -> None:
        """Show the progress of a job; ``news`` gets what each step reported, ``end`` is called when it is over."""
        seen = 0
        bar.show(job)

        async def refresh() -> None:
            nonlocal seen
            while seen < len(job.news):
                seen += 1
                await maybe(news(job.news[seen - 1]))
            if bar.job is job:  # a later one may have the bar by now
                bar.show(job)
            if job.over:
                timer.cancel()
                if job.state == "failed":
                    self.complain(job.error)
                await maybe(end())

        with bar.row:  # what the user clicked on may be gone by then
            timer = ui.timer(_REFRESH, refresh)

    def downloads(self, job: Job, *, opened: bool = False) -> None:
        """Show the files of a job as links."""
        with ui.expansion("Files", icon="download", value=opened).classes("w-full"):
            for name, token in self.service.results(self.session, job).items():
                link = ui.link(name, self.url(token, name)).classes("block nv-mono")
                link.props(f'download="{html.escape(name.rpartition("/")[2])}"')


async def maybe(found: object) -> None:
    """Wait for what a callback returned, if it is a coroutine."""
    if asyncio.iscoroutine(found):
        await found


class JobBar:
    """A progress bar with time left and a button to cancel."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.job: Job | None = None
        with ui.row().classes("w-full items-center no-wrap gap-2") as self.row:
            with ui.column().classes("grow gap-0"):
                self.text = ui.label().classes("text-sm").props("role=status aria-live=polite")
                self.bar = ui.linear_progress(0, show_value=False).props('aria-label="progress"')
            self.button = ui.button("Cancel", icon="close", on_click=self._cancel).props("flat dense no-caps")
        self.row.set_visibility(False)

    def _cancel(self) -> None:
        if self.job is not None:
            self._context.service.cancel(self.job)

    def show(self, job: Job) -> None:
        """Show how far a job is."""
        self.job = job
        self.row.set_visibility(True)
        self.text.set_text(job.progress())
        self.bar.set_value(job.done / job.total if job.total else 0.0)
        self.bar.set_visibility(not job.over)
        self.button.set_visibility(not job.over)


def columns() -> tuple[ui.element, ui.element]:
    """Divide a tab: returns the place of its controls, and that of its results, below on a narrow screen."""
    with ui.element("div").classes("nv-split"):
        return ui.element("div").classes("nv-side"), ui.element("div").classes("nv-main")


def select(label: str, options: list[str] | dict[str, str]) -> ui.select:
    """Show a choice, of which the first is taken."""
    shown = ui.select(options, value=next(iter(options), None), label=label)
    return shown.props("outlined dense").classes("w-full")


def name_field(
    text: str, labels: Sequence[str], add: Callable[[str], Any], button: str, value: str = ""
) -> tuple[ui.input, ui.button]:
    """Show a field for a character's name, and a button that adds something under it, as the Enter key does."""
    with ui.row().classes("items-center gap-2"):
        name = ui.input(text, value=value, autocomplete=list(labels)).props("dense outlined")
        name.on("keydown.enter", lambda: add(str(name.value or "")))
        press = ui.button(button, icon="person_add", on_click=lambda: add(str(name.value or ""))).props("no-caps")
    return name, press


def slider(text: str, low: float, high: float, step: float, value: float | None = None) -> ui.slider:
    """Show a slider under its text and value."""
    with ui.column().classes("w-full gap-0"):
        label = ui.label().classes("text-sm")
        shown = ui.slider(min=low, max=high, step=step, value=low if value is None else value)
        label.bind_text_from(shown, "value", lambda number: f"{text}: {number:g}")
    return shown.props(f'aria-label="{html.escape(text)}"')


def pressable(element: ui.element, press: Callable[[], Any], label: str = "") -> ui.element:
    """Make an element a button, for the mouse and the keyboard; ``label`` is what screen readers say."""
    element.props("role=button tabindex=0" + (f' aria-label="{html.escape(label)}"' if label else ""))
    return element.on("click", press).on("keydown.enter", press)


def tile(image: bytes | None, title: str, caption: str) -> ui.element:
    """Show a small JPEG with a title and a caption."""
    with ui.element("div").classes("nv-tile") as shown:
        if image is None:
            ui.label("the image is not where it was").classes("nv-cap nv-muted")
        else:
            data = base64.b64encode(image).decode()
            ui.html(f'<img alt="{html.escape(title, quote=True)}" src="data:image/jpeg;base64,{data}">', sanitize=False)
        ui.label(title).classes("nv-cap font-medium pb-0")
        ui.label(caption).classes("nv-cap nv-muted pt-0")
    return shown


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> ui.table:
    """Show rows of values; everything is text, so nothing in it can be markup."""
    specs = [{"name": f"c{n}", "label": name, "field": f"c{n}", "align": "left"} for n, name in enumerate(columns)]
    values = [{"id": n, **{f"c{m}": _cell(value) for m, value in enumerate(row)}} for n, row in enumerate(rows)]
    return ui.table(columns=specs, rows=values, row_key="id").props("dense flat").classes("w-full")


def _cell(value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)
