"""Describe scenes and write the results of each, resumably: a line in ``descriptions.jsonl`` means "done"."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from naruto_vision.captioning.protocol import AskingRule, Described, Describer, describe_regions
from naruto_vision.captioning.relations import DEFINITIONS
from naruto_vision.captioning.scenes import OpenedScene, SceneSource, scene_document, scene_report
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import atomic_file, write_json, write_text
from naruto_vision.io.quarantine import Quarantine
from naruto_vision.io.typed_json import read_json, read_json_lines
from naruto_vision.prompting.report import REPORT
from naruto_vision.recognition.writer import SceneLog, as_line, output_stems, software_versions

DESCRIPTIONS = "descriptions.jsonl"
SUMMARY = "describe.json"
REPORTS = "texts"

_MOST_SCENES = 16  # in memory at once
_MOST_FAILURES = 8  # regions in a row: the describer is broken, not the regions
_DAMAGED = "remove it, and describe the scenes again"


class _Entry(msgspec.Struct):
    description: str = ""
    error: str = ""
    asked: int = 0


class _Line(msgspec.Struct):
    """What is read again of a line."""

    scene: str
    digest: str
    regions: list[_Entry]


class _Summary(msgspec.Struct):
    identity: dict[str, Any] = {}


class SceneDescriber:
    """Describes the scenes of a source, several at once if they have few regions, and writes their results.

    The describer is loaded. Scenes that the folder has already are not described again, unless they have changed or a
    region has failed; InputError if it has the descriptions of another describer. ``todo`` is how many are left.
    """

    def __init__(self, source: SceneSource, describer: Describer, out: Path, rule: AskingRule | None = None) -> None:
        self.source, self.describer, self.out, self.rule = source, describer, out, rule or AskingRule()
        self._identity = json.loads(
            json.dumps({**describer.identity, "rule": asdict(self.rule)})
        )  # as it is read again
        self._refuse_others()
        self._done = self._keep_valid()
        self.todo = len(source.digests) - len(self._done)
        self._stems = output_stems(list(source.digests))
        self._failures: list[str] = []

    def _refuse_others(self) -> None:
        summary = self.out / SUMMARY
        if not (self.out / DESCRIPTIONS).exists() or not summary.is_file():
            return
        other = read_json(summary, _Summary, hint=_DAMAGED).identity
        changed = sorted(key for key in {*other, *self._identity} if other.get(key) != self._identity.get(key))
        if changed:
            raise InputError(
                f"{self.out / DESCRIPTIONS}: has descriptions of another describer (different {', '.join(changed)}); "
                "give another --out, or remove it"
            )

    def _keep_valid(self) -> set[str]:
        """Remove lines whose regions have changed or failed, and return the source's scenes in the others."""
        log, digests, done = self.out / DESCRIPTIONS, self.source.digests, set[str]()
        if not log.exists():
            return done
        with atomic_file(log) as temporary, temporary.open("wb") as kept, log.open("rb") as lines:
            for line, record in zip(lines, read_json_lines(log, _Line, hint=_DAMAGED), strict=False):
                valid = digests.get(record.scene, record.digest) == record.digest and record.scene not in done
                if valid and not any(each.error for each in record.regions):
                    kept.write(line)
                    done.add(record.scene)
        return done & digests.keys()

    def run(self, advance: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Describe what is left, and return the summary, which is also written to ``describe.json``.

        InputError if no scene can be used, or eight regions in a row, or all of them, fail.
        """
        quarantine, start, count = Quarantine("scenes", len(self.source.digests)), time.perf_counter(), 0
        write_json(self.out / SUMMARY, {"state": "running", "identity": self._identity})
        log = SceneLog(self.out / DESCRIPTIONS)
        try:
            for group in self._groups(quarantine, advance):
                count += sum(len(each.regions) for each in group)
                for opened, described in zip(group, self._describe(group), strict=True):
                    document = scene_document(opened, described, self.source.digests[opened.scene.scene])
                    stem = self._stems[opened.scene.scene]
                    report = scene_report(document, [*self.source.models, f"Described by {self.describer.name}"])
                    write_text(self.out / REPORTS / f"{stem}{REPORT}", report)
                    log.append(as_line(document))
                    self._check_failures(described)
                    advance()
        finally:
            log.close()
        quarantine.check(1.0)
        return self._finish(quarantine, (time.perf_counter() - start) * 1e3 / count if count else None)

    def _groups(self, quarantine: Quarantine, advance: Callable[[], None]) -> Iterator[list[OpenedScene]]:
        """Yield groups of scenes that fill a batch of the describer."""
        group: list[OpenedScene] = []
        for scene in self.source:
            if scene.scene in self._done:
                continue
            opened = quarantine.read(scene.scene, lambda scene=scene: self.source.open(scene))  # type: ignore[misc]  # bound now
            if opened is None:
                advance()
                continue
            group.append(opened)
            if len(group) == _MOST_SCENES or sum(len(each.regions) for each in group) >= self.describer.batch_size:
                yield group
                group = []
        if group:
            yield group

    def _describe(self, group: Sequence[OpenedScene]) -> Iterator[list[Described]]:
        items = [(each.image, region) for each in group for region in each.regions.values()]
        found = iter(describe_regions(self.describer, items, self.rule))
        return ([next(found) for _ in each.regions] for each in group)

    def _check_failures(self, described: Sequence[Described]) -> None:
        for each in described:
            self._failures = [*self._failures, each.description.error] if each.description.error else []
            if len(self._failures) == _MOST_FAILURES:
                raise InputError(f"{_MOST_FAILURES} regions in a row cannot be described; first {self._failures[0]}")

    def _finish(self, quarantine: Quarantine, milliseconds: float | None) -> dict[str, Any]:
        entries: list[_Entry] = []
        for record in read_json_lines(self.out / DESCRIPTIONS, _Line, hint=_DAMAGED):
            entries += [each for each in record.regions if each.asked and record.scene in self.source.digests]
        errors = [each.error for each in entries if each.error]
        if errors and len(errors) == len(entries):
            raise InputError(f"none of {len(entries)} regions can be described; first {errors[0]}")
        counts = {
            "regions": len(entries),
            "described": sum(bool(each.description) for each in entries),
            "empty": sum(not each.description and not each.error for each in entries),
            "failed": len(errors),
            "asked": sum(each.asked for each in entries),
        }
        scenes = {"seen": len(self._done) + quarantine.seen, "ok": len(self._done) + quarantine.ok}
        summary: dict[str, Any] = {
            "state": "done",
            "identity": self._identity,
            "describer": self.describer.name,
            "counts": {**scenes, "quarantined": quarantine.quarantined, **counts},
            "quarantined": [{"scene": row.path, "reason": row.reason} for row in quarantine.rows],
            "failed": sorted(set(errors)),
            "milliseconds_per_region": None if milliseconds is None else round(milliseconds, 3),
            "relations": dict(DEFINITIONS),
            "versions": software_versions(),
        }
        write_json(self.out / SUMMARY, summary)
        return summary


def summary_lines(out: Path, summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was described, what was not and why, and where to look."""
    counts = summary["counts"]
    left = f", {counts['quarantined']} could not be used" if counts["quarantined"] else ""
    yield f"{out}: {counts['ok']} of {counts['seen']} scenes described{left}"
    parts = [f"{counts['described']} of {counts['regions']} regions have a description", f"{counts['empty']} are empty"]
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    spent = summary["milliseconds_per_region"]
    time_text = "" if spent is None else f", {spent:.0f} ms a region"
    yield f"{', '.join(parts)}; {counts['asked']} requests{time_text}"
    yield from (f"  {each['reason']}" for each in summary["quarantined"][:5])
    yield from (f"  failed: {reason}; the same command asks again" for reason in summary["failed"][:5])
    yield f"read {out / REPORTS}; for programs: {out / DESCRIPTIONS}, {out / SUMMARY}"
