"""Low-rank updates of a CLIP with the package ``peft`` (LoRA, Hu et al. 2021, arXiv 2106.09685)."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from naruto_vision.errors import InputError
from naruto_vision.io.machine import require_package

Towers: TypeAlias = Literal["vision", "text", "both"]
Layers: TypeAlias = Literal["attention", "mlp", "all"]

_ADAPTER = "default"
_INSIDE = ".lora_"
_ATTENTION = frozenset({"qkv", "q_proj", "k_proj", "v_proj"})
_MLP = frozenset({"c_fc", "c_proj", "fc1", "fc2"})


@dataclass(frozen=True)
class LoraConfig:
    """Which low-rank updates are trained."""

    towers: Towers = "both"
    layers: Layers = "attention"
    rank: int = 4
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.rank < 1 or (self.alpha is not None and self.alpha <= 0):
            raise InputError(f"lora: rank {self.rank} and alpha {self.alpha}: both have to be above 0")


def add_lora(clip: nn.Module, options: LoraConfig) -> None:
    """Add trainable updates to an open_clip model, in place; they start at 0 and change no output."""
    peft = require_package("peft", "lora")
    towers = {"vision": clip.visual, "text": getattr(clip, "text", None) or getattr(clip, "transformer", None)}
    for name, tower in towers.items():
        if options.towers not in {name, "both"}:
            continue
        modules, parameters = _targets(tower, options.layers) if isinstance(tower, nn.Module) else ([], [])
        if not modules and not parameters:
            msg = f"lora: the {name} tower has no {options.layers} layers that can be updated; choose other towers"
            raise InputError(msg)
        alpha = options.alpha if options.alpha is not None else 2 * options.rank
        config = peft.LoraConfig(
            r=options.rank, lora_alpha=alpha, target_modules=modules, target_parameters=parameters or None
        )
        peft.inject_adapter_in_model(config, tower, adapter_name=_ADAPTER)


def _targets(tower: nn.Module, layers: Layers) -> tuple[list[str], list[str]]:
    """List the linear layers to update, and the parameters that are not in a linear layer.

    ``nn.MultiheadAttention`` keeps queries, keys and values in one parameter. It is listed as a parameter because
    peft's layer for the whole attention adds and subtracts the update in each pass, which changes the base by rounding.
    """
    names = (_ATTENTION if layers != "mlp" else frozenset()) | (_MLP if layers != "attention" else frozenset())
    modules, parameters = [], []
    for name, module in tower.named_modules():
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in names:
            modules.append(name)
        elif isinstance(module, nn.MultiheadAttention) and layers != "mlp":
            parameters.append(f"{name}.in_proj_weight")
    return modules, parameters


def plain_state(clip: nn.Module) -> dict[str, Tensor]:
    """Return a CLIP's weights with its low-rank updates added, under the names of the plain architecture."""
    updates: dict[str, Tensor] = {}
    for name, module in clip.named_modules():
        layer: Any = module
        if hasattr(layer, "get_delta_weight"):
            updates[f"{name}.{getattr(layer, 'parameter_name', 'weight')}"] = layer.get_delta_weight(_ADAPTER).detach()
    state = {
        name.replace(".base_layer.", "."): value for name, value in clip.state_dict().items() if _INSIDE not in name
    }
    return {name: value + updates[name] if name in updates else value for name, value in state.items()}
