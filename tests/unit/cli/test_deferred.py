import importlib
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any, Optional, get_args

import pytest

from naruto_vision.cli.deferred import Deferral, defer, run_body

FILES = {
    "__init__.py": "import order; order.append('body')\nfrom slowpack.child import Thing\n"
    "from slowpack.other import two\nVALUE = 7\ndef twice(x): return 2 * x\n",
    "child.py": "import order; order.append('child')\nimport slowpack.helper\nclass Thing: pass\n",
    "helper.py": "import order; order.append('helper')\n",
    "other.py": "import order; order.append('other')\nimport slowpack\ntwo = 2\n",
    "late.py": "import order; order.append('late')\nfrom slowpack import VALUE\n",
    "data.txt": "words",
}
ASKER = "from slowpack import Compiled, twice\ndef is_one(x): return isinstance(x, (str, Compiled))\n"

Make = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Write a package, defer it, and return it with the order in which its parts have run."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before, finders = set(sys.modules), list(sys.meta_path)
    order: Any = ModuleType("order")
    order.ran = []
    order.append = order.ran.append
    sys.modules["order"] = order

    def written(body: str = "", **plan: Any) -> tuple[Any, list[str]]:
        for name, text in FILES.items():
            path = tmp_path / "slowpack" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text + (body if name == "__init__.py" else ""))
        defer([Deferral("slowpack", **plan)])
        return importlib.import_module("slowpack"), order.ran

    yield written
    sys.meta_path[:] = finders
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in {"slowpack", "order", "asker", "stranger"} or name.startswith("body of "):
            del sys.modules[name]


def _module(folder: Path, name: str, text: str) -> Any:
    (folder / f"{name}.py").write_text(text)
    return importlib.import_module(name)


def test_the_body_waits_and_then_runs_once(make: Make, tmp_path: Path) -> None:
    package, ran = make()
    assert ran == []
    assert package.__name__ == "slowpack"
    assert Path(package.__file__) == tmp_path / "slowpack" / "__init__.py"
    assert package.VALUE == 7
    assert (package.twice(4), package.two) == (8, 2)
    assert ran == ["body", "child", "helper", "other"]  # as an ordinary import has it
    assert type(package) is ModuleType
    assert not hasattr(package, "absent")


def test_from_imports_and_unlisted_sub_modules_run_it_first(make: Make) -> None:
    _, ran = make()
    from slowpack.late import VALUE  # type: ignore[import-not-found]

    assert VALUE == 7
    assert ran == ["body", "child", "helper", "other", "late"]


def test_a_sub_module_that_the_body_imports_runs_once(make: Make) -> None:
    package, ran = make()
    other = importlib.import_module("slowpack.other")
    assert ran == ["body", "child", "helper", "other"]
    assert other is package.other is sys.modules["slowpack.other"]
    assert type(other.__spec__.loader).__name__ == "SourceFileLoader"


def test_listed_children_and_what_they_import_do_without_the_body(make: Make) -> None:
    package, ran = make(children=frozenset({"child"}), served={"Thing": "child"})
    thing = package.Thing
    assert package.child.Thing is thing
    assert ran == ["child", "helper"]
    importlib.import_module("slowpack.helper")  # there already
    assert ran == ["child", "helper"]
    assert package.VALUE == 7
    assert package.Thing is thing
    assert ran == ["child", "helper", "body", "other"]


def test_children_to_import_first_are_imported_at_once(make: Make) -> None:
    _, ran = make(children=frozenset({"child"}), first=("child",))
    assert ran == ["child", "helper"]


def test_only_those_on_the_list_get_a_stand_in(make: Make, tmp_path: Path) -> None:
    body = "class Compiled: KIND = 3\n"
    package, ran = make(body, stand_ins={"Compiled": frozenset({"asker"}), "twice": frozenset({"asker"})})
    asker = _module(tmp_path, "asker", ASKER)
    assert ran == []
    assert asker.is_one("x")
    assert not asker.is_one(3)
    assert not issubclass(int, asker.Compiled)
    assert not hasattr(asker.Compiled, "__wrapped__")
    assert get_args(Optional[asker.Compiled])[0] is asker.Compiled  # noqa: UP045 - typing is what is tried
    assert ran == []
    stranger = _module(tmp_path, "stranger", ASKER)
    assert ran
    assert stranger.Compiled is package.Compiled
    assert asker.Compiled is not package.Compiled
    assert asker.is_one(package.Compiled())
    assert not asker.is_one(3)
    assert issubclass(package.Compiled, asker.Compiled)


def test_a_stand_in_brings_the_real_one_when_it_is_used(make: Make, tmp_path: Path) -> None:
    package, ran = make(
        "class Compiled: KIND = 3\n", stand_ins=dict.fromkeys(("Compiled", "twice"), frozenset({"asker"}))
    )
    asker = _module(tmp_path, "asker", ASKER)
    assert ran == []
    assert asker.twice(5) == 10
    assert ran == ["body", "child", "helper", "other"]
    assert asker.Compiled.KIND == 3
    assert type(asker.Compiled()) is package.Compiled
    assert pickle.loads(pickle.dumps(asker.Compiled)) is package.Compiled  # noqa: S301 - our own bytes

    class Below(asker.Compiled):  # type: ignore[misc, name-defined]
        pass

    assert Below.__mro__[1] is package.Compiled


def test_a_decorator_is_put_on_when_its_module_runs(make: Make, tmp_path: Path) -> None:
    body = "def mark(f, tag=''):\n    def marked(*a): return tag, f(*a)\n    return marked\n"
    package, ran = make(body, decorators={"mark": ("asker", "asker")})
    asker = _module(
        tmp_path,
        "asker",
        "import slowpack\nclass Log:\n    def add(self): return 1\n    add = slowpack.mark(add, tag='x')\n"
        "def kept(): return 2\nkept = slowpack.mark(kept)\ndef decorate(f): return slowpack.mark(f)\n",
    )
    assert asker.Log().add() == 1
    mine = asker.kept
    asker.kept = len  # somebody has put something else there
    assert ran == []
    assert package.VALUE == 7
    assert asker.Log().add() == ("x", 1)
    assert (asker.kept, mine()) == (len, 2)


def test_functions_of_other_modules_are_decorated_at_once(make: Make, tmp_path: Path) -> None:
    body = "def mark(f=None):\n    return 'real'\n"
    _, ran = make(body, decorators={"mark": ("asker", "asker")})
    asker = _module(tmp_path, "asker", "import slowpack\ndef decorate(*f): return slowpack.mark(*f)\n")
    assert asker.decorate(_module) == "real"
    assert ran
    assert asker.decorate() == "real"


def test_setting_and_listing_names_run_the_body(make: Make) -> None:
    package, ran = make()
    package.VALUE = 9
    assert ran
    assert package.VALUE == 9
    assert "twice" in dir(package)


def test_dir_alone_runs_the_body(make: Make) -> None:
    package, _ = make()
    assert {"VALUE", "twice", "Thing"} <= set(dir(package))


def test_a_body_that_fails_fails_for_everybody_who_asks(make: Make) -> None:
    package, ran = make("raise ImportError('a library is missing')\n")
    for _ in range(2):
        with pytest.raises(ImportError, match="a library is missing"):
            _ = package.VALUE_OF_BODY
    assert ran.count("body") == 2


def test_reloading_resources_and_specs_are_the_ordinary_ones(make: Make) -> None:
    package, ran = make()
    assert files("slowpack").joinpath("data.txt").read_text() == "words"
    assert importlib.util.find_spec("slowpack") is package.__spec__
    assert importlib.reload(package) is package
    assert ran.count("body") == 2  # once, and once again
    assert package.VALUE == 7


def test_another_thread_waits_for_the_whole_body(make: Make) -> None:
    package, ran = make("import time; time.sleep(0.2)\nLAST = 1\n")
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: seen.append(package.LAST)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1, 1, 1]
    assert ran.count("body") == 1


def test_threads_that_run_a_body_and_import_a_part_of_it_do_not_wait_for_each_other(tmp_path: Path) -> None:
    (tmp_path / "slowpack").mkdir()
    (tmp_path / "slowpack" / "__init__.py").write_text("import time; time.sleep(0.4)\nfrom slowpack.other import two\n")
    (tmp_path / "slowpack" / "other.py").write_text("two = 2\n")
    code = (
        "import importlib, threading, time\n"
        "from naruto_vision.cli.deferred import Deferral, defer\n"
        "defer([Deferral('slowpack')])\n"
        "import slowpack\n"
        "asks = threading.Thread(target=lambda: print(slowpack.two))\n"
        "imports = threading.Thread(target=lambda: print(importlib.import_module('slowpack.other').two))\n"
        "asks.start(); time.sleep(0.1); imports.start(); asks.join(); imports.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["2", "2"], done.stderr


def test_what_is_imported_already_stays(make: Make) -> None:
    package, ran = make()
    run_body("slowpack")
    defer([Deferral("slowpack")])
    assert importlib.import_module("slowpack") is package
    assert ran.count("body") == 1
    run_body("slowpack")
    assert ran.count("body") == 1


def test_a_package_that_is_not_there_is_missing_as_ever(make: Make) -> None:
    make()
    defer([Deferral("slowpack.absent"), Deferral("no_such_package_at_all")])
    for name in ("slowpack.absent", "no_such_package_at_all"):
        with pytest.raises(ModuleNotFoundError, match=name):
            importlib.import_module(name)


def test_plans_name_the_children_that_they_use() -> None:
    with pytest.raises(ValueError, match=r"slow: metric used without the body"):
        Deferral("slow", served={"Metric": "metric"})
    with pytest.raises(ValueError, match=r"slow: first used"):
        Deferral("slow", first=("first",))


def test_a_fresh_process_behaves_the_same(tmp_path: Path) -> None:
    (tmp_path / "slowpack").mkdir()
    (tmp_path / "order.py").write_text("ran = []\nappend = ran.append\n")
    for name, text in FILES.items():
        (tmp_path / "slowpack" / name).write_text(text)
    code = (
        "from naruto_vision.cli.deferred import Deferral, defer; defer([Deferral('slowpack')])\n"
        "import order, slowpack; assert order.ran == []; from slowpack import *; assert VALUE == 7; print(order.ran)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['body', 'child', 'helper', 'other']"
