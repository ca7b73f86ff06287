"""``ablate``: cells equal what ``fit`` and ``test`` measure, resume, and are compared with the same galleries only."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import naruto_vision as nv
from naruto_vision.cli.main import main
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.io.bundles import packaged_tables
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray

SLOW = pytest.mark.slow
SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)
COLOURS = {"ayame": (230, 30, 30), "kenta": (30, 30, 230), "mira": (30, 200, 30)}
BOXES = ((4, 6, 27, 33), (36, 6, 59, 33))
GRID: dict[str, Any] = {
    "title": "T",
    "data": {"root": "{here}/data", "test": "{here}/scenes"},
    "factors": {
        "encoder": {
            name: {"class_path": "ClipEncoder", "init_args": {"model": "{here}/" + name}}
            for name in ("first", "second")
        },
        "segmenter": {
            "grid": {
                "class_path": "Segmenter",
                "init_args": {
                    "prompter": {"class_path": "GridPrompter", "init_args": {"points_per_side": 4}},
                    "model": {"class_path": "SamModel", "init_args": {"weights": "tiny-sam"}},
                },
            }
        },
        "merge": {"apart": None, "merged": {"gain": -1.0}},
        "decision": ["centroid"],
    },
}


def patch(colour: tuple[int, int, int], seed: int, height: int = 24, width: int = 24) -> ImageArray:
    noise = np.random.default_rng(seed).integers(-25, 25, (height, width, 3))
    return np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tiny encoders, six images of three colours each, and four scenes of two patches."""
    root = tmp_path_factory.mktemp("ablate")
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        ClipEncoder("tiny-clip", "random", sizes=SIZES).save(root / name)
    for label, colour in COLOURS.items():
        for number in range(6):
            write_image(root / "data" / "train" / label / f"{number}.png", patch(colour, number))
    truth = {}
    for number in range(4):
        image = np.full((40, 64, 3), 250, np.uint8)
        names = [list(COLOURS)[(number + step) % 3] for step in range(2)]
        for name, (x1, y1, x2, y2) in zip(names, BOXES, strict=True):
            image[y1 : y2 + 1, x1 : x2 + 1] = patch(COLOURS[name], 50 + number, 28, 24)
        write_image(root / "scenes" / "images" / f"{number}.png", image)
        truth[f"{number}.png"] = [{"bbox": list(box), "label": name} for name, box in zip(names, BOXES, strict=True)]
    (root / "scenes" / "gt.json").write_text(json.dumps(truth))
    return root


def ablate(here: Path, out: Path, **changes: Any) -> int:
    grid = {**GRID, **changes}
    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.parent / f"{out.name}.yaml"
    path.write_text(yaml.safe_dump(grid))
    return main(["ablate", str(path), "--data", f"here={here}", "--out", str(out)])


def cells_of(out: Path) -> dict[str, dict[str, Any]]:
    return {cell["name"]: cell for cell in json.loads((out / "ablation.json").read_text())["cells"]}


@pytest.fixture(scope="module")
def grid_out(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("grid") / "out"
    assert ablate(here, out) == 0
    return out


@pytest.mark.parametrize("cell", ["second · merged", pytest.param("first · apart", marks=SLOW)])
def test_a_cell_is_what_fit_and_test_measure(
    cell: str, here: Path, grid_out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    encoder, merge = cell.split(" · ")
    words = [
        "--trainer.logger=false",
        "--model.encoder=ClipEncoder",
        f"--model.encoder.init_args.model={here / encoder}",
    ]
    assert main(["fit", "--config", "gallery.yaml", "--data.root", f"{here}/data", *words]) == 0
    words += ["--model.segmenter.init_args.prompter.init_args.points_per_side=4", "--model.decision=centroid"]
    words += ["--model.merge.gain=-1.0"] if merge == "merged" else []
    assert main(["test", "--config", "scenes.yaml", "--data.test", f"{here}/scenes", *words]) == 0
    expected = json.loads((tmp_path / "runs" / "scenes" / "results.json").read_text())
    found = cells_of(grid_out)[cell]
    (run,) = found["runs"]
    assert expected["recall"]["count"] > 0
    for figure in ("object_accuracy", "recall"):
        assert run[figure] == expected[figure]
    for figure in ("precision", "class_given_matched", "f1"):
        value = expected[figure] if figure == "f1" else expected[figure]["value"]
        assert found["figures"][figure]["value"] == value


def test_files_of_a_grid(grid_out: Path) -> None:
    document = json.loads((grid_out / "ablation.json").read_text())
    values = [cell["figures"]["object_accuracy"]["value"] for cell in document["cells"]]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    assert (document["scenes"], document["objects"]) == (4, 8)
    assert document["baseline"] == document["cells"][0]["name"]
    table = (grid_out / "ablation.md").read_text()
    assert "| T: encoder · merge | object accuracy |" in table
    assert "overstated" in table
    with (grid_out / "ablation.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [float(row["object_accuracy"]) for row in rows] == values
    assert {row["segmenter"] for row in rows} == {"grid"}
    assert (grid_out / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert not (grid_out / "learning_curve.png").exists()


def test_tensorboard_has_a_row_of_settings_for_each_cell(grid_out: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    first = next(iter(json.loads((grid_out / "ablation.json").read_text())["cells"]))
    folder = EventAccumulator(str(grid_out / "tensorboard" / "000"))
    folder.Reload()
    content = folder.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    settings = HParamsPluginData.FromString(content).session_start_info.hparams
    assert {name: value.string_value for name, value in settings.items()} == first["levels"]
    accuracy = folder.Scalars("object_accuracy")[0].value
    assert accuracy == pytest.approx(first["figures"]["object_accuracy"]["value"])
    assert len(list((grid_out / "tensorboard").iterdir())) == 4


def test_a_stopped_run_resumes_without_segmenting_or_embedding_again(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {**GRID["factors"], "merge": {"merged": {"gain": -1.0}}}
    assert ablate(here, tmp_path / "out", factors=some) == 0
    names = ("ablation.json", "ablation.md", "ablation.csv")
    first = {name: (tmp_path / "out" / name).read_bytes() for name in names}
    for part in (tmp_path / "out" / "parts").iterdir():
        part.unlink()

    def refused(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ClipEncoder, "encode_images", refused)
    monkeypatch.setattr(nv.Segmenter, "__call__", refused)
    assert ablate(here, tmp_path / "out", factors=some) == 0
    assert {name: (tmp_path / "out" / name).read_bytes() for name in names} == first


def test_galleries_of_other_rows_are_marked_and_seeds_have_a_spread(here: Path, tmp_path: Path) -> None:
    factors = {name: GRID["factors"][name] for name in ("encoder", "segmenter")}
    changes = {"factors": {**factors, "images": [2, 0]}, "seeds": [1, 2], "baseline": {"encoder": "first", "images": 2}}
    assert ablate(here, tmp_path / "out", **changes) == 0
    cells = cells_of(tmp_path / "out")
    assert {name: cell["same_rows"] for name, cell in cells.items()} == {
        "first · 2": True,
        "second · 2": True,
        "first · 0": False,
        "second · 0": False,
    }
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())["rows"]
    assert [rows[name][-3] for name in ("first · 2", "second · 0")] == ["6", "18 ≠"]
    seeded = cells["second · 2"]
    values = [run["object_accuracy"]["value"] for run in seeded["runs"]]
    assert [run["seed"] for run in seeded["runs"]] == [1, 2]
    assert seeded["runs"][0]["rows_sha256"] != seeded["runs"][1]["rows_sha256"]
    assert seeded["spread"] == {"n": 2, "mean": np.mean(values), "low": min(values), "high": max(values)}
    assert seeded["figures"]["object_accuracy"]["value"] == pytest.approx(np.mean(values))
    assert cells["first · 0"]["spread"]["n"] == 1
    assert (cells["first · 2"]["p"], cells["first · 2"]["difference"]) == (None, None)
    assert "no fair comparison" in (tmp_path / "out" / "ablation.md").read_text()
    assert (tmp_path / "out" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_validation_scenes_choose_the_thresholds_of_a_cell_as_those_of_fit(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    factors = {name: GRID["factors"][name] for name in ("segmenter", "merge")}
    factors["encoder"] = {"first": GRID["factors"]["encoder"]["first"]}
    changes = {"factors": factors, "skip": [{"merge": "merged"}], "data": {**GRID["data"], "valid": "{here}/scenes"}}
    assert ablate(here, tmp_path / "out", **changes) == 0
    words = ["--model.encoder=ClipEncoder", f"--model.encoder.init_args.model={here / 'first'}"]
    words += ["--model.segmenter.init_args.prompter.init_args.points_per_side=4", "--trainer.logger=false"]
    data = ["--data.root", f"{here}/data", "--data.valid", f"{here}/scenes"]
    assert main(["fit", "--config", "gallery.yaml", *data, *words]) == 0
    assert main(["predict", f"{here}/scenes/images", "--config", "scenes.yaml", *words]) == 0
    shown = nv.evaluate(here / "scenes" / "gt.json", "runs/scenes").report.names_precision
    (cell,) = cells_of(tmp_path / "out").values()
    assert cell["figures"]["names_precision"]["value"] == shown.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": {"colour": [1]}}, "expected factors of encoder, segmenter, images"),
        ({"factors": {"decision": []}}, "expected levels of decision"),
        ({"factors": {"images": ["many"]}}, "expected whole numbers of images for each class (0: all), found 'many'"),
        (
            {"skip": [{"decision": "lda"}]},
            "in skip: a factor and one of its levels (centroid), found decision: lda",
        ),
        ({"baseline": {"merge": "apart"}}, "one that fits the baseline, found 2 cells"),
        ({"skip": [{}]}, "found 0 cells"),
        ({"seeds": []}, "expected one or more seeds"),
        ({"data": {"root": "{there}"}}, "needs {there}: give --data there=DIR"),
        ({"data": {"root": "{here}/none", "test": "{here}/scenes"}}, "none: no such folder"),
        ({"data": {"root": "{here}/data"}}, "no test scenes"),
        ({"data": {"rot": "x"}}, "rot"),
        ({"factors": {"encoder": {"x": {"class_path": "os.system"}}}}, "os.system"),
        ({"titel": "T"}, "titel"),
    ],
)
def test_mistakes_are_one_line(
    changes: dict[str, Any], message: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ablate(here, tmp_path / "out", **changes) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_cache_is_refused(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "cache.sqlite").write_text("no database, but long enough to be read as one " * 50)
    assert ablate(here, tmp_path / "out") == 2
    assert "cache.sqlite: expected kept masks and vectors" in capsys.readouterr().err
    assert main(["ablate", "nothing.yaml"]) == 2
    assert "nothing.yaml: no such grid; give a YAML file, or one of demo" in capsys.readouterr().err


def test_packaged_grids_are_read() -> None:
    from naruto_vision.cli.ablate import read_grid
    from naruto_vision.io.bundles import config_path

    assert "demo" in packaged_tables("grids")
    for name in packaged_tables("grids"):
        path = config_path(f"grids/{name}.yaml")
        cells = read_grid(path, {"data": Path("data")}).cells()
        assert path.read_text().startswith(f"# naruto-vision ablate {name} ")
        assert name != "demo" or len(cells) == 24
