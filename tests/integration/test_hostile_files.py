"""Files that a user hands over run no code, name no files elsewhere, and are refused in one line where damaged."""

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.data.readers import read_classes
from naruto_vision.errors import InputError
from naruto_vision.gallery.info import encoder_options
from naruto_vision.io.text import csv_text

SLOW = pytest.mark.slow  # other damage of the same kind
PACKAGE = """
from pathlib import Path
from naruto_vision import ClipEncoder
Path(__file__).with_name("imported").touch()
class OwnEncoder(ClipEncoder):
    pass
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a gallery with hostile names, a scene, and a package of one's own that notes when it is imported."""
    root = tmp_path_factory.mktemp("hostile")
    encoder = nv.ClipEncoder("tiny-clip").eval()
    images = [np.full((32, 32, 3), colour, dtype=np.uint8) for colour in ((200, 30, 30), (30, 30, 200))]
    rows = [nv.GalleryRow("\x1b]0;owned\x07.png", "\x1b[31mred\u202e\x9b"), nv.GalleryRow("blue.png", "=1+1")]
    vectors, note = nv.embed_images(encoder, images).numpy(), {"encoder": dict(encoder.recipe)}
    nv.Gallery.build(vectors, rows, fingerprint=encoder.fingerprint, note=note).save(root / "gallery")
    (root / "images").mkdir()
    Image.fromarray(np.kron(np.eye(2, dtype=np.uint8)[..., None] * 200, np.ones((40, 40, 3), np.uint8))).save(
        root / "images" / "a.png"
    )
    (root / "ownpkg").mkdir()
    (root / "ownpkg" / "__init__.py").write_text(PACKAGE, encoding="utf-8")
    return root


def _predict(folder: Path, out: Path, *extra: str) -> int:
    quiet = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    options = ["--gallery", str(folder / "gallery"), "--out", str(out), "--data.num_workers=0"]
    return main(["predict", str(folder / "images"), *options, *quiet, *extra])


@pytest.mark.parametrize(
    "value",
    [
        "@ class_path 'evil.x': Option 'y'",
        "Problem with given class_path 'evil.x': Option 'y' is not accepted",
        "Problem with given class_path 'os.evil': unrecognized arguments: --y",
    ],
)
def test_no_message_imports_what_a_config_says(
    value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.py").write_text('open("OWNED", "w").close()', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"seed_everything": value}), encoding="utf-8")
    assert main(["fit", "--config", "c.yaml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "OWNED").exists()
    assert "evil" not in sys.modules


def test_own_classes_need_the_option_and_are_recorded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(folder)
    own = ["--model.encoder=ownpkg.OwnEncoder", "--model.encoder.init_args.model=tiny-clip"]
    assert _predict(folder, tmp_path / "o", *own) == 2
    assert "ownpkg" in capsys.readouterr().err
    assert not (folder / "ownpkg" / "imported").exists()
    assert _predict(folder, tmp_path / "o", *own, "--allow-imports", "ownpkg,torch.nn") == 0
    assert json.loads((tmp_path / "o" / "run.json").read_text())["allowed_imports"] == ["ownpkg", "torch.nn"]
    assert "ownpkg" in capsys.readouterr().err
    with pytest.raises(InputError, match="ownpkg"):  # open for one call, not for the process
        nv.load(tmp_path / "o")
    assert nv.load(tmp_path / "o", allow_imports=["ownpkg"], device="cpu").gallery.labels
    assert _predict(folder, tmp_path / "p", "--allow-imports", "not a name") == 2


def test_an_installed_plugin_opens_its_own_package(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "site" / "own-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[naruto_vision.plugins]\nown = ownpkg\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(tmp_path / "site")
    own = ["--model.encoder=ownpkg.OwnEncoder", "--model.encoder.init_args.model=tiny-clip"]
    assert _predict(folder, tmp_path / "o", *own) == 0
    assert json.loads((tmp_path / "o" / "run.json").read_text())["allowed_imports"] == ["ownpkg"]


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        pytest.param("predictions.jsonl", "garbage\n", "predictions.jsonl: line 1: not JSON", marks=SLOW),
        pytest.param("predictions.jsonl", "{}\n", "predictions.jsonl: line 1: expected an object with", marks=SLOW),
        ("predictions.jsonl", '{"scene": 3}\n', "predictions.jsonl: line 1: expected in scene text"),
        ("predictions.jsonl", "[" * 5000 + "\n", "predictions.jsonl: line 1: not JSON"),
        pytest.param("run.json", "{", "run.json: not JSON", marks=SLOW),
        pytest.param("run.json", "[]", "run.json: expected an object", marks=SLOW),
        ("run.json", '{"identity": [1]}', "run.json: expected in identity an object"),
        ("timings.jsonl", "7\n", "timings.jsonl: line 1: expected an object"),
    ],
)
def test_predict_into_damaged_results_names_the_file_and_the_line(
    name: str, text: str, place: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "whole"
    if not out.exists():
        assert _predict(folder, out) == 0
    (tmp_path / "o").mkdir()
    for file in ("predictions.jsonl", "run.json", "timings.jsonl"):
        (tmp_path / "o" / file).write_bytes((out / file).read_bytes())
    (tmp_path / "o" / name).write_text(text, encoding="utf-8")
    capsys.readouterr()
    assert _predict(folder, tmp_path / "o") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {tmp_path}/o/{place}" in error


def test_no_escape_sequence_reaches_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery = str(folder / "gallery")
    assert main(["gallery", "list", gallery, "--rows"]) == 0
    assert main(["gallery", "list", gallery, "--json"]) == 0
    assert main(["search", "--gallery", gallery, "--image", str(folder / "images" / "a.png"), "--known-from=-1"]) == 0
    assert main(["predict", "\x1b[2Jfolder"]) == 2
    assert main(["gallery", "relabel", gallery, "--label", "\x1b[2J", "--to", "b"]) == 2
    shown = capsys.readouterr()
    assert not set(shown.out + shown.err) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert "\\u001b[31mred" in shown.out
    assert "\\u001b[2Jfolder" in shown.err


def test_a_line_break_in_a_class_name_does_not_break_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("red\nhat", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "data" / name / "a.png")
    assert main(["data", "prepare", "--root", str(tmp_path / "data"), "--out", str(tmp_path / "o")]) == 0
    rows = [nv.GalleryRow("a.png", "red\nhat")]
    nv.Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64).save(tmp_path / "g")
    assert main(["gallery", "list", str(tmp_path / "g")]) == 0
    shown = capsys.readouterr()
    assert shown.out.count("red\\nhat") == 2  # classes, gallery
    assert not {"hat", "nhat"} & {line.strip(" │").split(" ")[0] for line in (shown.out + shown.err).splitlines()}


def test_csv_keeps_names_and_quotes_what_looks_like_a_formula() -> None:
    rows = [["label", "n"], ["=cmd|' /C calc'!A0", -1], ["+a", 2], ["-a", 3], ["@a", 4], ['a,"b"\n', 5]]
    text = csv_text(rows)
    assert '"=cmd|' in text
    assert '"+a",2\n"-a",3\n"@a",4\n' in text
    assert list(csv.reader(io.StringIO(text))) == [[str(cell) for cell in row] for row in rows]


@pytest.mark.parametrize(
    "recipe",
    [
        {"kind": "clip", "model": "tiny-clip", "trust_pickle": True},
        {"kind": "clip", "model": "tiny-clip", "pretrained": "random"},
        {"kind": "clip", "model": {"class_path": "os.system"}},
        {"kind": "dino", "model": "vit_tiny_patch16_224", "weights": "random"},
        {"kind": "clip", "model=x --out": "y"},
        ["clip"],
    ],
)
def test_a_gallerys_note_sets_nothing_but_a_known_encoder(recipe: object) -> None:
    assert encoder_options({"encoder": recipe}) == []


def test_an_array_whose_header_states_terabytes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "meta.jsonl").write_text('{"path":"a","label":"b"}\n', encoding="utf-8")
    for shape in ("(4294967296, 192)", "(-1, 192)", "(2, 0)", "(1" + "0" * 300 + ",)"):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        (tmp_path / "embeddings.npy").write_bytes(data)
        words = ["gallery", "import", str(tmp_path), "--out", str(tmp_path / "o"), "--encoder", "tiny-clip"]
        assert main([*words, "--assert-encoder"]) == 2
        error = capsys.readouterr().err
        assert "embeddings.npy: expected" in error
        assert error.count("\n") == 1


def test_many_large_masks_of_a_small_file_are_counted_at_once(tmp_path: Path) -> None:
    scenes = [f"{number}.png" for number in range(3)]
    box = [{"bbox": [0, 0, 1, 1], "label": "a"}]
    (tmp_path / "gt.json").write_text(json.dumps(dict.fromkeys(scenes, box)), encoding="utf-8")
    mask = {"size": [7000, 7000], "counts": [7000, 49_000_000 - 7000]}
    coco = {
        "images": [{"id": name, "file_name": name} for name in scenes],
        "annotations": [{"image_id": name, "segmentation": mask} for name in scenes for _ in range(20)],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    (tmp_path / "run").mkdir()
    line = {"scene": "0.png", "regions": [{"shown": True, "mask": mask}] * 20}
    (tmp_path / "run" / "predictions.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    for name in scenes:
        (tmp_path / "run" / f"{name}.json").write_text('{"preds": []}', encoding="utf-8")
    words = ["evaluate", "--gt", str(tmp_path / "gt.json"), "--preds-dir", str(tmp_path / "run"), "--bootstrap", "0"]
    assert main([*words, "--gt-masks", str(tmp_path / "coco.json")]) == 0
    coco["annotations"][0]["segmentation"] = {"size": [10**9, 10**9], "counts": [10**18]}
    (tmp_path / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    assert main([*words, "--gt-masks", str(tmp_path / "coco.json")]) == 2


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gt.json").symlink_to("/dev/zero")
    (tmp_path / "run").mkdir()
    assert main(["evaluate", "--gt", str(tmp_path / "gt.json"), "--preds-dir", str(tmp_path / "run")]) == 2
    assert "gt.json: expected a file, found a pipe or a device" in capsys.readouterr().err
    rows = [nv.GalleryRow("a.png", "a")]
    for name, make in (("meta.jsonl", os.mkfifo), ("embeddings.npy", os.mkdir), ("stats.json", _endless)):
        folder = tmp_path / name
        nv.Gallery.build(np.eye(1, 4, dtype=np.float32), rows, fingerprint="0" * 64).save(folder)
        (folder / name).unlink()
        make(folder / name)
        assert main(["gallery", "verify", str(folder)]) in {1, 2}
        with pytest.raises(InputError, match=f"{name}: expected a file"):
            nv.Gallery.open(folder)


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    "image", [np.array("x"), np.broadcast_to(np.uint8(1), (30_000, 30_000, 3)), Image.new("RGB", (0, 0))]
)
def test_odd_images_in_memory_are_refused(image: Any) -> None:
    with pytest.raises(InputError):
        nv.read_image(image)


def test_an_open_quote_and_a_blank_class_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('path,label\na.jpg,"x\nb.jpg,y\n')
    with pytest.raises(InputError, match=r"train.csv: expected quotes in pairs, found one .* in line 2"):
        read_classes(tmp_path)
    (tmp_path / "r" / "   ").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "r" / "   " / "a.png")
    with pytest.raises(InputError, match="named after their class"):
        read_classes(tmp_path / "r")
