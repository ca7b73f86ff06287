"""What the libraries themselves do, as baselines and as oracles of tests: `segment_anything`, and crops one by one."""

from collections.abc import Sequence

import torch
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.crops import CropConfig, crop_region
from naruto_vision.segmentation.generator import CropLayers, Segmenter
from naruto_vision.segmentation.prompts import point_names


def stock_generator(ours: Segmenter) -> SamAutomaticMaskGenerator:
    """Build the stock generator with a segmenter's weights and settings; the prompter has to be a `GridPrompter`.

    Thresholds of 0 or less filter nothing here.
    """
    thresholds, crops = ours.thresholds, ours.crops or CropLayers()
    return SamAutomaticMaskGenerator(
        ours.model.sam,
        points_per_side=ours.prompter.points_per_side,
        points_per_batch=ours.prompts_per_batch or 64,
        pred_iou_thresh=thresholds.predicted_iou,
        stability_score_thresh=thresholds.stability,
        stability_score_offset=thresholds.stability_offset,
        box_nms_thresh=thresholds.box_nms,
        crop_n_layers=0 if ours.crops is None else crops.layers,
        crop_nms_thresh=crops.box_nms,
        crop_overlap_ratio=crops.overlap,
        crop_n_points_downscale_factor=crops.points_divisor,
    )


def stock_regions(ours: Segmenter, image: ImageArray) -> list[Region]:
    """Segment an image (H, W, 3) with the stock generator; the segmenter's own filter of regions follows."""
    regions = []
    for record in stock_generator(ours).generate(image):
        mask, (name,) = record["segmentation"], point_names(record["point_coords"])
        box = xyxy_from_mask(mask)
        if box is not None:
            cut = mask[box[1] : box[3] + 1, box[0] : box[2] + 1]
            regions.append(Region(box, cut, record["predicted_iou"], record["stability_score"], name))
    return ours.keep(regions, *image.shape[:2])


@torch.inference_mode()
def stock_embedding(
    encoder: ClipEncoder, image: ImageArray, region: Region, crops: Sequence[CropConfig], *, mirror: bool = False
) -> Tensor:
    """Embed one region as is usual: a PIL crop and a forward pass of open_clip for each way to crop and mirror image.

    Returns:
        Shape (D,), float32, unit length, on the CPU.
    """
    clip = encoder.clip
    views = []
    for way in crops:
        pixels = encoder.preprocess(crop_region(image, region, way))[None].to(encoder.logit_scale.device)
        vector = normalize(clip.encode_image(pixels).float(), dim=-1)[0]
        if mirror:
            flipped = normalize(clip.encode_image(pixels.flip(-1)).float(), dim=-1)[0]
            vector = normalize((vector + flipped) / 2, dim=0)
        views.append(vector)
    return normalize(torch.stack(views).mean(dim=0), dim=0).cpu()
