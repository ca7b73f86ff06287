"""Watch what this server has segmented and how its prompts were used, as ``run.json`` of ``segment`` does."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from naruto_vision.io.typed_json import read_json_lines
from naruto_vision.prompting.monitor import Monitor
from naruto_vision.prompting.session import SessionUse
from naruto_vision.ui.models import Models


def summary(models: Models, *, uses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sum up all results since the start of the server.

    Args:
        models: Have noted the numbers of each segmented image.
        uses: How each prompt session was used, as the values of ``SessionUse``.

    Returns:
        ``summary`` and ``alerts`` of ``Monitor``, the ``limits`` of the alerts, and the number of ``images``.
    """
    monitor = Monitor(sessions=[use for each in uses if (use := SessionUse(**each)).predictions])
    images = 0
    if models.notes and Path(models.notes).is_file():
        for line in read_json_lines(Path(models.notes), dict[str, Any]):
            monitor.add(line, line["ms"])
            images += 1
    return {
        "images": images,
        "summary": monitor.summary(),
        "alerts": monitor.alerts(),
        "limits": asdict(monitor.limits),
    }
