"""The generator of ``segment_anything`` itself, to compare with."""

from collections.abc import Sequence

import torch
from segment_anything import SamAutomaticMaskGenerator
from typing_extensions import override

from naruto_vision.errors import InputError
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.generator import CropLayers, Segmenter
from naruto_vision.segmentation.prompts import GridPrompter, point_names
from naruto_vision.segmentation.protocol import SceneEmbedding
from naruto_vision.segmentation.sam import SamModel


class StockSegmenter(Segmenter):
    """Cuts images into regions as ``segment_anything`` does: the same regions as ``Segmenter``, several times later.

    It takes what ``Segmenter`` takes, with a ``GridPrompter`` and a ``SamModel``. Bars of 0 or less bar nothing here.

    Example:
        >>> import numpy as np
        >>> segmenter = StockSegmenter(GridPrompter(2), SamModel(weights="tiny-sam"))
        >>> regions = segmenter(np.zeros((48, 64, 3), np.uint8))
    """

    def generator(self) -> SamAutomaticMaskGenerator:
        """Build the stock generator with this segmenter's settings.

        Raises:
            InputError: If the prompter or the model is none that it knows.
        """
        if not isinstance(self.prompter, GridPrompter) or not isinstance(self.model, SamModel):
            found = f"{type(self.prompter).__name__} and {type(self.model).__name__}"
            msg = f"stock segmenter: expected a GridPrompter and a SamModel, found {found}"
            raise InputError(msg)
        bars, crops = self.thresholds, self.crops or CropLayers()
        return SamAutomaticMaskGenerator(
            self.model.sam,
            points_per_side=self.prompter.points_per_side,
            points_per_batch=self.prompts_per_batch or 64,
            pred_iou_thresh=bars.predicted_iou,
            stability_score_thresh=bars.stability,
            stability_score_offset=bars.stability_offset,
            box_nms_thresh=bars.box_nms,
            crop_n_layers=0 if self.crops is None else crops.layers,
            crop_nms_thresh=crops.box_nms,
            crop_overlap_ratio=crops.overlap,
            crop_n_points_downscale_factor=crops.points_divisor,
        )

    @override
    def embed_all(self, images: Sequence[ImageArray]) -> Sequence[SceneEmbedding | None]:
        """Prepare nothing: the stock generator runs the image encoder itself.

        Args:
            images: Each of shape (H, W, 3), uint8, RGB.

        Returns:
            None for each.
        """
        return [None for _ in images]

    @override
    @torch.no_grad()
    def __call__(self, image: ImageArray, embedding: SceneEmbedding | None = None) -> list[Region]:
        """Segment one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB, upright.
            embedding: Has to be None: the stock generator runs the image encoder itself.

        Returns:
            Its regions, largest mask first.

        Raises:
            InputError: If there is an embedding.
        """
        if embedding is not None:
            msg = "stock segmenter: expected no embedding, found one; the stock generator runs the image encoder itself"
            raise InputError(msg)
        regions = []
        for record in self.generator().generate(image):
            mask, (name,) = record["segmentation"], point_names(record["point_coords"])
            box = xyxy_from_mask(mask)
            if box is not None:
                cut = mask[box[1] : box[3] + 1, box[0] : box[2] + 1]
                regions.append(Region(box, cut, record["predicted_iou"], record["stability_score"], name))
        return self.keep(regions, *image.shape[:2])
