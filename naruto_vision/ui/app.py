"""The application: guard, API and page on one server."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI

from naruto_vision.errors import InputError
from naruto_vision.ui.api import add_api
from naruto_vision.ui.guard import Guard
from naruto_vision.ui.service import Service, remove_leftovers
from naruto_vision.ui.settings import UiConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_LOG = logging.getLogger(__name__)
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONNECTIONS = 1000
_GRACE = 5  # seconds that requests have to end when the server is stopped
STATIC = Path(__file__).parent / "static"


def build_app(service: Service, hosts: tuple[str, ...] = LOOPBACK, password: str = "") -> "ASGIApp":
    """Build the whole application of a service, which it starts and closes; it serves these Host headers."""
    from nicegui import app as nicegui_app
    from nicegui import ui

    from naruto_vision.ui.page import add_page

    @contextlib.asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        service.begin()
        try:
            yield
        finally:
            service.close()

    app = FastAPI(title="naruto-vision", docs_url=None, redoc_url=None, openapi_url="/api/openapi.json", lifespan=life)
    add_api(app, service)
    nicegui_app.add_static_files("/static", STATIC)
    add_page(service)
    ui.run_with(
        app,
        title="naruto-vision",
        show_welcome_message=False,
        reconnect_timeout=30.0,
        dark=None,
        language="en-US",
        favicon=STATIC / "icon.svg",
    )
    return Guard(app, service, hosts, password)


def run(
    config: UiConfig, *, host: str, port: int, password: str, ready: Callable[[str], None], names: Sequence[str] = ()
) -> None:
    """Serve until the process is interrupted.

    Args:
        config: What the application offers.
        host: Address to listen on.
        port: Port; 0 takes a free one.
        password: Asked for if it is not empty; it must not be for another address than the loopback one.
        ready: Is called with the address once it can be used.
        names: Host names by which browsers reach it, as that of a proxy.

    Raises:
        InputError: If the port is taken, or another address has no password.
    """
    if host not in LOOPBACK and not password:
        raise InputError(f"--host {host}: other machines can reach it, so give a password: --auth FILE with one line")
    remove_leftovers()
    service = Service(config)
    app = build_app(service, tuple({*LOOPBACK, host, *(name.lower() for name in names)}), password)
    server = _Server(
        uvicorn.Config(
            app, host=host, port=port, log_level="warning", lifespan="on", server_header=False,
            http="h11",  # which bounds the headers
            proxy_headers=False,  # wrong passwords are counted by an address that nobody can choose
            ws_max_size=1 << 20, limit_concurrency=_CONNECTIONS, timeout_graceful_shutdown=_GRACE,
        )
    )  # fmt: skip
    server.ready = ready
    try:
        server.run()
    except SystemExit:
        if server.started:  # by a signal
            raise
        raise InputError(f"--port {port}: is in use on {host}; give another one, or 0 for any that is free") from None
    finally:
        service.close()


class _Server(uvicorn.Server):
    ready: Any

    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401 - uvicorn's
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
