"""Hashes of files are those of hashlib, whatever the file's length."""

import hashlib
from pathlib import Path

import pytest

from naruto_vision.io.bundles import file_digest, file_sha256, has_sha256


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_a_file_is_hashed_whole(tmp_path: Path, length: int) -> None:
    data = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    file = tmp_path / "file"
    file.write_bytes(data)
    assert file_sha256(file) == hashlib.sha256(data).hexdigest()
    assert file_digest(str(file), "sha1") == hashlib.sha1(data, usedforsecurity=False).hexdigest()


def test_a_file_that_is_gone_or_changed_does_not_hold_what_it_should(tmp_path: Path) -> None:
    file = tmp_path / "file"
    digest = hashlib.sha256(b"rows").hexdigest()
    assert not has_sha256(file, digest)
    file.write_bytes(b"rows")
    assert has_sha256(file, digest)
    file.write_bytes(b"row")
    assert not has_sha256(file, digest)
    assert not has_sha256(tmp_path, digest)
