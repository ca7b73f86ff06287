"""Count and name files that cannot be used, without stopping the run."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from naruto_vision.errors import BadImageError, InputError, MissingPathError
from naruto_vision.io.atomic import lines_bytes, write_bytes

T = TypeVar("T")


class QuarantinedFile(NamedTuple):
    """One unusable file and the reason, in one line."""

    path: str
    reason: str


class Quarantine:
    """Counts readable files and records the others: ``seen = ok + quarantined``."""

    def __init__(self, what: str = "files", listed: int = 0) -> None:
        self.what = what
        self.listed = listed
        self.ok = 0
        self._rows: list[QuarantinedFile] = []

    @property
    def rows(self) -> tuple[QuarantinedFile, ...]:
        """The unusable files, in the order they were read."""
        return tuple(self._rows)

    @property
    def quarantined(self) -> int:
        """Number of unusable files."""
        return len(self._rows)

    @property
    def seen(self) -> int:
        """Number of files read."""
        return self.ok + self.quarantined

    def accept(self) -> None:
        """Count one good file."""
        self.ok += 1

    def refuse(self, path: str | Path, reason: str) -> None:
        """Record one unusable file; only the first line of the reason is kept."""
        self._rows.append(QuarantinedFile(str(path), reason.partition("\n")[0]))

    def read(self, path: str | Path, load: Callable[[], T]) -> T | None:
        """Load one file and count it; None if it raises ``BadImageError`` or ``MissingPathError``."""
        try:
            value = load()
        except (BadImageError, MissingPathError) as error:
            self.refuse(path, str(error))
            return None
        self.accept()
        return value

    def check(self, max_bad_fraction: float) -> None:
        """Raise ``InputError`` if nothing could be read, or more than this fraction, in [0, 1], is unusable."""
        total = max(self.listed, self.seen)
        if self._rows and (self.quarantined == total or self.quarantined > max_bad_fraction * total):
            path, reason = self._rows[0]
            first = reason if path in reason else f"{path}: {reason}"
            if total == 1:
                raise InputError(first)
            problem = f"none of {total} {self.what} can be read"
            if self.quarantined < total:
                problem = (
                    f"{self.quarantined} of {total} {self.what} cannot be read, "
                    f"more than the {max_bad_fraction:.0%} that may be unreadable"
                )
            raise InputError(f"{problem}; first {first}")

    def counts(self) -> dict[str, int]:
        """Return seen, ok and quarantined."""
        return {"seen": self.seen, "ok": self.ok, "quarantined": self.quarantined}

    def write(self, path: str | Path) -> None:
        """Write one JSON line for each unusable file, in the order they were read."""
        write_bytes(path, lines_bytes(row._asdict() for row in self._rows))
