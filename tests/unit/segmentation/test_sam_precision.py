"""SAM in 16 bits and compiled: what is rounded, what is refused, and that nothing else changes."""

import copy
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from packaged_models import tiny_sam
from torch import Tensor

from naruto_vision.errors import InputError
from naruto_vision.io.bundles import config_path
from naruto_vision.records import ImageArray, Mask, Region
from naruto_vision.segmentation import runtime
from naruto_vision.segmentation.fast_decoder import repeat_first
from naruto_vision.segmentation.fast_encoder import encode_image, products_of
from naruto_vision.segmentation.generator import RegionFilter, Segmenter
from naruto_vision.segmentation.postprocess import mask_iou
from naruto_vision.segmentation.prompts import GridPrompter
from naruto_vision.segmentation.runtime import Compile, ForwardPasses, Precision, check_precision, few_sizes
from naruto_vision.segmentation.sam import SamModel
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LOW: tuple[Precision, ...] = ("bfloat16", "float16")
KEEP = RegionFilter(min_area=0, max_masks=None)


@pytest.fixture
def any_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every CPU compute in every precision, however slowly."""
    monkeypatch.setattr(runtime, "_fast_bf16", lambda: True)
    monkeypatch.setattr(runtime, "check_precision", lambda *_: None)
    monkeypatch.setattr("naruto_vision.segmentation.sam.check_precision", lambda *_: None)


@pytest.fixture(scope="module")
def image() -> ImageArray:
    return draw_scene(11, read_cast(config_path("cast.yaml")), size=128, difficulty="easy").image


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Compile without a C++ compiler, and tell for each graph what was traced."""
    graphs: list[str] = []

    def backend(graph: torch.fx.GraphModule, _inputs: list[Tensor]) -> Callable[..., object]:
        graphs.append(str(graph.code))
        return graph.forward

    monkeypatch.setattr(runtime, "BACKEND", backend)
    runtime.compile_once.cache_clear()
    torch._dynamo.reset()
    yield graphs
    runtime.compile_once.cache_clear()
    torch._dynamo.reset()


def _answers(model: SamModel, image: ImageArray, points: int = 5, batch: int | None = None) -> tuple[Tensor, ...]:
    embedding, prompts = model.embed(image), GridPrompter(points)(image)
    some = list(model.predict_masks(embedding, prompts, 0.3, batch))
    return embedding.features, *(torch.cat(each) for each in zip(*some, strict=True))


@pytest.mark.parametrize("low", LOW)
@pytest.mark.usefixtures("any_precision")
def test_low_precision_gives_float32_near_the_float32_answers(low: Precision, image: ImageArray) -> None:
    exact = _answers(tiny_sam(), image)
    found = _answers(SamModel(weights="tiny-sam", precision=low), image)
    assert [each.dtype for each in found] == [torch.float32, torch.int64, torch.float32, torch.float32]
    cosine = torch.nn.functional.cosine_similarity(found[0].flatten(), exact[0].flatten(), dim=0)
    assert cosine > 0.999
    assert not torch.equal(found[0], exact[0])
    by_prompt = {int(prompt): logits for prompt, logits in zip(exact[1], exact[2], strict=True)}
    agreeing = [
        float(((logits > 0) == (by_prompt[int(prompt)] > 0)).float().mean())
        for prompt, logits in zip(found[1], found[2], strict=True)
        if int(prompt) in by_prompt
    ]
    assert len(agreeing) > 5
    assert np.median(agreeing) > 0.98


def _both(one: Region, other: Region) -> tuple[Mask, Mask]:
    return one.full_mask(128, 128), other.full_mask(128, 128)


@pytest.mark.parametrize("low", LOW)
@pytest.mark.usefixtures("any_precision")
def test_low_precision_finds_the_same_regions(low: Precision, image: ImageArray) -> None:
    exact = Segmenter(GridPrompter(8), tiny_sam(), keep=KEEP)(image)
    found = Segmenter(GridPrompter(8), SamModel(weights="tiny-sam", precision=low), keep=KEEP)(image)
    assert len(exact) > 0
    for region in exact:
        assert max(mask_iou(*map(torch.from_numpy, _both(region, other))) for other in found) >= 0.9


@pytest.mark.usefixtures("any_precision")
def test_only_products_are_rounded_and_the_weights_stay() -> None:
    model = SamModel(weights="tiny-sam", precision="bfloat16")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names = list(model.state_dict())
    model.embed(np.zeros((32, 48, 3), np.uint8))
    assert list(model.state_dict()) == names  # copies are nobody's state
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    for block, rounded in zip(model.sam.image_encoder.blocks, model.passes._rounded(), strict=True):
        for layers in (rounded.attention, rounded.mlp):
            assert {parameter.dtype for parameter in layers.parameters()} == {torch.bfloat16}
        assert torch.equal(rounded.mlp.lin1.weight, block.mlp.lin1.weight.bfloat16())


def test_float32_uses_the_weights_themselves() -> None:
    model = tiny_sam()
    products = model.passes._rounded()
    pairs = zip(model.sam.image_encoder.blocks, products, strict=True)
    assert all(block.attn is one.attention and block.mlp is one.mlp for block, one in pairs)


@pytest.mark.usefixtures("any_precision")
def test_rounded_copies_follow_the_weights(image: ImageArray) -> None:
    model = SamModel(weights="tiny-sam", precision="bfloat16")
    with torch.inference_mode():  # as a Trainer predicts
        first = model.embed(image).features.clone()
    copies = model.passes._rounded()
    assert model.passes._rounded() is copies
    assert torch.equal(model.embed(image).features, first)
    state = {name: value + 0.05 for name, value in model.sam.state_dict().items()}
    model.sam.load_state_dict(state)
    assert model.passes._rounded() is not copies
    assert not torch.allclose(model.embed(image).features, first, atol=1e-3)
    fresh = SamModel(precision="bfloat16")
    fresh.sam.load_state_dict(state)
    assert torch.equal(fresh.embed(image).features, model.embed(image).features)
    optimizer = torch.optim.SGD(model.parameters(), 1e-2)
    model.encode(torch.rand(1, 3, 256, 256)).sum().backward()
    optimizer.step()
    trained = model.embed(image).features
    assert not torch.equal(trained, fresh.embed(image).features)
    fresh.sam.load_state_dict(model.sam.state_dict())
    assert torch.equal(trained, fresh.embed(image).features)


@pytest.mark.usefixtures("any_precision")
def test_a_copied_model_rounds_its_own_weights(image: ImageArray) -> None:
    model = SamModel(weights="tiny-sam", precision="bfloat16")
    expected = model.embed(image).features
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    assert torch.equal(model.embed(image).features, expected)
    assert not torch.allclose(twin.embed(image).features, expected, atol=1e-3)


def test_autocast_does_not_reach_the_masks(image: ImageArray) -> None:
    model = tiny_sam()
    expected = _answers(model, image)
    with torch.autocast("cpu", torch.bfloat16):
        found = _answers(model, image)
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))


@pytest.mark.usefixtures("any_precision")
def test_the_fingerprint_tells_the_precision_and_not_the_compiler() -> None:
    def fingerprint(which: Precision, compile: Compile = "none") -> str:
        return SamModel(weights="tiny-sam", precision=which, compile=compile).fingerprint

    plain = fingerprint("float32")
    assert len({plain, fingerprint("bfloat16"), fingerprint("float16")}) == 3
    assert fingerprint("float32", "all") == plain
    assert Segmenter(GridPrompter(2), SamModel(weights="tiny-sam", precision="float16")).fingerprint != plain


@pytest.mark.parametrize(
    ("which", "device", "fast", "told"),
    [
        ("bfloat16", CPU, False, "precision bfloat16: this CPU has neither AMX nor AVX512-BF16"),
        ("float16", CPU, True, "precision float16: a CPU is no faster"),
        ("float32", CPU, False, None),
        ("bfloat16", CPU, True, None),
        ("bfloat16", GPU, False, None),
        ("float16", GPU, False, None),
    ],
)
def test_a_precision_that_is_slower_is_refused(
    which: Precision, device: torch.device, fast: bool, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_fast_bf16", lambda: fast)
    if told is None:
        check_precision(which, device)
    else:
        with pytest.raises(InputError, match=told):
            check_precision(which, device)


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_machine_with_a_gpu_waits_for_the_device(
    has_gpu: bool, image: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_fast_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    if not has_gpu:
        with pytest.raises(InputError, match="use float32"):
            SamModel(weights="tiny-sam", precision="bfloat16")
        return
    model = SamModel(weights="tiny-sam", precision="bfloat16")
    with pytest.raises(InputError, match="use float32"):  # the weights are on the CPU after all
        model.embed(image)
    features = torch.zeros(1, 64, 16, 16)
    with pytest.raises(InputError, match="use float32"):
        next(model.passes.predict_masks(features, torch.zeros(1, 2, 64), 0.0))


@pytest.mark.usefixtures("any_precision")
def test_numbers_that_are_too_large_for_float16_are_told(image: ImageArray) -> None:
    model = SamModel(weights="tiny-sam", precision="float16")
    with torch.no_grad():
        model.sam.image_encoder.blocks[1].mlp.lin1.weight.mul_(1e6)
    with pytest.raises(InputError, match="use bfloat16"):
        model.embed(image)


def test_nothing_turns_on_tf32() -> None:
    tiny_sam().embed(np.zeros((32, 32, 3), np.uint8))
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    package = Path(runtime.__file__).parents[1]
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("allow_tf32", "set_float32_matmul_precision", "fp32_precision")), path


@pytest.mark.parametrize("which", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("any_precision")
def test_compiled_parts_give_the_same(which: Precision, image: ImageArray, traced: list[str]) -> None:
    exact = _answers(SamModel(weights="tiny-sam", precision=which), image)
    found = _answers(SamModel(weights="tiny-sam", precision=which, compile="all"), image)
    assert len(traced) == 3  # the image encoder, the decoder, the masks
    assert torch.equal(exact[1], found[1])
    near = 1e-4 if which == "float32" else 0.3
    for one, other in zip(exact, found, strict=True):
        assert (one - other).abs().max() <= near


@pytest.mark.parametrize(("compile", "graphs"), [("none", 0), ("encoder", 1)])
def test_what_is_compiled_is_chosen(compile: Compile, graphs: int, image: ImageArray, traced: list[str]) -> None:
    _answers(SamModel(weights="tiny-sam", compile=compile), image, points=3)
    assert len(traced) == graphs


def test_further_images_and_batches_are_not_compiled_again(image: ImageArray, traced: list[str]) -> None:
    model = SamModel(weights="tiny-sam", compile="all")
    segmenter = Segmenter(GridPrompter(5), model, predicted_iou=0.3, keep=KEEP, prompts_per_batch=8)
    segmenter(image)  # 25 prompts: batches of 8, the last of 1
    assert len(traced) == 3
    for other in (image[:90], image[:, :70], np.zeros((200, 30, 3), np.uint8)):
        segmenter(other)
    assert len(traced) == 3


def test_compiled_batches_have_two_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(runtime.IMAGES_AT_ONCE, "cpu", 4)

    def sizes(compile: Compile, count: int) -> list[int]:
        passes, found = ForwardPasses(SamModel().sam, "float32", compile), []
        while sum(found) < count:
            found.append(passes.images_at_once(count - sum(found), CPU))
        return found

    assert sizes("none", 7) == [4, 3]
    assert sizes("encoder", 7) == [4, 1, 1, 1]
    assert sizes("all", 8) == [4, 4]


def test_no_prompts_have_no_answers(traced: list[str]) -> None:
    model = SamModel(weights="tiny-sam", compile="all")
    assert list(model.passes.predict_masks(torch.zeros(1, 64, 16, 16), torch.zeros(0, 2, 64), 0.0)) == []
    assert not traced


@given(st.integers(1, 5000), st.integers(1, 600))
def test_sizes_are_few_and_fill_no_further_batch(count: int, most: int) -> None:
    size = few_sizes(count, most)
    assert 1 <= size <= most
    assert size == most or size & (size - 1) == 0
    assert -(-count // size) <= -(-count // most)
    assert size < 2 * -(-count // -(-count // most))


def test_rows_are_filled_up_with_the_first() -> None:
    rows = torch.arange(6.0).view(3, 2)
    assert repeat_first(rows, 3) is rows
    assert repeat_first(rows, 5).tolist() == [*rows.tolist(), [0.0, 1.0], [0.0, 1.0]]


@pytest.mark.gpu
@pytest.mark.parametrize("which", ["float32", *LOW])
@pytest.mark.parametrize("compile", ["none", "all"])
def test_a_gpu_finds_the_regions_of_a_cpu(which: Precision, compile: Compile, image: ImageArray) -> None:
    exact = Segmenter(GridPrompter(8), tiny_sam(), keep=KEEP)(image)
    model = SamModel(weights="tiny-sam", precision=which, compile=compile).cuda()
    images = [image, np.ascontiguousarray(image[:, ::-1])]
    segmenter = Segmenter(GridPrompter(8), model, keep=KEEP)
    found = [segmenter(*pair) for pair in zip(images, segmenter.embed_all(images), strict=True)]
    for region in exact:
        assert max(mask_iou(*map(torch.from_numpy, _both(region, other))) for other in found[0]) >= 0.9


def test_products_in_another_precision_are_copies_a_block() -> None:
    encoder = tiny_sam().sam.image_encoder
    pixels = torch.randn(1, 3, 256, 256)
    with torch.no_grad():
        exact = encode_image(encoder, pixels)
        errors = [
            float((encode_image(encoder, pixels, products_of(encoder, dtype)) - exact).abs().max())
            for dtype in (torch.float16, torch.bfloat16)
        ]
    assert all(less < more for less, more in pairwise([0.0, *errors]))
    assert encoder.blocks[0].attn.qkv.weight.dtype == torch.float32
