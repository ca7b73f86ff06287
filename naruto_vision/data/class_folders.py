"""Class folders: one folder a class, pictures inside, also in deeper folders."""

from pathlib import Path, PurePosixPath

from naruto_vision.data.rows import ReadRules, SourceRow, build_table
from naruto_vision.data.tables import ClassTable
from naruto_vision.errors import InputError
from naruto_vision.files.images import list_pictures


def class_folder_names(folder: str | Path) -> tuple[str, ...]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out.

    Args:
        folder: An existing folder.
    """
    return tuple(sorted(d.name for d in Path(folder).iterdir() if d.is_dir() and not d.name.startswith(".")))


def read_class_folders(folder: str | Path, rules: ReadRules | None = None) -> ClassTable:
    """Read a folder of class folders.

    Args:
        folder: Has one folder a class; a class without pictures stays a class.
        rules: What becomes of class names; here each picture has one class.

    Returns:
        The table; classes in order of their folder names.

    Raises:
        MissingPathError: If the folder is not there.
        InputError: If it has no class folders.
    """
    folder = Path(folder)
    pictures = [PurePosixPath(path) for path in list_pictures(folder)]
    names = class_folder_names(folder)
    if not names:
        msg = f"{folder}: no class folders in it; expected one folder a class with its pictures inside"
        raise InputError(msg)
    rows = [SourceRow(str(path), path.parts[:1] if len(path.parts) > 1 else ()) for path in pictures]
    return build_table(folder, rows, names, rules or ReadRules())
