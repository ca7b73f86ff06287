"""What a run took: latency percentiles over all of its scenes."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np


def latency_percentiles(times: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Summarise the times of many scenes.

    Args:
        times: One mapping a scene: step name to milliseconds; other values (the scene's name) are passed over.

    Returns:
        For each step, the 50th, 95th and 99th percentile in milliseconds, and the count of scenes.
    """
    columns: dict[str, list[float]] = {}
    for record in times:
        for name, value in record.items():
            if isinstance(value, int | float):
                columns.setdefault(name, []).append(float(value))
    summary = {}
    for name, values in columns.items():
        p50, p95, p99 = (round(float(p), 3) for p in np.percentile(values, (50, 95, 99)))
        summary[name] = {"p50": p50, "p95": p95, "p99": p99, "scenes": len(values)}
    return summary
