"""``reproduce``: the same file again, or the first thing that is not the same; and nothing outside of its folder."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from naruto_vision.cli.main import main
from naruto_vision.io.bundles import packaged_tables
from naruto_vision.io.images import write_image

COUNTS = "evaluate counts A=3/4/5/6 B=2/4/5/6 --json-out counts.json"
LOADED = "fit --config gallery.yaml --data.root {set} --encoder ViT-B-32 --model.encoder.init_args.pretrained=openai"
ROWS = {"accuracy": "counts.json#/runs/{column}/object_accuracy"}


def table(folder: Path, **changes: object) -> str:
    path = folder / "table.yaml"
    content = {"title": "T", "columns": ["A", "B"], "steps": [COUNTS], "rows": ROWS, **changes}
    path.write_text(yaml.safe_dump(content))
    return str(path)


def outputs(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("table.md", "table.csv", "table.json")}


def test_a_table_is_made_twice_with_the_same_bytes(tmp_path: Path) -> None:
    source = table(tmp_path, expect={"counts.json": "?"})
    assert [main(["reproduce", source, "--out", str(tmp_path / name)]) for name in "ab"] == [0, 0]
    assert outputs(tmp_path / "a") == outputs(tmp_path / "b")
    assert (
        "| accuracy | 3/6 = 0.500 [0.188, 0.812] | 2/6 = 0.333 [0.097, 0.700] |"
        in outputs(tmp_path / "a")["table.md"].decode()
    )
    assert outputs(tmp_path / "a")["table.csv"].decode().splitlines()[1].startswith("accuracy,A,0.5,3,6,0.1876")


def test_the_first_other_hash_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.txt").write_text("1")
    source = table(tmp_path, expect={"data set": "?"})
    argv = ["reproduce", source, "--data", f"set={tmp_path / 'data'}", "--out"]
    assert main([*argv, str(tmp_path / "a")]) == 0
    found = json.loads((tmp_path / "a" / "table.json").read_text())["made_of"]["data set"]
    assert table(tmp_path, expect={"data set": found}) == source
    assert main([*argv, str(tmp_path / "b")]) == 0
    (tmp_path / "data" / "x.txt").write_text("2")
    capsys.readouterr()
    assert main([*argv, str(tmp_path / "c")]) == 2
    assert f"data set: expected sha256 {found[:12]}, found " in capsys.readouterr().err
    assert not (tmp_path / "c" / "counts.json").exists()


def test_finished_steps_are_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = table(tmp_path)
    assert main(["reproduce", source, "--out", str(tmp_path / "a")]) == 0
    (tmp_path / "a" / "table.md").unlink()
    capsys.readouterr()
    assert main(["reproduce", source, "--out", str(tmp_path / "a")]) == 0
    assert "1/1 naruto-vision" not in capsys.readouterr().out
    assert (tmp_path / "a" / "table.md").is_file()
    other = table(tmp_path, steps=["evaluate counts A=1/1/1/1 B=1/1/1/1 --json-out counts.json"])
    assert main(["reproduce", other, "--out", str(tmp_path / "a")]) == 2
    assert "no run of these steps made it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "step",
    [
        "weights download sam_vit_b",
        "ui",
        "evaluate counts A=1/1/1/1 --json-out /tmp/x.json",
        "evaluate counts A=1/1/1/1 --json=/tmp/x.json",
        "evaluate counts A=1/1/1/1 --json-out ../x.json",
        "evaluate counts A=1/1/1/1 --json ~/x.json",
        "draw --out 'x\\..\\y'",
        "predict @names.txt",
        "fit --config clip.yaml --data.root 'pipe:touch x'",
        "fit --config clip.yaml --data.root http://localhost/x",
        "fit --config own.yaml",
        "fit --config={set}/own.yaml",
        "fit --config clip.yaml --allow-imports os",
        """fit --config clip.yaml --trainer.logger '{"save_dir": "/tmp"}'""",
        "fit --config clip.yaml --data.root 'pip{e:touch x,e:touch y}' --data.allow_pipe true",
        "fit -cown.yaml",
        "predict {set} --gallery chroma+http:localhost:9",
        "predict {set}2",
        "predict '{,x}/etc'",
        "predict {set}/../x",
        """predict '--data.predict=["@names.txt"]'""",
        "draw --out {set}",
        "fit --config gallery.yaml --gallery {set}/gallery",
        "validate --config gallery.yaml --gallery={set}/gallery",
        "evaluate counts A=1/1/1/1 --json={set}/x.json",
        "draw --out 'x",
        "draw --out 'x\0y'",
        "",
    ],
)
def test_a_step_that_may_lead_elsewhere_is_refused(
    step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["reproduce", table(tmp_path, steps=[COUNTS, step]), "--data", f"set={tmp_path}", "--out"]
    assert main([*argv, str(tmp_path / "a")]) == 2
    assert f"step {step!r}" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {"accuracy": ["counts.json#/x"]}}, "expected 2 places in row 'accuracy'"),
        ({"rows": {"accuracy": "counts.json"}}, "expected FILE.json#/KEY/..."),
        ({"rows": {"accuracy": "counts.json#/runs/{column}/x"}}, "counts.json#/runs/A/x: no 'x' there; found 'object_"),
        ({"rows": {"accuracy": "other.json#/x"}}, "other.json: no such file; row 'accuracy' needs it"),
        ({"rows": {"accuracy": "{other}/a.json#/x"}}, "give --data other=DIR"),
        ({"expect": {"/etc/passwd": "?"}}, "/etc/passwd: in `expect`: expected"),
        ({"expect": {"config ../README.md": "?"}}, "config ../README.md: in `expect`: expected"),
        ({"expect": {"weights ../x": "?"}}, "weights ../x: in `expect`: expected"),
        (
            {"rows": {"accuracy": "../secret.json#/x"}},
            "../secret.json: in `rows`: expected a file of the output folder",
        ),
        ({"rows": {"accuracy": "/etc/x.json#/x"}}, "/etc/x.json: in `rows`: expected a file of the output folder"),
        ({"rows": {"accuracy": f"counts.json#/comparisons/{'9' * 5000}"}}, "there; found list"),
        ({"expect": {"missing.json": "?"}}, "missing.json: no such file, which `expect` names"),
        ({"column": ["A"]}, "column"),
        ({"steps": ["evaluate counts A=9/1/1/1 --json-out counts.json"]}, "ended with exit code 2"),
        ({"steps": ["predict {scenes}"]}, "needs {scenes}: give --data scenes=DIR"),
    ],
)
def test_mistakes_are_one_line(
    changes: dict[str, object], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reproduce", table(tmp_path, **changes), "--out", str(tmp_path / "a")]) == 2
    assert message in capsys.readouterr().err


def test_a_step_does_not_use_the_network(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_image(tmp_path / "data" / "train" / "ayame" / "1.png", np.zeros((8, 8, 3), np.uint8))
    data = ["--data", f"set={tmp_path / 'data'}"]
    assert main(["reproduce", table(tmp_path, steps=[LOADED]), *data, "--out", str(tmp_path / "a")]) == 2
    assert "a step of a table does not use the network" in caplog.text  # open_clip asks for more than one address


@pytest.mark.parametrize("figure", ['{"count": 5, "total": 1}', '{"count": "x", "total": 1}', "NaN", "1e999"])
def test_what_is_no_figure_is_refused(figure: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.json").write_text(f'{{"a": {figure}, "b": 1}}')
    argv = ["--data", f"set={tmp_path / 'data'}", "--out"]
    source = table(tmp_path, columns=["A"], rows={"accuracy": "{set}/x.json#/a"})
    assert main(["reproduce", source, *argv, str(tmp_path / "a")]) == 2
    assert "{set}/x.json#/a: expected a figure" in capsys.readouterr().err
    (tmp_path / "data" / "link.json").symlink_to(table(tmp_path))
    table(tmp_path, columns=["A"], rows={"accuracy": "{set}/link.json#/a"})
    assert main(["reproduce", source, *argv, str(tmp_path / "a")]) == 2
    assert "{set}/link.json: in `rows`: expected a file" in capsys.readouterr().err
    table(tmp_path, columns=["A"], rows={"accuracy": "{set}/x.json#/b"})
    assert main(["reproduce", source, *argv, str(tmp_path / "a")]) == 0


def test_a_step_reads_files_of_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text('{"a.png": [{"bbox": [0, 0, 1, 1], "label": "a"}]}')
    (tmp_path / "a.png.json").write_text('{"preds": []}')
    step = "evaluate --gt {set}/gt.json --preds-dir {set} --bootstrap 0 --json-out found.json"
    source = table(tmp_path, steps=[step], columns=["A"], rows={"accuracy": "found.json#/object_accuracy"})
    assert main(["reproduce", source, "--data", f"set={tmp_path}", "--out", str(tmp_path / "a")]) == 0


def test_the_table_of_the_reference_system_is_its_counts(tmp_path: Path) -> None:
    assert {"demo", "reference"} <= set(packaged_tables())
    assert main(["reproduce", "reference", "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert [round(cell["value"], 4) for cell in rows["object accuracy"]] == [0.7258, 0.6935, 0.6290]
    assert [(cell["count"], cell["total"]) for cell in rows["detection recall"]] == [(50, 62)] * 3
    assert rows["differs from CLIP"] == [None, "not separable", "not separable"]
