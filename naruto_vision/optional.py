"""The one door to optional packages."""

import importlib
import importlib.util
from types import ModuleType

from naruto_vision.errors import MissingPackageError


def has_package(name: str) -> bool:
    """Tell whether a package can be imported, without importing it.

    Args:
        name: The import name of a top-level package.
    """
    return importlib.util.find_spec(name) is not None


def require_package(name: str, extra: str) -> ModuleType:
    """Import an optional package or say which extra brings it.

    Args:
        name: The import name.
        extra: The extra of this project that installs it.

    Raises:
        MissingPackageError: If the package is not installed.
    """
    if not has_package(name.partition(".")[0]):
        raise MissingPackageError(name, extra)
    return importlib.import_module(name)
