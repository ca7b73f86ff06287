"""The tab Scene: name the characters of images, look at each region, and download the files."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from naruto_vision.io.inputs import is_movie
from naruto_vision.ui.context import Context, JobBar, columns, name_field, pressable, select, slider, table, tile
from naruto_vision.ui.pages.drawing import layer, name_tag, outlined_image, outlines, screen_pixel, stage_style
from naruto_vision.ui.service import NO_GALLERY, Job, StoredFile, scene_names
from naruto_vision.ui.settings import BACKGROUNDS, SceneSettings, read_settings

_EXAMPLES = 6
_MAPS = ("evidence in this region", "evidence in the nearest entry")


class SceneTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.files: list[StoredFile] = []
        self.scenes: dict[str, StoredFile] = {}
        self.job: Job | None = None
        self.news: dict[str, Mapping[str, Any]] = {}
        self.hidden: set[int] = set()
        self.region: int | None = None
        self.scene = ""
        self.gallery, self.used = "", SceneSettings()
        """The preset and the settings by which the scenes that are shown were named."""
        self.filled: SceneSettings | None = None
        side, main = columns()
        with side:
            context.inputs(self.add)
            self._controls()
        with main:
            self.bar = JobBar(context)
            self.grid = ui.element("div").classes("nv-grid")
            self.view = ui.column().classes("w-full gap-3")
        self._show_hint()

    def _controls(self) -> None:
        self.preset = select("Gallery", list(self.context.service.presets)).on_value_change(self._fill)
        weights = self.context.service.config.weights
        ui.timer(0.1, self._fill, once=True)
        with ui.expansion("Settings", icon="tune").classes("w-full"):
            self.controls: dict[str, Any] = {
                "top_k": slider("Different characters at most (0: all regions)", 0, 5, 1),
                "prefer_different_label": ui.switch("Prefer different names"),
                "max_masks": slider("Regions at most", 1, 16, 1),
                "min_area": ui.number("Smallest mask in pixels", min=0, precision=0),
                "expand": slider("Grow boxes by", 0, 0.3, 0.01),
                "min_ratio": slider("Smallest box (of the image)", 0, 0.2, 0.01),
                "max_ratio": slider("Largest box (of the image)", 0.2, 1, 0.05),
                "background": ui.select(list(BACKGROUNDS), label="Around a region"),
                "backend": ui.select(["auto", "exact", "faiss"], label="Gallery search"),
                "weights": ui.select({None: "as in the gallery's settings", **{name: name for name in weights}},
                                     label="Segmentation model"),
            }  # fmt: skip
            self.keep_as = ui.input("Also keep the results as").props("dense outlined")
            for name in ("min_area", "background", "backend", "weights"):
                self.controls[name].props("dense outlined").classes("w-full")
            self.keep_as.classes("w-full")
        self.run = (
            ui.button("Name the characters", icon="search", on_click=self.start).props("no-caps").classes("w-full")
        )
        self.run.set_enabled(False)

    def _show_hint(self) -> None:
        service = self.context.service
        with self.view:
            if not service.presets:
                ui.label(NO_GALLERY).classes("nv-card").props("role=alert")
                return
            ui.label("Bring an image: the characters in it are outlined and named.").classes("nv-muted")
            if service.folders:
                self.examples = ui.element("div").classes("nv-grid")
        if service.preparing is not None and not service.preparing.over:
            self.context.watch(service.preparing, self.bar, lambda _news: None, self._show_examples)
        elif service.folders:
            ui.timer(0.05, self._show_examples, once=True)

    async def _show_examples(self) -> None:
        """Show the first images of the server's folders to choose from."""
        service, session = self.context.service, self.context.session
        await self._fill()
        for choice in [each for each in service.choices() if not is_movie(each)][:_EXAMPLES]:
            file = await self.context.attempt(service.choose(session, choice))
            if file is None or self.job is not None:
                return
            with self.examples:
                label = f"name the characters of {file.name}"
                with pressable(ui.element("div").classes("nv-tile"), partial(self.add, [file]), label):
                    ui.html(f'<img alt="" src="{self.context.url(file.view)}">', sanitize=False)

    async def _fill(self) -> None:
        """Show the controls as the chosen preset has them."""
        context = self.context
        preparing = self.context.service.preparing
        if not self.preset.value or (preparing is not None and not preparing.over):
            return
        found = await context.attempt(
            context.service.call(context.session, "scenes.controls", preset=str(self.preset.value))
        )
        if found is not None:
            self.filled = found
            for name, control in self.controls.items():
                control.set_value(getattr(found, name))

    def settings(self) -> SceneSettings:
        """Return what the user has changed of the preset's controls."""
        values = {"keep_as": str(self.keep_as.value or "").strip()}
        if self.filled is not None:
            chosen = {name: control.value for name, control in self.controls.items()}
            chosen |= {name: int(chosen[name] or 0) for name in ("top_k", "max_masks", "min_area")}  # come as floats
            values |= {name: value for name, value in chosen.items() if value != getattr(self.filled, name)}
        return read_settings(values).check()

    async def add(self, files: list[StoredFile]) -> None:
        """Take images, show them, and start at once."""
        self.files = files
        await self.context.choose(files[0])
        self.run.set_enabled(True)
        await self.start()

    async def start(self) -> None:
        """Queue the search of the images."""
        context, files, preset = self.context, self.files, str(self.preset.value or "")

        def analyze() -> Job:
            self.used = self.settings()
            return context.service.analyze(context.session, files, preset, self.used)

        job = context.queue(analyze)
        if job is None:
            return
        if self.job is not None:  # its results are no longer shown
            context.service.cancel(self.job)
        self.job, self.news, self.scene, self.scenes = job, {}, "", scene_names(files)
        self.gallery = preset
        self.grid.clear()
        self.view.clear()
        context.watch(job, self.bar, lambda news: self._add_news(job, news), lambda: self._end(job))

    def _add_news(self, job: Job, news: Mapping[str, Any]) -> None:
        if job is not self.job:
            return
        name, file = news["scene"], self.scenes[news["scene"]]
        self.news[name] = news
        if len(self.scenes) == 1:
            if "regions" in news:
                self.show(name)
            return
        with self.grid, pressable(ui.element("div").classes("nv-tile"), lambda: self.show(name)):
            ui.html(_image(self.context.url(file.view), news), sanitize=False)
            found = _names(news) if "regions" in news else str(news.get("error", "not searched"))
            ui.label(f"{name}: {found}").classes("nv-cap")

    def _end(self, job: Job) -> None:
        if job is not self.job:
            return
        if self.scene:  # was opened when there were no files yet
            with self.view:
                self.context.downloads(job)
        if len(self.scenes) > 1:
            self._end_of_several(job)
        elif error := next((news["error"] for news in self.news.values() if "error" in news), ""):
            self.context.complain(error)

    def _end_of_several(self, job: Job) -> None:
        if job.result is None:
            return
        counts = job.result["counts"]
        self.bar.text.set_text(
            f"{counts['ok']} of {counts['seen']} scenes, {counts['shown']} regions, {counts['named']} named"
        )
        first = next((name for name, news in self.news.items() if "regions" in news), "")
        if first and not self.scene:
            self.show(first)

    def show(self, scene: str) -> None:
        """Show one scene with its regions."""
        self.scene, self.hidden, self.region = scene, set(), None
        self.view.clear()
        news = self.news[scene]
        if "regions" not in news:
            self.context.complain(str(news.get("error", "not searched")))
            return
        file = self.scenes[scene]
        with self.view:
            ui.label(f"{scene}: {_names(news)}").classes("text-lg")
            with ui.element("div").classes("nv-stage").style(stage_style(file, 210)):
                self.image = ui.interactive_image(self.context.url(file.view), sanitize=False)
                self.image.on("svg:pointerdown", lambda event: self._pressed(event.args["element_id"]))
            self.chips = ui.row().classes("gap-1")
            self.detail = ui.column().classes("w-full")
            self._table(news)
            if self.job is not None and self.job.over:
                self.context.downloads(self.job)
        self._draw()

    def _table(self, news: Mapping[str, Any]) -> None:
        rows = [
            (each["index"], each["name"], each["label"], each["score"], each["margin"], each["p_value"],
             ", ".join(map(str, each["box"])), "yes" if each["shown"] else "no")
            for each in news["regions"]
        ]  # fmt: skip
        columns = ("region", "name", "most like", "score", "margin", "p", "box", "in the overlay")
        with ui.expansion(f"All {len(rows)} regions", icon="table_rows").classes("w-full"):
            table(columns, rows)
            times = ", ".join(f"{name} {value:.0f} ms" for name, value in news["milliseconds"].items())
            ui.label(times).classes("nv-muted text-sm")

    def _draw(self) -> None:
        regions = self.news[self.scene]["regions"]
        visible = [each for each in regions if each["shown"] and each["index"] not in self.hidden]
        file = self.scenes[self.scene]
        unit = screen_pixel(file)
        names = (name_tag(each["name"], each["box"][0] + 3 * unit, each["box"][1] + 26 * unit) for each in visible)
        self.image.set_content(layer(file, outlines(visible, self.region) + "".join(names)))
        self.chips.clear()
        with self.chips:
            for each in (each for each in regions if each["shown"]):
                index, number = each["index"], each["index"] + 1
                text = f"{each['name']} {each['score']:.2f}"
                on = index not in self.hidden
                button = ui.button(text, icon="visibility" if on else "visibility_off")
                button.props(f'dense rounded unelevated no-caps size=sm color={"primary" if on else "grey-7"} '
                             f'aria-label="show or hide region {number}" aria-pressed={str(on).lower()}')  # fmt: skip
                button.on("click", lambda index=index: self._toggle(index))
                ui.button(icon="info", on_click=lambda index=index: self.explain(index)).props(
                    f'flat dense round size=sm aria-label="explain region {number}"'
                )

    def _toggle(self, index: int) -> None:
        self.hidden ^= {index}
        self._draw()

    async def _pressed(self, element: str) -> None:
        if element.startswith("region-"):
            await self.explain(int(element.removeprefix("region-")))

    async def explain(self, index: int) -> None:
        """Show the crop of a region, its nearest gallery images, and why it has its name."""
        context, scene, self.region = self.context, self.scene, index
        self._draw()
        each = next(each for each in self.news[scene]["regions"] if each["index"] == index)
        file = self.scenes[scene]
        found = await context.attempt(
            context.service.call(
                context.session, "scenes.explain", preset=self.gallery, path=str(file.path),
                box=each["box"], rows=[row["path"] for row in each["neighbours"]],
            )
        )  # fmt: skip
        if (scene, index) != (self.scene, self.region):  # something else was clicked meanwhile
            return
        self.detail.clear()
        if found is None:
            return
        with self.detail, ui.element("div").classes("nv-card"):
            ui.label(f"Region {index}: {each['name']}").classes("text-base font-medium")
            ui.label(each["why"]).classes("nv-muted")
            with ui.element("div").classes("nv-grid mt-2"):
                tile(found["crop"], "this region", f"{each['area']} pixels")
                for row, thumbnail in zip(each["neighbours"], found["neighbours"], strict=True):
                    tile(thumbnail, f"{row['label']}  {row['score']:.3f}", row["path"])
            maps = ui.element("div").classes("nv-grid mt-2")
            labels = list(context.service.gallery(self.gallery).labels)
            name_field("This is", labels, lambda name: self.enrol(file, each["box"], name), "Add to the gallery")
        if self.job is None:
            return
        drawn = await context.attempt(
            context.service.call(
                context.session, "scenes.heat_maps", preset=self.gallery, settings=self.used, path=str(file.path),
                out=str(self.job.out), scene=scene, index=index,
            )
        )  # fmt: skip
        if not maps.is_deleted:
            with maps:
                for image, title in zip(drawn or (), _MAPS, strict=False):
                    tile(image, title, "red: the score falls most when hidden")

    async def enrol(self, file: StoredFile, box: Sequence[int], label: str) -> None:
        """Add the box of a region to the gallery under a name."""
        service = self.context.service
        found = await self.context.attempt(
            service.edit_gallery(
                self.context.session,
                self.gallery,
                "add_region",
                path=str(file.path),
                name=file.name,
                box=box,
                label=label,
            )
        )
        if found is not None:
            text = f"added as {found['label']}: generation {found['generation']}; name the characters again to see it"
            ui.notify(text, type="positive")


def _names(news: Mapping[str, Any]) -> str:
    shown = [each["name"] for each in news["regions"] if each["shown"]]
    known = sorted({name for name in shown if name != "unknown"})
    parts = known + ([f"{shown.count('unknown')} unknown"] if "unknown" in shown else [])
    return ", ".join(parts) or "no characters found"


def _image(address: str, news: Mapping[str, Any]) -> str:
    if "regions" not in news:
        return f'<img alt="" src="{address}">'
    shown = [(each["path"], each["colour"]) for each in news["regions"] if each["shown"]]
    return outlined_image(address, (news["width"], news["height"]), shown)
