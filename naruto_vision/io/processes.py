"""Processes of this package that are connected with the one that started them."""

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


def start_process(serve: Callable[[int], None]) -> "tuple[subprocess.Popen[bytes], Connection]":
    """Start a process whose whole life is a function of a module, which gets the handle of its end of a connection.

    A process of multiprocessing would run the main script again, and could not be started by a daemonic one. Returns
    the process, and this end of the connection, which is closed at the other end when the process ends.
    """
    connection, theirs = multiprocessing.Pipe()
    begin = f"from {serve.__module__} import {serve.__name__}; {serve.__name__}({theirs.fileno()})"
    code = f"import sys; sys.path[:] = {sys.path}; {begin}"
    with theirs:
        process = subprocess.Popen([sys.executable, "-c", code], pass_fds=[theirs.fileno()])  # noqa: S603 - ours
    return process, connection


def end_with_parent(_worker: int = 0) -> None:
    """End this process when the one that started it ends, however that ends; ``worker_init_fn`` of loaders.

    A worker of a killed process would otherwise wait for ever for somebody to read its last batches.
    """
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
