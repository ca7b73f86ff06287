"""The error classes; a message names the file or option, expected, found, and what to do."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception of another package says, shortened, or else the name of its class."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


class NarutoVisionError(Exception):
    """Root of every error that this package raises on purpose.

    Attributes:
        exit_code: Exit code of the command line for this error.
    """

    exit_code = 1


class InputError(NarutoVisionError):
    """The user's input is wrong; the message is one line that names what and where."""

    exit_code = 2


class MissingPathError(InputError):
    """A file or folder does not exist; ``what`` says which kind it is ("scene folder"). A similar name is suggested."""

    def __init__(self, path: str | Path, what: str, hint: str = "") -> None:
        if near := _similar_path(Path(path)):
            hint = f"did you mean {near}?"
        super().__init__(f"{path}: no such {what}" + (f"; {hint}" if hint else ""))


def _similar_path(path: Path) -> Path | None:
    """Find the neighbour with the most similar name; not one that differs in digits only, as frames do."""
    try:
        names = [other.name for other in path.parent.iterdir() if not other.name.startswith(".")]
    except (OSError, ValueError):  # of a path with a NUL character or lone surrogates
        return None
    letters = re.sub(r"\d", "", path.name)
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.85)
    return path.with_name(near[0]) if near and re.sub(r"\d", "", near[0]) != letters else None


class BadImageError(InputError):
    """An image cannot be used; ``reason`` has the values that decided it."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class BadVideoError(BadImageError):
    """A video cannot be used; ``reason`` has the values that decided it."""


class FormatError(InputError):
    """A file does not have the expected format or content."""

    def __init__(self, path: str | Path, expected: str, found: str, hint: str = "") -> None:
        super().__init__(f"{path}: expected {expected}, found {found}" + (f"; {hint}" if hint else ""))


class JsonError(FormatError):
    """A file is not valid JSON, or its JSON is rejected; ``error`` is the exception of the parser.

    ``line`` is the line of a JSON Lines file.
    """

    def __init__(self, path: str | Path, error: Exception, hint: str = "", line: int = 0) -> None:
        broken = isinstance(error, (json.JSONDecodeError, UnicodeError, RecursionError))
        what = "not JSON" if broken else "JSON that cannot be used"
        reason = str(error).partition("\n")[0].partition(" (char ")[0]  # line and column suffice
        if line:
            what, reason = f"line {line}: {what}", reason.partition(": line ")[0]
        InputError.__init__(self, f"{path}: {what} ({reason})" + (f"; {hint}" if hint else ""))


class YamlError(FormatError):
    """A file is not YAML, or YAML that is not read; ``reason`` has the line where it is known."""

    def __init__(self, path: str | Path, reason: str) -> None:
        InputError.__init__(self, f"{path}: not YAML ({reason})")


class StateDictError(InputError):
    """A weights file does not fit the architecture it was opened for."""

    def __init__(
        self,
        path: str | Path,
        architecture: str,
        missing: Sequence[str] = (),
        unexpected: Sequence[str] = (),
        reshaped: Sequence[str] = (),
    ) -> None:
        parts = [
            f"{len(keys)} {kind} ({', '.join(sorted(keys)[:3])}{', …' if len(keys) > 3 else ''})"
            for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if keys
        ]
        super().__init__(f"{path}: not weights of {architecture}: {'; '.join(parts)}; choose the matching architecture")


REINDEX = "index the videos again, into another --store, by `naruto-vision video index --encoder`"
"""What else to do if a store of videos has the vectors of another encoder."""


class FingerprintError(InputError):
    """Vectors of one encoder were compared with those of another."""

    def __init__(
        self,
        path: str | Path,
        expected: str,
        found: str,
        options: str = "",
        again: str = "enrol again with `naruto-vision fit --config gallery.yaml`",
    ) -> None:
        super().__init__(
            f"{path}: built by encoder {expected[:12]}, opened with encoder {found[:12]}; "
            f"use the encoder that built it{options and f' ({options})'}, or {again}"
        )


class MissingPackageError(InputError):
    """An optional package, by its import name, is not installed; the extra ``extra`` installs it, if there is one."""

    def __init__(self, package: str, extra: str = "") -> None:
        needed = f"'naruto-vision[{extra}]'" if extra else package.replace("_", "-")
        super().__init__(f"{package} is not installed; run: pip install {needed}")


class TrainingStoppedError(NarutoVisionError):
    """Training stopped at a non-finite loss; the last good checkpoint is kept."""

    exit_code = 3
