import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter

import pytest
from source import imports_of, modules, path_of

LAYERS = (
    ("errors", "geometry", "optional", "records"),
    ("files",),
    ("drawn",),
    ("losses", "metrics"),
    ("encoders",),
    ("segmentation",),
    ("gallery",),
    ("scenes",),
    ("data",),
    ("modules",),
    ("callbacks",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
NO_TORCH = ("errors", "geometry", "optional", "records", "drawn", "cli")
"""Rooms that are usable, or that answer, without torch."""

DRAW = ("commands.draw", "commands.demo", "commands.bench", "data.synthetic_captions", "data.mask_sources", "drawn")
"""Modules that may use synthetic data: commands that write or measure with them, and data modules that draw."""

MODULES = sorted(modules())


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_the_list_of_rooms(module: str) -> None:
    if module == "naruto_vision":
        assert list(imports_of(modules()[module])) == []
        return
    rank = RANK[_room(module)]
    wrong = [
        name
        for name in imports_of(modules()[module])
        if _room(name) != _room(module) and RANK.get(_room(name), len(LAYERS)) > rank
    ]
    assert wrong == []


def test_rooms_of_one_rank_do_not_know_each_other() -> None:
    wrong = [
        (module, name)
        for module in MODULES
        if _room(module)
        for name in imports_of(modules()[module])
        if RANK[_room(name)] == RANK[_room(module)] and _room(name) != _room(module)
        if _room(module) not in LAYERS[0]
    ]
    assert wrong == []


@pytest.mark.parametrize("module", [name for name in MODULES if "." in name])
def test_only_what_draws_depends_on_synthetic_data(module: str) -> None:
    draws = module.removeprefix("naruto_vision.").startswith(DRAW)
    assert draws or [name for name in imports_of(modules()[module]) if _room(name) == "drawn"] == []


def test_predict_imports_no_synthetic_data() -> None:
    todo = [
        f"naruto_vision.{name}" for name in ("modules.scene_retriever", "data.scene_data", "callbacks.scene_writer")
    ]
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        first = [node for node in modules()[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
        todo += imports_of(ast.Module(first, []))  # imports inside functions run only where they are needed
    assert len(seen) > 20
    assert [name for name in seen if _room(name) == "drawn"] == []


def test_there_is_no_circle() -> None:
    graph = {module: set(imports_of(tree)) - {module} for module, tree in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for module, tree in modules().items():
        for node in ast.walk(tree):
            yield module, node


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


def test_packages_hold_a_docstring_and_nothing_else() -> None:
    roots = [name for name in MODULES if path_of(name).name == "__init__.py"]
    assert [name for name in roots if len(modules()[name].body) != 1 or not ast.get_docstring(modules()[name])] == []


def test_only_commands_print() -> None:
    calls = [
        module
        for module, node in _nodes()
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert [module for module in calls if _room(module) != "cli"] == []


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


@pytest.mark.parametrize("room", NO_TORCH)
def test_light_rooms_import_nothing_heavy(room: str) -> None:
    heavy = {"torch", "torchvision", "lightning", "open_clip", "timm", "segment_anything", "torchmetrics", "faiss"}
    wrong = []
    for module, tree in modules().items():
        if _room(module) != room:
            continue
        for node in tree.body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [(module, name) for name in names if name.split(".")[0] in heavy]
    assert wrong == []
