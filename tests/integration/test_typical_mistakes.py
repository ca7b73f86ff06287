"""Typical mistakes: each is answered in one line with the option as typed and the next step; exit code 2."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.main import main
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.io.images import write_image

PREDICT = "predict scenes"
FIT = "fit --config clip.yaml --data.root data"

AT_ONCE = [
    # forgotten or misplaced --config
    ("fit clip.yaml", "did you mean `naruto-vision fit --config clip.yaml`?"),
    ("fit data", "for example `naruto-vision fit --config gallery.yaml --data.root data`"),
    ("test scenes", "for example `naruto-vision test --config scenes.yaml --data.test scenes`"),
    ("fit --data.root data --confg clip.yaml", "--confg; did you mean --config?"),
    ("fit --data.root data", "fit: expected --config FILE, such as gallery.yaml"),
    # configs
    ("fit --config clap.yaml", "clap.yaml: no such config; did you mean clip.yaml?"),
    ("fit --config own/clip.yaml", "own/clip.yaml: no such config; did you mean clip.yaml?"),
    ("fit --config scenes.yaml", "`naruto-vision fit --config gallery.yaml --data.root DIR`"),
    ("fit --config scenes.yaml --root data --encoder tiny-clip", "use gallery.yaml, as in `naruto-vision fit --config"),
    ("predict --config sam.yaml", "`naruto-vision validate --config sam.yaml` measures"),
    ("test --config gallery.yaml", "`naruto-vision test --config scenes.yaml --data.test DIR`"),
    ("test --config scenes.yaml", "no test scenes: give their folder, --data.test DIR"),
    ("validate --config gallery.yaml", "no valid scenes: give their folder, --data.valid DIR"),
    ("predict --config scenes.yaml", "no scenes: give their folder, --data.predict DIR"),
    ("predict --config clip.yaml", "clip.yaml has nothing to predict; `naruto-vision predict DIR` names"),
    ("predict scenes --config part.yaml", "part.yaml: names no model (model.class_path); give the config"),
    ("predict scenes --config clip.yaml", "`naruto-vision test --config clip.yaml` measures"),
    # folders
    ("fit --config clip.yaml --root dat", "dat: no such folder (--data.root); did you mean data?"),
    ("fit --config clip.yaml --data.root nowhere", "nowhere: no such folder (--data.root)"),
    ("fit --config my.yaml", "images: no such folder (data.root of my.yaml); give yours: --data.root DIR"),
    ("fit --config clip.yaml --root empty", "empty: no class data of split 'train'; expected train/_classes.csv"),
    ("fit --config gallery.yaml --root empty", "empty: no class data of split 'train'; expected train/_classes.csv"),
    ("predict scene", "scene: no such image or folder; did you mean scenes?"),
    ("test --config scenes.yaml --data.test nowhere --encoder tiny-clip", "nowhere: no such folder (--data.test)"),
    # galleries
    (f"{PREDICT} --gallery runs/galery", "runs/galery: no such gallery; did you mean runs/gallery?"),
    ("search --gallery runs/galery --text red", "runs/galery: no such gallery; did you mean runs/gallery?"),
    (
        f"{PREDICT} --config scenes-vitb.yaml",
        "build it with `naruto-vision fit --config scenes-vitb.yaml --data.root DIR`",
    ),
    ("gallery remove runs/gallery --label Ayami", "no entry has 'Ayami'; did you mean Ayame?"),
    # weights and encoders
    (
        f"{PREDICT} --mask-weights sam_vit_b",
        "sam_vit_b: no such weights file; run: naruto-vision weights download sam_vit_b",
    ),
    (f"{PREDICT} --mask-weights sam_vitb", "sam_vitb: no such official weights; did you mean sam_vit_b?"),
    (f"{PREDICT} --mask-weights tiny-san", "tiny-san: no such SAM weights; did you mean tiny-sam?"),
    (f"{PREDICT} --encoder ViT-B-32", "run: naruto-vision weights download ViT-B-32.openai"),
    (f"{PREDICT} --encoder dinov2_vits14", "run: naruto-vision weights download dinov2_vits14"),
    ("fit --config clip-vitb32.yaml --root data", "run: naruto-vision weights download ViT-B-32.openai"),
    ("weights download sam_vitb", "did you mean sam_vit_b"),
    # checkpoints
    ("test --config clip.yaml --root data --ckpt_path best", "--ckpt_path best: a new process does not know"),
    ("test --config clip.yaml --root data --ckpt_path last", "--ckpt_path last: no last.ckpt in runs/clip/checkpoints"),
    (f"{FIT} --ckpt_path old.ckpt", "old.ckpt: no such checkpoint (--ckpt_path)"),
    # values
    (f"{PREDICT} --threshold high", "--threshold: expected a number from -1 to 1, found 'high'"),
    (f"{PREDICT} --top-k few", "--top-k: expected a whole number of 0 or more, found 'few'"),
    (
        f"{PREDICT} --decision best",
        "--decision: expected one of auto, vote, top1, max, mean, prototype, centroid, lda, logreg, found 'best'",
    ),
    (f"{PREDICT} --threshold", "--threshold SCORE: a value is missing; see `naruto-vision predict --help`"),
    (f"{FIT} --data.batch_size --precision auto", "--data.batch_size N: a value is missing"),
    (f"{PREDICT} --fail-fast=no", "--fail-fast=no: --fail-fast takes no value"),
    # options that are called otherwise
    (f"{FIT} --epochs 3", "--epochs; did you mean --trainer.max_epochs?"),
    (f"{FIT} --batch-size 8", "--batch-size; did you mean --data.batch_size?"),
    (f"{FIT} --lr 0.1", "--lr; did you mean --model.optimizer.init_args.lr?"),
    (f"{FIT} --seed 3", "--seed; did you mean --seed_everything?"),
    (f"{FIT} --ckpt-path last", "--ckpt-path; did you mean --ckpt_path?"),
    (f"{PREDICT} --treshold 0.5", "--treshold; did you mean --threshold?"),
    ("video index episode.mp4 --out runs/videos", "--out runs/videos; did you mean --store?"),
    ("search --galery runs/gallery --text red", "did you mean --gallery?"),
    ("fit --config gallery.yaml --root data --encoder tiny-clip --out runs/mine", "give its folder, --gallery DIR"),
    ("fti --config clip.yaml", "fti: no such command; did you mean `naruto-vision fit`?"),
    ("gallery lst", "did you mean `naruto-vision gallery list`?"),
]

WITH_CLASSES = [
    (f"{FIT} --data.batch_size many", "--data.batch_size: ClassDataModule: expected int, found many"),
    (f"{FIT} --data.batch_size 0", "--data.batch_size 0: expected at least 1"),
    (f"{FIT} --trainer.max_epochs many", "--trainer.max_epochs many: expected int"),
    (f"{FIT} --model.optimizer.init_args.lr fast", "--model.optimizer.init_args.lr: ContrastiveTuner: expected float"),
    (
        f"{FIT} --model.loss.kind other",
        "--model.loss.kind: ContrastiveTuner: LossConfig: expected one of 'contrastive'",
    ),
    (f"{FIT} --gallery runs/g", "--gallery: ContrastiveTuner has no such option; see `naruto-vision fit --model.help"),
    (f"{FIT} --data.rot data", "--data.rot: ClassDataModule has no such option; did you mean root?"),
    (f"{FIT} --model ContrastivTuner", "no class ContrastivTuner; did you mean ContrastiveTuner?"),
    (f"{FIT} --traner.max_epochs 3", "--traner.max_epochs 3; did you mean --trainer.max_epochs?"),
    (f"{FIT} --zzzz 1", "unrecognized arguments: --zzzz 1; see `naruto-vision fit --help`"),
    ("fit --config typed.yaml --root data", "typed.yaml: trainer.max_epochs"),
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with images, scenes, a gallery and configs of one's own."""
    monkeypatch.chdir(tmp_path)
    for path in ("data/train/a/1.png", "scenes/a.png"):
        write_image(Path(path), np.zeros((8, 8, 3), np.uint8))
    Path("empty").mkdir()
    rows = [GalleryRow("a.png", "Ayame"), GalleryRow("b.png", "Bran")]
    note = {"encoder": {"kind": "clip", "model": "tiny-clip", "pretrained": None}}
    Gallery.build(np.eye(2, 4, dtype=np.float32), rows, fingerprint="0" * 64, note=note).save("runs/gallery")
    Path("my.yaml").write_text(
        "model: {class_path: ContrastiveTuner}\ndata: {class_path: ClassDataModule, init_args: {root: images}}\n"
    )
    Path("part.yaml").write_text("model: {init_args: {segmenter: {class_path: SweepSegmenter}}}\n")
    Path("typed.yaml").write_text("trainer: {max_epochs: many}\n" + Path("my.yaml").read_text())


def _answer(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, float]:
    start = time.process_time()
    assert main(line.split()) == 2
    shown = capsys.readouterr().err
    errors = [each for each in shown.splitlines() if each.startswith("naruto-vision: error: ")]
    assert len(errors) == 1
    assert shown.endswith(f"{errors[0]}\n")
    assert not any(word in shown for word in ("Traceback", "TrainerFn", "Union", "NoneType"))
    return errors[0], time.process_time() - start


@pytest.mark.parametrize(("line", "answer"), AT_ONCE, ids=[line for line, _ in AT_ONCE])
def test_a_mistake_is_answered_at_once(line: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, seconds = _answer(line, capsys)
    assert answer in error
    assert seconds < 1.0


@pytest.mark.parametrize(("line", "answer"), WITH_CLASSES, ids=[line for line, _ in WITH_CLASSES])
def test_a_mistake_that_only_the_classes_know_is_answered(
    line: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error, seconds = _answer(line, capsys)
    assert answer in error
    assert seconds < 10.0


@pytest.mark.parametrize("line", ["fit clip.yaml", f"{PREDICT} --threshold high", "test --config scenes.yaml"])
def test_a_process_answers_without_torch(line: str) -> None:
    probe = "import sys; from naruto_vision.cli.main import main; print(main(sys.argv[1:]), *sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe, *line.split()], capture_output=True, check=True, text=True)
    assert done.stdout.startswith("2 ")
    assert done.stderr.count("\n") == 1
    assert not {"torch", "lightning", "jsonargparse"} & set(done.stdout.split())


def test_a_run_without_logger_and_checkpoints_works() -> None:
    for number in range(2, 5):
        for split in ("train", "valid"):
            for label in ("a", "b"):
                pixels = np.full((16, 16, 3), 40 * number, np.uint8)
                write_image(Path(f"data/{split}/{label}/{number}.png"), pixels)
    quick = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    none = ["--trainer.logger=false", "--trainer.enable_checkpointing=false"]
    assert main(["fit", "--config", "clip.yaml", "--root", "data", *quick, *none]) == 0
    assert not Path("lightning_logs").exists()
    assert not Path("runs/clip/checkpoints").exists()
    assert Path("runs/clip/bundle/model.json").is_file()
