"""The fast path against the stock modules, with weights that make the answers differ from prompt to prompt."""

import numpy as np
import pytest
import torch
from packaged_models import tiny_sam
from segment_anything.modeling import Sam
from torch import Tensor

from naruto_vision.segmentation.fast_decoder import decode_prompts, mask_logits, share_image
from naruto_vision.segmentation.fast_encoder import attend, encode_image
from naruto_vision.segmentation.protocol import Prompts
from naruto_vision.segmentation.sam import SIZES, SamSize, build_sam

WINDOWED = SamSize(
    width=24, depth=2, heads=3, global_blocks=(1,), window=3, image_size=128, decoder_width=32, decoder_heads=2,
    decoder_mlp=48, iou_hidden=16,
)  # fmt: skip
"""8 x 8 tokens in windows of 3, so that the last windows are padded, as those of the official sizes are."""


def _sam(size: SamSize, seed: int = 0) -> Sam:
    torch.manual_seed(seed)
    sam = build_sam(size)
    with torch.no_grad():
        for parameter in sam.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.15)  # biases and relative positions start at zero
    return sam


@pytest.mark.parametrize("size", [WINDOWED, SIZES["tiny-sam"]])
def test_the_encoder_gives_the_stock_embedding(size: SamSize) -> None:
    sam = _sam(size)
    pixels = torch.randn(2, 3, size.image_size, size.image_size)
    with torch.no_grad():
        expected = sam.image_encoder(pixels)
        found = encode_image(sam.image_encoder, pixels)
    assert expected.abs().max() > 0.5
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("budget", [4, 4 * 12 * 5, 1 << 20])
def test_attention_in_blocks_is_attention(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attend.__globals__["_SCORES_BYTES"], "cpu", budget)
    query, key, value = torch.randn(3, 5, 12, 4).unbind(0)
    by_row, by_column = torch.randn(5, 12, 3), torch.randn(5, 12, 4)
    bias = (by_row[..., None] + by_column[..., None, :]).flatten(2)
    expected = ((query @ key.transpose(1, 2) + bias).softmax(dim=-1)) @ value
    assert torch.allclose(attend(query, key, value, (by_row, by_column)), expected, atol=1e-6)


def _stock(sam: Sam, features: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    labels = torch.ones(points.shape[:2], dtype=torch.int64)
    sparse, dense = sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    logits, ious = sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=True,
    )
    return sparse, logits, ious


@pytest.mark.parametrize("size", [WINDOWED, SIZES["tiny-sam"]])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_the_decoder_gives_the_stock_masks_that_are_wanted(size: SamSize, share: float) -> None:
    sam, grid = _sam(size, seed=3), size.image_size // 16
    features = torch.randn(1, size.decoder_width, grid, grid)
    with torch.no_grad():
        tokens, logits, ious = _stock(sam, features, torch.rand(9, 2, 2) * size.image_size)
        encoder = sam.prompt_encoder
        shared = share_image(sam.mask_decoder, features, encoder.get_dense_pe(), encoder.no_mask_embed.weight)
        decoded = decode_prompts(sam.mask_decoder, shared, tokens)
        wanted = ious > ious.flatten().sort(descending=True)[0][int(share * (ious.numel() - 1))]
        if share == 1.0:
            wanted = torch.ones_like(wanted)
        found = mask_logits(sam.mask_decoder, decoded, wanted, (grid, grid))
    assert (decoded.ious - ious).abs().max() <= 1e-4 * ious.abs().max()
    expected = logits[wanted]
    assert found.shape == expected.shape
    assert len(found) == int(wanted.sum())
    if share:
        assert expected.std() > 0.1
        assert (expected[0] - expected[-1]).abs().max() > 0.1  # other prompts, other masks
        assert (found - expected).abs().max() <= 1e-3
        flipped = (found > 0) != (expected > 0)
        assert expected[flipped].abs().max() < 1e-3 if flipped.any() else True


def test_upscaling_in_pieces_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sam = _sam(WINDOWED)
    decoded = decode_prompts(
        sam.mask_decoder,
        share_image(sam.mask_decoder, torch.randn(1, 32, 8, 8), torch.randn(1, 32, 8, 8), torch.zeros(1, 32)),
        torch.randn(5, 2, 32),
    )
    wanted = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0, 0, 1]]).bool()
    with torch.no_grad():
        whole = mask_logits(sam.mask_decoder, decoded, wanted, (8, 8))
        monkeypatch.setitem(mask_logits.__globals__["_UPSCALED_BYTES"], "cpu", 1)
        pieces = mask_logits(sam.mask_decoder, decoded, wanted, (8, 8))
    assert len(whole) == 6
    assert torch.allclose(whole, pieces, atol=1e-5)


@pytest.mark.parametrize("batch", [None, 1, 4, 100])
def test_answers_come_in_order_whatever_the_batch(batch: int | None) -> None:
    torch.manual_seed(1)
    model = tiny_sam()
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    points = np.random.default_rng(1).uniform(0, 48, (10, 1, 2)).astype(np.float32)
    prompts, embedding = Prompts(points, np.ones((10, 1), np.int64)), model.embed(image)
    every = model.predict_all(embedding, prompts)
    ordered = every.ious.flatten().sort().values
    bar = float(ordered[14:16].mean())  # between two estimates, so that rounding has no say
    some = list(model.predict_masks(embedding, prompts, bar, batch))
    wanted = every.ious > bar
    assert torch.cat([part.prompt for part in some]).tolist() == wanted.nonzero()[:, 0].tolist()
    assert torch.allclose(torch.cat([part.ious for part in some]), every.ious[wanted], atol=1e-5)
    assert torch.allclose(torch.cat([part.logits for part in some]), every.logits[wanted], atol=1e-3)
    assert batch is None or len(some) == -(-10 // batch)
