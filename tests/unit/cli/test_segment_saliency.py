"""``segment saliency``: files, presets, options, what is missing."""

import json
from pathlib import Path
from typing import Any

import pytest

from naruto_vision.cli.main import main
from naruto_vision.geometry import mask_from_rle
from naruto_vision.io.bundles import config_path
from naruto_vision.io.images import read_image, write_image
from naruto_vision.prompting.presets import packaged_presets
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.scene import draw_scene

VIT = ("--dino-model", "test_vit.r160_in1k", "--dino-weights", "random")  # timm's own smallest transformer


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand beside a folder of two scenes and an image that cannot be read."""
    monkeypatch.chdir(tmp_path)
    cast = read_cast(config_path("cast.yaml"))
    for seed, name in ((2, "a.png"), (3, "sub/b.png")):
        write_image(tmp_path / "in" / name, draw_scene(seed, cast, size=96, difficulty="easy").image)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")


def run_json(out: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(out, "run.json").read_text(encoding="utf-8"))
    return document


@pytest.mark.usefixtures("place")
def test_each_image_has_panels_a_summary_and_masks_and_a_bad_one_stops_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["segment", "saliency", "in", "--out", "out"]) == 0
    shown = capsys.readouterr().out
    assert "out: 2 of 3 images segmented, 1 could not be used" in shown
    lines = [json.loads(line) for line in Path("out/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["scene"] for line in lines] == ["a.png", "sub/b.png"]
    for line in lines:
        stem = Path("out", line["scene"]).with_suffix("")
        assert read_image(f"{stem}_visualization.jpg").shape[1] > 3 * line["width"]
        assert f"image: {line['scene']}" in Path(f"{stem}_summary.txt").read_text(encoding="utf-8")
        masks = sorted(Path(f"{stem}_masks").iterdir())
        numbers = range(len(line["regions"]))
        assert [path.name for path in masks] == [f"mask_{n:03d}.{kind}" for n in numbers for kind in ("png", "txt")]
        first = line["regions"][0]
        assert ((read_image(masks[0])[..., 0] > 0) == mask_from_rle(first["mask"])).all()
        assert f"confidence: {first['confidence']:.4f}" in masks[1].read_text(encoding="utf-8")
        assert line["salient"][0]["confidence"] == pytest.approx(first["confidence"], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("general", (5, 0.6, 100, "box")),
        ("many-small", (20, 0.5, 50, "point")),
        ("few-large", (3, 0.7, 500, "box")),
        ("maximum", (50, 0.4, 20, "box")),
    ],
)
def test_presets_have_the_numbers_of_the_reference(name: str, numbers: tuple[int, float, int, str]) -> None:
    assert next(iter(packaged_presets())) == "general"
    found = packaged_presets()[name]
    assert (found.num_objects, found.threshold, found.min_area, found.prompt_type) == numbers


@pytest.mark.usefixtures("place")
def test_options_change_a_preset_and_a_preset_may_be_a_file() -> None:
    Path("own.yaml").write_text("model: test_vit.r160_in1k\nweights: random\nimage_size: 64\nnum_objects: 7\n")
    assert main(["segment", "saliency", "in/a.png", "--preset", "own.yaml", "--min-area", "30", "--out", "own"]) == 0
    used = run_json("own")["identity"]["saliency"]
    for text in ("'image_size': 64", "'num_objects': 7", "'min_area': 30", "'map': 'attention'", "'threshold': 0.6"):
        assert text in used
    words = ["--preset", "many-small", "--prompt-type", "box", "--threshold", "0.8", "--map", "norm"]
    assert main(["segment", "saliency", "in/a.png", *VIT, *words, "--out", "changed"]) == 0
    used = run_json("changed")["identity"]["saliency"]
    for text in ("'num_objects': 20", "'prompt_type': 'box'", "'threshold': 0.8", "'min_area': 50", "'map': 'norm'"):
        assert text in used


@pytest.mark.usefixtures("place")
def test_what_is_found_too_much_or_not_at_all_says_what_to_turn(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", "saliency", "in/a.png", *VIT, "--min-area", "999999", "--out", "none"]) == 0
    assert "nothing salient was found: lower --threshold or --min-area" in capsys.readouterr().out
    words = ["--num-objects", "1", "--threshold", "0.2", "--min-area", "1"]
    assert main(["segment", "saliency", "in/a.png", *VIT, *words, "--out", "more"]) == 0
    assert "more objects than --num-objects: raise --threshold" in capsys.readouterr().out


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dino-model", "dinov2_vits14"], "dinov2_vits14: no such weights file; run: naruto-vision weights download"),
        (["--dino-model", "dinov2_vits14", "--dino-weights", "gone.pth"], "gone.pth: no such weights file"),
        (["--dino-model", "dino9"], "dino9: timm has no such model"),
        (["--map", "attention"], "map 'attention' expected a model with a class token"),
        (
            ["--preset", "many-smal"],
            "many-smal: no such preset; give general, few-large, many-small, maximum, or a YAML file",
        ),
        (["--preset", "wrong.yaml"], "wrong.yaml: expected no key 'num_object'"),
        (["--preset", "text.yaml"], "text.yaml: expected in threshold a number"),
        (["--preset", "far.yaml"], "saliency: expected num_objects >= 1, threshold in [0, 1]"),
        (["--prompt-type", "circle"], "expected one of box, point, found 'circle'"),
        (["--threshold", "2"], "expected a number from 0 to 1, found '2'"),
        (["--weights", "no-sam"], "no-sam"),
    ],
)
def test_what_is_missing_or_wrong_is_one_line_and_no_results(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    for name, text in (("wrong", "num_object: 3"), ("text", "threshold: much"), ("far", "threshold: 7")):
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    assert main(["segment", "saliency", "in", *words, "--out", "out"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("naruto-vision: error: ")
    assert said in error
    assert not Path("out/predictions.jsonl").exists()
