"""Every example in a docstring runs, and says what it says it says."""

import doctest
import importlib

import pytest
from source import modules, path_of

WITH_EXAMPLES = sorted(name for name in modules() if ">>> " in path_of(name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
