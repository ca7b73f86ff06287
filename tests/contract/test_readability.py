"""What the source promises its readers: reasons for suppressions, no cast member's name, distinct test files."""

import ast
import re

import yaml
from source import ROOT, modules, path_of

MODULES = sorted(modules())


def test_suppressions_say_why() -> None:
    reason = re.compile(r"(noqa: [A-Z0-9, ]+ - \w|ignore\[[\w, -]+\]\s+# \w)")
    lines = [
        (module, line.strip())
        for module in MODULES
        for line in path_of(module).read_text(encoding="utf-8").splitlines()
        if re.search(r"#\s*(noqa|type:\s*ignore)", line)
    ]
    assert [item for item in lines if not reason.search(item[1])] == []


def test_no_name_of_a_cast_stands_in_the_code() -> None:
    cast = yaml.safe_load((ROOT / "configs" / "cast.yaml").read_text(encoding="utf-8"))
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
