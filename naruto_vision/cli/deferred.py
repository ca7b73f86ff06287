"""Modules of other packages whose body runs when something of it is first asked for.

A large package's ``__init__`` imports everything that the package has, and who needs one class waits for all of it.
Here such a body waits. What ``import`` gives is the real module, empty but for its name and path; the first name that
is asked of it, or the first sub-module that is not on its list, runs the body where it stands, and from then on nothing
is different from an ordinary import. Only a command that has the process for itself asks for this.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, ModuleType

from typing_extensions import override

from naruto_vision.cli.stand_ins import LateDecorator, StandIn


@dataclass(frozen=True)
class Deferral:
    """One module whose body waits.

    Args:
        name: The module, usually a package.
        children: Sub-modules that do without the body, and with them what they import themselves.
        served: Name to the child that defines it; asking for these does not run the body.
        first: Children that are imported at once, in this order.
        stand_ins: Name to the modules that are given a ``StandIn`` of it; everybody else is given the thing itself.
        decorators: Name to the module that asks for this decorator and the module whose functions may wait for it.

    Raises:
        ValueError: If a sub-module that is served from or imported at once is not among ``children``.
    """

    name: str
    children: frozenset[str] = frozenset()
    served: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    stand_ins: Mapping[str, frozenset[str]] = field(default_factory=dict)
    decorators: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if absent := {*self.served.values(), *self.first} - self.children:
            msg = f"{self.name}: {', '.join(sorted(absent))} used without the body, so children have to name them"
            raise ValueError(msg)

    def lets_pass(self, module: str) -> bool:
        """Tell whether a sub-module may be imported before the body has run.

        Args:
            module: Its full name.
        """
        return module.removeprefix(f"{self.name}.") in self.children or any(map(_is_importing, self._own_children()))

    def _own_children(self) -> list[str]:
        return [f"{self.name}.{child}" for child in self.children]

    def answer(self, name: str, asking: str) -> object | None:
        """Return what stands under a name as long as the body waits; None where only the body has it.

        Args:
            name: The name.
            asking: The module that asks.
        """
        if name in self.children:
            return importlib.import_module(f"{self.name}.{name}")
        if name in self.served:
            found: object = getattr(importlib.import_module(f"{self.name}.{self.served[name]}"), name)
            return found
        if asking in self.stand_ins.get(name, ()):
            return StandIn(self.name, name)
        asker, home = self.decorators.get(name, ("", ""))
        if asker and asker == asking:
            return LateDecorator(self.name, name, frozenset({home}), _AFTERWARDS.setdefault(self.name, []).append)
        return None


_PENDING: dict[str, Deferral] = {}
_AFTERWARDS: dict[str, list[Callable[[], None]]] = {}


def _is_importing(module: str) -> bool:
    """Tell whether a module is being imported right now; what its package's body would do is then too late."""
    return bool(getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False))


def run_body(name: str) -> None:
    """Run a module's body, if it still waits; where another thread runs it, wait for the whole of it.

    The body is imported as a module of its own, so that import's locks are the only ones: with another lock beside
    them, a thread that runs the body and one that imports a sub-module of it would wait for each other for ever.

    Args:
        name: The module's full name.
    """
    body = _body_of(name)
    for package in _packages_of(name) if name in _PENDING else ():
        run_body(package)  # first, as ever: its body may need the whole of this one
    if name in _PENDING or body in sys.modules:
        importlib.import_module(body)


_BODY = "body of "  # no module has such a name


def _body_of(name: str) -> str:
    return _BODY + name.replace(".", ":")


class _BodyLoader(Loader):
    """Runs a body in the module that waits for it."""

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def create_module(self, spec: ModuleSpec) -> None:
        return None

    @override
    def exec_module(self, module: ModuleType) -> None:
        plan, waiting = _PENDING.pop(self._name, None), sys.modules.get(self._name)
        spec = None if waiting is None else waiting.__spec__
        if plan is None or waiting is None or spec is None or spec.loader is None:  # somebody has thrown it away
            return
        try:
            spec.loader.exec_module(waiting)
        except BaseException:
            _PENDING[self._name] = plan  # whoever asks next is told the same
            raise
        waiting.__class__ = ModuleType
        for finish in _AFTERWARDS.pop(self._name, []):
            finish()


_OF_IMPORT = frozenset({"__path__", "__file__", "__cached__", "__loader__", "__spec__", "__package__"})
"""What import looks for and sets before any body runs; what a module lacks of these, it does without."""


class _Deferred(ModuleType):
    """A module whose body waits. Import sets names like ``__path__`` and sub-modules on it; all else runs the body."""

    def __getattr__(self, name: str) -> object:
        if name in _OF_IMPORT:
            raise AttributeError(name)
        plan = _PENDING.get(self.__name__)
        found = None if plan is None else plan.answer(name, _who_asks())
        if found is None:
            run_body(self.__name__)
            found = ModuleType.__getattribute__(self, name)
        return found

    def __setattr__(self, name: str, value: object) -> None:
        if not isinstance(value, ModuleType) and not name.startswith("__"):
            run_body(self.__name__)
        ModuleType.__setattr__(self, name, value)

    def __dir__(self) -> Iterable[str]:
        run_body(self.__name__)
        return ModuleType.__dir__(self)


def _who_asks() -> str:
    """Return the name of the module whose code asked a deferred module for a name, past import's own frames."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").endswith("importlib._bootstrap"):
        frame = frame.f_back
    return "" if frame is None else str(frame.f_globals.get("__name__", ""))


class _DeferringLoader(Loader):
    """Makes the module and leaves its body to the real loader."""

    def __init__(self, real: Loader, plan: Deferral) -> None:
        self._real = real
        self._plan = plan

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Deferred(spec.name)

    @override
    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._real
        module.__loader__ = self._real
        _PENDING[self._plan.name] = self._plan
        sys.modules.pop(_body_of(self._plan.name), None)  # of a module that was thrown away
        for child in self._plan.first:
            importlib.import_module(f"{self._plan.name}.{child}")


class _ReadyLoader(Loader):
    """Gives import a sub-module that its package's body has just imported, so that it does not run twice."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._spec = module.__spec__
        module.__spec__ = ModuleSpec(module.__name__, self)  # import goes by the module's own, where it has one

    @override
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    @override
    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Finder(MetaPathFinder):
    """Finds the modules whose body waits, and runs a package's body before a sub-module that needs it."""

    def __init__(self, plans: Iterable[Deferral]) -> None:
        self._plans = {plan.name: plan for plan in plans}

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(_BODY):
            return ModuleSpec(fullname, _BodyLoader(fullname.removeprefix(_BODY).replace(":", ".")))
        run_body(fullname)  # only a reload asks for a module that is there
        for package in _packages_of(fullname):
            if package in _PENDING and not _PENDING[package].lets_pass(fullname):
                run_body(package)
        if fullname in sys.modules and target is None:
            return ModuleSpec(fullname, _ReadyLoader(sys.modules[fullname]))
        plan = self._plans.pop(fullname, None)
        spec = None if plan is None else PathFinder.find_spec(fullname, path, target)
        if plan is not None and spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader, plan)
        return spec


def _packages_of(module: str) -> list[str]:
    """Return the packages around a module, the outermost first."""
    parts = module.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def defer(plans: Iterable[Deferral]) -> None:
    """Let modules wait from now on. What is imported already stays as it is.

    Args:
        plans: The modules.
    """
    sys.meta_path.insert(0, _Finder([plan for plan in plans if plan.name not in sys.modules]))
