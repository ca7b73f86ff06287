"""Labels that ``evaluate`` mends: ``--label-map 'Mira:Myra;Bo:Boh'``."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from naruto_vision.errors import InputError

if TYPE_CHECKING:
    from naruto_vision.records import LabelledBox


def read_label_map(text: str) -> dict[str, str]:
    """Read the spellings that are to be mended.

    Args:
        text: Such as ``Mira:Myra;Bo:Boh``; blanks around names do not count.

    Returns:
        Label as found, to the label that it should be.

    Raises:
        InputError: If a part is not ``found:right``, or a name is mended twice in different ways.
    """
    names: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        found, colon, right = (word.strip() for word in part.partition(":"))
        if not (found and colon and right):
            msg = f"--label-map: expected pairs like 'Mira:Myra;Bo:Boh', found {part!r}"
            raise InputError(msg)
        if names.setdefault(found, right) != right:
            msg = f"--label-map: {found!r} is to become both {names[found]!r} and {right!r}"
            raise InputError(msg)
    return names


def tell_idle_names(names: Mapping[str, str], sides: "Sequence[Mapping[str, Sequence[LabelledBox]]]") -> None:
    """Name the labels to mend that nothing carries: often a spelling mistake in themselves.

    Args:
        names: What ``read_label_map`` returns.
        sides: Scenes with their boxes: the truth, and each run.
    """
    carried = {box.label for side in sides for boxes in side.values() for box in boxes}
    idle = [name for name, right in names.items() if name not in carried and name != right]
    if idle:
        sys.stderr.write(f"--label-map: no object and no prediction is called {', '.join(idle)}\n")
