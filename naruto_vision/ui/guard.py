"""``Guard``: what every request passes before the application sees it.

Hosts and origins are checked, bodies bounded in bytes and time, sessions found by a cookie, and a password asked for
where the application can be reached from other machines.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from naruto_vision.ui.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "naruto_vision_session"
_BODY = 1_000_000  # bytes of a request that is no upload
_RECEIVE = 30.0  # seconds without a byte of a body
_TRIES, _MINUTE = 5, 60.0  # of a password, from one address
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

    Args:
        app: The application.
        service: Whose sessions the cookies are.
        hosts: Values of the Host header that are served, without the port; a page of another name that points here
            (DNS rebinding) gets nothing.
        password: Asked for by HTTP basic authentication, under any user name; "" asks for none.
    """

    def __init__(self, app: "ASGIApp", service: Service, hosts: Iterable[str], password: str = "") -> None:
        self._app, self._service = app, service
        self._hosts, self._password = frozenset(hosts), password.encode()
        self._failed: dict[str, deque[float]] = {}

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve one request or websocket."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, receive, send, *refusal)
            return
        more: _Headers = [*HEADERS]
        session = self._service.session(_cookie(headers))
        path, method = scope["path"], scope.get("method")
        if session is None and (path == "/" or (method == "POST" and path.startswith("/api/"))):
            session = self._service.open_session()
            cookie = f"{COOKIE}={session.key}; Path=/; HttpOnly; SameSite=Strict"
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

        await self._app(scope, _Bounded(receive, most), send_with_headers)

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
        host = headers.get("host", "")
        if urlsplit(f"//{host}").hostname not in self._hosts:
            return 421, "this host name is not served; see --host"
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope.get("method") not in {"GET", "HEAD", "OPTIONS"}
        if changes and origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests from pages of another origin are refused"
        if changes and origin is None and headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            return 403, "requests from pages of another origin are refused"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 16):
            return 400, "Content-Length: expected a number of bytes"
        if self._password:
            return self._check_password(scope, headers.get("authorization", ""))
        return None

    def _check_password(self, scope: "Scope", given: str) -> "tuple[int, str] | None":
        address = (scope.get("client") or ("",))[0]
        failed, now = self._failed.setdefault(address, deque(maxlen=_TRIES)), time.monotonic()
        while failed and now - failed[0] > _MINUTE:
            failed.popleft()
        if len(self._failed) > 10_000:  # addresses of a flood
            self._failed = {key: tries for key, tries in self._failed.items() if tries}
        if len(failed) >= _TRIES:
            return 429, "too many wrong passwords; try again in a minute"
        kind, _, value = given.partition(" ")
        if not value:
            return 401, "a password is needed"
        if kind.lower() == "bearer":
            tried = value.encode("latin-1")
        else:
            try:
                tried = base64.b64decode(value, validate=True).partition(b":")[2]
            except ValueError:
                tried = b""
        if hmac.compare_digest(hashlib.sha256(tried).digest(), hashlib.sha256(self._password).digest()):
            return None
        failed.append(now)
        return 401, "wrong password"


class _Bounded:
    """``receive`` with a bound on the bytes of the body, and on the time between two parts of it."""

    def __init__(self, receive: "Receive", most: int) -> None:
        self._receive, self._left, self._more = receive, most, True

    async def __call__(self) -> "Message":
        if not self._more:  # the body is complete: the next message is the end of the connection
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), _RECEIVE)
        except TimeoutError:
            return {"type": "http.disconnect"}
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._more = bool(message.get("more_body"))
            if self._left < 0:
                return {"type": "http.disconnect"}
        return message


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
