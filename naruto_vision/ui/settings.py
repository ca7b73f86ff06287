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


class SceneSettings(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The controls of a scene.

    Args:
        top_k: Show this many different characters, from 1 to 5; None shows every region.
        prefer_different_label: Prefer a name that was not picked yet.
        min_area: Leave out smaller masks, in pixels.
        max_masks: At most this many regions, from 1 to 16.
        expand: Fraction by which a box grows before it is cropped, from 0 to 0.3.
        background: What surrounds a region in its crop.
        min_ratio: Leave out boxes below this fraction of the image, from 0 to 0.2.
        max_ratio: Leave out boxes above this fraction of the image, from 0.2 to 1.
        backend: What searches the gallery.
        weights: Weights of the segmentation model, one of those that are offered; "" keeps those of the preset.
        keep_as: Also keep the results in a folder of this name below that of ``--out``; "" keeps nothing.

    Raises:
        InputError: By ``check``, if a value is out of its range.
    """

    top_k: int | None = None
    prefer_different_label: bool = False
    min_area: int = 256
    max_masks: int = 12
    expand: float = 0.18
    background: Background = "black"
    min_ratio: float = 0.0
    max_ratio: float = 1.0
    backend: Backend = "auto"
    weights: str = ""
    keep_as: str = ""

    def check(self) -> "SceneSettings":
        """Return it, if every value is in its range."""
        ranges: dict[str, tuple[float, float]] = {
            "min_area": (0, 10_000_000), "max_masks": (1, 16), "expand": (0, 0.3), "min_ratio": (0, 0.2),
            "max_ratio": (0.2, 1), **({} if self.top_k is None else {"top_k": (1, 5)}),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            if not low <= (value := getattr(self, name)) <= high:
                msg = f"{name}: expected a number from {low:g} to {high:g}, found {value:g}"
                raise InputError(msg)
        return self


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
        request_files: Files of a request.
        waiting: Requests that may wait or run.
        sessions: Sessions at a time; the one that was idle for longest makes room.
        idle_seconds: A session is deleted after this time without a request.
    """

    file_bytes: int = 20_000_000
    video_bytes: int = 2_000_000_000
    files: int = 200
    request_files: int = 50
    waiting: int = 32
    sessions: int = 256
    idle_seconds: float = 3600.0


class UiConfig(msgspec.Struct, frozen=True):
    """What ``naruto-vision ui`` was started with.

    Args:
        presets: Name → a folder that ``naruto_vision.load`` opens: a run, a folder such as ``runs``, or a gallery.
        folders: Folders whose images and videos may be chosen; nothing else on the disk can be read.
        store: URI of the vector store of videos.
        out: Folder in which results are kept where a user asks for it.
        logs: Folder of the TensorBoard logs.
        weights: Weights of the promptable model without a preset; the first of those that are offered.
        demo: Whether the examples are drawn at the start.
        limits: What one user may take.
    """

    presets: dict[str, Path] = {}
    folders: tuple[Path, ...] = ()
    store: str = "faiss:runs/videos"
    out: Path = Path("runs/ui")
    logs: Path = Path("lightning_logs")
    weights: tuple[str, ...] = ("tiny-sam",)
    demo: bool = False
    limits: Limits = Limits()
