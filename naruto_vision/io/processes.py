"""Processes of this package that are connected with the one that started them."""

import multiprocessing
import subprocess
import sys
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
