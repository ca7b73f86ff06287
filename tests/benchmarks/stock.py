"""What libraries themselves do, as baselines and oracles: `segment_anything`, transformers, and crops one by one."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor
from torch.nn.functional import normalize

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.geometry import xyxy_from_mask
from naruto_vision.records import ImageArray, Region
from naruto_vision.segmentation.crops import CropConfig, crop_region
from naruto_vision.segmentation.generator import CropLayers, Segmenter
from naruto_vision.segmentation.prompts import point_names
from naruto_vision.segmentation.sam2 import Sam2Architecture, Sam2Model, Sam2Size, official_key
from naruto_vision.segmentation.sam2_video import official_keys


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


def random_sam2(architecture: Sam2Architecture | Sam2Size, seed: int = 0) -> Sam2Model:
    """Build a SAM 2 whose random weights give masks that differ from prompt to prompt."""
    torch.manual_seed(seed)
    model = Sam2Model(architecture=architecture).eval()
    with torch.no_grad():
        for name, parameter in model.sam.named_parameters():
            if "norm" not in name:
                torch.nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    return model


def official_state(network: Any) -> dict[str, Tensor]:
    """Return the weights of a SAM 2 of transformers as an official file has them."""
    state = {}
    for name, value in network.state_dict().items():
        keys = official_keys(name)
        state.update(zip(keys, value.split(1) if len(keys) > 1 else [value], strict=True))
    return state


def stock_sam2(ours: Sam2Model) -> Any:
    """Build the SAM 2 of transformers with a model's weights; only the unused score of presence is random."""
    import transformers  # slow, as below

    size, state = ours.size, ours.sam.state_dict()
    prompts = transformers.Sam2PromptEncoderConfig(hidden_size=size.decoder_width, image_size=size.image_size)
    decoder = transformers.Sam2MaskDecoderConfig(
        hidden_size=size.decoder_width,
        num_attention_heads=size.decoder_heads,
        mlp_dim=size.decoder_mlp,
        iou_head_hidden_dim=size.iou_hidden,
    )
    encoder = ours.sam.image_encoder.config
    config = transformers.Sam2Config(vision_config=encoder, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    stock = transformers.Sam2Model(config).eval()
    official = {official_key(name): value for name, value in state.items()}
    named = {}
    for name in stock.state_dict():
        parts = [official[key] for key in official_keys(name) if key in official]
        named |= {name: torch.cat(parts) if len(parts) > 1 else parts[0]} if parts else {}
    found = stock.load_state_dict(named, strict=False)
    if found.unexpected_keys or any("pred_obj_score_head" not in name for name in found.missing_keys):
        msg = f"transformers has other keys: {found}"
        raise RuntimeError(msg)
    return stock


def stock_sam2_regions(ours: Segmenter, stock: Any, image: ImageArray) -> list[Region]:
    """Segment a square image (S, S, 3) with transformers' pipeline, whose grid is wrong for other images."""
    import transformers

    thresholds, side = ours.thresholds, stock.config.prompt_encoder_config.image_size
    low = {"height": side // 4, "width": side // 4}
    processor = transformers.Sam2ImageProcessor(size={"height": side, "width": side}, mask_size=low)
    generator = transformers.pipeline("mask-generation", model=stock, image_processor=processor)
    found = generator(
        Image.fromarray(image),
        points_per_crop=ours.prompter.points_per_side,
        points_per_batch=16,  # the default of 64 copies the finer maps too often for the memory of small machines
        pred_iou_thresh=thresholds.predicted_iou,
        stability_score_thresh=thresholds.stability,
        stability_score_offset=thresholds.stability_offset,
        crops_nms_thresh=thresholds.box_nms,
    )
    regions = []
    for mask, score in zip(found["masks"], found["scores"].tolist(), strict=True):
        pixels = mask.numpy() if isinstance(mask, Tensor) else mask
        box = xyxy_from_mask(pixels)
        if box is not None:
            regions.append(Region(box, pixels[box[1] : box[3] + 1, box[0] : box[2] + 1], score))
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
