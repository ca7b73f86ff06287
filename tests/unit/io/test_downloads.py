import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.downloads import (
    LOCK,
    OFFICIAL,
    OfficialWeights,
    Retries,
    check_weights,
    download_weights,
    find_weights,
)

CONTENT = bytes(range(256)) * 4096  # one megabyte
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Retries(attempts=2, pause=0.0, timeout=5.0)


@dataclass
class Home:
    """What the server does, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True
    etag: str = '"one"'
    cut_after: int = 0
    status: int = 200
    asked: list[str] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    home: Home

    def do_GET(self) -> None:
        home = self.home
        wanted = self.headers.get("Range", "")
        home.asked.append(wanted)
        if home.status != 200:
            self.send_error(home.status)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and home.ranges else 0
        if self.headers.get("If-Range", home.etag) != home.etag:
            start = 0
        if start >= len(home.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(home.content)}")
            self.end_headers()
            return
        body = home.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(home.content) - 1}/{len(home.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", home.etag)
        self.end_headers()
        self.wfile.write(body[: home.cut_after] if home.cut_after else body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def home() -> Iterator[Home]:
    state = Home()
    handler = type("Handler", (_Handler,), {"home": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def _row(home: Home, sha256: str = SHA256, md5_prefix: str = "") -> OfficialWeights:
    return OfficialWeights(
        "toy", f"{home.url}/toy.pth", "toy.pth", 1, "MIT", "nobody", sha256, "url" if sha256 else "none", md5_prefix
    )


def test_a_file_comes_whole_and_is_recognised(home: Home, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    verdict = download_weights(_row(home), tmp_path / "new", progress=lambda here, total: seen.append((here, total)))
    assert verdict.path.read_bytes() == CONTENT
    assert verdict.known == "published"
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in verdict.path.parent.iterdir()] == ["toy.pth"]


def test_a_file_that_is_here_is_not_fetched_again(home: Home, tmp_path: Path) -> None:
    download_weights(_row(home), tmp_path)
    download_weights(_row(home), tmp_path)
    assert home.asked == [""]


def test_an_unfinished_file_is_continued(home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(CONTENT[:1000])
    assert download_weights(_row(home), tmp_path).path.read_bytes() == CONTENT
    assert home.asked == ["bytes=1000-"]


def test_a_part_that_is_complete_already_is_taken(home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(CONTENT)
    assert download_weights(_row(home), tmp_path, retries=QUICK).path.read_bytes() == CONTENT


def test_a_part_longer_than_the_file_starts_again(home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(CONTENT + b"more")
    assert download_weights(_row(home), tmp_path, retries=QUICK).path.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(home: Home, tmp_path: Path) -> None:
    home.ranges = False
    (tmp_path / "toy.pth.part").write_bytes(b"x" * 1000)
    assert download_weights(_row(home), tmp_path).path.read_bytes() == CONTENT


def test_another_version_on_the_server_is_not_glued_to_the_old_start(home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(b"x" * 1000)
    (tmp_path / "toy.pth.part.etag").write_text('"zero"')
    assert download_weights(_row(home, sha256=""), tmp_path).path.read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_again(home: Home, tmp_path: Path) -> None:
    home.cut_after = 300_000
    assert download_weights(_row(home), tmp_path, retries=QUICK).path.read_bytes() == CONTENT
    assert home.asked == ["", "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_connection_cut_for_good_keeps_the_part(home: Home, tmp_path: Path) -> None:
    (tmp_path / "toy.pth.part").write_bytes(CONTENT[:1000])
    gone = replace(_row(home), url="http://127.0.0.1:9/toy.pth")  # nobody listens on the discard port
    with pytest.raises(InputError, match="after 1000 bytes; run the command again"):
        download_weights(gone, tmp_path, retries=QUICK)
    assert (tmp_path / "toy.pth.part").stat().st_size == 1000


def test_a_wrong_file_is_refused_and_removed(home: Home, tmp_path: Path) -> None:
    home.content = b"something else"
    with pytest.raises(FormatError, match=r"toy\.pth.*expected sha256 .* was removed"):
        download_weights(_row(home), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_md5_in_a_name_is_checked(home: Home, tmp_path: Path) -> None:
    good = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()[:6]
    assert download_weights(_row(home, md5_prefix=good), tmp_path).known == "published"
    with pytest.raises(FormatError, match="MD5"):
        check_weights(_row(home, md5_prefix="000000"), tmp_path / "toy.pth")


@pytest.mark.parametrize(("status", "text"), [(404, "404 Not Found"), (403, "403"), (503, "503.*after 0 bytes")])
def test_a_server_that_refuses_is_told_in_one_line(home: Home, tmp_path: Path, status: int, text: str) -> None:
    home.status = status
    with pytest.raises(InputError, match=text) as caught:
        download_weights(_row(home), tmp_path, retries=QUICK)
    assert "\n" not in str(caught.value)


def test_a_file_without_published_hash_is_recorded_and_held(home: Home, tmp_path: Path) -> None:
    row = _row(home, sha256="")
    assert download_weights(row, tmp_path).known == "new"
    assert json.loads((tmp_path / LOCK).read_text()) == {"toy.pth": SHA256}
    assert download_weights(row, tmp_path).known == "recorded"
    (tmp_path / "toy.pth").unlink()
    home.content = b"another file under the same name"
    with pytest.raises(FormatError, match="sha256"):
        download_weights(row, tmp_path)


def test_a_mirror_serves_the_same_names(home: Home, tmp_path: Path) -> None:
    row = replace(_row(home), url="http://127.0.0.1:9/never/asked.pth")
    assert download_weights(row, tmp_path, base_url=f"{home.url}/mirror/").path.read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://somewhere/toy.pth", "toy.pth"])
def test_only_web_addresses_are_opened(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="http"):
        download_weights(OfficialWeights("toy", url, "toy.pth", 1, "MIT", "nobody"), tmp_path, retries=QUICK)


def test_a_broken_record_is_told(home: Home, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("{")
    with pytest.raises(FormatError, match=LOCK):
        download_weights(_row(home), tmp_path)


def test_names_files_and_addresses_are_unique() -> None:
    for values in ([row.name for row in OFFICIAL], [row.file for row in OFFICIAL], [row.url for row in OFFICIAL]):
        assert len(set(values)) == len(values)


def test_every_family_is_there() -> None:
    names = {row.name for row in OFFICIAL}
    assert {"sam_vit_b", "sam_vit_l", "sam_vit_h", "sam2.1_hiera_large", "ViT-B-32.openai", "RN50.openai"} <= names
    assert {"ViT-B-32.laion2b_s34b_b79k", "dinov2_vits14", "dinov2_vitg14_reg"} <= names


@pytest.mark.parametrize("row", OFFICIAL, ids=lambda row: row.name)
def test_hashes_are_whole_and_say_where_they_come_from(row: OfficialWeights) -> None:
    assert re.fullmatch(r"([0-9a-f]{64})?", row.sha256)
    assert (row.hash_source == "none") == (row.sha256 == "")
    if row.hash_source == "url":
        assert row.sha256 in row.url
    if row.md5_prefix:
        assert row.md5_prefix in row.file
    assert urlsplit(row.url).scheme == "https"
    assert row.megabytes > 0
    assert row.licence


def test_lookup_takes_names_and_file_names_and_helps() -> None:
    assert find_weights("sam_vit_b_01ec64.pth").name == "sam_vit_b"
    with pytest.raises(InputError, match=r"did you mean ViT-B-32\.openai"):
        find_weights("ViT-B/32")
    with pytest.raises(InputError, match="weights list"):
        find_weights("nothing")
