"""What the first scene of ``predict`` and a search import, and that all the rest still comes when it is used."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image

NOT_NEEDED = (
    "torch._inductor",
    "torch._dynamo.eval_frame",
    "sympy",
    "scipy",
    "matplotlib",
    "transformers",
    "huggingface_hub",
    "timm",
    "triton",
    "pandas",
    "torchvision.models",
    "torchvision.datasets",
    "torchmetrics.functional",
    "open_clip.factory",
)
PROBE = """
import json, sys
from naruto_vision.cli.main import main
code = main()
print("MODULES", json.dumps([code, sorted(sys.modules)]))
"""
AFTERWARDS = """
import torch
boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4]])
assert torch.ops.torchvision.nms(boxes, torch.tensor([1.0, 0.5]), 0.5).tolist() == [0]
assert "torchvision.models" not in sys.modules
import lightning.pytorch as pl
from lightning.pytorch.trainer.connectors.logger_connector.result import _ResultCollection
from lightning.pytorch.utilities.compile import from_compiled, to_uncompiled
from lightning.fabric.wrappers import _unwrap_compiled
import lightning.fabric
plain = torch.nn.Linear(2, 2)
assert _unwrap_compiled(plain) == (plain, None) and "sympy" not in sys.modules
assert not hasattr(_ResultCollection.log, "_torchdynamo_disable")
class Tiny(pl.LightningModule):
    def __init__(self):
        super().__init__(); self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch):
        loss = self.layer(batch).mean(); self.log("loss", loss); return loss
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)
model = Tiny()
compiled = torch.compile(model, backend="eager")
assert _ResultCollection.log._torchdynamo_disable  # put on when the compiler came
assert _unwrap_compiled(compiled)[0] is model
assert from_compiled(compiled) is model and to_uncompiled(model) is model
trainer = pl.Trainer(max_steps=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, accelerator="cpu")
trainer.fit(torch.compile(Tiny(), backend="eager"), torch.utils.data.DataLoader(torch.randn(4, 2), batch_size=2))
assert trainer.callback_metrics["loss"].isfinite()
pl.utilities.model_summary.ModelSummary(Tiny())
import torchvision
assert torchvision.models.resnet18 and torchvision.ops.roi_align
import torchvision.transforms.v2 as v2
assert v2.Resize(4)(torch.zeros(3, 8, 8)).shape == (3, 4, 4)
from torchmetrics.image import PeakSignalNoiseRatio
assert PeakSignalNoiseRatio(data_range=1.0)(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)) == 0
import torchmetrics, scipy.signal
assert torchmetrics.Metric is sys.modules["torchmetrics.metric"].Metric and torchmetrics.Accuracy
assert scipy.signal.hamming(4).shape == (4,)  # torchmetrics puts it there
metric = torchmetrics.MeanMetric(); metric.update(2.0)
figure, axes = metric.plot()
import matplotlib.axes
assert isinstance(axes, matplotlib.axes.Axes)
import open_clip
assert "ViT-B-32" in open_clip.list_models()
assert open_clip.create_model("ViT-B-32", pretrained=None).visual and open_clip.model.TimmModel("resnet18", 8)
assert open_clip.create_model("convnext_base", pretrained=None).visual
import timm, torch._dynamo, torch._inductor, sympy
assert timm.create_model("resnet18") and torch._dynamo.OptimizedModule
from naruto_vision.cli import deferred
print("WAITING", sorted(deferred._PENDING))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one scene and a gallery of it."""
    root = tmp_path_factory.mktemp("first")
    image = np.full((64, 64, 3), 240, dtype=np.uint8)
    image[16:48, 20:44] = (200, 40, 40)
    write_image(root / "scenes" / "scene.png", image)
    encoder = ClipEncoder("tiny-clip")
    vectors = np.eye(encoder.dim, dtype=np.float32)[:2]
    rows = [GalleryRow("a.png", "ayame"), GalleryRow("b.png", "kurenai")]
    Gallery.build(vectors, rows, fingerprint=encoder.fingerprint).save(root / "gallery")
    return root


def _words(out: str) -> list[str]:
    side = "--model.segmenter.init_args.prompter.init_args.points_per_side=4"
    bundle = "--model.encoder.init_args.model=tiny-clip"
    return ["predict", "scenes", "--gallery", "gallery", "--out", out, side, bundle, "--trainer.accelerator=cpu"]


def _run(code: str, words: list[str], folder: Path, **environment: str) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_first_scene_imports_only_what_it_uses(folder: Path) -> None:
    printed = _run(PROBE, _words("once"), folder)
    code, modules = json.loads(printed.partition("MODULES ")[2])
    assert code == 0
    assert (folder / "once" / "json" / "scene.json").is_file()
    assert [name for name in NOT_NEEDED if name in modules] == []
    assert len(modules) < 2600  # 2,119 of 4,650 when it was written


@pytest.mark.parametrize(
    "words",
    [
        ["search", "--gallery", "gallery", "--encoder", "tiny-clip", "--image", "scenes", "--json"],
        ["gallery", "add", "grown", "scenes", "--label", "ayame", "--encoder", "tiny-clip"],
    ],
    ids=["search", "gallery add"],
)
def test_commands_that_embed_import_only_what_they_use(folder: Path, words: list[str]) -> None:
    shutil.copytree(folder / "gallery", folder / "grown", dirs_exist_ok=True)
    code, modules = json.loads(_run(PROBE, words, folder).partition("MODULES ")[2])
    assert code == 0
    assert [name for name in (*NOT_NEEDED, "lightning", "torchmetrics") if name in modules] == []
    assert len(modules) < 1800  # 1,460 of 3,050 when it was written


@pytest.mark.slow
def test_the_body_of_a_part_may_be_the_first_that_is_asked_for(folder: Path) -> None:
    armed = "from naruto_vision.cli.slow_imports import defer_slow_imports; defer_slow_imports('search')\n"
    asked = "import torch, torchvision; assert torchvision.ops.box_area(torch.ones(1, 4)).tolist() == [0]"
    _run(armed + asked, [], folder)


@pytest.mark.slow
def test_all_that_waits_comes_when_it_is_used_after_a_command(folder: Path) -> None:
    printed = _run(PROBE + AFTERWARDS, _words("after"), folder)
    assert (folder / "after" / "json" / "scene.json").is_file()
    waiting = printed.partition("WAITING ")[2].strip()
    assert waiting in {"[]", "['open_clip.hf_model']"}


@pytest.mark.slow
def test_answers_are_those_of_ordinary_imports(folder: Path) -> None:
    _run(PROBE, _words("lazy"), folder)
    printed = _run(PROBE, _words("eager"), folder, NARUTO_VISION_IMPORTS="eager")
    assert "torchmetrics.functional" in json.loads(printed.partition("MODULES ")[2])[1]
    lazy, eager = ((folder / out / "predictions.jsonl").read_text() for out in ("lazy", "eager"))
    assert lazy == eager


@pytest.mark.slow
def test_the_first_scene_takes_less_than_importing_lightning_did(folder: Path) -> None:
    def cpu(code: str, words: list[str]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        _run(code, words, folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    lightning = "import torch, lightning.pytorch.cli"
    times = [(cpu(PROBE, _words(f"timed{turn}")), cpu(lightning, [])) for turn in range(3)]
    assert min(ours for ours, _ in times) <= 0.8 * min(theirs for _, theirs in times)  # 1.27 before imports waited
