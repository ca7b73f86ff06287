"""Servers of vector stores on this machine, and the packages that each store needs."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PACKAGES = {"chroma": ("chromadb",), "milvus": ("pymilvus", "milvus_lite")}


@contextmanager
def serving(command: list[str | Path], kind: str) -> Iterator[str]:
    """Run a server of a store; yields its URI when it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        try:
            uri = f"{kind}+http://127.0.0.1:{port}"
            for _ in range(300):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
            yield uri
        finally:
            run.terminate()
