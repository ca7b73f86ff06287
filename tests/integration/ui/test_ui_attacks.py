"""What is refused by a started server; after each attack it is alive and answers right."""

import base64
import io
import json
import os
import re
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import nicegui
import psutil
import pytest
from PIL import Image

if TYPE_CHECKING:
    from conftest import Server, StartServer

FRAMEWORK = f"/_nicegui/{nicegui.__version__}"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport="
EVIL = "http://evil.example"
MARKUP = '<img src=x onerror="window.hacked=1">'


@pytest.fixture(scope="module")
def segments(server: "Server") -> Iterator[Callable[[], None]]:
    """Check that a good request of somebody who uses the server is answered right, also after all tests."""
    with server.client() as client:
        query = {"file": _upload(client, _png()), "points": [[20, 20, True]]}

        def check() -> None:
            found = client.post("/api/segment", json=query)
            assert (found.status_code, len(found.json()["masks"])) == (200, 3)

        yield check
        check()


_SEGMENTED = set[str]()


@pytest.fixture(autouse=True)
def server_lives(request: pytest.FixtureRequest, server: "Server", segments: Callable[[], None]) -> Iterator[None]:
    """Check after each test that the server is alive, and after the first case of each that it computes."""
    size = server.log.stat().st_size
    yield
    assert server.process.poll() is None
    assert httpx.get(f"{server.address}/api/health").status_code == 200
    if (name := request.function.__name__) not in _SEGMENTED:
        _SEGMENTED.add(name)
        segments()
    assert b"Traceback" not in server.log.read_bytes()[size:]


def _png(width: int = 48, height: int = 40) -> bytes:
    data = io.BytesIO()
    image = Image.new("RGB", (width, height), "white")
    image.paste((200, 30, 30), (10, 10, 30, 30))
    image.save(data, "PNG")
    return data.getvalue()


def _upload(client: httpx.Client, data: bytes, name: str = "a.png") -> str:
    answer = client.post("/api/files", files=[("files", (name, data))])
    assert answer.status_code == 200, answer.text
    found: str = answer.json()[0]["id"]
    return found


def _raw(server: "Server", data: bytes, seconds: float = 20.0) -> tuple[int, str]:
    """Send bytes as they are; returns the status (0 for a closed connection) and the whole answer."""
    host, port = server.address.removeprefix("http://").split(":")
    answer = b""
    with socket.create_connection((host, int(port)), seconds) as connection:
        try:
            connection.sendall(data)
            while chunk := connection.recv(1 << 16):
                answer += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
    found = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return (int(found[1]) if found else 0), answer.decode("utf-8", "replace")


def _ask(
    server: "Server", target: str, *headers: str, method: str = "GET", body: bytes = b"", host: str | None = "127.0.0.1"
) -> tuple[int, str]:  # fmt: skip
    lines = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]), "Connection: close", *headers]
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return _raw(server, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def _check(server: "Server", status: int, text: str) -> None:
    """Check that an answer is a polite refusal, without a place on the disk of the server."""
    assert 400 <= status < 500, text
    _check_text(server, text)


def _check_text(server: "Server", text: str) -> None:
    package = Path(nicegui.__file__).parent.parent
    for secret in ("Traceback", "naruto-vision-ui-", "root:", str(server.world.root), str(package), str(Path.cwd())):
        assert secret not in text


# paths

_UP = "../" * 12
_PATHS = {
    "root": f"/{_UP}etc/passwd",
    "static": f"/static/{_UP}etc/passwd",
    "static-encoded-slash": f"/static/{_UP.replace('/', '%2f')}etc%2fpasswd",
    "static-encoded-dots": f"/static/{_UP.replace('.', '%2e')}etc/passwd",
    "static-double-encoded": f"/static/{_UP.replace('/', '%252f')}etc%252fpasswd",
    "static-backslash": "/static/" + "..\\" * 12 + "etc\\passwd",
    "static-encoded-backslash": "/static/" + "..%5c" * 12 + "etc%5cpasswd",
    "static-absolute": "/static//etc/passwd",
    "static-encoded-absolute": "/static/%2fetc%2fpasswd",
    "static-null": "/static/input.js%00.png",
    "static-four-dots": "/static/" + "....//" * 12 + "etc/passwd",
    "static-overlong-utf8": "/static/" + "%c0%ae%c0%ae/" * 12 + "etc/passwd",
    "static-source": "/static/../guard.py",
    "static-long-name": "/static/" + "a" * 1900,
    "static-long-path": "/static/" + "a/" * 5000,
    "files": f"/files/{_UP}etc/passwd",
    "files-encoded": f"/files/x/{_UP.replace('/', '%2f')}etc%2fpasswd",
    "files-absolute": "/files//etc/passwd",
    "files-null": "/files/%00/%00",
    "files-control": "/files/a%0d%0aSet-Cookie:%20x=1/b",
    "framework-static": f"{FRAMEWORK}/static/{_UP}etc/passwd",
    "framework-static-encoded": f"{FRAMEWORK}/static/{_UP.replace('/', '%2f')}etc%2fpasswd",
    "framework-static-null": f"{FRAMEWORK}/static/%00",
    "framework-library": f"{FRAMEWORK}/libraries/{_UP.replace('/', '%2f')}etc%2fpasswd",
    "framework-component": f"{FRAMEWORK}/components/{_UP.replace('/', '%2f')}etc%2fpasswd",
    "framework-dynamic": f"{FRAMEWORK}/dynamic_resources/..%2f..%2fetc%2fpasswd",
    "gallery": f"/api/gallery/{_UP}etc/passwd?rows=true",
    "gallery-encoded": "/api/gallery/..%2f..%2f..%2fetc?rows=true",
    "gallery-absolute": "/api/gallery//etc/passwd",
    "gallery-url": "/api/gallery/file:///etc/passwd",
    "gallery-null": "/api/gallery/%00",
    "controls-absolute": "/api/controls//etc/passwd",
    "controls-encoded": "/api/controls/..%2f..%2f..%2fetc%2fpasswd",
    "absolute-form": f"http://127.0.0.1/{_UP}etc/passwd",
}


@pytest.mark.parametrize("target", _PATHS.values(), ids=_PATHS)
def test_no_path_leads_to_a_file_of_the_server(server: "Server", target: str) -> None:
    _check(server, *_ask(server, target))


@pytest.mark.parametrize("kind", ["esm", "resources"])
@pytest.mark.parametrize("way", ["..%2f", "%00", "%2fetc%2fpasswd%23", "a" * 400])
def test_packages_of_the_page_have_no_way_out(server: "Server", kind: str, way: str) -> None:
    with server.client() as client:
        found = re.search(rf"{FRAMEWORK}/{kind}/([^/\"]+)/", client.get("/").text)
    key = found[1] if found else "nicegui"
    status, text = _ask(server, f"{FRAMEWORK}/{kind}/{key}/{way * (12 if way == '..%2f' else 1)}etc%2fpasswd")
    _check(server, status, text)


@pytest.mark.parametrize("method", ["TRACE", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "BREW", "G\x00T"])
def test_other_methods_are_refused(server: "Server", method: str) -> None:
    for target in ("/files/a/b", "/api/gallery/runs", "/static/input.js"):
        _check(server, *_ask(server, target, method=method))


# who asks

_COOKIES = {
    "forged": "naruto_vision_session=" + "A" * 43,
    "path": "naruto_vision_session=../../../etc/passwd",
    "empty": "naruto_vision_session=",
    "quoted": 'naruto_vision_session="\\"; Path=/',
    "bytes": "naruto_vision_session=\xff\xfe\x80",
    "many": "; ".join(f"naruto_vision_session={n}" for n in range(2000)),
    "no-name": "=;=;=",
}


@pytest.mark.parametrize("cookie", _COOKIES.values(), ids=_COOKIES)
def test_a_forged_session_has_nothing(server: "Server", cookie: str) -> None:
    _check(server, *_ask(server, "/files/abc/a.png", f"Cookie: {cookie}"))
    body = b'{"file": "abc", "points": [[1, 1, true]]}'
    _check(server, *_ask(server, "/api/segment", f"Cookie: {cookie}", "Content-Type: application/json",
                         method="POST", body=body))  # fmt: skip


@pytest.mark.parametrize("route", ["segment", "search", "gallery/{preset}/add", "video/search"])
def test_ids_of_another_session_are_not_known(server: "Server", route: str) -> None:
    with server.client() as first, server.client() as second:
        preset, file = first.get("/api/presets").json()["presets"][0], _upload(first, _png())
        bodies = {
            "segment": {"file": file, "points": [[5, 5, True]]},
            "search": {"preset": preset, "file": file},
            "video/search": {"file": file},
        }
        body = bodies.get(route, {"files": [file], "label": "Mallory"})
        answer = second.post(f"/api/{route.format(preset=preset)}", json=body)
    assert "of this session" in answer.text
    _check(server, answer.status_code, answer.text)


_HOSTS = ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[", "[::1", "10.0.0.7", "", " "]


@pytest.mark.parametrize("host", _HOSTS)
def test_other_host_names_are_not_served(server: "Server", host: str) -> None:
    for target in ("/", "/api/health", "/static/input.js"):
        _check(server, *_ask(server, target, host=host))


def test_a_request_has_one_host(server: "Server") -> None:
    _check(server, *_ask(server, "/", host=None))
    _check(server, *_ask(server, "/", "Host: evil.example"))


_ORIGINS = [EVIL, "null", "http://127.0.0.1:1", "https://127.0.0.1.evil.example", "http://[", "file://"]


@pytest.mark.parametrize("origin", _ORIGINS)
def test_pages_of_other_origins_change_and_read_nothing(server: "Server", origin: str) -> None:
    json_body = ("Content-Type: text/plain", f"Origin: {origin}")
    _check(server, *_ask(server, "/api/search", *json_body, method="POST", body=b'{"preset": "x"}'))
    _check(server, *_ask(server, "/api/presets", f"Origin: {origin}"))
    _check(server, *_ask(server, f"{SOCKET}polling", f"Origin: {origin}"))
    key = base64.b64encode(os.urandom(16)).decode()
    upgrade = ("Upgrade: websocket", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Origin: {origin}")
    text = "\r\n".join([f"GET {SOCKET}websocket HTTP/1.1", "Host: 127.0.0.1", "Connection: Upgrade", *upgrade])
    _check(server, *_raw(server, text.encode() + b"\r\n\r\n"))


_METADATA = {
    "form": ("POST", "/api/files", "cross-site", "navigate", "document"),
    "fetch": ("POST", "/api/search", "same-site", "no-cors", "empty"),
    "image": ("GET", "/files/a/b", "cross-site", "no-cors", "image"),
    "frame": ("GET", "/", "cross-site", "navigate", "iframe"),
    "script": ("GET", "/static/input.js", "same-site", "no-cors", "script"),
    "polling": ("GET", f"{SOCKET}polling", "cross-site", "no-cors", "empty"),
}


@pytest.mark.parametrize("case", _METADATA.values(), ids=_METADATA)
def test_parts_of_other_sites_are_refused(server: "Server", case: tuple[str, ...]) -> None:
    method, target, *values = case
    headers = [f"Sec-Fetch-{name}: {value}" for name, value in zip(("Site", "Mode", "Dest"), values, strict=True)]
    _check(server, *_ask(server, target, *headers, method=method))


def test_a_link_from_another_site_opens_the_page_with_its_session(server: "Server") -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    with server.client() as client:
        answer = client.get("/", headers=headers)
    assert answer.status_code == 200
    assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]  # which a link from elsewhere brings along
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


# bodies

_LENGTHS = {
    "terabyte": ("/api/files", "Content-Length: 1000000000000"),
    "too-large-json": ("/api/segment", "Content-Length: 1000001"),
    "negative": ("/api/files", "Content-Length: -1"),
    "words": ("/api/files", "Content-Length: many"),
    "exponent": ("/api/files", "Content-Length: 1e3"),
    "signed": ("/api/files", "Content-Length: +5"),
    "digits": ("/api/files", "Content-Length: " + "9" * 400),
    "two": ("/api/files", "Content-Length: 5\r\nContent-Length: 6"),
    "smuggled": ("/api/search", "Content-Length: 5\r\nTransfer-Encoding: chunked, identity"),
    "bad-chunk": ("/api/search", "Transfer-Encoding: chunked"),
    "page": ("/", "Content-Length: 99999999"),
    "socket": (f"{SOCKET}polling", "Content-Length: 99999999"),
}


@pytest.mark.parametrize("case", _LENGTHS.values(), ids=_LENGTHS)
def test_lengths_that_lie_or_are_too_large_are_refused(server: "Server", case: tuple[str, str]) -> None:
    _check(server, *_ask(server, case[0], case[1], method="POST", body=b"x=1&y\r\n"))


@pytest.mark.parametrize("target", ["/api/segment", "/api/analyze", f"{SOCKET}polling"])
def test_chunks_beyond_the_limit_are_refused(scratch: "Server", target: str) -> None:
    kind = "multipart/form-data; boundary=b" if target == "/api/analyze" else "application/json"
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    headers = ("Transfer-Encoding: chunked", f"Content-Type: {kind}")
    _check(scratch, *_ask(scratch, target, *headers, method="POST", body=chunk * 20 + b"zz\r\n"))


def test_a_body_that_breaks_off_is_forgotten(server: "Server") -> None:
    host, port = server.address.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(b"POST /api/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nhalf")


def test_headers_without_an_end_are_refused(server: "Server") -> None:
    assert _ask(server, "/", "X: " + "a" * 2_000_000)[0] in {0, 400, 431}
    assert _ask(server, "/", *(f"X-{n}: {n}" for n in range(50_000)))[0] in {0, 400, 431}


def _parts(*parts: tuple[str, bytes]) -> tuple[str, bytes]:
    """Return the header and the body of a form whose parts have these headers."""
    body = b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return "Content-Type: multipart/form-data; boundary=b", body + b"--b--\r\n"


def _file(name: str, data: bytes) -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="files"; filename="{name}"', data


_FORMS = {
    "too-many-files": [_file("a.png", b"x")] * 51,
    "too-many-fields": [('Content-Disposition: form-data; name="preset"', b"x")] * 2000,
    "large-field": [('Content-Disposition: form-data; name="settings"', b"[" * 2_000_000)],
    "no-files": [('Content-Disposition: form-data; name="preset"', b"x")],
    "no-name": [("Content-Disposition: form-data", b"x")],
    "large-image": [_file("a.png", _png() + b"\0" * 21_000_000)],
}


@pytest.mark.parametrize("form", _FORMS.values(), ids=_FORMS)
def test_forms_beyond_the_limits_are_refused(server: "Server", form: list[tuple[str, bytes]]) -> None:
    header, body = _parts(*form)
    for target in ("/api/files", "/api/analyze"):
        _check(server, *_ask(server, target, header, method="POST", body=body))


_NO_JSON = {
    "deep": b'{"preset":' + b"[" * 200_000,
    "deep-closed": b"[" * 100_000 + b"]" * 100_000,
    "huge-number": b'{"preset": "x", "k": ' + b"9" * 100_000 + b"}",
    "nan": b'{"file": "x", "points": [[NaN, 1, true]], "box": [NaN, NaN, Infinity, 1]}',
    "infinity": b'{"file": "x", "points": [[1e999, -1e999, true]]}',
    "surrogate": b'{"preset": "\\ud800", "text": "\\udfff"}',
    "no-utf8": b'{"preset": "\xff\xfe"}',
    "other-keys": b'{"preset": "x", "file": "x", "__class__": "os.system", "text": "a"}',
    "null": b"null",
    "array": b"[1, 2, 3]",
    "empty": b"",
    "long-text": b'{"preset": "x", "text": "' + b"a" * 900_000 + b'"}',
    "many-points": b'{"file": "x", "points": [' + b"[1,1,true]," * 50_000 + b"[1,1,true]]}",
    "many-files": b'{"files": [' + b'"x",' * 100_000 + b'"x"], "label": "a"}',
    "wrong-types": b'{"preset": {"a": []}, "k": "many", "file": 7, "points": "all", "mask": -1}',
}


@pytest.mark.parametrize("body", _NO_JSON.values(), ids=_NO_JSON)
def test_malformed_json_is_refused(server: "Server", body: bytes) -> None:
    for route in ("search", "segment", "gallery/runs/add", "gallery/runs/rollback", "video/search"):
        _check(server, *_ask(server, f"/api/{route}", "Content-Type: application/json", method="POST", body=body))


_SETTINGS = {
    "deep": "[" * 500_000,
    "other-keys": '{"path": "/etc/passwd"}',
    "nan": '{"expand": NaN}',
    "infinity": '{"expand": 1e999}',
    "huge": '{"min_area": ' + "9" * 5000 + "}",
    "weights-path": '{"weights": "/etc/passwd"}',
    "weights-url": '{"weights": "http://127.0.0.1:1/sam.pth"}',
    "no-json": "{",
}


@pytest.mark.parametrize("settings", _SETTINGS.values(), ids=_SETTINGS)
def test_settings_of_scenes_are_checked(server: "Server", settings: str) -> None:
    with server.client() as client:
        preset = client.get("/api/presets").json()["presets"][0]
        data = {"preset": preset, "settings": settings}
        answer = client.post("/api/analyze", data=data, files=[("files", ("a.png", _png()))])
    _check(server, answer.status_code, answer.text)


# files


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _bomb(width: int, height: int) -> bytes:
    """Return a PNG of one colour whose rows are all there, at 1 bit a pixel."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * ((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _jpeg() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(data, "JPEG")
    return data.getvalue()


_IMAGES: dict[str, Callable[[], bytes]] = {
    "huge-header": lambda: _bomb(8, 8).replace(struct.pack(">II", 8, 8), struct.pack(">II", 60_000, 60_000), 1),
    "huge-jpeg": lambda: re.sub(rb"(\xff\xc0..\x08)....", b"\\1\xea\x60\xea\x60", _jpeg(), flags=re.DOTALL),
    "bomb": lambda: _bomb(10_000, 8_000),
    "thin-bomb": lambda: _bomb(30_000, 16),
    "text-bomb": lambda: _png()[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * 300_000_000, 9)) + _png()[33:],
    "huge-gif": lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + b"\0" * 6 + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;",
    "truncated-png": lambda: _png()[:60],
    "truncated-jpeg": lambda: _jpeg()[:300],
    "no-size": lambda: _bomb(8, 8).replace(struct.pack(">II", 8, 8), struct.pack(">II", 0, 8), 1),
    "empty": lambda: b"",
    "svg": lambda: (
        b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><image href="file:///etc/passwd"/></svg>'
    ),
    "html": lambda: b"<!doctype html><script>alert(1)</script>",
    "postscript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "pdf": lambda: b"%PDF-1.7\n1 0 obj<</OpenAction<</S/JavaScript>>>>endobj\n",
    "pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch /tmp/hacked'\ntR.",
    "magick": lambda: b"push graphic-context\nfill 'url(http://127.0.0.1:1/x.png)'\npop graphic-context\n",
    "zip": lambda: b"PK\x03\x04" + b"\0" * 60,
    "video": lambda: b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
}


@pytest.mark.parametrize("make", _IMAGES.values(), ids=_IMAGES)
def test_files_that_are_no_images_are_refused(server: "Server", make: Callable[[], bytes]) -> None:
    with server.client() as client:
        for name in ("a.png", "a.jpg"):
            answer = client.post("/api/files", files=[("files", (name, make()))])
            _check(server, answer.status_code, answer.text)
            assert name in answer.json()["detail"]


@pytest.fixture
def listener() -> Iterator[tuple[str, Callable[[], bool]]]:
    """An address that should not be asked for anything, and whether it was."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)

        def asked() -> bool:
            try:
                listening.accept()[0].close()
            except TimeoutError:
                return False
            return True

        yield f"http://127.0.0.1:{listening.getsockname()[1]}/a.png", asked


_VIDEOS = {
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{url}\n#EXTINF:9,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{url}'\nfile /etc/passwd\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\na=control:{url}\n",
    "empty": "",
    "text": "no video",
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("text", _VIDEOS.values(), ids=_VIDEOS)
def test_files_that_are_no_videos_are_refused(
    server: "Server", listener: tuple[str, Callable[[], bool]], text: str, suffix: str
) -> None:
    url, asked = listener
    with server.client() as client:
        data = text.format(url=url).encode()
        answer = client.post("/api/files", files=[("files", (f"a{suffix}", data))])
    _check(server, answer.status_code, answer.text)
    assert not asked()


def test_addresses_where_names_are_expected_are_not_asked(
    server: "Server", listener: tuple[str, Callable[[], bool]]
) -> None:
    url, asked = listener
    with server.client() as client:
        file = _upload(client, _png())
        point = [[5, 5, True]]
        queries = [
            ("search", {"preset": url, "text": "a"}),
            ("search", {"preset": "/etc", "text": "a"}),
            ("search", {"preset": "", "file": url}),
            ("segment", {"file": url, "points": point}),
            ("segment", {"file": "/etc/passwd", "points": point}),
            ("segment", {"file": file, "points": point, "weights": url}),
            ("segment", {"file": file, "points": point, "weights": "../../secret.pth"}),
            ("segment", {"file": file, "points": point, "preset": url}),
            ("video/search", {"text": "a", "videos": [url, "/etc/passwd"]}),
            ("video/search", {"character": "a", "preset": url}),
            (f"gallery/{url}/add", {"files": [file], "label": "a"}),
        ]
        for route, body in queries:
            answer = client.post(f"/api/{route}", json=body)
            _check(server, answer.status_code, answer.text)
    assert not asked()


_NAMES = {
    "markup": MARKUP.replace('"', "%22") + ".png",
    "up": "../../../../evil.png",
    "up-windows": "..\\..\\evil.png",
    "absolute": "/etc/cron.d/evil.png",
    "drive": "C:\\Windows\\evil.png",
    "null": "a\x00b.png",
    "control": "a\x1b[31mb\x7f\x08.png",
    "dots": "..",
    "dot": ".",
    "spaces": "   ",
    "long": "\u00e9" * 2000 + ".png",
    "right-to-left": "a\u202egnp.exe",
    "shell": "$(touch x);`id`.png",
    "stream": "a.png::$DATA",
    "template": "{{7*7}}${7*7}.png",
}


@pytest.mark.parametrize("name", _NAMES.values(), ids=_NAMES)
def test_names_of_files_are_cleaned(server: "Server", name: str) -> None:
    header, body = _parts(_file(name, _png()))
    status, text = _ask(server, "/api/files", header, method="POST", body=body)
    if status == 200:
        found = json.loads(re.search(r"\[\{.*\}\]", text)[0])[0]["name"]  # type: ignore[index]  # or it fails
        assert re.fullmatch(r"[\w()+~-][\w .()+~-]*", found)
        assert len(found.encode()) <= 200
        _check_text(server, text)
    else:
        _check(server, status, text)


def test_results_are_kept_below_their_folder_whatever_their_name(scratch: "Server") -> None:
    before = {path.name for path in scratch.log.parent.iterdir()}
    with scratch.client() as client:
        preset = client.get("/api/presets").json()["presets"][0]
        for name in ("../../evil", "/etc/evil", "a/../../../evil", "..", "a\u0000b", MARKUP):
            settings = json.dumps({"keep_as": name, "max_masks": 1})
            data = {"preset": preset, "settings": settings}
            answer = client.post("/api/analyze", data=data, files=[("files", ("a.png", _png()))])
            assert answer.status_code == 200, answer.text
    kept = list((scratch.log.parent / "kept").iterdir())
    assert len(kept) == 6
    assert all((path / "run.json").is_file() and re.fullmatch(r"[\w.~-]+", path.name) for path in kept)
    assert {path.name for path in scratch.log.parent.iterdir()} - before <= {"kept"}


def _gallery(server: "Server") -> Path:
    return server.log.parent / "own/gallery"


@pytest.fixture(scope="module")
def markup(scratch: "Server") -> None:
    """Add an image to the gallery under a label with markup."""
    with scratch.client() as client:
        body = {"files": [_upload(client, _png(), f"{MARKUP}.png".replace('"', ""))], "label": MARKUP}
        answer = client.post("/api/gallery/own/add", json=body)
        assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("markup")
def test_labels_with_markup_are_text(scratch: "Server") -> None:
    with scratch.client() as client:
        preset = client.get("/api/presets").json()["presets"][0]
        listed = client.get(f"/api/gallery/{preset}", params={"rows": True})
        assert listed.headers["content-type"] == "application/json"
        assert MARKUP in listed.json()["labels"]
        assert all(re.fullmatch(r"[\w./~-]+", row["path"]) for row in listed.json()["meta"])
        for label in ("", " " * 50, "a" * 300):
            files = [_upload(client, _png())]
            answer = client.post(f"/api/gallery/{preset}/add", json={"files": files, "label": label})
            _check(scratch, answer.status_code, answer.text)


@pytest.mark.browser
@pytest.mark.usefixtures("markup")
def test_nothing_in_names_and_labels_runs_in_the_page(scratch: "Server", tmp_path: Path) -> None:
    from conftest import CHROMIUM
    from playwright.sync_api import sync_playwright

    image = tmp_path / "<img src=x onerror=window.hacked=1>.png"
    image.write_bytes(_png(64, 64))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        outside: list[str] = []
        page.on("request", lambda request: outside.append(request.url))
        page.goto(scratch.address)
        with page.expect_file_chooser() as chooser:
            page.locator(".nv-drop").first.click()
        chooser.value.set_files(image)
        page.get_by_text("onerror").first.wait_for(timeout=60_000)
        for tab in ("Gallery", "Search", "Prompts", "Automatic", "Monitoring"):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_timeout(500)
            if tab == "Gallery":
                page.get_by_text(MARKUP).first.wait_for(timeout=60_000)
        assert page.evaluate("window.hacked") is None
        assert all(url.startswith((scratch.address, "data:", "blob:", "ws:")) for url in outside)
        browser.close()


def test_rows_of_a_gallery_from_elsewhere_show_no_other_images(tmp_path: Path) -> None:
    from naruto_vision.ui.tasks.scenes import entry_thumbnail

    root, folder = tmp_path / "data", tmp_path / "runs/gallery"
    for place in (root / "train", folder / "added", tmp_path / "runs"):
        place.mkdir(parents=True, exist_ok=True)
        (place / "a.png").write_bytes(_png())
    (tmp_path / "secret.png").write_bytes(_png())
    (folder / "added/link.png").symlink_to(tmp_path / "secret.png")
    note = {"root": str(root)}
    for good in ("train/a.png", "a.png", "added/a.png", "train/../train/a.png"):
        assert entry_thumbnail(folder, note, good) is not None
    secret = ("../secret.png", "../../secret.png", "../a.png", str(tmp_path / "secret.png"), "added/link.png")
    for bad in (*secret, "/etc/passwd", "../secret.png#xywh=0,0,9,9", "added/../../a.png", ""):
        assert entry_thumbnail(folder, note, bad) is None
        assert entry_thumbnail(folder, {}, bad) is None


# too much


def _analyze(server: "Server", client: httpx.Client, images: int = 1) -> int:
    files = [("files", ("a.png", _png(256, 256)))] * images
    answer = client.post("/api/analyze", data={"preset": "own"}, files=files)
    if answer.status_code != 200:
        _check_text(server, answer.text)
    if answer.status_code in {429, 503}:
        assert int(answer.headers["retry-after"]) > 0
    return answer.status_code


@pytest.mark.slow
def test_a_flood_of_jobs_is_told_to_come_back(scratch: "Server") -> None:
    with scratch.client() as flood, scratch.client() as other, ThreadPoolExecutor(14) as threads:
        _analyze(scratch, flood)  # which gives it a session
        found = list(threads.map(lambda _: _analyze(scratch, flood, 8), range(14)))
        assert set(found) == {200, 429}
        assert _analyze(scratch, other) == 200
        assert _analyze(scratch, flood) == 200
        assert other.get("/api/health").json()["waiting"] == 0


def test_jobs_of_a_client_that_left_are_cancelled(scratch: "Server") -> None:
    host, port = scratch.address.removeprefix("http://").split(":")
    fields = ('Content-Disposition: form-data; name="preset"', b"own")
    header, body = _parts(fields, *[_file("a.png", _png(512, 512))] * 20)
    with scratch.client() as client:
        with socket.create_connection((host, int(port))) as connection:
            lines = ["POST /api/analyze HTTP/1.1", "Host: 127.0.0.1", header, f"Content-Length: {len(body)}"]
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            time.sleep(2.0)
        for _ in range(150):
            if client.get("/api/health").json()["waiting"] == 0:
                break
            time.sleep(0.1)
        assert client.get("/api/health").json()["waiting"] == 0
        assert _analyze(scratch, client) == 200


def test_a_flood_of_sessions_leaves_those_with_files(server: "Server") -> None:
    with server.client() as client, server.client() as flood:
        query = {"file": _upload(client, _png()), "points": [[5, 5, True]]}
        for _ in range(280):
            flood.cookies.clear()
            flood.post("/api/search", json={"preset": "none", "text": "a"})
        assert client.get("/api/health").json()["sessions"] <= 256
        assert client.post("/api/segment", json=query).status_code == 200


def test_ranges_of_a_file_are_bounded(server: "Server") -> None:
    ranges = "Range: bytes=" + ",".join(f"{n}-{n + 1}" for n in range(0, 5000, 2))
    status, text = _ask(server, "/static/input.js", ranges)
    assert status in {200, 206, 400, 416}
    assert len(text) < 2_000_000
    _check(server, *_ask(server, "/static/input.js", "Range: bytes=99999999-"))


# the password


def test_without_the_password_there_is_nothing(locked: "Server") -> None:
    with locked.client() as client:
        for target in ("/", "/api/health", "/api/openapi.json", "/static/input.js", f"{SOCKET}polling", "/files/a/b"):
            answer = client.get(target)
            assert answer.headers["www-authenticate"].startswith("Basic ")
            _check(locked, answer.status_code, answer.text)
        assert client.post("/api/files", files=[("files", ("a.png", _png()))]).status_code == 401
        assert not client.cookies
    key = "Upgrade: websocket", "Sec-WebSocket-Key: YWFhYWFhYWFhYWFhYWFhYQ==", "Sec-WebSocket-Version: 13"
    text = "\r\n".join([f"GET {SOCKET}websocket HTTP/1.1", "Host: 127.0.0.1", "Connection: Upgrade", *key])
    _check(locked, *_raw(locked, text.encode() + b"\r\n\r\n"))


@pytest.mark.browser
def test_a_browser_with_the_password_gets_the_live_page(locked: "Server") -> None:
    from conftest import CHROMIUM
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        secret = {"username": "anybody", "password": "open sesame"}
        context = browser.new_context(http_credentials=secret)  # type: ignore[arg-type]  # which is a TypedDict
        page = context.new_page()
        page.goto(locked.address)
        page.get_by_role("tab", name="Monitoring").click()  # which the server builds, as the websocket tells it
        page.get_by_text("What was segmented since").wait_for(timeout=30_000)
        browser.close()


def test_passwords_are_not_guessed(locked: "Server") -> None:
    with locked.client(auth=("anybody", "open sesame")) as client:
        assert client.get("/").status_code == 200
        for host in ("vision.example", "VISION.example:443", "192.168.7.7:7860"):
            assert client.get("/api/health", headers={"Host": host}).status_code == 200
        assert client.get("/api/health", headers={"Host": "evil.example"}).status_code == 421
        basic = base64.b64encode(b"x:" + b"open sesame\n").decode()
        guesses = [f"Basic {basic}", "Basic !", "Bearer open", "Basic " + "A" * 4000, "Digest x", "Basic OnNlc2FtZQ=="]
        statuses = []
        for number, guess in enumerate(guesses):
            claims = (f"X-Forwarded-For: 10.0.0.{number}", f"Forwarded: for=10.0.0.{number}")
            statuses.append(_ask(locked, "/api/health", f"Authorization: {guess}", *claims)[0])
        assert statuses == [401] * 5 + [429]
        right = base64.b64encode(b"x:open sesame").decode()
        assert _ask(locked, "/api/health", f"Authorization: Basic {right}")[0] == 429
        assert client.get("/api/health").status_code == 200  # who was there already goes on


# what ends


def _models(server: "Server") -> psutil.Process:
    children = psutil.Process(server.process.pid).children()
    return next(child for child in children if "ui.engine import serve" in " ".join(child.cmdline()))


@pytest.mark.slow
def test_the_models_are_started_again_when_their_process_is_killed(scratch: "Server") -> None:
    with scratch.client() as client, ThreadPoolExecutor(6) as threads:
        assert _analyze(scratch, client) == 200
        asked = [threads.submit(_analyze, scratch, client, 3) for _ in range(6)]
        time.sleep(0.3)
        _models(scratch).send_signal(signal.SIGKILL)
        assert {each.result() for each in asked} <= {200, 503}
        assert _analyze(scratch, client) in {200, 503}
        assert _analyze(scratch, client) == 200
    assert b"Traceback" not in scratch.log.read_bytes()


def test_nothing_is_left_when_the_server_ends(
    start_server: "StartServer", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    started = start_server()
    with started.client() as client:
        _upload(client, _png())
    (folder,) = tmp_path.glob("naruto-vision-ui-*")
    assert list(folder.rglob("*.png"))
    models = _models(started)
    started.process.send_signal(signal.SIGKILL)
    started.process.wait(10)
    psutil.wait_procs([models], 10)
    assert not models.is_running()  # they end with the server
    assert folder.exists()
    second = start_server()  # which removes what the killed one left
    assert not folder.exists()
    second.process.terminate()
    second.process.wait(20)
    assert not list(tmp_path.glob("naruto-vision-ui-*"))
