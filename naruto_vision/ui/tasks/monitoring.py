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

    ``uses`` are the values of a ``SessionUse`` for each prompt session. Returns ``summary`` and ``alerts`` of
    ``Monitor``, the ``limits`` of the alerts, and the number of ``images``.
    """
    monitor = Monitor(sessions=[use for each in uses if (use := SessionUse(**each)).predictions])
    images, notes = 0, Path(models.notes)
    for line in read_json_lines(notes, dict[str, Any]) if notes.is_file() else ():
        monitor.add(line, line["ms"])
        images += 1
    numbers = {"summary": monitor.summary(), "alerts": monitor.alerts(), "limits": asdict(monitor.limits)}
    return {"images": images, **numbers}
