"""What to do after ``fit``, ``validate`` and ``test``: one table, by the kind of module and data."""

import shlex

from naruto_vision.cli.trainer_args import GALLERY, TUNED

_NEXT = {
    "ContrastiveTuner": ("fit --config gallery.yaml{root}{tuned}", "builds a gallery with the tuned encoder"),
    "ContrastiveTuner on captions": (
        "fit --config clip.yaml --data.root DIR --model.encoder.init_args.model {bundle}",
        "fine-tunes it on labelled images",
    ),
    "SegmenterTuner": (
        "predict DIR --model.segmenter.init_args.model.init_args.weights {bundle}",
        "segments scenes with it",
    ),
    "RegionTuner": ("predict DIR", "names the characters in the regions that it finds"),
    "SceneRetriever": ("predict DIR{gallery}", "names the characters in a folder of scenes"),
}
"""Module → the next command, and what it does."""


def next_step(model: object, data: object) -> tuple[str, ...]:
    """Return the line that ends a command; none for modules of other packages, and if nothing was written."""
    kind = type(model).__name__ + (" on captions" if hasattr(data, "words") else "")
    if kind not in _NEXT or bool(getattr(model, "withheld", "")):
        return ()
    bundle, gallery = str(getattr(model, "bundle_dir", TUNED)), str(getattr(model, "gallery", GALLERY))
    command, what = _NEXT[kind]
    if getattr(getattr(model, "export", None), "kept", 1.0) == 0.0:
        what = what.replace("tuned encoder", "untuned weights, which were kept")
    filled = command.format(
        bundle=shlex.quote(bundle),
        root=_option("--data.root", getattr(data, "root", None), "data"),
        tuned=_option("--model.encoder.init_args.model", bundle, TUNED),
        gallery=_option("--gallery", gallery, GALLERY),
    )
    return (f"next: `naruto-vision {filled}` {what}",)


def _option(flag: str, value: object, default: str) -> str:
    return "" if value is None or str(value) == default else f" {flag} {shlex.quote(str(value))}"
