"""Which scenes of an earlier run are still the scenes that it saw."""

import json
from pathlib import Path

from naruto_vision.files.atomic import atomic_file
from naruto_vision.files.hashing import file_sha256
from naruto_vision.scenes.log import read_log


def forget_changed(out: str | Path, pictures: str | Path, log: str) -> list[str]:
    """Strike from the logs every scene whose picture holds other bytes than when it was searched.

    One process calls it before any opens the folder for writing. A scene whose picture is gone stays: its results are
    still those of the picture that it had.

    Args:
        out: The folder with results; one without a log is left alone.
        pictures: The folder that the scenes are relative to.
        log: The name of the log, ``predictions.jsonl``; parts of several processes lie beside it.

    Returns:
        The scenes that were struck out, sorted.
    """
    logs = sorted(Path(out).glob(log.replace(".jsonl", "*.jsonl")))
    digests = {record["scene"]: record.get("sha256", "") for path in logs for record in read_log(path)}
    changed = {
        scene
        for scene, digest in digests.items()
        if (Path(pictures) / scene).is_file() and file_sha256(Path(pictures) / scene) != digest
    }
    for path in logs if changed else []:
        _strike(path, changed)
    return sorted(changed)


def _strike(log: Path, scenes: set[str]) -> None:
    with atomic_file(log) as temporary, temporary.open("wb") as out, log.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n") and json.loads(line)["scene"] not in scenes:
                out.write(line)
