"""Downloads that resume, refuse what is not the expected file, and are whole or not there."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal

from naruto_vision.errors import FormatError, InputError, JsonError
from naruto_vision.files.atomic import sync_folder, write_json
from naruto_vision.files.hashing import file_digest, file_sha256
from naruto_vision.files.registry import OfficialWeights

LOCK = "weights.lock.json"
Known = Literal["published", "recorded", "new"]
"""How a file was recognised: by a published hash, by the record of an earlier download, or not at all yet."""
Progress = Callable[[int, int], None]
"""Told after every block: bytes that are here, bytes in all (0 where the server does not say)."""

_BLOCK = 1 << 18
_PARTIAL = 206
_RANGE_REFUSED = 416
_SERVER_TROUBLE = 500


@dataclass(frozen=True)
class Verdict:
    """What is known of a weights file.

    Args:
        path: The file.
        sha256: 64 hexadecimal digits.
        known: How it was recognised.
    """

    path: Path
    sha256: str
    known: Known


@dataclass(frozen=True)
class Retries:
    """How a broken connection is taken up again.

    Args:
        attempts: How many connections in a row may end without a single new byte.
        pause: Seconds before the next one.
        timeout: Seconds without an answer after which a connection counts as broken.
    """

    attempts: int = 3
    pause: float = 2.0
    timeout: float = 30.0


def _quiet(_here: int, _total: int) -> None:
    """Show nothing."""


def read_lock(folder: Path) -> dict[str, str]:
    """Read the record of first downloads.

    Args:
        folder: The weights folder.

    Returns:
        File name → sha256; empty where there is no record.

    Raises:
        FormatError: If the record is broken.
    """
    path = folder / LOCK
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise JsonError(path, error, "remove it, and verify the files anew") from None
    if not isinstance(found, dict):
        raise FormatError(path, "an object of file names and hashes", type(found).__name__, "remove it")
    return {str(name): str(value) for name, value in found.items()}


def check_weights(row: OfficialWeights, path: Path, hint: str = "remove it and download it again") -> Verdict:
    """Hold a file against everything that is known of it.

    Args:
        row: What it should be.
        path: The file; the record of first downloads is looked for beside it.
        hint: What the user is told to do about a wrong file.

    Returns:
        How it was recognised.

    Raises:
        FormatError: If a hash is another one.
    """
    sha256 = file_sha256(path)
    recorded = read_lock(path.parent).get(row.file, "")
    expected = row.sha256 or recorded
    if expected and sha256 != expected:
        raise FormatError(path, f"sha256 {expected[:12]}…", f"{sha256[:12]}…", hint)
    if row.md5_prefix and not file_digest(path, "md5").startswith(row.md5_prefix):
        raise FormatError(path, f"MD5 {row.md5_prefix}… as its name says", "another one", hint)
    return Verdict(path, sha256, "published" if row.sha256 else "recorded" if recorded else "new")


def download_weights(
    row: OfficialWeights,
    folder: Path,
    *,
    base_url: str = "",
    progress: Progress = _quiet,
    retries: Retries | None = None,
) -> Verdict:
    """Bring one official file into a folder; an unfinished download is continued.

    Args:
        row: The file.
        folder: Where it goes; made if need be.
        base_url: A mirror that serves the same file names; "" is the official home.
        progress: Told how far it is.
        retries: How a broken connection is taken up again.

    Returns:
        The file and how it was recognised; an unknown hash has been recorded.

    Raises:
        InputError: If the server cannot be reached, does not have the file, or cuts the connection for good.
        FormatError: If what came is not the expected file; it has been removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / row.file
    if final.exists():
        verdict = check_weights(row, final)
    else:
        part = folder / f"{row.file}.part"
        _fetch(f"{base_url.rstrip('/')}/{row.file}" if base_url else row.url, part, progress, retries or Retries())
        verdict = replace(_accept(row, part), path=final)
        part.replace(final)
        sync_folder(folder)
    if verdict.known == "new":
        write_json(folder / LOCK, dict(sorted({**read_lock(folder), row.file: verdict.sha256}.items())))
    return verdict


def _accept(row: OfficialWeights, part: Path) -> Verdict:
    """Check what came; it is removed if it is not the expected file."""
    _tag(part).unlink(missing_ok=True)
    try:
        return check_weights(row, part, "what came is not that file and was removed")
    except FormatError:
        part.unlink()
        raise


def _tag(part: Path) -> Path:
    """Where the server's name for the version that is being downloaded is kept."""
    return part.with_name(part.name + ".etag")


def _fetch(url: str, part: Path, progress: Progress, retries: Retries) -> None:
    """Fill ``part``, over as many connections as it takes."""
    fruitless = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _one_connection(url, part, progress, retries.timeout):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code < _SERVER_TROUBLE:
                raise InputError(f"{url}: {reason}") from None
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        here = part.stat().st_size if part.exists() else 0
        fruitless = 0 if here > before else fruitless + 1
        if fruitless >= retries.attempts:
            msg = f"{url}: {reason} after {here} bytes; run the command again to continue"
            raise InputError(msg)
        time.sleep(retries.pause)


def _request(url: str, part: Path) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        msg = f"{url}: expected an address that starts with http:// or https://"
        raise InputError(msg)
    request = urllib.request.Request(url, headers={"User-Agent": "naruto-vision"})  # noqa: S310 - http(s), checked above
    tag = _tag(part)
    if part.exists() and part.stat().st_size:
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        if tag.is_file():  # another version on the server is then sent whole
            request.add_header("If-Range", tag.read_text(encoding="utf-8"))
    return request


def _one_connection(url: str, part: Path, progress: Progress, timeout: float) -> bool:
    """Read one answer into ``part``; tell whether the file is whole."""
    try:
        with urllib.request.urlopen(_request(url, part), timeout=timeout) as answer:  # noqa: S310 - see _request
            return _save(answer, part, progress)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_REFUSED:
            raise
        size = part.stat().st_size
        if error.headers.get("Content-Range", "") == f"bytes */{size}":
            return True  # every byte was here already
        part.unlink()
        return False


def _save(answer: HTTPResponse, part: Path, progress: Progress) -> bool:
    resumed = answer.status == _PARTIAL
    here = part.stat().st_size if resumed else 0
    if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
        part.unlink()
        return False
    length = answer.headers.get("Content-Length")
    total = here + int(length) if length else 0
    etag = answer.headers.get("ETag", "")
    if etag and not etag.startswith("W/"):
        _tag(part).write_text(etag, encoding="utf-8")
    else:
        _tag(part).unlink(missing_ok=True)
    with part.open("ab" if resumed else "wb") as handle:
        while block := answer.read(_BLOCK):
            handle.write(block)
            here += len(block)
            progress(here, total)
    return not total or here == total
