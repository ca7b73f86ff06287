"""SAM 2's memory for videos: where the masks of one frame are in the frames after it.

The networks are those of transformers, opened from an official file. Every object has a session of its own, so that it
can be forgotten alone; the image encoder runs once a frame. Of past frames only what the model looks back at is kept.
"""

import re
from collections.abc import Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from naruto_vision.errors import StateDictError
from naruto_vision.io.bundles import load_strictly
from naruto_vision.io.machine import require_package
from naruto_vision.records import ImageArray, Mask
from naruto_vision.segmentation.sam import PATCH
from naruto_vision.segmentation.sam2 import (
    SIZES,
    Sam2Size,
    as_square,
    encoder_config,
    official_key,
    read_official,
    size_of,
)

_TRANSFORMERS = (
    (r"^vision_encoder\.", "image_encoder."),
    (r"^shared_image_embedding\.", "prompt_encoder.shared_embedding."),  # the same numbers a second time
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"o_proj\.", "out_proj."),
    (r"\.layer_norm_final", ".norm_final"),
    (r"(_mlps\.\d|_head|pointer_proj)\.layers\.0", r"\1.layers.1"),
    (r"(_mlps\.\d|_head|pointer_proj)\.proj_in", r"\1.layers.0"),
    (r"(_mlps\.\d|_head|pointer_proj)\.proj_out", r"\1.layers.2"),
    (r"^object_pointer_proj", "obj_ptr_proj"),
    (r"^temporal_positional_encoding_projection_layer", "obj_ptr_tpos_proj"),
    (r"^memory_temporal_positional_encoding", "maskmem_tpos_enc"),
    (r"^no_memory_positional_encoding", "no_mem_pos_enc"),
    (r"^no_memory_embedding", "no_mem_embed"),
    (r"^no_object_pointer", "no_obj_ptr"),
    (r"^occlusion_spatial_embedding_parameter", "no_obj_embed_spatial"),
    (r"^memory_encoder\.feature_projection", "memory_encoder.pix_feat_proj"),
    (r"^memory_encoder\.projection", "memory_encoder.out_proj"),
    (r"\.memory_fuser\.", ".fuser."),
    (r"\.depthwise_conv\.", ".dwconv."),
    (r"\.pointwise_conv(\d)\.", r".pwconv\1."),
    (r"(fuser\.layers\.\d)\.scale", r"\1.gamma"),
    (r"(fuser\.layers\.\d|^memory_attention)\.layer_norm\.", r"\1.norm."),
    (r"mask_downsampler\.final_conv", "mask_downsampler.encoder.12"),
)
"""Patterns of the keys of transformers' SAM 2, and what is in their place in an official file or in ``Sam2Network``."""
_SAMPLER = re.compile(r"mask_downsampler\.layers\.(\d)\.(conv|layer_norm)")
_POINTS = "prompt_encoder.point_embed.weight"  # four tensors of an official file in one


def official_keys(name: str) -> list[str]:
    """Translate a key of transformers' SAM 2, for images or videos, to those of an official file.

    Examples:
        >>> official_keys("memory_encoder.mask_downsampler.layers.1.layer_norm.bias")
        ['memory_encoder.mask_downsampler.encoder.4.bias']
    """
    if name == _POINTS:
        return [f"sam_prompt_encoder.point_embeddings.{kind}.weight" for kind in range(4)]
    name = _SAMPLER.sub(lambda found: f"mask_downsampler.encoder.{3 * int(found[1]) + (found[2] != 'conv')}", name)
    for pattern, other in _TRANSFORMERS:
        name = re.sub(pattern, other, name)
    return [official_key(name)]


def build_video_network(size: Sam2Size, *, new: bool = True) -> Any:  # noqa: ANN401 - of a package without types
    """Build transformers' SAM 2 for videos with random weights; ``new``: 2.1, which has more of them than 2.0."""
    transformers = require_package("transformers", "sam2")
    width, side = size.decoder_width, size.image_size
    config = transformers.Sam2VideoConfig(
        vision_config=encoder_config(size),
        prompt_encoder_config=transformers.Sam2VideoPromptEncoderConfig(hidden_size=width, image_size=side),
        mask_decoder_config=transformers.Sam2VideoMaskDecoderConfig(
            hidden_size=width,
            num_attention_heads=size.decoder_heads,
            mlp_dim=size.decoder_mlp,
            iou_head_hidden_dim=size.iou_hidden,
        ),
        image_size=side,
        enable_occlusion_spatial_embedding=new,
        enable_temporal_pos_encoding_for_object_pointers=new,
        memory_attention_hidden_size=width,
        memory_attention_feed_forward_hidden_size=size.decoder_mlp,
        memory_attention_rope_feat_sizes=[side // PATCH] * 2,
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=4 * width,
    )
    return transformers.Sam2VideoModel(config).eval()


def load_official(
    network: Any,  # noqa: ANN401 - of a package without types
    state: Mapping[str, Tensor],
    path: str | Path,
    architecture: str,
) -> None:
    """Load an official file's tensors into a SAM 2 of transformers for videos; each of them, and no others."""
    parts = {name: official_keys(name) for name in network.state_dict()}
    expected = set(chain.from_iterable(parts.values()))
    if expected != state.keys():
        missing, unexpected = sorted(expected - state.keys()), sorted(state.keys() - expected)
        raise StateDictError(path, f"SAM 2 {architecture} for videos", missing, unexpected)
    named = {name: state[keys[0]] for name, keys in parts.items()}
    points = [state[key] for key in parts[_POINTS]]
    if all(each.shape == (1, network.hidden_dim) for each in points):
        named[_POINTS] = torch.cat(points)
    load_strictly(network, named, path, f"SAM 2 {architecture} for videos")


class Sam2Memory:
    """Follows masks from frame to frame (SAM 2, https://arxiv.org/abs/2408.00714), also past an occlusion.

    Needs the extra ``sam2`` (transformers).

    Args:
        weights: An official name such as ``sam2.1_hiera_tiny``, or an official file (also of SAM 2.0).
        device: Where it runs.

    Raises:
        MissingPackageError: If transformers is not installed.
        MissingPathError: If the weights do not exist.
        FormatError: If the file is not one of SAM 2, or of an unknown size.
        StateDictError: If names or shapes in the file are not the architecture's.

    Examples:
        >>> import naruto_vision as nv
        >>> memory = nv.Sam2Memory("sam2.1_hiera_tiny")  # doctest: +SKIP
        >>> memory.follow(first_frame)  # doctest: +SKIP
        {}
        >>> memory.add(7, mask)  # doctest: +SKIP
        >>> where = memory.follow(second_frame)[7]  # doctest: +SKIP
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        require_package("transformers", "sam2")  # before a file is searched and read
        path, state = read_official(weights)
        architecture = size_of(state, path)
        self._network = build_video_network(SIZES[architecture], new="no_obj_embed_spatial" in state)
        load_official(self._network, state, path, architecture)
        self._network.to(device)
        self._sessions: dict[int, Any] = {}
        self._frame = -1
        self._size = (0, 0)
        self._pixels = torch.empty(0)
        self._features: dict[str, Any] = {}

    @torch.inference_mode()
    def follow(self, image: ImageArray) -> dict[int, Mask]:
        """Go to the next frame.

        Args:
            image: Shape (H, W, 3), uint8, RGB.

        Returns:
            Where each object is: its number, and a mask (H, W), bool; those that are hidden have none.
        """
        self._frame, self._size = self._frame + 1, image.shape[:2]
        config, device = self._network.config, self._network.no_memory_embedding.device
        self._pixels = as_square(image, config.image_size, device)
        found = self._network.get_image_features(self._pixels, return_dict=True)
        self._features = {"vision_feats": found.fpn_hidden_states, "vision_pos_embeds": found.fpn_position_encoding}
        masks = {number: self._advance(session) for number, session in self._sessions.items()}
        return {number: mask for number, mask in masks.items() if mask.any()}

    @torch.inference_mode()
    def add(self, number: int, mask: Mask) -> None:
        """Follow an object from this frame on, where its mask (H, W), bool, is; in place of an earlier one."""
        transformers = require_package("transformers", "sam2")
        side, device = self._network.config.image_size, self._network.no_memory_embedding.device
        session = transformers.Sam2VideoInferenceSession(
            inference_device=device, inference_state_device=device, video_storage_device=device, dtype=torch.float32
        )
        index = session.obj_id_to_idx(number)
        whole = torch.from_numpy(mask).to(device)[None, None].float()
        square = interpolate(whole, (side, side), mode="bilinear", antialias=True) >= 0.5
        session.add_mask_inputs(index, self._frame, square.float())
        session.obj_with_new_inputs = [number]
        self._advance(session)
        self._sessions[number] = session

    def keep(self, numbers: Collection[int]) -> None:
        """Forget all other objects: those that have ended, or all at a cut."""
        self._sessions = {number: each for number, each in self._sessions.items() if number in numbers}

    def _advance(self, session: Any) -> Mask:  # noqa: ANN401 - of a package without types
        """Run the model for one object on this frame; returns its mask (H, W), which is empty where it is hidden."""
        session.cache.cache_vision_features(self._frame, self._features)
        logits = self._network(session, frame=self._pixels, frame_idx=self._frame).pred_masks
        self._forget(session)
        whole = interpolate(logits.float(), self._size, mode="bilinear")
        mask: Mask = (whole[0, 0] > 0).cpu().numpy().astype(np.bool_)
        return mask

    def _forget(self, session: Any) -> None:  # noqa: ANN401 - of a package without types
        """Drop what the model does not look back at: finished masks, all but pointers of old frames, older frames."""
        session.processed_frames.clear()
        config = self._network.config
        for outputs in session.output_dict_per_obj.values():
            frames = outputs["non_cond_frame_outputs"]
            for each in (*outputs["cond_frame_outputs"].values(), *frames.values()):
                each.pop("high_res_masks", None)
                each.pop("pred_masks", None)
            for index in [index for index in frames if self._frame - index >= config.num_maskmem]:
                frames[index] = {"object_pointer": frames[index]["object_pointer"]}
            for index in [index for index in frames if self._frame - index >= config.max_object_pointers_in_encoder]:
                del frames[index]
        for tracked in session.frames_tracked_per_obj.values():
            tracked.clear()
