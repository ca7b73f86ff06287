"""What is given in place of a class, function or decorator whose module has not run yet."""

import importlib
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any


def _named(module: str, name: str) -> object:
    found: object = getattr(importlib.import_module(module), name)
    return found


class StandIn:
    """Stands for a class or a function until it is there: checks say no, calls and sub-classes bring the real one.

    Args:
        module: The deferred module that has it.
        name: Its name there.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def _real(self) -> Callable[..., object]:
        real: Callable[..., object] = getattr(importlib.import_module(self._module), self._name)
        return real

    def _present(self) -> type | None:
        """Return the real one if its module's body has run, otherwise None: then nothing can be one of its kind."""
        return vars(importlib.import_module(self._module)).get(self._name)

    def __call__(self, *args: Any, **options: Any) -> object:
        """Call the real one.

        Args:
            *args: What it takes.
            **options: What it takes.
        """
        return self._real()(*args, **options)

    def __getattr__(self, name: str) -> object:
        if name.startswith("__") and self._present() is None:  # typing looks for some of them in an annotation
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __instancecheck__(self, instance: object) -> bool:
        real = self._present()
        return real is not None and isinstance(instance, real)

    def __subclasscheck__(self, kind: type) -> bool:
        real = self._present()
        return real is not None and issubclass(kind, real)

    def __mro_entries__(self, bases: tuple[object, ...]) -> tuple[object, ...]:
        return (self._real(),)

    def __reduce__(self) -> tuple[object, ...]:
        return _named, (self._module, self._name)


class LateDecorator:
    """A decorator that means nothing before its module has run: it is put on its functions then, where they stand.

    Args:
        module: The deferred module that has it.
        name: Its name there.
        homes: The modules whose functions may wait for it; it brings the real one for any other.
        afterwards: Takes what has to be done once the deferred module has run.
    """

    def __init__(
        self, module: str, name: str, homes: frozenset[str], afterwards: Callable[[Callable[[], None]], None]
    ) -> None:
        self._module = module
        self._name = name
        self._homes = homes
        self._afterwards = afterwards

    def __call__(self, function: object = None, *args: Any, **options: Any) -> object:
        """Decorate a function.

        Args:
            function: The function; whatever else the real decorator takes is passed on to it.
            *args: As the real decorator takes them.
            **options: As the real decorator takes them.

        Returns:
            The function itself where it may wait, otherwise what the real decorator returns.
        """
        real = StandIn(self._module, self._name)
        if not isinstance(function, FunctionType) or function.__module__ not in self._homes:
            return real(function, *args, **options)
        self._afterwards(lambda: _replace(function, real(function, *args, **options)))
        return function


def _replace(function: FunctionType, decorated: object) -> None:
    """Put a decorated function where the plain one is defined, unless that place has been taken."""
    owner: object = sys.modules.get(function.__module__)
    *path, name = function.__qualname__.split(".")
    for part in path:
        owner = getattr(owner, part, None)
    if getattr(owner, name, None) is function:
        setattr(owner, name, decorated)
