"""The tab Prompts: one object by points and a box, with previews, undo and redo."""

from functools import partial
from typing import TYPE_CHECKING, Any

from nicegui import ui
from nicegui.events import KeyboardModifiers, KeyEventArguments, MouseEventArguments

from naruto_vision.errors import NarutoVisionError
from naruto_vision.ui.context import Context, columns, name_field, pressable, select
from naruto_vision.ui.pages.drawing import GREEN, layer, outlined_image, point_mark, screen_pixel, stage_style
from naruto_vision.ui.service import StoredFile

if TYPE_CHECKING:
    from collections.abc import Mapping

_RED, _CHOSEN, _OTHERS = "#d32f2f", "#e0541b", "#3b82c4"
_CLICK = 5.0  # pixels of the screen's image that a pointer may move during a click
_KEYS = (
    ("click", "a point on the object"),
    ("Shift or Alt + click", "a point on the background"),
    ("drag", "a box"),
    ("drag a point", "moves it"),
    ("right click on a point", "removes it"),
    ("Ctrl+Z, Ctrl+Y", "undo, redo"),
    ("1, 2, 3", "choose a mask"),
    ("arrow keys, Enter, Backspace", "move the cursor, set a point (Shift: background), remove the last one"),
    ("R, Delete, S", "refine, remove all, save"),
)
_OPERATIONS: "Mapping[str, tuple[str, tuple[Any, ...]]]" = {
    "1": ("choose", (0,)),
    "2": ("choose", (1,)),
    "3": ("choose", (2,)),
    "r": ("refine", ()),
    "delete": ("reset", ()),
}


class PromptsTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.file: StoredFile | None = None
        self.state: Mapping[str, Any] = {"points": [], "box": None}
        self.drag: tuple[str, float, float] | None = None
        """What is dragged ("box", or "point-N"), and where it began."""
        self.at = (0.0, 0.0)
        self.cursor: tuple[float, float] | None = None
        self.hovered = ""
        self.asking = False
        side, main = columns()
        with side:
            context.inputs(self.open)
            self._controls()
        with main:
            self.title = ui.label("Bring an image, then click on an object or drag a box around it.")
            self.stage = ui.element("div").classes("nv-stage")
            self.status = ui.label().classes("nv-muted text-sm").props("role=status aria-live=polite")
            self.masks = ui.element("div").classes("nv-grid")
            self.named = ui.column().classes("w-full")
            self.files = ui.column().classes("w-full")
        self.keys = ui.keyboard(self._key, ignore=["input", "select", "textarea", "button"])
        context.on_choice.append(self._follow)
        context.on_open["Prompts"] = self._seen
        self._seen()

    def _controls(self) -> None:
        service = self.context.service
        self.weights = select("Segmentation model", list(service.config.weights)).on_value_change(self.update)
        names = {"": "no names", **{name: name for name in service.presets}}
        self.preset = select("Who is it? Gallery", names).on_value_change(self.update)
        self.positive = ui.toggle({True: "on the object", False: "background"}, value=True).props(
            'no-caps spread aria-label="what a click means"'
        )
        self.live = ui.switch("Preview the mask under the pointer", value=True)
        with ui.row().classes("gap-1"):
            for icon, text, name in (
                ("undo", "Undo", "undo"), ("redo", "Redo", "redo"), ("delete", "Remove all", "reset"),
                ("crop_free", "Remove the box", "remove_box"), ("auto_fix_high", "Refine the mask", "refine"),
            ):  # fmt: skip
                button = ui.button(icon=icon, on_click=lambda name=name: self.apply((name, ())))
                button.props(f'flat dense aria-label="{text}"').tooltip(text)
        ui.button("Save mask, overlay and JSON", icon="save", on_click=self.save).props("no-caps").classes("w-full")
        with ui.expansion("Mouse and keys", icon="keyboard").classes("w-full"):
            for keys, meaning in _KEYS:
                ui.label(f"{keys}: {meaning}").classes("text-sm")

    def _seen(self) -> None:
        ui.timer(0.05, lambda: self._follow(self.context.chosen), once=True)

    async def _follow(self, file: StoredFile | None) -> None:
        """Open an image that was chosen; one that was chosen in another tab when this one is seen."""
        if file is not None and file is not self.file and self.context.is_open("Prompts"):
            await self._open(file)

    async def open(self, files: list[StoredFile]) -> None:
        """Take the first of new images."""
        await self.context.choose(files[0])

    async def _open(self, file: StoredFile) -> None:
        self.file, self.cursor, self.hovered, self.drag = file, None, "", None
        self.state = {"points": [], "box": None}
        self.stage.clear()
        self.files.clear()
        with self.stage:
            self.image = ui.interactive_image(
                self.context.url(file.view, file.name),
                events=["mousedown", "mouseup", "mousemove", "mouseleave", "contextmenu"],
                on_mouse=self._mouse,
                sanitize=False,
            ).props('tabindex=0 aria-label="image: click to prompt"')
            self.image.on("contextmenu", js_handler="(event) => event.preventDefault()")
            self.image.on("dragstart", js_handler="(event) => event.preventDefault()")
        self.stage.style(stage_style(file))
        self.title.set_text(f"{file.name}, {file.width} x {file.height}")
        await self.update()

    async def _mouse(self, event: MouseEventArguments) -> None:
        scale = 1.0 if self.file is None else self.file.zoom
        x, y = self.at = event.image_x * scale, event.image_y * scale
        match event.type:
            case "mousedown" if event.button == 0:
                self.drag = (self._point_at(x, y) or "box", x, y)
            case "mouseup" if event.button == 0:
                await self._dropped(x, y, positive=bool(self.positive.value) != (event.shift or event.alt))
            case "mousemove":
                await self._moved(x, y)
            case "mouseleave":
                self.hovered, self.drag = "", None
                self._draw()
            case "contextmenu":
                if found := self._point_at(x, y):
                    await self.apply(("remove", (int(found.removeprefix("point-")),)))

    def _point_at(self, x: float, y: float) -> str:
        near = 9 * self._unit
        for index, (px, py, _) in reversed(list(enumerate(self.state["points"]))):
            if abs(px - x) <= near and abs(py - y) <= near:
                return f"point-{index}"
        return ""

    @property
    def _unit(self) -> float:
        return 1.0 if self.file is None else screen_pixel(self.file)

    async def _dropped(self, x: float, y: float, *, positive: bool) -> None:
        if self.drag is None or self.file is None:
            return
        what, x0, y0 = self.drag
        self.drag, self.hovered = None, ""
        moved = max(abs(x - x0), abs(y - y0)) > _CLICK * self._unit
        x, y = min(max(x, 0), self.file.width - 1), min(max(y, 0), self.file.height - 1)
        if what == "box":
            await self.apply(("box", (x0, y0, x, y)) if moved else ("point", (x, y, positive)))
        elif moved:
            await self.apply(("move", (int(what.removeprefix("point-")), x, y)))

    async def _moved(self, x: float, y: float) -> None:
        if self.drag is not None:
            self._draw()
            return
        if not self.live.value or self.asking or self.file is None:
            return
        file = self.file
        self.asking = True  # one preview at a time: those of positions that were passed meanwhile are skipped
        try:
            arguments = self.context.service.prompt_arguments(self.context.session, self.file, str(self.weights.value))
            point = (x, y, bool(self.positive.value))
            found = await self.context.service.call(self.context.session, "prompts.hover", **arguments, point=point)
        except NarutoVisionError:  # a preview fails as the prompts would, which a click says
            found = {"path": ""}
        finally:
            self.asking = False
        if file is self.file:
            self.hovered = found["path"]
            self._draw()

    async def _key(self, event: KeyEventArguments) -> None:
        if not event.action.keydown or self.file is None or not self.context.is_open("Prompts"):
            return
        key, mods = event.key.name, event.modifiers
        if key.startswith("Arrow"):
            self._step(key)
        elif key.lower() == "s" and not mods.ctrl:
            await self.save()
        elif operation := self._operation(key, mods):
            await self.apply(operation)

    def _operation(self, key: str, mods: KeyboardModifiers) -> tuple[str, tuple[Any, ...]] | None:
        """Return what a key does to the prompts; None for nothing."""
        if mods.ctrl or mods.meta:
            undo = key.lower() == "z" and not mods.shift
            return ("undo" if undo else "redo", ()) if key.lower() in {"z", "y"} else None
        if key == "Backspace" and self.state["points"]:
            return "remove", (len(self.state["points"]) - 1,)
        if key == "Enter" and self.cursor is not None:
            return "point", (*self.cursor, bool(self.positive.value) != mods.shift)
        return _OPERATIONS.get(key.lower())

    def _step(self, key: str) -> None:
        file = self.file
        if file is None:
            return
        x, y = self.cursor or (file.width / 2, file.height / 2)
        step = 10 * self._unit
        x += step * ((key == "ArrowRight") - (key == "ArrowLeft"))
        y += step * ((key == "ArrowDown") - (key == "ArrowUp"))
        self.cursor = (min(max(x, 0), file.width - 1), min(max(y, 0), file.height - 1))
        self._draw()

    async def apply(self, *operations: tuple[str, tuple[Any, ...]]) -> None:
        """Apply operations to the prompts, and show the masks."""
        file = self.file
        if file is None:
            self.context.complain("prompts: bring an image first")
            return
        service, session = self.context.service, self.context.session
        found = await self.context.attempt(
            service.prompt(session, file, str(self.weights.value), str(self.preset.value or ""), *operations)
        )
        if found is not None and file is self.file:
            self.state, self.hovered = found, ""
            self._show()

    async def update(self) -> None:
        """Ask again, after the model or the gallery was changed."""
        if self.file is not None:
            await self.apply()

    def _show(self) -> None:
        state = self.state
        self._draw()
        if "masks" not in state:
            self.status.set_text("no prompts: click on the object")
        else:
            mask, box = state["masks"][state["chosen"]], state["masks"][state["chosen"]]["mask_bbox"]
            where = "empty" if box is None else f"{mask['area_px']} pixels, box {', '.join(map(str, box))}"
            parts = [f"mask {state['chosen'] + 1}: score {mask['score']:.3f}, {where}, perimeter {mask['perimeter']:g}"]
            parts += [f"{state['milliseconds']:.0f} ms", *state["warnings"]]
            parts += ["refined"] if state["refined"] else []
            parts += ["the masks disagree: compare them"] if state["ambiguity"] > 0.5 else []
            self.status.set_text("; ".join(parts))
        self._show_masks()

    def _show_masks(self) -> None:
        self.masks.clear()
        self.named.clear()
        if "masks" not in self.state or self.file is None:
            return
        with self.masks:
            for index, mask in enumerate(self.state["masks"]):
                on = " nv-on" if index == self.state["chosen"] else ""
                tile = pressable(
                    ui.element("div").classes(f"nv-tile{on}"),
                    partial(self.apply, ("choose", (index,))),
                    f"choose mask {index + 1}",
                )
                with tile:
                    size = (self.file.width, self.file.height)
                    image = outlined_image(self.context.url(self.file.view), size, [(mask["path"], _CHOSEN)])
                    ui.html(image, sanitize=False)
                    who = mask.get("who")
                    name = "" if who is None else f"{who['name']} {who['score']:.2f}, "
                    ui.label(f"{index + 1}: {name}score {mask['score']:.3f}").classes("nv-cap")
        who = self.state["masks"][self.state["chosen"]].get("who")
        if who is not None:
            with self.named, ui.element("div").classes("nv-card"):
                ui.label(f"It is {who['name']}" if who["name"] == who["label"] else "Not in the gallery").classes(
                    "text-base font-medium"
                )
                ui.label(who["why"]).classes("nv-muted")
                labels = list(self.context.service.gallery(str(self.preset.value)).labels)
                name_field("Enrol it as", labels, self.enrol, "Enrol", who["label"])

    def _draw(self) -> None:
        if self.file is None:
            return
        state = self.state
        box, points = state["box"], list(state["points"])
        if self.drag is not None and self.drag[0] == "box":
            box = (*self.drag[1:], *self.at)
        elif self.drag is not None and (index := int(self.drag[0].removeprefix("point-"))) < len(points):
            points[index] = (*self.at, points[index][2])
        path = state["masks"][state["chosen"]]["path"] if "masks" in state else ""
        shapes = [_mask(path, _CHOSEN), _mask(self.hovered, _OTHERS, "nv-hover"), *_marks(box, points, self._unit)]
        if self.cursor is not None:
            (x, y), arm = self.cursor, 12 * self._unit
            shapes.append(f'<path class="nv-cursor" d="M{x - arm} {y}H{x + arm}M{x} {y - arm}V{y + arm}"/>')
        self.image.set_content(layer(self.file, "".join(shapes)))

    async def save(self) -> None:
        """Write the files that ``naruto-vision segment`` writes, and show them."""
        if self.file is None:
            self.context.complain("prompts: bring an image first")
            return
        job = await self.context.attempt(
            self.context.service.save_prompts(self.context.session, self.file, str(self.weights.value))
        )
        if job is not None:
            self.files.clear()
            with self.files:
                self.context.downloads(job, opened=True)

    async def enrol(self, label: str) -> None:
        """Add the box of the mask to the gallery."""
        if self.file is None:
            return
        service, session = self.context.service, self.context.session
        line = await self.context.attempt(
            service.call(
                session, "prompts.enrol", preset=str(self.preset.value), label=label, name=self.file.name,
                **service.prompt_arguments(session, self.file, str(self.weights.value)),
            )
        )  # fmt: skip
        if line is not None:
            ui.notify(f"enrolled as {line['label']}: the gallery has {line['rows']} entries", type="positive")
            await self.update()


def _mask(path: str, colour: str, more: str = "") -> str:
    return f'<path class="nv-mask {more}" d="{path}" fill="{colour}" stroke="{colour}"/>' if path else ""


def _marks(box: tuple[float, ...] | None, points: list[tuple[float, float, bool]], unit: float) -> list[str]:
    """Draw the box and the points; ``unit`` is the size of a pixel of the screen."""
    shapes = []
    if box is not None:
        (left, right), (top, bottom) = sorted((box[0], box[2])), sorted((box[1], box[3]))
        size = f'x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"'
        shapes.append(f'<rect class="nv-box" {size} stroke="{GREEN}"/>')
    return shapes + [point_mark(x, y, unit, GREEN if positive else _RED) for x, y, positive in points]
