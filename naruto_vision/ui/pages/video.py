"""The tab Video: index videos, find moments in them, play and cut the moments."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from naruto_vision.errors import InputError
from naruto_vision.ui.context import Context, JobBar, columns, pressable, select
from naruto_vision.ui.service import Job, StoredFile

_LANES = 12  # videos on the timeline and among the best frames


class VideoTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.image: StoredFile | None = None
        self.found: Mapping[str, Any] | None = None
        self.query: dict[str, Any] = {}
        self.facts: dict[str, Mapping[str, Any]] = {}
        self.job: Job | None = None
        side, main = columns()
        with side:
            context.inputs(self.add, video=True)
            self._controls()
        with main:
            self.bar = JobBar(context)
            hint = "Bring a video: it is indexed, and then searched by a text, an image or a name."
            self.sentence = ui.label(hint)
            self.sentence.props("role=status aria-live=polite")
            self.player = ui.column().classes("w-full gap-1")
            self.timeline = ui.column().classes("w-full gap-1")
            self.moments = ui.element("div").classes("nv-grid nv-frames")
            self.more = ui.column().classes("w-full gap-2")
        ui.timer(0.05, self._refresh, once=True)

    def _controls(self) -> None:
        service = self.context.service
        self.text = ui.input("What happens, or who is seen").props("outlined dense clearable").classes("w-full")
        self.text.on("keydown.enter", self.search)
        self.videos = ui.select([], label="Videos (none: all)", multiple=True).props("outlined dense use-chips")
        self.videos.classes("w-full")
        with ui.expansion("By an image", icon="image").classes("w-full"):
            self.context.inputs(self._take)
            self.shown = ui.column().classes("w-full")
        with ui.expansion("By a character", icon="person").classes("w-full"):
            self.preset = select("Gallery", list(service.presets)).on_value_change(self._labels)
            self.character = select("Character", {"": "none"})
            self._labels()
        self.top_k = ui.number("Moments at most", value=20, min=1, max=200, precision=0).props("outlined dense")
        self.top_k.classes("w-full")
        ui.button("Search", icon="search", on_click=self.search).props("no-caps").classes("w-full")
        self.history = ui.expansion("Earlier searches", icon="history").classes("w-full")

    def _labels(self) -> None:
        try:
            labels = self.context.service.gallery(str(self.preset.value)).labels if self.preset.value else ()
        except InputError:  # which the tab Scene says
            labels = ()
        self.character.set_options({"": "none", **{label: label for label in labels}}, value="")

    def _take(self, files: list[StoredFile]) -> None:
        self.image = files[0]
        self.shown.clear()
        with self.shown, ui.row().classes("items-center no-wrap gap-2"):
            address, name = self.context.url(self.image.view), escape(self.image.name, quote=True)
            ui.html(f'<img class="nv-query" alt="{name}" src="{address}">', sanitize=False)
            ui.label(self.image.name).classes("text-sm nv-mono")
            ui.button(icon="close", on_click=self._drop).props('flat dense round aria-label="search without image"')

    def _drop(self) -> None:
        self.image = None
        self.shown.clear()

    async def _refresh(self) -> None:
        """List the indexed videos."""
        banks = await self.context.attempt(self.context.service.banks(self.context.session))
        names = {each["name"]: f"{each['name']} ({each['entries']} entries)" for each in banks or ()}
        self.videos.set_options(names, value=[name for name in self.videos.value or () if name in names])

    # index

    async def add(self, files: list[StoredFile]) -> None:
        """Index new videos."""
        context = self.context

        if job := context.queue(context.service.index_videos, context.session, files):
            context.watch(job, self.bar, lambda _news: None, lambda: self._indexed(job))

    async def _indexed(self, job: Job) -> None:
        if job.result is not None:
            lost = [self.context.session.readable(f"{name}: {what}") for name, what in job.result["lost"].items()]
            for each in lost:
                self.context.complain(each)
            names = ", ".join(job.result["videos"])
            self.sentence.set_text(f"indexed: {names}" if names else "no video could be indexed")
        await self._refresh()

    # search

    async def search(self) -> None:
        """Search by what is given."""
        image = "" if self.image is None else str(self.image.path)
        await self._ask(
            {
                "text": str(self.text.value or "").strip(), "path": image, "videos": list(self.videos.value or ()),
                "character": str(self.character.value or ""), "preset": str(self.preset.value or ""),
                "top_k": int(self.top_k.value or 20),
            }
        )  # fmt: skip

    async def _ask(self, query: dict[str, Any]) -> None:
        self.sentence.set_text("searching …")
        found = await self.context.attempt(self.context.service.search_videos(self.context.session, **query))
        if found is None:
            self.sentence.set_text("")
            return
        self.found, self.query, self.facts = found, query, {}
        self.sentence.set_text(f'"{found["query"]}": {found["sentence"]}')
        for each in (self.player, self.more):
            each.clear()
        self._show()
        self._show_history()
        frames: dict[str, set[int]] = {}
        for hit in (*(each["best"] for each in found["moments"]), *self._nearest()):
            frames.setdefault(hit["video"], set()).add(hit["frame"])
        if frames:
            await self._fetch({video: sorted(each) for video, each in frames.items()})

    def _nearest(self) -> list[Mapping[str, Any]]:
        """Return the best frames of the best videos, those of one video after the other."""
        hits = self.found["nearest"] if self.found else []
        videos = list(dict.fromkeys(hit["video"] for hit in hits))[:_LANES]
        return [hit for video in videos for hit in hits if hit["video"] == video]

    async def _fetch(self, frames: Mapping[str, list[int]]) -> None:
        context = self.context

        job = context.queue(context.service.show_frames, context.session, frames)
        if job is None:
            return
        if self.job is not None:  # the thumbnails of an earlier search
            context.service.cancel(self.job)
        self.job = job

        def news(what: Mapping[str, Any]) -> None:
            if job is self.job:
                self.facts[what["video"]] = what
                self._show()

        def end() -> None:
            if job is self.job:
                self.bar.row.set_visibility(False)
                self._show_more()

        context.watch(job, self.bar, news, end)

    def _thumbnail_of(self, hit: Mapping[str, Any]) -> str:
        """Return the address of the thumbnail of a frame; "" if it is not there yet."""
        name = self.facts.get(hit["video"], {}).get("files", {}).get(hit["frame"])
        if name is None or self.job is None:
            return ""
        return self.context.url(self.context.session.link(self.job.out / name))

    def _show(self) -> None:
        """Draw the timeline and the moments as far as their thumbnails are ready."""
        found = self.found
        if found is None:
            return
        self.timeline.clear()
        with self.timeline:
            self._show_lanes(found["moments"])
        self.moments.clear()
        with self.moments:
            for each in found["moments"]:
                when = f"{_clock(each['start'])} to {_clock(each['end'])}"
                self._tile(each["best"], when, each["start"], each["end"])

    def _show_lanes(self, moments: list[Mapping[str, Any]]) -> None:
        videos = list(dict.fromkeys(each["video"] for each in moments))
        best = max((each["score"] for each in moments), default=1.0)
        for video in videos[:_LANES]:
            own = [(number, each) for number, each in enumerate(moments) if each["video"] == video]
            length = self.facts.get(video, {}).get("seconds") or max(each["end"] for _, each in own)
            marks = "".join(_mark(number, each, length, each["score"] / best) for number, each in own)
            with ui.element("div").classes("nv-lane"):
                ui.label(f"{video}, {_clock(length)}").classes("text-sm nv-mono")
                lane = ui.html(f'<svg viewBox="0 0 1000 22" preserveAspectRatio="none">{marks}</svg>', sanitize=False)
                lane.on("click", self._clicked, js_handler="(event) => emit(event.target.id)")
        if len(videos) > _LANES:
            ui.label(f"and {len(videos) - _LANES} more videos, whose moments are below").classes("nv-muted text-sm")

    async def _clicked(self, event: GenericEventArguments) -> None:
        name = str(event.args)
        if self.found is not None and name.startswith("moment-"):
            each = self.found["moments"][int(name.removeprefix("moment-"))]
            await self.play(each["video"], each["start"], each["end"])

    def _tile(self, hit: Mapping[str, Any], when: str, start: float, end: float) -> None:
        async def play() -> None:
            await self.play(hit["video"], start, end)

        with pressable(ui.element("div").classes("nv-tile"), play, f"play at {_clock(start)}"):
            if address := self._thumbnail_of(hit):
                ui.html(f'<img alt="frame {hit["frame"]}" src="{address}">', sanitize=False)
            else:
                ui.element("div").classes("nv-blank")
            ui.label(f"{when}, score {hit['score']:.3f}").classes("nv-cap font-medium pb-0")
            ui.label(hit["video"]).classes("nv-cap nv-muted pt-0")

    def _show_more(self) -> None:
        """Show the best frames of each video, and the export."""
        if self.found is None:
            return
        self.more.clear()
        nearest = self._nearest()
        with self.more:
            for video, facts in self.facts.items():
                if "error" in facts:
                    ui.label(str(facts["error"])).classes("nv-card").props(f'aria-label="{escape(video, quote=True)}"')
            opened = not self.found["moments"]
            text = "The best 5 frames of each video, whatever their score"
            with ui.expansion(text, icon="star", value=opened).classes("w-full"):
                for video in dict.fromkeys(hit["video"] for hit in nearest):
                    ui.label(video).classes("text-sm nv-mono mt-2")
                    with ui.element("div").classes("nv-grid nv-frames"):
                        for hit in nearest:
                            if hit["video"] == video:
                                self._tile(hit, _clock(hit["time"]), hit["time"], max(hit["end"], hit["time"] + 1))
            if self.found["moments"]:
                export = ui.button("Write clips, tables and edit lists", icon="movie", on_click=self._export)
                export.props("no-caps outline")
                self.files = ui.column().classes("w-full")

    async def _export(self) -> None:
        context = self.context

        if job := context.queue(context.service.export_moments, context.session, self.query):

            def end() -> None:
                self.files.clear()
                if job.state == "done":
                    with self.files:
                        context.downloads(job)

            context.watch(job, self.bar, lambda _news: None, end)

    # play

    async def play(self, video: str, start: float, end: float) -> None:
        """Play a video at a moment; of one that browsers do not play, a clip is made first."""
        facts, context = self.facts.get(video, {}), self.context
        if not facts.get("plays"):
            await self._play_clip(video, start, end)
            return
        address = f"{context.url(context.session.link(Path(facts['path'])), video)}#t={start:.2f}"
        self._place(f"{video} at {_clock(start)}", address).on("error", lambda: self._play_clip(video, start, end))

    async def _play_clip(self, video: str, start: float, end: float) -> None:
        context = self.context

        if job := context.queue(context.service.cut_clip, context.session, video, start, end):

            def show() -> None:
                if job.state == "done":
                    results = context.service.results(context.session, job)
                    for name, token in results.items():
                        self._place(f"{video}, clip from {_clock(start)}", context.url(token, name))

            context.watch(job, self.bar, lambda _news: None, show)

    def _place(self, title: str, address: str) -> ui.video:
        self.player.clear()
        with self.player:
            ui.label(title).classes("text-base font-medium")
            player = ui.video(address, autoplay=True, muted=True).classes("nv-player")
        ui.run_javascript(f'getHtmlElement({player.id}).scrollIntoView({{block: "center", behavior: "smooth"}})')
        return player

    def _show_history(self) -> None:
        self.history.clear()
        with self.history:
            for words, count, query in reversed(self.context.session.queries):
                button = ui.button(f"{words} ({count})", icon="replay", on_click=lambda query=query: self._ask(query))
                button.props("flat dense no-caps align=left").classes("w-full")


def _mark(number: int, each: Mapping[str, Any], length: float, strength: float) -> str:
    """Draw a moment on a lane of 1000 units; those of lower scores are paler."""
    left = 1000 * each["start"] / max(length, 1e-3)
    width = max(5.0, 1000 * (each["end"] - each["start"]) / max(length, 1e-3))
    place = f'x="{min(left, 1000 - width):.1f}" width="{width:.1f}" y="2" height="18" '
    place += f'fill-opacity="{min(max(strength, 0.3), 1.0) ** 2:.2f}"'
    title = f"{_clock(each['start'])} to {_clock(each['end'])}, score {each['score']:.3f}"
    return f'<rect id="moment-{number}" class="nv-moment" {place}><title>{title}</title></rect>'


def _clock(seconds: float) -> str:
    """Write seconds as M:SS.s, or with hours.

    Examples:
        >>> _clock(62.25), _clock(3725)
        ('1:02.2', '1:02:05.0')
    """
    tenths = int(seconds * 10)
    hours, minutes = tenths // 36000, tenths // 600 % 60
    rest = f"{tenths // 10 % 60:02}.{tenths % 10}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"
