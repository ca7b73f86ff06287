import pytest
import torch

from naruto_vision.cli import trainer
from naruto_vision.cli.trainer import NarutoCLI


@pytest.mark.parametrize(
    ("accelerator", "gpu", "gpu_bf16", "cpu_bf16", "expected"),
    [
        ("auto", True, True, False, "bf16-mixed"),
        ("gpu", True, False, True, "16-mixed"),  # Lightning scales the gradients of float16
        ("auto", False, False, True, "bf16-mixed"),
        ("auto", False, False, False, "32-true"),
        ("cpu", True, True, True, "bf16-mixed"),
        ("cpu", True, True, False, "32-true"),
    ],
)
def test_half_precision_only_where_it_is_faster(
    accelerator: str, gpu: bool, gpu_bf16: bool, cpu_bf16: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_bf16 and not including_emulation
    )
    monkeypatch.setattr(trainer, "has_fast_bf16", lambda: cpu_bf16)
    assert trainer._fastest_precision(accelerator, "32-true") == expected


def test_auto_reaches_the_trainer_from_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(trainer, "_fastest_precision", lambda *words: given.extend(words) or "32-true")
    monkeypatch.setattr(NarutoCLI, "instantiate_classes", lambda _: None)
    words = ["fit", "--config", "configs/clip-photos.yaml", "--trainer.accelerator", "cpu"]
    trainer.run_cli(words, run=False)
    assert given[0] == "cpu"
