"""What can be set in the web application: where things are, limits, and the controls of a scene."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from naruto_vision.errors import InputError

Background: TypeAlias = Literal["black", "grey", "white", "image"]
BACKGROUNDS: Mapping[Background, int | None] = {"black": 0, "grey": 128, "white": 255, "image": None}
"""What is outside of a region in its crop: a grey value, or the image's own pixels."""

Backend: TypeAlias = Literal["auto", "exact", "faiss"]
"""What searches the gallery: FAISS if it is installed, NumPy, or FAISS."""


VIEW = 1600
"""Maximum side, in pixels, of the copy of an image for a browser."""

_PIXELS = (0, 10_000_000)


class SceneSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The controls of a scene; None keeps what the preset has.

    Args:
        top_k: Show this many different characters, from 1 to 5; 0 shows every region.
        prefer_different_label: Prefer a name that was not picked yet.
        min_area: Leave out smaller masks, in pixels.
        max_masks: At most this many regions, from 1 to 16.
        expand: Fraction by which a box grows before it is cropped, from 0 to 0.3.
        background: What surrounds a region in its crop.
        min_ratio: Leave out boxes below this fraction of the image, from 0 to 0.2.
        max_ratio: Leave out boxes above this fraction of the image, from 0.2 to 1.
        backend: What searches the gallery.
        weights: Weights of the segmentation model, one of those that are offered.
        keep_as: Also keep the results in a folder of this name below that of ``--out``; "" keeps nothing.

    Raises:
        InputError: By ``check``, if a value is out of its range.
    """

    top_k: int | None = None
    prefer_different_label: bool | None = None
    min_area: int | None = None
    max_masks: int | None = None
    expand: float | None = None
    background: Background | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None
    backend: Backend | None = None
    weights: str | None = None
    keep_as: str = ""

    def check(self) -> "SceneSettings":
        """Return it, if every value is in its range."""
        _check_ranges(
            self, min_area=_PIXELS, max_masks=(1, 16), expand=(0, 0.3), min_ratio=(0, 0.2), max_ratio=(0.2, 1),
            top_k=(0, 5),
        )  # fmt: skip
        return self


def _check_ranges(settings: msgspec.Struct, **ranges: tuple[float, float]) -> None:
    """Raise InputError if a value is out of its range; None is in each."""
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if value is not None and not low <= value <= high:
            msg = f"{name}: expected a number from {low:g} to {high:g}, found {value:g}"
            raise InputError(msg)


class SaliencySettings(msgspec.Struct, tag="saliency", forbid_unknown_fields=True, frozen=True):
    """Segment what is salient; what is None is as the preset says.

    Args:
        preset: Name of a packaged preset.
        num_objects: Most objects of an image, from 1 to 100.
        prompt_type: Prompt by the box or the centre of each object.
        threshold: Least value of the map, from 0 to 1.
        min_area: Leave out smaller objects, in pixels.
    """

    preset: str = "general"
    num_objects: int | None = None
    prompt_type: Literal["box", "point"] | None = None
    threshold: float | None = None
    min_area: int | None = None

    def check(self) -> "SaliencySettings":
        """Return it, if every value is in its range."""
        _check_ranges(self, num_objects=(1, 100), threshold=(0, 1), min_area=_PIXELS)
        return self


class SweepSettings(msgspec.Struct, tag="sweep", forbid_unknown_fields=True, frozen=True):
    """Segment everything, point after point, ignoring what is covered already.

    Args:
        rule: As ``mode`` of ``SweepConfig``.
        columns: Of the grid, from 1 to 64.
        rows: Of the grid, from 1 to 64.
        order: Of the points: contours by area and then the grid, from the centre out, or by estimated IoU.
        min_area: Leave out smaller masks, in pixels of the image as it is swept.
        predicted_iou: Least estimated IoU of a mask, from 0 to 1.
        saliency: Ask at salient objects before the contours.
        points: The user's points, x and y in pixels of the image, which are asked first; at most 100.
    """

    rule: Literal["skip", "subtract", "overlap_tolerance"] = "skip"
    columns: int = 14
    rows: int = 12
    order: Literal["area", "centre", "iou"] = "area"
    min_area: int = 50
    predicted_iou: float = 0.0
    saliency: bool = False
    points: tuple[tuple[int, int], ...] = ()

    def check(self) -> "SweepSettings":
        """Return it, if every value is in its range."""
        _check_ranges(self, columns=(1, 64), rows=(1, 64), min_area=(1, _PIXELS[1]), predicted_iou=(0, 1))
        if len(self.points) > 100:
            msg = f"points: expected at most 100, found {len(self.points)}"
            raise InputError(msg)
        return self


class GridSettings(msgspec.Struct, tag="grid", forbid_unknown_fields=True, frozen=True):
    """Segment everything, from a grid of points.

    Args:
        points_per_side: The grid has the square of this many points, from 1 to 64.
        min_area: Leave out smaller masks, in pixels.
    """

    points_per_side: int = 32
    min_area: int = 0

    def check(self) -> "GridSettings":
        """Return it, if every value is in its range."""
        _check_ranges(self, points_per_side=(1, 64), min_area=_PIXELS)
        return self


class TextSettings(msgspec.Struct, tag="text", forbid_unknown_fields=True, frozen=True):
    """Segment what texts describe.

    Args:
        texts: A phrase for each class, from 1 to 20.
        similarity: Least similarity, from 0 to 1.
        num_objects: Most prompts of an image, from 1 to 100.
    """

    texts: tuple[str, ...] = ()
    similarity: float = 0.5
    num_objects: int = 12

    def check(self) -> "TextSettings":
        """Return it, if there are texts, and every value is in its range."""
        _check_ranges(self, similarity=(0, 1), num_objects=(1, 100))
        if not 1 <= len(self.texts) <= 20:
            msg = f"texts: expected 1 to 20 phrases of what to look for, found {len(self.texts)}"
            raise InputError(msg)
        return self


class ExemplarSettings(msgspec.Struct, tag="exemplar", forbid_unknown_fields=True, frozen=True):
    """Segment what looks like the images of a gallery.

    Args:
        gallery: Name of the preset whose gallery it is.
        labels: Labels to look for; none takes all.
        similarity: Least similarity, from 0 to 1.
        num_objects: Most prompts of an image, from 1 to 100.
    """

    gallery: str = ""
    labels: tuple[str, ...] = ()
    similarity: float = 0.5
    num_objects: int = 12

    def check(self) -> "ExemplarSettings":
        """Return it, if every value is in its range."""
        _check_ranges(self, similarity=(0, 1), num_objects=(1, 100))
        return self


AutomaticSettings: TypeAlias = SaliencySettings | SweepSettings | GridSettings | TextSettings | ExemplarSettings
"""How the regions of an image are found without prompts of the user."""


def read_settings(value: object, kind: type[Any]) -> Any:  # noqa: ANN401 - of the given type
    """Turn JSON values into settings; InputError names the first that is wrong."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        msg = f"settings: {error}"
        raise InputError(msg) from None


class Limits(msgspec.Struct, frozen=True):
    """What one user may take.

    Args:
        file_bytes: Bytes of an image.
        video_bytes: Bytes of a video.
        files: Files of a session.
        session_bytes: Bytes of all files of a session.
        free_bytes: Nothing is uploaded while the disk has less than this left.
        request_files: Files of a request.
        waiting: Requests that may wait or run.
        session_waiting: Jobs of a session that may wait or run.
        jobs: Jobs whose results a session keeps; the oldest make room.
        operations: Changes of the prompts of an image.
        sessions: Sessions at a time; the one that was idle for longest makes room.
        idle_seconds: A session is deleted after this time without a request.
        receive_seconds: How long a request may make the server wait for its body, beyond what 10 kB a second take.
    """

    file_bytes: int = 20_000_000
    video_bytes: int = 2_000_000_000
    files: int = 200
    request_files: int = 50
    session_bytes: int = 4_000_000_000
    free_bytes: int = 1_000_000_000
    waiting: int = 32
    session_waiting: int = 8
    jobs: int = 100
    operations: int = 2000
    sessions: int = 256
    idle_seconds: float = 3600.0
    receive_seconds: float = 30.0


class UiConfig(msgspec.Struct, frozen=True):
    """What ``naruto-vision ui`` was started with.

    Args:
        presets: Name → a folder that ``naruto_vision.load`` opens: a run, a folder such as ``runs``, or a gallery.
        galleries: Name of a preset → its gallery, where that is neither the folder itself nor ``gallery`` in it.
        folders: Folders whose images and videos may be chosen; nothing else on the disk can be read.
        store: URI of the vector store of videos.
        out: Folder in which results are kept where a user asks for it.
        logs: Folder of the TensorBoard logs.
        history: File in which queries of videos are noted, as by ``video search``; None notes none.
        weights: Weights of the promptable model without a preset; the first of those that are offered.
        demo: Whether the examples are drawn at the start.
        limits: What one user may take.
    """

    presets: dict[str, Path] = {}
    galleries: dict[str, Path] = {}
    folders: tuple[Path, ...] = ()
    store: str = "faiss:runs/videos"
    out: Path = Path("runs/ui")
    logs: Path = Path("lightning_logs")
    history: Path | None = None
    weights: tuple[str, ...] = ("tiny-sam",)
    demo: bool = False
    limits: Limits = Limits()
