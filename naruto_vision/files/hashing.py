"""Hashes of files, read block by block."""

import hashlib
from pathlib import Path

_BLOCK = 1 << 20


def file_digest(path: str | Path, algorithm: str) -> str:
    """Hash a file.

    Args:
        path: An existing file.
        algorithm: A name of ``hashlib``.

    Returns:
        Hexadecimal digits, lower case.
    """
    digest = hashlib.new(algorithm)
    with Path(path).open("rb") as handle:
        while block := handle.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    """Hash a file with sha256.

    Args:
        path: An existing file.

    Returns:
        64 hexadecimal digits.
    """
    return file_digest(path, "sha256")


def has_sha256(path: Path, digest: str) -> bool:
    """Tell whether a file is there and holds what it should.

    Args:
        path: The file.
        digest: 64 hexadecimal digits, lower case.
    """
    return path.is_file() and file_sha256(path) == digest
