"""From what every process has embedded to the gallery folder."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.encoders.base import Encoder
from naruto_vision.gallery.enrolment import Enrolment
from naruto_vision.gallery.listing import list_gallery
from naruto_vision.gallery.selection import EnrolmentPlan
from naruto_vision.gallery.stores import IndexChoice
from naruto_vision.modules.gathering import gather_lists

_LOG = logging.getLogger(__name__)


def tell_gallery(trainer: pl.Trainer, folder: str) -> None:
    """Log where a gallery is, how much it holds, and whether it can tell who is unknown. The first process does.

    Args:
        trainer: What runs the processes.
        folder: The gallery, written.

    Raises:
        InputError: If it cannot be read.
    """
    if not trainer.is_global_zero:
        return
    told = list_gallery(folder)
    default, own = told.thresholds.get("default"), len(told.thresholds.get("classes") or {})
    unknown = f'a score below {default:.3f} is "unknown"' if default is not None else f"{own} labels have a threshold"
    if default is None and not own:
        unknown = "no thresholds, so nobody is unknown; --data.valid DIR with ground truth chooses them"
    _LOG.info("gallery %s: %d rows, %d labels; %s", folder, told.total, len(told.labels), unknown)


def write_gallery(
    trainer: pl.Trainer, own: Enrolment, folder: str, encoder: Encoder, *, mirror: bool, index: IndexChoice
) -> None:
    """Gather the rows of all processes, choose among them as the data's plan says, and write the gallery.

    Every process has to call this; the first one writes.

    Args:
        trainer: What runs the processes; a ``GalleryDataModule`` of its has the plan and the counts.
        own: This process's rows.
        folder: Where the gallery goes; an older one is replaced.
        encoder: What made the vectors; the gallery remembers its fingerprint and how it was opened.
        mirror: Whether mirrored views were averaged; remembered, so that queries can be treated alike.
        index: Which index searches.
    """
    whole = Enrolment()
    whole.rows = gather_lists(trainer, own.rows)
    whole.vectors = gather_lists(trainer, own.vectors)
    if trainer.is_global_zero:
        data: Any = getattr(trainer, "datamodule", None)
        note = {"encoder": dict(encoder.recipe), "mirror": mirror}
        plan = EnrolmentPlan()
        if isinstance(data, GalleryDataModule):
            plan = data.plan
            note.update(enrolment=data.counts(), root=_seen_from_here(data.pictures_root))
        whole.build(encoder.fingerprint, index, plan, note).save(folder)
    trainer.strategy.barrier("gallery")


def _seen_from_here(folder: Path) -> str:
    """Name a folder relative to where we are, so that the same run in another place writes the same bytes."""
    whole, here = folder.absolute(), Path.cwd()
    return (whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()
