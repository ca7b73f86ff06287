"""Draw and enrol the examples of ``naruto-vision ui --demo``."""

from pathlib import Path
from typing import Any

import naruto_vision as nv
from naruto_vision.io.bundles import config_path
from naruto_vision.io.machine import has_package
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import SyntheticConfig, write_dataset
from naruto_vision.ui.engine import Watch
from naruto_vision.ui.models import Models

_PLAN = SyntheticConfig(train=8, valid=0, test=0, scenes=9, valid_scenes=0)
_STEPS = 3


def prepare(models: Models, step: Watch, *, out: str) -> dict[str, Any]:  # noqa: ARG001 - every task takes the models
    """Draw a cast, scenes and a short video, and enrol the cast: ``data``, ``clips`` and ``runs`` of a folder."""
    folder, cast = Path(out), read_cast(config_path("cast.yaml"))
    write_dataset(folder / "data", cast, _PLAN)
    step(1, _STEPS, None)
    gallery = nv.enrol(folder / "data", nv.ClipEnsemble(), folder / "runs" / "gallery")
    step(2, _STEPS, None)
    if has_package("av"):
        from naruto_vision.synthetic.videos import VideoConfig, write_videos

        write_videos(folder / "clips", cast, 1, VideoConfig(seconds=8), seed=_PLAN.seed)
    step(_STEPS, _STEPS, None)
    return {"rows": len(gallery), "labels": len(gallery.labels)}
