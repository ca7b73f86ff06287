"""What users import: the names at the top level, each with documentation that can be worked from."""

import ast
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from source import ROOT, modules

import naruto_vision as nv

_RECORDS = """
    Described Identity LabelledBox Neighbour Prompt Region Relation ScenePrediction VideoFrame VideoInfo
"""
_PARTS = """
    AskingRule AttributeDescriber BoxDetector BoxModel ClipEncoder ClipEnsemble ContourPrompter CropConfig Description
    DetectorPrompter DinoEncoder EndpointDescriber EnrolmentConfig EnsembleEncoder Gallery GalleryRow GridPrompter
    ExportedEncoder Int8Encoder
    MergeConfig OverlayConfig PromptSession OpenVocabularyPrompter TextPrompter
    Exemplar ExemplarMode ExemplarPrompter Sam2Memory Sam2Model SamModel SaliencyMode SaliencyPrompter SceneAnalyzer
    SceneResult Segmenter StreamDataModule SweepConfig
    SweepSegmenter TimmEncoder TransformersDescriber VideoReader VideoWriter FrameSampling
"""
_TRAINING = """
    BoxDataModule CaptionDataModule ChooseWeights ClassDataModule CocoMasks ContrastiveTuner GalleryDataModule
    LateTensorBoardLogger MaskData RegionTuner RunCard SceneFigures SceneReportCallback SceneRetriever
    SceneWriterCallback SegmenterTuner SyntheticCaptionData SyntheticMasks TuningFigures TuningFiles WiseSweep
    ZeroShotRetention
"""
_FUNCTIONS = """
    add_rows dense_map describe_regions edit_gallery embed_images enrol evaluate evaluate_scenes export_scenes load
    look_up
    measure_threshold open_promptable_model read_gt read_image read_prediction_folder relabel_rows relate_regions
    remove_rows resize_frame roll_back video_info
    cut_video index_videos open_store search_videos write_moments
"""
RECORDS, PARTS, TRAINING, FUNCTIONS = (set(text.split()) for text in (_RECORDS, _PARTS, _TRAINING, _FUNCTIONS))
NAMES = sorted({*RECORDS, *PARTS, *TRAINING, *FUNCTIONS, "NarutoVisionError", "SceneAccuracy"})
WITH_EXAMPLE = sorted({*PARTS, "Region", "SceneAccuracy", "SceneRetriever", "MaskData", "SyntheticMasks", "load"})
ARRAYS = ("Tensor", "NDArray", "Vectors", "ImageArray")


def test_the_names_are_these() -> None:
    assert sorted(nv.__all__) == NAMES
    assert set(NAMES) <= set(dir(nv))


def test_the_reference_page_has_every_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: naruto_vision\.(\w+)$", page, re.MULTILINE)) == NAMES


def test_type_checkers_see_the_same_names() -> None:
    (block,) = [node for node in modules()["naruto_vision"].body if isinstance(node, ast.If)]
    seen = {
        alias.asname: node.module for node in block.body for alias in node.names if isinstance(node, ast.ImportFrom)
    }
    assert sorted(seen) == NAMES
    assert {name: getattr(nv, name).__module__ for name in NAMES} == seen


def test_neither_the_import_nor_a_listing_imports_anything_heavy() -> None:
    code = "import sys, naruto_vision; dir(naruto_vision); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not {"torch", "numpy", "lightning", "cv2"} & set(done.stdout.split())


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Analyzer'"):
        _ = nv.Analyzer


def _doc(value: object) -> str:
    return inspect.getdoc(value) or ""


def _constructor(value: object) -> Callable[..., object] | None:
    """Return the function that is called: a class's own constructor, or the function itself."""
    function = value.__init__ if inspect.isclass(value) else value
    return function if inspect.isfunction(function) else None


def _own_methods(kind: type) -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the public methods that no base class documents."""
    for name, value in vars(kind).items():
        inherited = any(hasattr(base, name) for base in kind.__mro__[1:])
        if inspect.isfunction(value) and not name.startswith("_") and not inherited:
            yield name, value


@pytest.mark.parametrize("name", NAMES)
def test_a_name_says_what_it_is_and_what_it_takes(name: str) -> None:
    value = getattr(nv, name)
    assert _doc(value)
    function = _constructor(value)
    if function is None or name == "NarutoVisionError":
        return
    takes = [each for each in inspect.signature(function).parameters if each not in {"self", "args", "kwargs"}]
    described = _doc(value).partition("Args:")[2]
    assert [each for each in takes if not re.search(rf"^ +{each}: ", described, re.MULTILINE)] == []


@pytest.mark.parametrize("name", NAMES)
def test_what_it_raises_itself_is_documented(name: str) -> None:
    value = getattr(nv, name)
    for function in (_constructor(value), getattr(value, "__post_init__", None)):
        if function is None or function.__qualname__.startswith("__create_fn__"):  # a dataclass makes its own
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except OSError:
            continue
        calls = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
        assert [ast.unparse(call.func) for call in calls if f"{ast.unparse(call.func)}: " not in _doc(value)] == []


@pytest.mark.parametrize("name", sorted({*FUNCTIONS, *PARTS, "SceneAccuracy"}))
def test_arrays_have_a_shape(name: str) -> None:
    value = getattr(nv, name)
    texts = [(_constructor(value), _doc(value))]
    if inspect.isclass(value):
        texts += [(method, _doc(method)) for _, method in _own_methods(value)]
    for function, text in texts:
        hints = str(getattr(function, "__annotations__", ""))
        if any(array in hints for array in ARRAYS):
            assert re.search(r"[Ss]hape |\([A-Z](, \w+)*,?\)", text), function


@pytest.mark.parametrize("name", WITH_EXAMPLE)
def test_a_public_class_has_an_example(name: str) -> None:
    examples = doctest.DocTestFinder(recurse=False).find(getattr(nv, name), name)
    assert sum(len(found.examples) for found in examples) > 0


def test_documents_and_configs_name_the_top_level_only() -> None:
    deeper = re.compile(r"\bnaruto_vision\.(?!share\b)[a-z_]+\.\w+|from naruto_vision\.\w+")
    files = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("checkpoints/*/*.md"), *ROOT.glob("configs/*.yaml")]
    assert [(path.name, deeper.findall(text)) for path in files if deeper.search(text := path.read_text("utf-8"))] == []


@pytest.mark.parametrize("name", NAMES)
def test_examples_import_from_the_top_level_only(name: str) -> None:
    assert re.findall(r">>> (?:from|import) naruto_vision\..*", _doc(getattr(nv, name))) == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_configs_name_public_classes_by_their_short_names(path: Path) -> None:
    named = re.findall(r"class_path: ([\w.]+)", path.read_text(encoding="utf-8"))
    own = [name for name in named if not name.startswith(("lightning.pytorch.", "torch."))]
    assert [name for name in own if name not in NAMES] == []


def test_code_in_the_documents_uses_names_that_are_there() -> None:
    used = set()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            ast.parse(block)
            used |= set(re.findall(r"\bnv\.(\w+)", block))
    assert used
    assert used <= set(NAMES)
