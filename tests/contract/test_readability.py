import ast
import re

import pytest
from source import ROOT, Function, body_lines, classes, functions, modules, own_statements, path_of

MODULES = sorted(modules())
LONGEST_FILE = 250
LONGEST_FUNCTION = 40
DEEPEST = 3

TENSORS = re.compile(r"\b(Tensor|NDArray|ndarray|Image|Vectors|Mask)\b")
SHAPE = re.compile(r"[Ss]hape|\(\s*[A-Z0-9]+\w*\s*,|\b[A-Z]\s*x\s*[A-Z]\b|scalar|any shape", re.ASCII)
PROPERTY = {"property", "cached_property"}
NESTING = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match, ast.AsyncFor, ast.AsyncWith)


def _decorators(function: Function) -> set[str]:
    return {ast.unparse(item).split("(")[0].split(".")[-1] for item in function.decorator_list}


def _documented(module: str) -> list[tuple[str, Function, str]]:
    """Return the public functions that have to document themselves: not overloads, not magic methods."""
    return [
        (name, node, ast.get_docstring(node) or "")
        for name, node, public in functions(modules()[module])
        if public and "overload" not in _decorators(node)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    assert len(path_of(module).read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_half_the_files_are_very_short() -> None:
    lengths = sorted(len(path_of(module).read_text(encoding="utf-8").splitlines()) for module in MODULES)
    assert lengths[len(lengths) // 2] <= 120


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module: str) -> None:
    long = [(name, body_lines(node)) for name, node, _ in functions(modules()[module])]
    assert [item for item in long if item[1] > LONGEST_FUNCTION] == []


def _depth(node: ast.AST) -> int:
    inner = max((_depth(child) for child in ast.iter_child_nodes(node)), default=0)
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        inner = max([_depth(child) for child in node.body] + [_depth(node.orelse[0]) - 1])  # elif is no new level
    return inner + isinstance(node, NESTING)


@pytest.mark.parametrize("module", MODULES)
def test_nesting_is_shallow(module: str) -> None:
    assert [name for name, node, _ in functions(modules()[module]) if _depth(node) > DEEPEST] == []


@pytest.mark.parametrize("module", MODULES)
def test_everything_public_has_a_docstring(module: str) -> None:
    tree = modules()[module]
    bare = [name for name, _, text in _documented(module) if not text]
    bare += [node.name for node in classes(tree) if not ast.get_docstring(node)]
    assert ast.get_docstring(tree)
    assert bare == []


def _annotations(function: Function) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    notes = [item.annotation for item in arguments] + [function.returns]
    return " ".join(ast.unparse(note) for note in notes if note is not None)


@pytest.mark.parametrize("module", MODULES)
def test_arrays_have_their_shapes_told(module: str) -> None:
    silent = [
        name
        for name, node, text in _documented(module)
        if TENSORS.search(_annotations(node)) and not SHAPE.search(text)
    ]
    assert silent == []


def _raises(function: Function) -> bool:
    """Whether the body itself raises something new (a bare `raise` passes on what a callee told)."""
    return any(isinstance(node, ast.Raise) and node.exc is not None for node in own_statements(function))


@pytest.mark.parametrize("module", MODULES)
def test_what_is_raised_is_told(module: str) -> None:
    silent = [
        name
        for name, node, text in _documented(module)
        if _raises(node) and "Raises:" not in text and "NotImplementedError" not in ast.unparse(node)
    ]
    assert silent == []


@pytest.mark.parametrize("module", MODULES)
def test_every_argument_is_told(module: str) -> None:
    silent = []
    for name, node, text in _documented(module):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        names = [item.arg for item in arguments if item.arg not in {"self", "cls"} and not item.arg.startswith("_")]
        if PROPERTY & _decorators(node) or "override" in _decorators(node):
            continue
        silent += [f"{name}({item})" for item in names if not re.search(rf"^\s*\*?{item}:", text, re.MULTILINE)]
    assert silent == []


def test_suppressions_are_rare_and_say_why() -> None:
    reason = re.compile(r"(noqa: [A-Z0-9, ]+ - \w|ignore\[[\w, -]+\]\s+# \w)")
    lines = [
        (module, line.strip())
        for module in MODULES
        for line in path_of(module).read_text(encoding="utf-8").splitlines()
        if re.search(r"#\s*(noqa|type:\s*ignore)", line)
    ]
    assert [item for item in lines if not reason.search(item[1])] == []
    assert 1000 * len(lines) <= sum(len(path_of(module).read_text(encoding="utf-8").splitlines()) for module in MODULES)


def test_no_name_of_a_cast_stands_in_the_code() -> None:
    import yaml

    cast = yaml.safe_load((path_of("naruto_vision").parents[1] / "configs" / "cast.yaml").read_text(encoding="utf-8"))
    names = {name.lower() for name in (cast.get("cast") or cast)} | {"gaara", "sakura", "tsunade"}
    wrong = [
        (module, node.value)
        for module in MODULES
        for node in ast.walk(modules()[module])
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() in names
    ]
    assert wrong == []


def test_no_two_test_files_share_a_name() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]  # pytest imports them by name alone
    assert {name for name in names if names.count(name) > 1} == set()
