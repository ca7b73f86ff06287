import ast
from functools import cache
from graphlib import TopologicalSorter

import pytest
from source import imports_of, modules, path_of

LAYERS = (
    ("errors", "geometry", "records"),
    ("io",),
    ("synthetic",),
    ("losses", "metrics"),
    ("encoders",),
    ("segmentation",),
    ("gallery",),
    ("viz",),
    ("recognition",),
    ("prompting",),
    ("captioning", "export"),
    ("video",),
    ("data",),
    ("modules",),
    ("callbacks",),
    ("ui",),
    ("cli",),
    ("jobs", "loading", "__main__"),
)
RANK = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
NO_TORCH = ("errors", "geometry", "records", "synthetic")
"""Packages that are usable without torch."""

SYNTHETIC_USERS = (
    "cli.demo",
    "cli.bench",
    "cli.export_model",
    "data.synthetic_captions",
    "data.masks",
    "synthetic",
    "ui.tasks.demo",
)
"""Modules that may use synthetic data: commands that write or measure with them, and data modules that draw."""

MODULES = sorted(modules())


def _package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_the_list_of_packages(module: str) -> None:
    if module == "naruto_vision":  # its names are lazy: what it imports is for type checkers only
        top = modules()[module].body
        assert [node for node in top if isinstance(node, ast.ImportFrom) and node.module != "typing"] == []
        return
    rank = RANK[_package(module)]
    wrong = [
        name
        for name in imports_of(modules()[module])
        if name != "naruto_vision"
        and _package(name) != _package(module)
        and RANK.get(_package(name), len(LAYERS)) > rank
    ]
    assert wrong == []


def test_packages_of_one_rank_do_not_know_each_other() -> None:
    wrong = [
        (module, name)
        for module in MODULES
        if _package(module)
        for name in imports_of(modules()[module])
        if name != "naruto_vision"
        and RANK[_package(name)] == RANK[_package(module)]
        and _package(name) != _package(module)
        if _package(module) not in LAYERS[0]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_only_what_draws_depends_on_synthetic_data(module: str) -> None:
    draws = module.removeprefix("naruto_vision.").startswith(SYNTHETIC_USERS)
    assert draws or [name for name in imports_of(modules()[module]) if _package(name) == "synthetic"] == []


def test_predict_imports_no_synthetic_data() -> None:
    todo = [f"naruto_vision.{name}" for name in ("modules.scene_retriever", "data.scenes", "callbacks.scenes")]
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        first = [node for node in modules()[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
        todo += imports_of(ast.Module(first, []))  # imports inside functions run only where they are needed
    assert len(seen) > 20
    assert [name for name in seen if _package(name) == "synthetic"] == []


def test_there_is_no_circle() -> None:
    graph = {module: set(imports_of(tree)) - {module} for module, tree in modules().items()}
    graph["naruto_vision"] = set()  # its names are lazy
    TopologicalSorter(graph).prepare()  # raises CycleError


@cache
def _nodes() -> list[tuple[str, ast.AST]]:
    return [(module, node) for module, tree in modules().items() for node in ast.walk(tree)]


def test_no_import_is_relative() -> None:
    assert [module for module, node in _nodes() if isinstance(node, ast.ImportFrom) and node.level] == []


def test_names_come_from_the_module_that_defines_them() -> None:
    packages = {name for name in MODULES if path_of(name).name == "__init__.py"}
    wrong = [
        (module, alias.name)
        for module, node in _nodes()
        if isinstance(node, ast.ImportFrom) and node.module in packages
        for alias in node.names
        if f"{node.module}.{alias.name}" not in modules()
    ]
    assert wrong == []


def test_only_commands_print() -> None:
    calls = [
        module
        for module, node in _nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert [module for module in calls if _package(module) != "cli"] == []


def test_pickles_are_opened_in_one_place() -> None:
    dangerous = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    wrong = []
    for module, node in _nodes():
        if module == "naruto_vision.io.checkpoints":
            continue
        if isinstance(node, ast.Import):
            wrong += [(module, alias.name) for alias in node.names if alias.name in dangerous]
        if isinstance(node, ast.ImportFrom) and node.module in dangerous:
            wrong.append((module, node.module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.jit.load"}:
            wrong.append((module, ast.unparse(node)))
    assert wrong == []


def test_nothing_is_ever_unpickled_without_restriction() -> None:
    wrong = [
        (module, node.arg)
        for module, node in _nodes()
        if isinstance(node, ast.keyword)
        and node.arg in {"weights_only", "allow_pickle"}
        and ast.unparse(node.value) != {"weights_only": "True", "allow_pickle": "False"}[node.arg]
    ]
    assert wrong == []


def test_no_assert_outside_tests() -> None:
    assert [module for module, node in _nodes() if isinstance(node, ast.Assert)] == []


def test_annotations_are_read_at_run_time() -> None:
    wrong = [module for module, node in _nodes() if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert wrong == []


@pytest.mark.parametrize("package", NO_TORCH)
def test_light_packages_import_nothing_heavy(package: str) -> None:
    heavy = {"torch", "torchvision", "lightning", "open_clip", "timm", "segment_anything", "torchmetrics", "faiss"}
    wrong = []
    for module, tree in modules().items():
        if _package(module) != package:
            continue
        for node in tree.body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [(module, name) for name in names if name.split(".")[0] in heavy]
    assert wrong == []
