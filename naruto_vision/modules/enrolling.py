"""From what every process has embedded to the gallery folder."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from naruto_vision.data.gallery_data import GalleryDataModule
from naruto_vision.encoders.base import Encoder
from naruto_vision.gallery.enrolment import Enrolment
from naruto_vision.gallery.selection import EnrolmentPlan
from naruto_vision.gallery.stores import IndexChoice
from naruto_vision.modules.gathering import gather_lists


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
