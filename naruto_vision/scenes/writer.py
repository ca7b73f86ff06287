"""The files of a scene folder's answer: whole, resumable, and in flat memory.

For every scene the pictures and JSON files are written first, each atomically; the scene's line in
``predictions.jsonl`` comes last and means "done". After a kill the next run goes on behind the last line.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from naruto_vision.errors import InputError
from naruto_vision.files.atomic import remove_leftovers, write_json
from naruto_vision.files.images import write_image
from naruto_vision.records import Picture, ScenePrediction
from naruto_vision.scenes.documents import as_line, evaluation_document, overlay_document, record_document
from naruto_vision.scenes.log import SceneLog, merge_logs, read_log
from naruto_vision.scenes.overlay import draw_overlay, label_colours
from naruto_vision.scenes.picks import OverlaySettings, choose_for_overlay
from naruto_vision.scenes.summary import latency_percentiles
from naruto_vision.segmentation.crops import CropSettings, crop_region

LOG = "predictions.jsonl"
TIMES = "timings.jsonl"
RUN = "run.json"


def output_stems(scenes: Sequence[str]) -> dict[str, str]:
    """Name the outputs of every scene so that no two share a file, whatever the case of their letters.

    Args:
        scenes: Paths relative to the scene folder, POSIX.

    Returns:
        Scene to the path of its outputs without suffix: the scene's own path without extension, or with it
        where another scene of the folder would write the same files.
    """
    stems = {scene: PurePosixPath(scene).with_suffix("").as_posix() for scene in scenes}
    while True:  # a scene that keeps its extension may meet another one that does not yet
        taken = Counter(name.casefold() for stem in stems.values() for name in _json_names(stem))
        clashing = [
            scene
            for scene, stem in stems.items()
            if stem != scene and any(taken[name.casefold()] > 1 for name in _json_names(stem))
        ]
        if not clashing:
            return stems
        stems.update((scene, scene) for scene in clashing)


def _json_names(stem: str) -> tuple[str, str]:
    return stem, f"{stem}_overlay"


def _file_word(label: str) -> str:
    return re.sub(r"[^\w.-]+", "_", label).strip("._") or "label"


@dataclass(frozen=True)
class WriterSettings:
    """What is written for each scene.

    Args:
        crops: Write pictures of the shown regions, of all, or none.
        pictures: Write overlay pictures.
    """

    crops: Literal["shown", "all", "none"] = "shown"
    pictures: bool = True


class SceneWriter:
    """Writes scene predictions into a folder.

    Args:
        out: The folder; made if need be. One with results of other scenes, weights or settings is refused.
        scenes: Every scene of the run, in order.
        labels: The gallery's labels, for the colours.
        identity: JSON values that decide the results (fingerprints, settings): what resuming has to match.
        crop: How regions are cut out for the crop files.
        overlay: Which regions people are shown.
        settings: What is written.
        rank: This process among ``world``.
        world: How many processes write into the folder.

    Raises:
        InputError: If the folder holds results made with another ``identity``.
    """

    def __init__(
        self,
        out: str | Path,
        scenes: Sequence[str],
        labels: Sequence[str],
        identity: Mapping[str, Any],
        *,
        crop: CropSettings,
        overlay: OverlaySettings | None = None,
        settings: WriterSettings | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.out = Path(out)
        self.overlay = overlay or OverlaySettings()
        self.settings = settings or WriterSettings()
        self.done: set[str] = set()
        self._order = {scene: place for place, scene in enumerate(scenes)}
        self._stems = output_stems(scenes)
        self._colours = label_colours(labels)
        self._identity = dict(identity)
        self._crop = crop
        self._start(rank, world)

    def _start(self, rank: int, world: int) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if rank == 0:  # the other processes' files may be on their way by now
            remove_leftovers(self.out)
        self.done = {record["scene"] for path in self._logs(LOG) for record in read_log(path)}
        if self.done or (self.out / "json").exists():  # a run that was refused before its first scene left no results
            self._refuse_other_results()
        part = f".rank{rank}" if world > 1 else ""
        self._log = SceneLog(self.out / LOG.replace(".jsonl", f"{part}.jsonl"))
        self._times = SceneLog(self.out / TIMES.replace(".jsonl", f"{part}.jsonl"))
        if rank == 0:
            write_json(self.out / RUN, {"state": "running", "identity": self._identity})

    def _refuse_other_results(self) -> None:
        run = self.out / RUN
        if not run.is_file():
            return
        other = json.loads(run.read_text(encoding="utf-8")).get("identity") or {}
        changed = sorted(key for key in {*other, *self._identity} if other.get(key) != self._identity.get(key))
        if changed:
            msg = (
                f"{self.out}: holds results of another run (different {', '.join(changed)}); "
                "give another --out, or remove the folder"
            )
            raise InputError(msg)

    def _logs(self, name: str) -> list[Path]:
        return [self.out / name, *sorted(self.out.glob(name.replace(".jsonl", ".rank*.jsonl")))]

    def write(self, picture: Picture, prediction: ScenePrediction, sha256: str = "") -> None:
        """Write everything of one scene.

        Args:
            picture: The scene: shape (H, W, 3), uint8, RGB, upright.
            prediction: What was found in it.
            sha256: Of the picture's file, so that resuming can tell whether it is still the same.
        """
        stem = self._stems[prediction.scene]
        shown = choose_for_overlay(prediction, self.overlay)
        write_json(self.out / "json" / f"{stem}.json", evaluation_document(prediction))
        write_json(self.out / "json" / f"{stem}_overlay.json", overlay_document(prediction, shown))
        if self.settings.pictures:
            drawn = draw_overlay(picture, prediction, shown, self._colours)
            write_image(self.out / "overlay" / f"{stem}_overlay.jpg", drawn)
        self._write_crops(picture, prediction, shown)
        times = {name: round(value, 3) for name, value in prediction.milliseconds.items()}
        self._times.append(as_line({"scene": prediction.scene, **times}))
        self._log.append(as_line(record_document(prediction, shown, sha256)))
        self.done.add(prediction.scene)

    def _write_crops(self, picture: Picture, prediction: ScenePrediction, shown: Sequence[int]) -> None:
        if self.settings.crops == "none":
            return
        chosen = shown if self.settings.crops == "shown" else range(len(prediction.regions))
        folder = self.out / f"{self._stems[prediction.scene]}_crops"
        for index in sorted(chosen):
            identity = prediction.identities[index]
            name = f"seg_{index:02d}_{_file_word(identity.name)}_{identity.score:.2f}.jpg"
            write_image(folder / name, crop_region(picture, prediction.regions[index], self._crop))

    def close(self) -> None:
        """Close this process's logs."""
        self._log.close()
        self._times.close()

    def finish(self, quarantined: Sequence[tuple[str, str]], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Bring the processes' logs together and write ``run.json``; for one process, after all have closed.

        Args:
            quarantined: Scene and reason of every scene that could not be read.
            facts: JSON values to record beside the counts (versions, config).

        Returns:
            What ``run.json`` holds.
        """
        for name in (LOG, TIMES):
            if parts := self._logs(name)[1:]:
                merge_logs(self.out / name, parts, self._order)
        regions = known = done = 0
        for record in read_log(self.out / LOG):
            done += 1
            regions += len(record["regions"])
            known += sum(region["name"] == region["label"] for region in record["regions"])
        bad = [{"scene": scene, "reason": reason} for scene, reason in sorted(quarantined)]
        counts = {"seen": done + len(bad), "ok": done, "quarantined": len(bad), "regions": regions, "known": known}
        run = {
            "state": "done",
            "identity": self._identity,
            "counts": counts,
            "quarantined": bad,
            "latency_ms": latency_percentiles(read_log(self.out / TIMES)),
            **facts,
        }
        write_json(self.out / RUN, run)
        return run
