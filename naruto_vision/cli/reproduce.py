"""``naruto-vision reproduce``: run what a table's file says and write the table, or say what is not the same."""

import argparse
import contextlib
import hashlib
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from naruto_vision.cli.console import show
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.atomic import write_json, write_text
from naruto_vision.io.bundles import (
    WEIGHTS,
    bundle_path,
    config_path,
    file_sha256,
    packaged_bundles,
    packaged_configs,
    packaged_tables,
)
from naruto_vision.io.locks import folder_lock, is_in_use
from naruto_vision.io.names import refusal
from naruto_vision.io.typed_json import read_json

if TYPE_CHECKING:
    from naruto_vision.metrics.tables import TableFile

_ALLOWED = ("demo", "draw", "fit", "validate", "test", "predict", "evaluate", "evaluate counts", "evaluate tracks")
STEPS = "steps.json"
"""The steps of a folder, and how many of them are finished."""

_UNKNOWN = "?"  # a hash that is not known yet
_OUTSIDE = re.compile(r"(?:^|[^\w.-])[/~@]|\.\.|://|https?:|pipe:|allow.(?:pipe|imports)|[\\\0]")
"""What may lead out of the output folder: absolute paths, "..", addresses, commands, lists of names."""
_FOLDER = re.compile(r"\{(\w+)\}")
_READING = ("--root", "--gt", "--gt-masks", "--preds-dir", "--compare", "--scenes-dir", "--gallery")
"""Options that may name a folder of ``--data``, as a command's first argument may: it is read, never written into."""

_WRITING = {"fit": "--gallery", "validate": "--gallery"}
"""Command → an option of these into whose folder it writes."""
_offline = False


def _options(parser: argparse.ArgumentParser) -> None:
    names = ", ".join(packaged_tables())
    parser.add_argument("table", metavar="TABLE", help=f"YAML file of a table, or a packaged one: {names}")
    text = "folder of data, runs and table (default: runs/reproduce/NAME); resumes"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    text = "folder that the table calls {NAME}; may be given several times"
    parser.add_argument("--data", action="append", default=[], metavar="NAME=DIR", help=text)


def reproduce(arguments: argparse.Namespace) -> int:
    """Run the steps of a table, compare hashes, and write ``table.md``, ``table.csv`` and ``table.json``."""
    from naruto_vision.metrics.tables import read_figures, read_table_file, table_csv, table_document, table_markdown

    path = find_table(arguments.table)
    table = read_table_file(path)
    data = data_folders(arguments.data)
    steps = [_step(step, path, data) for step in table.steps]
    out: Path = arguments.out or Path("runs/reproduce") / path.stem
    with folder_lock(out, "--out"):
        done = finished_steps(out, table.steps, "remove it")
        made_of = _hashes(table, path, out, data)
        for number, (text, argv) in enumerate(zip(table.steps, steps, strict=True), start=1):
            if number > done:
                show(f"{number}/{len(steps)} naruto-vision {text}")
                _run(argv, out, text)
                note_finished(out, table.steps, number)
            made_of = _hashes(table, path, out, data)
        if missing := table.expect.keys() - made_of.keys():
            raise MissingPathError(out / min(missing), "file, which `expect` names")
        figures = read_figures(table, lambda name: _figures_file(name, path, out, data))
        document = table_document(table, figures, made_of)
        markdown = table_markdown(document)
        write_text(out / "table.md", markdown)
        write_text(out / "table.csv", table_csv(document))
        write_json(out / "table.json", document)
    show(markdown.rstrip("\n"))
    unknown = [name for name, digest in table.expect.items() if digest == _UNKNOWN]
    if unknown:
        show(f"not compared, as {path} has no hash: {', '.join(unknown)}; those found are in {out / 'table.json'}")
    show(f"{out}: table.md, table.csv, table.json")
    return 0


def find_table(name: str, kind: Literal["tables", "grids"] = "tables") -> Path:
    """Find a table's file, or a packaged one by its name; or the grid of an ablation."""
    if Path(name).is_file():
        return Path(name)
    if name in packaged_tables(kind):
        return config_path(f"{kind}/{name}.yaml")
    raise MissingPathError(name, kind[:-1], f"give a YAML file, or one of {', '.join(packaged_tables(kind))}")


def data_folders(given: list[str]) -> dict[str, Path]:
    """Read the values of ``--data``: name → folder."""
    folders = {}
    for text in given:
        name, found, folder = text.partition("=")
        if not (found and re.fullmatch(r"\w+", name)):
            raise InputError(f"--data {text}: expected NAME=DIR")
        if not Path(folder).is_dir():
            raise MissingPathError(folder, f"folder (--data {name})")
        folders[name] = Path(folder).absolute()
    return folders


def _step(text: str, path: Path, data: Mapping[str, Path]) -> list[str]:
    """Return the arguments of a step; InputError if it is none that a file from somebody else may run."""
    from naruto_vision.cli.main import split

    try:
        argv = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{path}: step {text!r}: {error}") from None
    command, rest = split(argv) if argv else ("", [])
    if command not in _ALLOWED:
        raise InputError(f"{path}: step {text!r}: expected one of {', '.join(_ALLOWED)}")
    pairs = list(zip(["", *rest], rest, strict=False))  # each argument behind the one before
    if bad := [word for before, word in pairs if _leads_out(command, before, word)]:
        msg = f"{path}: step {text!r}: {bad[0]!r} may lead out of the output folder; use names inside it, or {{NAME}}"
        raise InputError(msg)
    configs = [word for before, word in pairs if before in ("-c", "--config")]
    configs += [word.partition("=")[2] or word for word in rest if re.match(r"-c.|--config.", word)]
    if bad := [name for name in configs if name not in packaged_configs()]:
        msg = f"{path}: step {text!r}: {bad[0]!r}: expected a packaged config; `naruto-vision configs` lists them"
        raise InputError(msg)
    return [*command.split(), *(fill_folders(word, path, data) for word in rest)]


def _leads_out(command: str, before: str, word: str) -> bool:
    """Return whether an argument may lead out of the output folder, or write into a folder of ``--data``."""
    option, equals, value = word.partition("=")
    if not equals or not option.startswith("-"):
        option, value = before, word
    if not (found := re.match(r"\{\w+\}(?=/|$)", value)):
        return bool(_OUTSIDE.search(word) or _FOLDER.search(word))
    reading = (
        (option in _READING and option != _WRITING.get(command))
        or option.startswith("--data.")
        or not option.startswith("-")
    )
    return not reading or refusal(f"x{value[found.end() :]}") != "" or bool(_FOLDER.search(value, found.end()))


def fill_folders(word: str, path: Path, data: Mapping[str, Path]) -> str:
    """Replace ``{NAME}`` by the folder of ``--data NAME``."""

    def folder(found: re.Match[str]) -> str:
        if found[1] not in data:
            raise InputError(f"{path}: needs {found[0]}: give --data {found[1]}=DIR")
        return str(data[found[1]])

    return _FOLDER.sub(folder, word)


def _figures_file(name: str, path: Path, out: Path, data: Mapping[str, Path]) -> Path:
    """Find a file that a row names, in the output folder or in one of ``--data``; links do not lead out of them."""
    found = re.match(r"(\{\w+\})/", name)
    folder, rest = (Path(fill_folders(found[1], path, data)), name[found.end() :]) if found else (out, name)
    if refusal(rest) or not (folder / rest).resolve().is_relative_to(folder.resolve()):
        raise InputError(f"{path}: {name}: in `rows`: expected a file of the output folder, or {{NAME}}/FILE")
    return folder / rest


def finished_steps(out: Path, steps: list[str], remedy: str) -> int:
    """Return how many of these steps an earlier run has finished in a folder; InputError if it has other files."""
    record = out / STEPS
    if record.is_file():
        earlier = read_json(record, dict[str, object])
        done = earlier.get("done")
        if earlier.get("steps") == steps and isinstance(done, int):
            return done
    if out.is_dir() and is_in_use(out):
        raise InputError(f"{out}: is not empty, and no run of these steps made it; give another --out, or {remedy}")
    return 0


def note_finished(out: Path, steps: list[str], done: int) -> None:
    """Record how many steps are finished, for ``finished_steps``."""
    write_json(out / STEPS, {"steps": steps, "done": done})


def _run(argv: list[str], out: Path, text: str) -> None:
    from naruto_vision.cli.main import main

    out.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(out), _without_network():
        code = main(argv)
    if code:
        raise InputError(f"step `naruto-vision {text}` ended with exit code {code}; the steps before it are kept")


@contextlib.contextmanager
def _without_network() -> Iterator[None]:
    """Refuse connections of Python's sockets, such as downloads of weights that a name stands for."""
    global _offline
    _install_hook()
    _offline = True
    try:
        yield
    finally:
        _offline = False


@cache
def _install_hook() -> None:
    sys.addaudithook(_refuse_network)


def _refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    address = arguments[1] if event == "socket.connect" else arguments[0] if event == "socket.getaddrinfo" else None
    if _offline and address is not None and (event != "socket.connect" or isinstance(address, tuple)):
        raise InputError(f"{address}: a step of a table does not use the network; download weights before")


def _hashes(table: "TableFile", path: Path, out: Path, data: Mapping[str, Path]) -> dict[str, str]:
    """Return the hashes of what exists already; InputError at the first that is not the expected one."""
    hashes = {}
    for name, expected in table.expect.items():
        source = _source(name, path, out, data)
        if not source.exists():
            continue
        found = _tree_sha256(source) if source.is_dir() else file_sha256(source)
        if expected not in (_UNKNOWN, found):
            raise InputError(
                f"{name}: expected sha256 {expected[:12]}, found {found[:12]} in {source}; the table is of other inputs"
            )
        hashes[name] = found
    return hashes


def _source(name: str, path: Path, out: Path, data: Mapping[str, Path]) -> Path:
    """Return the file or folder that an entry of ``expect`` is about."""
    kind, _, rest = name.partition(" ")
    if kind == "config" and rest in packaged_configs():
        return config_path(rest)
    if kind == "weights" and rest in packaged_bundles():
        return bundle_path(rest) / WEIGHTS
    if kind == "data" and rest:
        return Path(fill_folders(f"{{{rest}}}", path, data))
    if refusal(name) or (kind in ("config", "weights") and rest):
        raise InputError(
            f"{name}: in `expect`: expected `config NAME`, `weights NAME`, `data NAME`, or a file of the output folder"
        )
    return out / name


def _tree_sha256(folder: Path) -> str:
    """Hash the relative names and the bytes of all files below a folder, hidden ones apart, in sorted order."""
    digest = hashlib.sha256()
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    for name, path in files:
        digest.update(f"{name}\0{file_sha256(path)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


COMMANDS = {"reproduce": (_options, reproduce)}
