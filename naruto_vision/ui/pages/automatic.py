"""The tab Automatic: regions without prompts, their descriptions and relations, and the files of the commands."""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from nicegui import ui
from nicegui.events import MouseEventArguments

from naruto_vision.io.text import quantity
from naruto_vision.prompting.presets import packaged_presets
from naruto_vision.prompting.report import REPORT
from naruto_vision.ui.context import Context, JobBar, columns, pressable, select, table
from naruto_vision.ui.pages.drawing import layer, name_tag, outlines, point_mark, screen_pixel, stage_style
from naruto_vision.ui.service import Job, StoredFile
from naruto_vision.ui.settings import (
    AutomaticSettings,
    ExemplarSettings,
    GridSettings,
    SaliencySettings,
    SweepSettings,
    TextSettings,
)

_MODES = {
    "saliency": "Saliency: what stands out",
    "sweep": "Sweep: everything, point after point",
    "grid": "Grid: everything, from a grid of points",
    "text": "Text: what words describe",
    "exemplar": "Exemplars: what looks like a gallery",
}
_IMAGES = ("_visualization.jpg", "_visualization.png", "_contours_debug.png")


class AutomaticTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.file: StoredFile | None = None
        self.job: Job | None = None
        self.found: Mapping[str, Any] | None = None
        self.chosen: int | None = None
        self.points: list[tuple[int, int]] = []
        self.descriptions: dict[int, str] = {}
        self.lines: dict[int, ui.label] = {}
        side, main = columns()
        with side:
            context.inputs(self.add)
            self._controls()
        with main:
            self.bar = JobBar(context)
            self.title = ui.label("Bring an image: its regions are outlined, measured and described.")
            self.status = ui.label().classes("nv-muted text-sm").props("role=status aria-live=polite")
            self.stage = ui.element("div").classes("nv-stage")
            self.asked = ui.row().classes("gap-1 items-center")
            self.detail = ui.column().classes("w-full")
            self.list = ui.element("div").classes("nv-regions")
            self.more = ui.column().classes("w-full gap-2")
        context.on_choice.append(self._follow)
        if context.chosen is not None:
            ui.timer(0.05, lambda: self._follow(context.chosen), once=True)

    # controls

    def _controls(self) -> None:
        service = self.context.service
        modes = {name: text for name, text in _MODES.items() if service.presets or name != "exemplar"}
        self.mode = ui.select(modes, value="saliency", label="How").props("outlined dense").classes("w-full")
        self.mode.on_value_change(self._draw)
        builders: dict[str, Callable[[], None]] = {
            "saliency": self._saliency, "sweep": self._sweep, "grid": self._grid, "text": self._text,
            "exemplar": self._exemplar,
        }  # fmt: skip
        for name in modes:
            with ui.column().classes("w-full gap-2") as box:
                builders[name]()
            box.bind_visibility_from(self.mode, "value", value=name)
        self.weights = select("Segmentation model", list(service.config.weights))
        self.describe = ui.switch("Describe the regions in words", value=True)
        self.run = ui.button("Find the regions", icon="auto_awesome", on_click=self.start)
        self.run.props("no-caps").classes("w-full").set_enabled(False)

    def _saliency(self) -> None:
        presets = packaged_presets()
        self.preset = select("Preset", list(presets))
        self.num_objects = _number("Objects at most", 1, 100)
        self.threshold = _number("Least saliency, 0 to 1", 0, 1, step=0.05)
        self.min_salient = _number("Smallest object in pixels", 0, 10_000_000)
        self.prompt_type = select("Prompt by", ["box", "point"])

        def fill() -> None:
            preset = presets[str(self.preset.value)]
            self.num_objects.value, self.threshold.value = preset.num_objects, preset.threshold
            self.min_salient.value, self.prompt_type.value = preset.min_area, preset.prompt_type

        self.preset.on_value_change(fill)
        fill()

    def _sweep(self) -> None:
        own = SweepSettings()
        self.rule = select(
            "Points that a mask covers",
            {"skip": "are skipped", "subtract": "are skipped, masks never overlap", "overlap_tolerance": "are used"},
        )
        with ui.row().classes("w-full no-wrap gap-2"):
            self.columns = _number("Columns", 1, 64, own.columns)
            self.rows = _number("Rows", 1, 64, own.rows)
        self.order = select("Order", {"area": "contours by area, then the grid", "centre": "from the centre out",
                                       "iou": "by estimated IoU"})  # fmt: skip
        self.min_swept = _number("Smallest mask in pixels", 1, 10_000_000, own.min_area)
        self.iou = _number("Least estimated IoU, 0 to 1", 0, 1, own.predicted_iou, step=0.05)
        self.salient = ui.switch("Use salient objects first", value=own.saliency)
        ui.label("A click on the image (points of your own are used first):").classes("nv-muted text-sm")
        self.click = ui.toggle({"add": "adds a point", "show": "shows a region"}, value="add")
        self.click.props('no-caps spread aria-label="what a click on the image does"').classes("w-full")
        self.click.on_value_change(self._draw)

    def _grid(self) -> None:
        own = GridSettings()
        self.side = _number("Points per side", 1, 64, own.points_per_side)
        self.min_grid = _number("Smallest mask in pixels", 0, 10_000_000, own.min_area)

    def _text(self) -> None:
        own = TextSettings()
        self.texts = ui.textarea("What to look for, a phrase in each line").props("outlined dense autogrow")
        self.texts.classes("w-full")
        self.text_similarity = _number("Least similarity, 0 to 1", 0, 1, own.similarity, step=0.05)
        self.text_objects = _number("Prompts at most", 1, 100, own.num_objects)

    def _exemplar(self) -> None:
        service, own = self.context.service, ExemplarSettings()
        self.gallery = select("Gallery", list(service.presets))
        self.labels = ui.input("Labels, separated by commas (none: all)").props("outlined dense").classes("w-full")
        self.exemplar_similarity = _number("Least similarity, 0 to 1", 0, 1, own.similarity, step=0.05)
        self.exemplar_objects = _number("Prompts at most", 1, 100, own.num_objects)

    def settings(self) -> AutomaticSettings:
        """Return the controls of the mode as they stand."""
        match self.mode.value:
            case "sweep":
                return SweepSettings(
                    self.rule.value or "skip", _whole(self.columns), _whole(self.rows), self.order.value or "area",
                    _whole(self.min_swept), _real(self.iou), bool(self.salient.value), tuple(self.points),
                )  # fmt: skip
            case "grid":
                return GridSettings(_whole(self.side), _whole(self.min_grid))
            case "text":
                texts = tuple(line.strip() for line in str(self.texts.value or "").splitlines() if line.strip())
                return TextSettings(texts, _real(self.text_similarity), _whole(self.text_objects))
            case "exemplar":
                labels = tuple(each.strip() for each in str(self.labels.value or "").split(",") if each.strip())
                numbers = _real(self.exemplar_similarity), _whole(self.exemplar_objects)
                return ExemplarSettings(str(self.gallery.value), labels, *numbers)
            case _:
                return SaliencySettings(
                    str(self.preset.value), _whole(self.num_objects), self.prompt_type.value, _real(self.threshold),
                    _whole(self.min_salient),
                )  # fmt: skip

    # the image

    async def add(self, files: list[StoredFile]) -> None:
        """Take the first of new images."""
        await self.context.choose(files[0])

    def _follow(self, file: StoredFile | None) -> None:
        if file is None or file is self.file:
            return
        self.file, self.points = file, []
        self._forget()
        self.run.set_enabled(True)
        self.title.set_text(f"{file.name}, {file.width} x {file.height}")
        self.stage.clear()
        with self.stage:
            self.image = ui.interactive_image(self.context.url(file.view, file.name), events=["click"],
                                              on_mouse=self._clicked, sanitize=False)  # fmt: skip
            self.image.on("svg:pointerdown", lambda event: self._pressed(str(event.args["element_id"])))
        self.stage.style(stage_style(file))
        self._draw()

    def _forget(self) -> None:
        """Drop the results of the last run, and end it."""
        if self.job is not None:
            self.context.service.cancel(self.job)
        self.job, self.found, self.chosen = None, None, None
        self.descriptions, self.lines = {}, {}
        self.status.set_text("")
        for each in (self.detail, self.list, self.more):
            each.clear()

    @property
    def _adds(self) -> bool:
        """Whether a click adds a point."""
        return (self.mode.value, self.click.value) == ("sweep", "add")

    def _clicked(self, event: MouseEventArguments) -> None:
        if self.file is None or not self._adds:
            return
        x, y = int(event.image_x * self.file.zoom), int(event.image_y * self.file.zoom)
        self.points.append((min(max(x, 0), self.file.width - 1), min(max(y, 0), self.file.height - 1)))
        self._draw()

    def _pressed(self, element: str) -> None:
        if element.startswith("region-"):
            self.show(int(element.removeprefix("region-")))

    def _remove(self, index: int) -> None:
        self.points.pop(index)
        self._draw()

    def _draw(self) -> None:
        file = self.file
        if file is None:
            return
        regions = [] if self.found is None else self.found["regions"]
        shown = self.points if self.mode.value == "sweep" else []
        unit = screen_pixel(file)
        kind = "nv-mask" if self._adds else "nv-region"  # masks let clicks through, to the points of a sweep
        places = (each.get("point") or (each["bbox"][0] + 3 * unit, each["bbox"][1] + 26 * unit) for each in regions)
        names = [name_tag(each["tag"], *place) for each, place in zip(regions, places, strict=True)]
        marks = (
            point_mark(x, y, unit) + name_tag(str(number), x + 7 * unit, y - 7 * unit)
            for number, (x, y) in enumerate(shown, start=1)
        )
        self.image.set_content(layer(file, "".join([outlines(regions, self.chosen, kind), *names, *marks])))
        self.asked.clear()
        with self.asked:
            for index, (x, y) in enumerate(shown):
                chip = ui.button(
                    f"{index + 1}: {x}, {y}", icon="close", on_click=lambda index=index: self._remove(index)
                )
                chip.props(f'dense rounded outline no-caps size=sm aria-label="remove point {index + 1}"')

    # a run

    async def start(self) -> None:
        """Queue the segmentation."""
        file, context = self.file, self.context
        if file is None:
            return

        weights, describe = str(self.weights.value or ""), bool(self.describe.value)
        job = context.queue(
            lambda: context.service.segment_all(context.session, file, weights, self.settings(), describe=describe)
        )
        if job is None:
            return
        self._forget()
        self.job = job
        self._draw()
        context.watch(job, self.bar, lambda news: self._news(job, news), lambda: self._end(job))

    def _news(self, job: Job, news: Mapping[str, Any]) -> None:
        if job is not self.job:
            return
        if "prompts" in news:
            self.status.set_text(f"{news['prompts']} prompts answered")
        elif "regions" in news:
            self._show_regions(news)
        elif "index" in news:
            self.descriptions[news["index"]] = news["description"]
            self.lines[news["index"]].set_text(news["description"] or "no description")
        elif news["relations"]:
            with self.more, ui.expansion(f"{len(news['relations'])} relations", icon="hub").classes("w-full"):
                for line in news["relations"]:
                    ui.label(line).classes("text-sm")

    def _show_regions(self, news: Mapping[str, Any]) -> None:
        self.found, regions = news, news["regions"]
        took = news["milliseconds"]["segment"] / 1000
        self.status.set_text(
            f"{quantity(len(regions), 'region')} in {took:.1f} s" + (f"; {news['note']}" if news["note"] else "")
        )
        if regions:
            self.click.set_value("show")
        with self.list:
            for each in regions:
                self._line(each)
        with self.more, ui.expansion(f"All {len(regions)} regions", icon="table_rows").classes("w-full"):
            columns = ("region", "score", "stability", "pixels", "of the image", "box", "perimeter", "parts", "prompt")
            pixels = news["width"] * news["height"]
            rows = [
                (each["tag"], each["predicted_iou"], each["stability"], each["area"], f"{each['area'] / pixels:.1%}",
                 ", ".join(map(str, each["bbox"])), f"{each['perimeter']:.0f}", each["components"], each["prompt"])
                for each in regions
            ]  # fmt: skip
            table(columns, rows)
        self._draw()

    def _line(self, each: Mapping[str, Any]) -> None:
        index = each["index"]
        row = pressable(ui.element("div").classes("nv-line"), lambda: self.show(index))
        with row:
            ui.html(self._crop(each), sanitize=False)
            with ui.element("div"):
                ui.label(f"{each['tag']}, score {round(each['predicted_iou'], 2) + 0.0:.2f}").classes("font-medium")
                self.lines[index] = ui.label("…" if self.describe.value else "").classes("nv-muted")

    def _crop(self, each: Mapping[str, Any]) -> str:
        """Draw a region cut out of the image."""
        if self.file is None:
            return ""
        x1, y1, x2, y2 = each["bbox"]
        image = (
            f'<image href="{self.context.url(self.file.view)}" width="{self.file.width}" height="{self.file.height}"/>'
        )
        edge = f'fill="none" stroke="{each["colour"]}" stroke-width="2" vector-effect="non-scaling-stroke"'
        return (
            f'<svg class="nv-crop" viewBox="{x1} {y1} {x2 - x1 + 1} {y2 - y1 + 1}" aria-hidden="true">{image}'
            f'<path d="{each["path"]}" {edge}/></svg>'
        )

    def show(self, index: int) -> None:
        """Show what is known of one region."""
        if self.found is None:
            return
        each, self.chosen = self.found["regions"][index], index
        self._draw()
        pixels = self.found["width"] * self.found["height"]
        facts = {
            "score": f"{each['predicted_iou']:.3f}", "stability": f"{each['stability']:.3f}",
            "area": f"{each['area']} pixels, {each['area'] / pixels:.1%} of the image",
            "box": ", ".join(map(str, each["bbox"])), "perimeter": f"{each['perimeter']:.1f}",
            "parts": each["components"], "prompt": each["prompt"], "found by": each.get("source", ""),
            "confidence": "" if each["confidence"] is None else f"{each['confidence']:.3f}",
        }  # fmt: skip
        self.detail.clear()
        with self.detail, ui.element("div").classes("nv-card"):
            ui.label(f"Region {each['tag']}").classes("text-base font-medium")
            if text := self.descriptions.get(index):
                ui.label(text)
            said = [f"{name} {value}" for name, value in facts.items() if value not in {"", None}]
            ui.label("; ".join(said)).classes("nv-muted")

    def _end(self, job: Job) -> None:
        if job is not self.job:
            return
        if self.found is None:
            self.status.set_text("")
        results = self.context.service.results(self.context.session, job)
        with self.more:
            if images := {name: token for name, token in results.items() if name.endswith(_IMAGES)}:
                with ui.expansion("Images of the run", icon="image").classes("w-full"):
                    for name, token in images.items():
                        address, text = self.context.url(token, name), escape(name, quote=True)
                        ui.html(f'<img class="nv-wide" alt="{text}" src="{address}">', sanitize=False)
            for name in results:
                if name.endswith(REPORT):
                    with ui.expansion("Report", icon="description").classes("w-full"):
                        text = (job.out / name).read_text(encoding="utf-8")
                        ui.label(text).classes("nv-mono whitespace-pre-wrap")
            if results:
                self.context.downloads(job)


def _number(label: str, low: float, high: float, value: float | None = None, *, step: float = 1) -> ui.number:
    precision = 0 if step == 1 else 2
    box = ui.number(label, value=value, min=low, max=high, step=step, precision=precision)
    return box.props("outlined dense").classes("w-full")


def _whole(box: ui.number) -> int:
    return int(box.value or 0)


def _real(box: ui.number) -> float:
    return float(box.value or 0.0)
