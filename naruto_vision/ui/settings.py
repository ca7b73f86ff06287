"""What can be set in the web application: where things are, limits, and the controls of its tabs."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeAlias

import msgspec

from naruto_vision.errors import InputError

Background: TypeAlias = Literal["black", "grey", "white", "image"]
BACKGROUNDS: Mapping[Background, int | None] = {"black": 0, "grey": 128, "white": 255, "image": None}
"""What is outside of a region in its crop: a grey value, or the image's own pixels."""

VIEW = 1600
"""Maximum side, in pixels, of the copy of an image for a browser."""

_PIXELS = (0, 10_000_000)


class _Settings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Controls, some of which have a range; None is in each."""

    RANGES: ClassVar[Mapping[str, tuple[float, float]]] = {}

    def check(self) -> Self:
        """Return it; InputError if a value is out of its range."""
        for name, (low, high) in self.RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise InputError(f"{name}: expected a number from {low:g} to {high:g}, found {value:g}")
        return self


class SceneSettings(_Settings, frozen=True):
    """The controls of a scene; None keeps what the preset has."""

    RANGES = {"top_k": (0, 5), "min_area": _PIXELS, "max_masks": (1, 16), "expand": (0, 0.3), "min_ratio": (0, 0.2),
              "max_ratio": (0.2, 1)}  # fmt: skip
    top_k: int | None = None  # show this many different characters; 0 shows every region
    prefer_different_label: bool | None = None  # prefer a name that was not picked yet
    min_area: int | None = None  # leave out smaller masks, in pixels
    max_masks: int | None = None  # regions at most
    expand: float | None = None  # fraction by which a box grows before it is cropped
    background: Background | None = None
    min_ratio: float | None = None  # leave out boxes below this fraction of the image
    max_ratio: float | None = None  # and those above this one
    backend: Literal["auto", "exact", "faiss"] | None = None  # of the gallery: FAISS if it is installed, NumPy, FAISS
    weights: str | None = None  # of the segmentation model, one of those that are offered
    keep_as: str = ""  # also keep the results in a folder of this name below that of --out; "" keeps nothing


class SaliencySettings(_Settings, frozen=True):
    """Segment what is salient; what is None is as the packaged preset says."""

    RANGES = {"num_objects": (1, 100), "threshold": (0, 1), "min_area": _PIXELS}
    preset: str = "general"
    num_objects: int | None = None
    prompt_type: Literal["box", "point"] | None = None
    threshold: float | None = None
    min_area: int | None = None


class SweepSettings(_Settings, frozen=True):
    """Segment everything, point after point, ignoring what is covered already; see ``SweepConfig``."""

    RANGES = {"columns": (1, 64), "rows": (1, 64), "min_area": (1, _PIXELS[1]), "predicted_iou": (0, 1)}
    rule: Literal["skip", "subtract", "overlap_tolerance"] = "skip"
    columns: int = 14
    rows: int = 12
    order: Literal["area", "centre", "iou"] = "area"
    min_area: int = 50
    predicted_iou: float = 0.0
    saliency: bool = False  # prompt at salient objects before the contours
    points: tuple[tuple[int, int], ...] = ()  # of the user, in pixels of the image, which come first

    def check(self) -> Self:
        """Return it; InputError if a value is out of its range, or there are more than 100 points."""
        if len(self.points) > 100:
            raise InputError(f"points: expected at most 100, found {len(self.points)}")
        return super().check()


class GridSettings(_Settings, frozen=True):
    """Segment everything, from a grid of points."""

    RANGES = {"points_per_side": (1, 64), "min_area": _PIXELS}
    points_per_side: int = 32
    min_area: int = 0


class TextSettings(_Settings, frozen=True):
    """Segment what texts describe, a phrase for each class."""

    RANGES = {"similarity": (0, 1), "num_objects": (1, 100)}
    texts: tuple[str, ...] = ()
    similarity: float = 0.5
    num_objects: int = 12

    def check(self) -> Self:
        """Return it; InputError if a value is out of its range, or there are no texts, or more than 20."""
        if not 1 <= len(self.texts) <= 20:
            raise InputError(f"texts: expected 1 to 20 phrases of what to look for, found {len(self.texts)}")
        return super().check()


class ExemplarSettings(_Settings, frozen=True):
    """Segment what looks like the images of the gallery of a preset; no labels are all."""

    RANGES = TextSettings.RANGES
    gallery: str = ""
    labels: tuple[str, ...] = ()
    similarity: float = 0.5
    num_objects: int = 12


AutomaticSettings: TypeAlias = SaliencySettings | SweepSettings | GridSettings | TextSettings | ExemplarSettings
"""How the regions of an image are found without prompts of the user."""


def read_settings(value: object) -> SceneSettings:
    """Turn JSON values into the controls of a scene; InputError names the first that is wrong."""
    try:
        return msgspec.convert(value, SceneSettings)
    except msgspec.ValidationError as error:
        raise InputError(f"settings: {error}") from None


class Limits(msgspec.Struct, frozen=True):
    """What one user may take."""

    file_bytes: int = 20_000_000  # of an image
    video_bytes: int = 2_000_000_000
    files: int = 200  # of a session
    request_files: int = 50
    session_bytes: int = 4_000_000_000  # of all files of a session
    free_bytes: int = 1_000_000_000  # nothing is uploaded while the disk has less than this left
    waiting: int = 32  # requests that may wait or run
    session_waiting: int = 8  # jobs of a session that may wait or run
    jobs: int = 100  # whose results a session keeps; the oldest make room
    operations: int = 2000  # changes of the prompts of an image
    sessions: int = 256  # at a time; the one that was idle for longest makes room
    idle_seconds: float = 3600.0  # a session is deleted after this time without a request
    receive_seconds: float = 30.0  # that a body may make the server wait, beyond what 10 kB a second take


class UiConfig(msgspec.Struct, frozen=True):
    """What ``naruto-vision ui`` was started with."""

    presets: dict[str, Path] = {}  # name → what ``naruto_vision.load`` opens: a run, a folder of runs, or a gallery
    galleries: dict[str, Path] = {}  # of presets where it is neither the folder itself nor ``gallery`` in it
    folders: tuple[Path, ...] = ()  # whose images and videos may be chosen; nothing else on the disk can be read
    store: str = "faiss:runs/videos"  # URI of the vector store of videos
    out: Path = Path("runs/ui")  # where results are kept if a user asks for it
    logs: Path = Path("lightning_logs")  # of TensorBoard
    history: Path | None = None  # file in which queries of videos are noted, as by ``video search``
    weights: tuple[str, ...] = ("tiny-sam",)  # promptable models that are offered; the first without a preset
    demo: bool = False  # draw examples at the start
    limits: Limits = Limits()
