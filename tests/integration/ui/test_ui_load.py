"""Many users at once. `NARUTO_VISION_LOAD=120 pytest -m slow -s` prints the figures that docs/ui.md states."""

import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

if TYPE_CHECKING:
    from conftest import Server

SECONDS = float(os.environ.get("NARUTO_VISION_LOAD", "20"))
CLIENTS = 50


def _resident(server: "Server") -> float:
    """Return the megabytes of memory of the server and of the process with the models."""
    own = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (own, *own.children(recursive=True))) / 1e6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_users_get_no_error_and_memory_stays(server: "Server") -> None:
    statuses: Counter[int] = Counter()
    previews: list[float] = []
    scenes = [path.read_bytes() for path in server.world.scenes]

    def use(number: int, seconds: float) -> None:
        with server.client() as client:
            preset = client.get("/api/presets").json()["presets"][0]
            while True:
                answer = client.post("/api/files", files=[("files", ("a.jpg", scenes[number % len(scenes)]))])
                if answer.status_code == 200:
                    break
                assert answer.status_code == 429
                time.sleep(0.5)
            (file,) = answer.json()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                for count in range(8):
                    point = [10 + 10 * count, 10 + number, True]
                    start = time.monotonic()
                    answer = client.post("/api/segment", json={"file": file["id"], "points": [point]})
                    statuses[answer.status_code] += 1
                    if answer.status_code == 200:
                        previews.append(time.monotonic() - start)
                    time.sleep(0.2 if answer.status_code == 200 else 2.0)  # as a user, and as Retry-After says
                answer = client.post("/api/search", json={"preset": preset, "file": file["id"]})
                statuses[answer.status_code] += 1

    def load(seconds: float) -> float:
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(use, range(CLIENTS), [seconds] * CLIENTS))
        return _resident(server)

    before = load(max(10.0, SECONDS / 4))
    statuses.clear()
    previews.clear()
    after = load(SECONDS)
    p50, p95 = np.percentile(previews, [50, 95]) * 1000
    print(  # noqa: T201 - the figures of the documentation
        f"{CLIENTS} clients, {SECONDS:.0f} s: {dict(statuses)}; previews p50 {p50:.0f} ms, p95 {p95:.0f} ms; "
        f"resident {before:.0f} MB after warm-up, {after:.0f} MB at the end; load {os.getloadavg()[0]:.1f}"
    )
    assert set(statuses) <= {200, 429}
    assert statuses[200] > CLIENTS
    assert after < before * 1.05 + 20
