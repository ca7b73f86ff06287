import pytest

from naruto_vision.cli.usage import one_line

UNION = """Parser key "model":
  Does not validate against any of the Union subtypes
  Subtypes: [<class 'lightning.pytorch.core.module.LightningModule'>, <class 'NoneType'>]
  Errors:
    - Problem with given class_path 'os.system':
        Importing 'os.system' is not allowed, denied by the 'os' entry of the import path denylist. Add the import \
path to import_path_allowlist in set_parsing_settings to allow it.
    - Expected a <class 'NoneType'>
  Given value type: <class 'str'>
  Given value: os.system"""


def test_a_union_error_keeps_the_reason_that_matters() -> None:
    expected = (
        "model os.system: Problem with given class_path 'os.system': Importing 'os.system' is not allowed in a config"
    )
    assert one_line(UNION) == expected


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("unrecognized arguments: --x 3", "unrecognized arguments: --x 3; see `naruto-vision fit --help`"),
        ("Parser key \"a\":\n  - Expected a <class 'int'>\n  Given value: x", "a x: expected int"),
        ("broken\n  yaml", "broken yaml"),
    ],
)
def test_short_messages_stay(message: str, line: str) -> None:
    assert one_line(message, command="fit") == line
