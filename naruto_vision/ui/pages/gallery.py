"""The tab Gallery: people and their images, edits with the ledger, suspect labels, and unknown regions to name."""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nicegui import ui

from naruto_vision.errors import NarutoVisionError
from naruto_vision.gallery.content import from_ranges, line_counts
from naruto_vision.gallery.info import Listing
from naruto_vision.io.text import quantity
from naruto_vision.ui.context import Context, JobBar, name_field, pressable, select, tile
from naruto_vision.ui.service import Job, StoredFile

_PAGE = 60  # tiles at a time
_LINES = 50  # of the ledger
_WATCH = 3.0  # seconds between two looks for changes by others

PEOPLE, SUSPECTS, UNKNOWN = "People", "Suspects", "Unknown regions"


class GalleryTab:
    """The tab, built where it is opened."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.listing: Listing | None = None
        self.person = ""
        self.page = 1
        self.turn = 0
        self.chosen: dict[str, list[int]] = {}
        self.files: list[StoredFile] = []
        with ui.element("div").classes("nv-beside"):
            with ui.element("div").classes("nv-side"):
                self._adding()
            with ui.element("div").classes("nv-main"):
                with ui.row().classes("items-center gap-3 w-full"):
                    self.preset = select("Gallery", list(context.service.presets)).classes("min-w-40", remove="w-full")
                    self.preset.on_value_change(self._other)
                    self.kind = ui.toggle([PEOPLE, SUSPECTS, UNKNOWN], value=PEOPLE, on_change=self._turn)
                    self.kind.props('no-caps unelevated dense padding="4px 12px"')
                self.stale = ui.label().classes("nv-card")
                self.stale.set_visibility(False)
                self.bar = JobBar(context)
                self.view = ui.column().classes("w-full gap-3")
            with ui.element("div").classes("nv-ledger"):
                ui.label("Ledger").classes("text-base font-medium")
                self.ledger = ui.column().classes("w-full gap-1")
        ui.timer(0, self.refresh, once=True)
        ui.timer(_WATCH, self._watch)

    def _adding(self) -> None:
        ui.label("Add images").classes("text-base font-medium")
        self.context.inputs(self.bring)
        self.waiting = ui.element("div").classes("nv-grid nv-small")
        self.name = ui.input("Name of the character", autocomplete=[]).props("outlined dense").classes("w-full")
        self.name.on("keydown.enter", self.add)
        self.adding = ui.button("Add", icon="person_add", on_click=self.add).props("no-caps").classes("w-full")
        self.adding.set_enabled(False)

    @property
    def current(self) -> str:
        """The preset whose gallery is shown."""
        return str(self.preset.value or "")

    async def _other(self) -> None:
        self.person, self.page, self.chosen = "", 1, {}
        await self.refresh()

    async def _turn(self) -> None:
        self.person, self.page, self.chosen = "", 1, {}
        self.bar.row.set_visibility(False)
        await self.show()

    async def _watch(self) -> None:
        """Show what another window or process has changed, unless images are selected."""
        if self.chosen:
            return
        try:
            generation = self.context.service.generation(self.current)
        except NarutoVisionError:  # there is none, which is shown, or it is gone, which the next edit says
            return
        if self.listing is None:
            await self.refresh()
        elif generation != self.listing.generation:
            await self.changed()

    async def refresh(self) -> None:
        """Read the gallery again, and show it."""
        await self.reread()
        await self.show()

    async def reread(self) -> None:
        """Read the gallery again, for the ledger and the names."""
        self.chosen, preset = {}, self.current
        try:
            listing = await asyncio.to_thread(self.context.service.gallery, preset, rows=True)
        except NarutoVisionError as error:
            self.listing = None
            self.ledger.clear()
            self.view.clear()
            with self.view:
                ui.label(str(error)).classes("nv-card")
            return
        if preset != self.current:  # another was chosen meanwhile, and is read by then
            return
        self.listing = listing
        labels = list(self.listing.labels)
        self.name.set_autocomplete(labels)
        if self.person not in labels:
            self.person = ""
        since = self.listing.stale_since
        self.stale.set_visibility(since is not None)
        folder = self.context.service.gallery_folder(self.current)
        self.stale.set_text(
            f"The thresholds are stale: they were chosen before generation {since} changed the entries. Choose them "
            "again on scenes with ground truth: naruto-vision validate --config scenes.yaml --data.valid SCENES "
            f"--model.gallery {folder}"
        )
        self._show_ledger(self.listing)

    async def changed(self) -> None:
        """Show what was changed; suspects and unknown regions stay as they are."""
        await self.reread()
        if self.kind.value == PEOPLE:
            await self.show()

    async def edit(self, edit: str, **arguments: Any) -> bool:
        """Change the gallery, say what was done, and show it."""
        context = self.context
        found = await context.attempt(context.service.edit_gallery(context.session, self.current, edit, **arguments))
        if found is None:
            return False
        ui.notify(f"{_change(found)}: generation {found['generation']}, {found['rows']} entries", type="positive")
        return True

    # people

    async def show(self) -> None:
        """Show people, one person, suspects or unknown regions."""
        self.turn += 1
        if self.listing is None:
            return
        if self.kind.value == SUSPECTS:
            self.view.clear()
            _Suspects(self)
        elif self.kind.value == UNKNOWN:
            self.view.clear()
            _Unknown(self)
        elif self.person:
            await self._show_person(self.listing)
        else:
            await self._show_people(self.listing)

    async def _thumbnails(self, rows: Sequence[str]) -> Sequence[bytes | None] | None:
        """Return thumbnails of entries; None if something else is to be shown by now."""
        service, session, turn = self.context.service, self.context.session, self.turn
        found = await self.context.attempt(service.call(session, "scenes.thumbnails", preset=self.current, rows=rows))
        return (found or [None] * len(rows)) if turn == self.turn else None

    async def _show_people(self, listing: Listing) -> None:
        first: dict[str, str] = {}
        for row in listing.entries:
            first.setdefault(row["label"], row["path"])
        names = list(listing.labels)
        some = names[(self.page - 1) * _PAGE : self.page * _PAGE]
        thumbnails = await self._thumbnails([first[name] for name in some])
        if thumbnails is None:
            return
        self.view.clear()
        with self.view:
            ui.label(f"{len(names)} people, {listing.total} entries").classes("nv-muted")
            with ui.element("div").classes("nv-grid"):
                for name, thumbnail in zip(some, thumbnails, strict=True):
                    with tile(thumbnail, name, quantity(listing.labels[name], "entry")) as each:
                        pressable(each, partial(self.open, name))
            self._pages(len(names))

    def _pages(self, count: int) -> None:
        if count > _PAGE:
            last = (count - 1) // _PAGE + 1
            pages = ui.pagination(1, last, value=self.page, direction_links=True).props("max-pages=7")
            pages.on_value_change(lambda event: self._to_page(int(event.value)))

    async def _to_page(self, page: int) -> None:
        self.page, self.chosen = page, {}
        await self.show()

    async def open(self, person: str) -> None:
        """Show the images of a person; "" shows all people."""
        if person or self.name.value == self.person:
            self.name.set_value(person)
        self.person, self.page, self.chosen = person, 1, {}
        await self.show()

    async def _show_person(self, listing: Listing) -> None:
        entries: dict[str, list[int]] = {}  # of one image there may be several, such as with another gamma
        for row in listing.entries:
            if row["label"] == self.person:
                entries.setdefault(row["path"], []).append(row["id"])
        some = dict(list(entries.items())[(self.page - 1) * _PAGE : self.page * _PAGE])
        thumbnails = await self._thumbnails(list(some))
        if thumbnails is None:
            return
        self.view.clear()
        with self.view:
            with ui.row().classes("items-center gap-2"):
                ui.button(icon="arrow_back", on_click=partial(self.open, "")).props(
                    'flat round dense aria-label="all people"'
                )
                ui.label(self.person).classes("text-lg font-medium")
                ui.label(f"{len(entries)} images").classes("nv-muted")
            with ui.row().classes("items-center gap-2 w-full"):
                self.every = ui.button("Select all", on_click=lambda: self._select_all(some)).props(
                    "flat dense no-caps"
                )
                self.removing = ui.button(icon="delete", on_click=self._remove).props("outline no-caps dense")
                to = ui.input("is really", autocomplete=list(listing.labels)).props("outlined dense")
                to.on("keydown.enter", lambda: self._relabel(str(to.value or "")))
                self.relabelling = ui.button(icon="label", on_click=lambda: self._relabel(str(to.value or "")))
                self.relabelling.props("outline no-caps dense")
            self.tiles: dict[str, ui.element] = {}
            with ui.element("div").classes("nv-grid"):
                for (path, ids), thumbnail in zip(some.items(), thumbnails, strict=True):
                    with tile(thumbnail, f"id {', '.join(map(str, ids))}", path) as each:
                        each.props("role=checkbox tabindex=0 aria-checked=false")
                        each.on("click", partial(self._toggle, path, ids))
                        each.on("keydown.space.prevent", partial(self._toggle, path, ids))
                        self.tiles[path] = each
            self._pages(len(entries))
        self._count()

    def _select_all(self, entries: Mapping[str, list[int]]) -> None:
        for path in [path for path in entries if (path in self.chosen) == (len(self.chosen) == len(entries))]:
            self._toggle(path, entries[path])

    def _toggle(self, path: str, ids: list[int]) -> None:
        if path in self.chosen:
            del self.chosen[path]
        else:
            self.chosen[path] = ids
        mark(self.tiles[path], on=path in self.chosen)
        self._count()

    def _count(self) -> None:
        count = len(self.chosen)
        self.every.set_text("Select none" if count and count == len(self.tiles) else "Select all")
        self.removing.set_text(f"Remove {count}")
        self.relabelling.set_text(f"Relabel {count}")
        self.removing.set_enabled(bool(count))
        self.relabelling.set_enabled(bool(count))

    def _ids(self) -> list[int]:
        return [each for ids in self.chosen.values() for each in ids]

    async def _remove(self) -> None:
        if await self.edit("remove", ids=self._ids()):
            await self.refresh()

    async def _relabel(self, label: str) -> None:
        if self.chosen and await self.edit("relabel", ids=self._ids(), label=label):
            await self.refresh()

    # adding

    def bring(self, files: list[StoredFile]) -> None:
        """Take images that are to be added."""
        self.files += [each for each in files if each not in self.files]
        self._show_waiting()

    def _show_waiting(self) -> None:
        self.waiting.clear()
        with self.waiting:
            for each in self.files:
                ui.image(self.context.url(each.view)).props("fit=contain ratio=1").props('alt="to be added"')
        self.adding.set_text(f"Add {len(self.files)}" if self.files else "Add")
        self.adding.set_enabled(bool(self.files))

    async def add(self) -> None:
        """Add the images that were brought under the name."""
        if not self.files:
            return
        files = [(each.name, str(each.path)) for each in self.files]
        if await self.edit("add", files=files, label=str(self.name.value or "")):
            self.files = []
            self.name.set_value(self.person)
            self._show_waiting()
            await self.refresh()

    # the ledger

    def _show_ledger(self, listing: Listing) -> None:
        lines, names = listing.ledger, {row["id"]: row["label"] for row in listing.rows}
        self.ledger.clear()
        with self.ledger:
            for line in reversed(lines[-_LINES:]):
                generation = int(line["generation"])
                with ui.row().classes("w-full no-wrap items-center gap-2 nv-entry"):
                    ui.label(str(generation)).classes("nv-mono")
                    with ui.column().classes("grow gap-0"):
                        ui.label(_logged(line, names)).classes("text-sm")
                        ui.label(f"{line['rows']} entries").classes("nv-muted text-xs")
                    if generation < len(lines):
                        ui.button(icon="history", on_click=partial(self._ask_rollback, generation)).props(
                            f'flat round dense size=sm aria-label="roll back to generation {generation}"'
                        )
            if len(lines) > _LINES:
                ui.label(f"and {len(lines) - _LINES} earlier: naruto-vision gallery log").classes("nv-muted text-xs")

    async def _ask_rollback(self, generation: int) -> None:
        with ui.dialog() as dialog, ui.card():
            ui.label(f"Restore the entries of generation {generation}?").classes("text-base font-medium")
            ui.label("Later changes are undone. This is a new generation, so it can be undone too.")
            with ui.row().classes("w-full justify-end"):
                ui.button("Cancel", on_click=lambda: dialog.submit(False)).props("flat no-caps")
                ui.button("Roll back", on_click=lambda: dialog.submit(True)).props("no-caps")
        agreed = await dialog
        dialog.delete()
        if agreed and await self.edit("rollback", generation=generation):
            await self.refresh()


class _Suspects:
    """Pairs of images: a suspect, and its nearest entry of the likelier label."""

    def __init__(self, gallery: GalleryTab) -> None:
        self.gallery, self.context = gallery, gallery.context
        self.job: Job | None = None
        with gallery.view:
            ui.label("Entries whose label the other entries contradict may be wrong.").classes("nv-muted")
            ui.button("Look for wrong labels", icon="troubleshoot", on_click=self.start).props("no-caps")
            self.said = ui.label().classes("nv-muted")
            self.list = ui.element("div").classes("nv-pairs")

    async def start(self) -> None:
        """Queue the comparison."""
        context, preset = self.context, self.gallery.current

        def start() -> Job:
            context.service.gallery_folder(preset)
            return context.service.start(context.session, "comparing the entries", "gallery.suspects", preset=preset)

        self.job = context.queue(start)
        if self.job is not None:
            context.watch(self.job, self.gallery.bar, lambda _: None, self._end)

    def _end(self) -> None:
        if self.job is None or self.job.result is None or self.list.is_deleted:
            return
        found, kept = self.job.result, self.context.session.kept
        rows = [row for row in found["suspects"] if (self.gallery.current, row["id"], row["label"]) not in kept]
        more = f", the likeliest {len(found['suspects'])} are shown" if found["found"] > len(found["suspects"]) else ""
        self.said.set_text(
            f"{found['found']} of {found['compared']} entries may be wrong{more}"
            + (f"; {len(found['suspects']) - len(rows)} were kept" if len(rows) < len(found["suspects"]) else "")
        )
        self.list.clear()
        with self.list:
            for row in rows:
                self._show(row)

    def _show(self, row: Mapping[str, Any]) -> None:
        with ui.element("div").classes("nv-card") as card:
            with ui.element("div").classes("nv-pair"):
                tile(row["thumbnails"][0], row["label"], row["path"])
                tile(row["thumbnails"][1], row["rival"], f"{row['cosine']:.3f}  {row['nearest']}")
            ui.label(f"{row['label']}, or {row['rival']}? The others give it {row['own']:.0%} and {row['chance']:.0%}.")
            with ui.row().classes("gap-2 mt-1"):
                to, ids = row["rival"], [row["id"]]
                ui.button(f"Relabel to {to}", on_click=lambda: self._edit(card, "relabel", ids=ids, label=to)).props(
                    'no-caps dense padding="4px 10px"'
                )
                ui.button("Keep", on_click=lambda: self._keep(card, row)).props("no-caps flat dense")
                ui.button("Remove", on_click=lambda: self._edit(card, "remove", ids=ids)).props("no-caps flat dense")

    async def _edit(self, card: ui.element, edit: str, **arguments: Any) -> None:
        if await self.gallery.edit(edit, **arguments):
            take_away(card)
            await self.gallery.changed()

    def _keep(self, card: ui.element, row: Mapping[str, Any]) -> None:
        self.context.session.kept.add((self.gallery.current, row["id"], row["label"]))
        card.delete()


class _Unknown:
    """Groups of unknown regions of past runs, each of which can be given a name."""

    def __init__(self, gallery: GalleryTab) -> None:
        self.gallery, self.context = gallery, gallery.context
        self.job: Job | None = None
        runs = list(self.context.service.past_runs(self.context.session))
        with gallery.view:
            if not runs:
                ui.label(
                    "No results yet: name the characters of images in the tab Scene. Results of this session, and "
                    "those that were kept, are offered here."
                ).classes("nv-muted")
                return
            ui.label("Regions that were unknown are grouped by likeness; a name adds a group's images.").classes(
                "nv-muted"
            )
            with ui.row().classes("items-center gap-3 w-full"):
                self.runs = ui.select(runs, value=runs, multiple=True, label="Results").props(
                    "outlined dense use-chips"
                )
                self.runs.classes("grow min-w-48")
                self.alike = ui.number("Alike from cosine", placeholder="auto", min=0, max=1, step=0.02, format="%.2f")
                self.alike.props("outlined dense clearable").classes("w-40")
                ui.button("Group them", icon="hub", on_click=self.start).props("no-caps")
            self.said = ui.label().classes("nv-muted")
            self.list = ui.element("div").classes("nv-pairs")

    async def start(self) -> None:
        """Queue the grouping."""
        context, preset = self.context, self.gallery.current
        alike = None if self.alike.value is None else float(self.alike.value)

        runs = list(self.runs.value or ())
        self.job = context.queue(context.service.group_unknown, context.session, preset, runs, alike)
        if self.job is not None:
            context.watch(self.job, self.gallery.bar, lambda _: None, self._end)

    def _end(self) -> None:
        if self.job is None or self.job.result is None or self.list.is_deleted:
            return
        found = self.job.result
        self.said.set_text(
            f"{found['seen']} unknown regions, of which the gallery names {found['named']} by now; "
            f"{len(found['groups'])} groups of a mean cosine of at least {found['alike']:.2f}"
        )
        self.list.clear()
        with self.list:
            for group in found["groups"][:_PAGE]:
                _Group(self.gallery, group)
            if len(found["groups"]) > _PAGE:
                ui.label(f"and {len(found['groups']) - _PAGE} more groups").classes("nv-muted")


class _Group:
    """The images of one group, those of which that are selected are added under a name."""

    def __init__(self, gallery: GalleryTab, group: Sequence[Mapping[str, Any]]) -> None:
        self.gallery, self.group = gallery, group
        self.off: set[int] = set()
        labels = list(gallery.listing.labels) if gallery.listing is not None else []
        best = max(group, key=lambda crop: crop["score"])
        with ui.element("div").classes(f"nv-card {'nv-span' if len(group) > 2 else ''}") as self.card:
            with ui.row().classes("items-center gap-2 mb-2"):
                _, self.button = name_field("This is", labels, self.add, "")
                ui.label(f"most like {best['label']}, {best['score']:.3f}").classes("nv-muted")
            with ui.element("div").classes("nv-grid nv-crops"):
                for number, crop in enumerate(group):
                    with tile(crop["thumbnail"], "", crop["caption"]) as each:
                        each.props("role=checkbox tabindex=0")
                        each.on("click", partial(self._toggle, number, each))
                        each.on("keydown.space.prevent", partial(self._toggle, number, each))
                        mark(each, on=True)
        self._count()

    def _toggle(self, number: int, each: ui.element) -> None:
        self.off ^= {number}
        mark(each, on=number not in self.off)
        self._count()

    def _count(self) -> None:
        count = len(self.group) - len(self.off)
        self.button.set_text(f"Add {count} to the gallery")
        self.button.set_enabled(bool(count))

    async def add(self, label: str) -> None:
        """Add the selected images under a name."""
        files = [(crop["name"], crop["path"]) for number, crop in enumerate(self.group) if number not in self.off]
        if files and await self.gallery.edit("add", files=files, crops=True, label=label):
            take_away(self.card)
            await self.gallery.changed()


def mark(each: ui.element, *, on: bool) -> None:
    """Show whether a tile is selected."""
    each.props(f"aria-checked={'true' if on else 'false'}")
    each.classes(add="nv-on" if on else None, remove=None if on else "nv-on")


def _change(facts: Mapping[str, Any]) -> str:
    counts = [f"{facts[what]} {what}" for what in ("added", "removed", "relabelled") if facts[what]]
    return ", ".join(counts) or "no entry changed"


def _logged(line: Mapping[str, Any], names: Mapping[int, str]) -> str:
    """Say in one line what a line of the ledger did; ``names`` are the labels of the entries by their ids."""
    counts = line_counts(line)
    done = _change(counts)
    match line["op"]:
        case "add":
            return _as_one(done, {names[id_] for id_ in from_ranges(line["added"]) if id_ in names})
        case "remove":
            return done
        case "relabel":
            return _as_one(done, {change[2] for change in line["relabelled"]})
        case "rollback":
            return f"back to {line['to']}: {done}"
    return f"{line['op']}: {done}" if any(counts.values()) else str(line["op"])


def _as_one(done: str, names: set[str]) -> str:
    return f"{done} as {names.pop()}" if len(names) == 1 else done


def take_away(card: ui.element) -> None:
    """Remove a card, unless what it was in is gone."""
    if not card.is_deleted:
        card.delete()
