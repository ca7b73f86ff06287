"""Class folders: one folder a class, pictures inside, also in deeper folders."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from naruto_vision.data.rows import Policy, SourceRow, build_table
from naruto_vision.data.tables import ClassTable
from naruto_vision.errors import InputError
from naruto_vision.files.images import list_pictures


def class_folder_names(folder: str | Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Args:
        folder: An existing folder.
    """
    return tuple(sorted(d.name for d in Path(folder).iterdir() if d.is_dir() and not d.name.startswith(".")))


def read_class_folders(
    folder: str | Path, *, aliases: Mapping[str, str] | None = None, policy: Policy = "single_only"
) -> ClassTable:
    """Read a folder of class folders.

    Args:
        folder: Has one folder a class; a class without pictures stays a class.
        aliases: Folder name to the class name that it should have.
        policy: Part of every reader; here each picture has one class.

    Returns:
        The table; classes in order of their folder names.

    Raises:
        MissingPathError: If the folder is not there.
        InputError: If it has no class folders.
    """
    folder = Path(folder)
    aliases = aliases or {}
    pictures = [PurePosixPath(path) for path in list_pictures(folder)]
    names = class_folder_names(folder)
    if not names:
        msg = f"{folder}: no class folders in it; expected one folder a class with its pictures inside"
        raise InputError(msg)
    rows = [
        SourceRow(str(path), (aliases.get(path.parts[0], path.parts[0]),) if len(path.parts) > 1 else ())
        for path in pictures
    ]
    classes = tuple(dict.fromkeys(aliases.get(name, name) for name in names))
    renamed = {name: aliases[name] for name in names if name in aliases}
    return build_table(folder, rows, classes, policy, renamed)
