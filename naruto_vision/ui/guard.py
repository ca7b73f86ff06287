"""``Guard``: what every request passes before the application sees it.

Hosts and origins are checked, bodies bounded in bytes and time, sessions found by a cookie, and a password asked for
where the application can be reached from other machines.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import json
import time
from collections.abc import Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from fastapi import HTTPException

from naruto_vision.ui.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "naruto_vision_session"
_BODY = 1_000_000  # bytes of a request that is no upload
_SLOWEST = 10_000  # bytes of a body in a second, on average after the first half minute
_LONGEST_NAME = 255  # bytes of a part of a path; file systems take no more
_TRIES, _MINUTE = 5, 60.0  # of a password, from one address
_ADDRESSES = 10_000  # whose wrong passwords are counted
_Headers: TypeAlias = list[tuple[bytes, bytes]]

HEADERS: _Headers = [
    (name.encode(), value.encode())
    for name, value in {
        "content-security-policy": (
            "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
            "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; font-src 'self' data:; "
            "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
        ),  # the page's framework compiles its templates in the browser, which needs unsafe-eval
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
    }.items()
]


class Guard:
    """ASGI middleware around the whole application.

    ``hosts`` are the values of the Host header that are served, without the port; a page of another name that points
    here (DNS rebinding) gets nothing. With a password, so is every numeric address, which no other site can have. The
    ``password`` is asked for by HTTP basic authentication, under any user name, until there is a session; "" asks for
    none.
    """

    def __init__(self, app: "ASGIApp", service: Service, hosts: Iterable[str], password: str = "") -> None:
        self._app, self._service = app, service
        self._hosts, self._password = frozenset(hosts), password.encode()
        self._failed: dict[str, list[float]] = {}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request or websocket."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        session = self._service.session(_cookie(headers))
        refusal = self._refusal(scope, headers) or (None if session else self._check_password(scope, headers))
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        more: _Headers = [*HEADERS]
        path, method = scope["path"], scope.get("method")
        if session is None and (path == "/" or (method == "POST" and path.startswith("/api/"))):
            session = self._service.open_session()
            cookie = f"{COOKIE}={session.key}; Path=/; HttpOnly; SameSite=Lax"  # Strict forgets it where a link opens
            more.append((b"set-cookie", cookie.encode()))
        scope.setdefault("state", {})["session"] = session
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        most = self._most(path)
        if int(headers.get("content-length") or 0) > most:
            await _refuse(scope, receive, send, 413, f"a request of more than {most // 1_000_000} MB")
            return

        async def send_with_headers(message: "Message") -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]} - {b"set-cookie"}
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0] not in own)]
            await send(message)

        await self._app(scope, _Bounded(receive, most, self._service.config.limits.receive_seconds), send_with_headers)

    def _most(self, path: str) -> int:
        """Return how many bytes the body of a request may have."""
        limits = self._service.config.limits
        match path:
            case "/api/files":
                return limits.video_bytes + _BODY
            case "/api/analyze":
                return limits.request_files * limits.file_bytes + _BODY
            case _:
                return _BODY

    def _refusal(self, scope: "Scope", headers: MutableMapping[str, str]) -> "tuple[int, str] | None":
        names = [name for name, _ in scope["headers"]]
        host, origin, length = headers.get("host", ""), headers.get("origin"), headers.get("content-length", "0")
        site = headers.get("sec-fetch-site", "none")
        opened = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if any(names.count(name) > 1 for name in (b"host", b"origin", b"content-length")):
            return 400, "expected one Host, Origin and Content-Length"
        if not self._is_served(_split(f"//{host}")[0]):
            return 421, "this host name is not served; see --host and --name"
        if origin is not None and _split(origin)[1] != host:
            return 403, "requests from pages of another origin are refused"
        if site not in {"same-origin", "none"} and not (opened and scope.get("method") == "GET"):
            return 403, "requests from pages of another origin are refused"
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            return 400, "Content-Length: expected a number of bytes"
        path = scope["path"]
        longest = max(len(name.encode()) for name in path.split("/"))
        if not path.isprintable() or "\\" in path or longest > _LONGEST_NAME:
            return 400, "expected a shorter address without control characters and backslashes"
        return None

    def _is_served(self, name: str) -> bool:
        return name in self._hosts or (bool(self._password) and _is_address(name))

    def _check_password(self, scope: "Scope", headers: MutableMapping[str, str]) -> "tuple[int, str] | None":
        if not self._password:
            return None
        address = (scope.get("client") or ("",))[0]
        now = time.monotonic()
        failed = [when for when in self._failed.pop(address, ()) if now - when < _MINUTE]
        if failed:
            self._failed[address] = failed
        if len(failed) >= _TRIES:
            return 429, "too many wrong passwords; try again in a minute"
        tried = _password(headers.get("authorization", ""))
        if tried is None:
            return 401, "a password is needed"
        if hmac.compare_digest(hashlib.sha256(tried).digest(), hashlib.sha256(self._password).digest()):
            return None
        self._failed[address] = [*failed, now]
        if len(self._failed) > _ADDRESSES:  # of a flood; the first was seen longest ago
            self._failed.pop(next(iter(self._failed)))
        return 401, "wrong password"


class _Bounded:
    """``receive`` with a bound on the bytes of the body, on the time between two parts of it, and on its slowness."""

    def __init__(self, receive: "Receive", most: int, seconds: float) -> None:
        self._receive, self._most, self._seconds, self._more = receive, most, seconds, True
        self._bytes, self._waited = 0, 0.0

    async def __call__(self) -> "Message":
        if not self._more:  # the body is complete: the next message is the end of the connection
            return await self._receive()
        began = time.monotonic()
        try:
            late = max(0.0, self._waited - self._bytes / _SLOWEST)
            message = await asyncio.wait_for(self._receive(), self._seconds - late)
        except TimeoutError:
            raise HTTPException(408, "the request was sent too slowly", {"connection": "close"}) from None
        self._waited += time.monotonic() - began
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._more = bool(message.get("more_body"))
            if self._bytes > self._most:
                text = f"a request of more than {self._most // 1_000_000} MB"
                raise HTTPException(413, text, {"connection": "close"})
        return message


def _split(url: str) -> tuple[str, str]:
    """Return the host name and the whole authority of a URL; "" where it is none."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        return parts.hostname or "", parts.netloc
    return "", ""


def _password(authorization: str) -> bytes | None:
    """Return the password of a header; None if it has none."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer" or not value:
        return value.encode("latin-1") or None
    with contextlib.suppress(ValueError):
        return base64.b64decode(value, validate=True).partition(b":")[2]
    return b""


def _is_address(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _cookie(headers: MutableMapping[str, str]) -> str:
    try:
        found: Any = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else str(found.value)


async def _refuse(scope: "Scope", receive: "Receive", send: "Send", status: int, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    body = json.dumps({"detail": reason}).encode()
    headers: _Headers = [(b"content-type", b"application/json"), (b"connection", b"close"), *HEADERS]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="naruto-vision", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
