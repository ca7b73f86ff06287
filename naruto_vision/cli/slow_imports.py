"""What Lightning, open_clip and the packages around them import and a command that only embeds or names never uses.

Three quarters of the time to the first scene, or to a search's answer, went there: torchmetrics brings its metrics for
sound, text and images (with SciPy's signals and transformers), its plots Matplotlib, torchvision its detectors, one
check for compiled modules PyTorch's compiler with SymPy, open_clip what it borrows from timm and transformers.
"""

import importlib.metadata
import os

from naruto_vision.cli.deferred import Deferral, defer

SWITCH = "NARUTO_VISION_IMPORTS"
"""Set to ``eager``, this environment variable has everything imported at once, as other programs do."""

WAITING = frozenset(
    {"validate", "test", "predict", "search", "gallery add", "gallery import", "gallery verify", "data audit"}
)
"""The commands for which imports wait. In ``fit`` an optimiser brings PyTorch's compiler, and figures Matplotlib."""

TRIED = {
    "lightning": "2.6.",
    "torch": "2.15.",
    "torchvision": "0.29.",
    "torchmetrics": "1.9.",
    "open_clip_torch": "3.3.",
}
"""The releases whose insides are known. With any other one nothing waits: what a package imports is its own affair."""

_RESULTS = "lightning.pytorch.trainer.connectors.logger_connector.result"
_PLOTTING = frozenset({"torchmetrics.metric", "torchmetrics.collections", "torchmetrics.aggregation"})
DEFERRALS = (
    Deferral(
        "torchmetrics",
        children=frozenset({"__about__", "utilities", "metric", "collections", "aggregation"}),
        served={
            "__version__": "__about__",
            "Metric": "metric",
            "MetricCollection": "collections",
            "CatMetric": "aggregation",
            "MeanMetric": "aggregation",
        },
        first=("utilities",),  # it and ``metric`` import each other, and only this order works
        stand_ins={"_logger": frozenset({"torchmetrics.utilities.prints"})},
    ),
    Deferral(  # Matplotlib: in annotations, and in a method that nobody calls here
        "torchmetrics.utilities.plot",
        stand_ins=dict.fromkeys(("_AX_TYPE", "_PLOT_OUT_TYPE", "plot_single_or_multi_val"), _PLOTTING),
    ),
    Deferral(  # the compiler: Lightning asks whether a model is compiled, and keeps it from compiling its log
        "torch._dynamo",
        stand_ins={"OptimizedModule": frozenset({"lightning.fabric.wrappers", "lightning.pytorch.utilities.compile"})},
        decorators={"disable": ("torch.compiler", _RESULTS)},
    ),
    Deferral(  # Triton: the summary of a model can count its operations
        "torch.utils.flop_counter",
        stand_ins={"FlopCounterMode": frozenset({"lightning.pytorch.utilities.model_summary.model_summary"})},
    ),
    Deferral(
        "torchvision",
        children=frozenset({"extension", "_autograd_registrations", "_meta_registrations", "ops", "utils"})
        | {"ops.boxes", "ops.misc", "transforms", "transforms.functional"},
        first=("extension", "_autograd_registrations", "_meta_registrations"),  # torch.ops.torchvision stays whole
    ),
    Deferral("torchvision.ops", children=frozenset({"boxes", "misc"}), served={"nms": "boxes"}),
    Deferral("open_clip", children=frozenset({"model", "transform", "transformer"})),
    Deferral("open_clip.hf_model", stand_ins={"HFTextEncoder": frozenset({"open_clip.model"})}),  # transformers
    Deferral("open_clip.timm_model", stand_ins={"TimmModel": frozenset({"open_clip.model"})}),  # timm
)


def defer_slow_imports(command: str) -> None:
    """Let them wait until they are used, unless a package is of another release or the environment says otherwise.

    Args:
        command: The command that this process is for; nothing waits unless it is in ``WAITING``.
    """
    if command in WAITING and os.environ.get(SWITCH) != "eager" and all(map(_is_tried, TRIED)):
        defer(DEFERRALS)


def _is_tried(package: str) -> bool:
    try:
        return importlib.metadata.version(package).startswith(TRIED[package])
    except importlib.metadata.PackageNotFoundError:
        return False
