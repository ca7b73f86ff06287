"""Decode a video in a process of its own: a decoder of a damaged file may loop in native code, or crash.

Frames pass through memory that both processes share. The process ends with the reader, and is killed where it gives
neither a frame nor a sign of life for ``stall`` seconds.
"""

import mmap
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from naruto_vision.errors import BadVideoError, NarutoVisionError
from naruto_vision.io.processes import start_process
from naruto_vision.io.video import Scan, VideoFrame, VideoReader, check_video_file, cut_part, lost_text

_SLOTS = 3  # frames in shared memory
_START = 120.0  # seconds that a new process may take on a busy machine
_SIGN = 0.5  # seconds between signs of life
_SHARED = Path("/dev/shm")  # noqa: S108 - memory, where it is large enough


class IsolatedVideoReader(VideoReader):
    """A ``VideoReader`` whose decoder cannot stall or end this process; the frames are the same.

    A process that reads and decodes nothing for ``stall`` seconds is killed: BadVideoError on opening, else ``lost``
    says so.
    """

    def __init__(self, path: str | Path, *, stall: float = 60.0, **options: Any) -> None:
        self._stall, self._options = stall, options
        self._worker: _Worker | None = None
        super().__init__(path, **options)

    def _read_packets(self) -> Scan:
        check_video_file(self._path)
        self._worker = _Worker(self._path, self._options)
        kind, *found = self._worker.receive(_START)
        if kind == "started":
            kind, *found = self._worker.receive(self._stall)
        if kind == "scan":
            scan: Scan = found[0]
            return scan
        self.close()
        raise BadVideoError(self._path, self._reason(kind, found))

    def close(self) -> None:
        """End the process that was started to open the file; an iteration starts another one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _reason(self, kind: str, found: list[Any]) -> str:
        match kind:
            case "error":
                return str(found[0]).removeprefix(f"{self._path}: ")
            case "stall":
                return f"cannot be opened within {self._stall:g} s; it is damaged"
            case _:
                return f"its decoder crashed ({found[0]}); it is damaged"

    def __iter__(self) -> Iterator[VideoFrame]:
        """Yield the frames in order of presentation."""
        self.lost = ""
        if self._worker is None:
            self._read_packets()
        worker, self._worker = self._worker, None
        if worker is None:
            return
        found, faults, ended = 0, Counter[str](), ""
        try:
            for kind, *what in worker.frames(self._picked, self._stall):
                if kind == "frame":
                    found += 1
                    yield VideoFrame(what[0], float(self._scan.times[what[0]]), what[1])
                elif kind == "end":
                    faults = what[0]
                elif kind == "stall":
                    ended = f"the decoder gave no frame for {self._stall:g} s and was ended"
                else:
                    ended = f"the decoder crashed ({what[0]})"
        finally:
            worker.close()
        self.lost = lost_text(self._scan.missing, len(self._picked) - found, len(self._picked), faults, ended)


def cut_video(source: str | Path, start: float, end: float, stem: str | Path, *, exact: bool = False) -> Path:
    """Write a part of a video to a file of its own.

    Packets are copied where the container allows it, with the sound: without loss, from the last key frame up to
    ``start``. Other videos (GIF, turned ones) and exact parts are encoded again as H.264, without sound.

    Args:
        source: The video.
        start: Seconds of the first frame.
        end: Seconds; frames from here on are left out.
        stem: Path of the file to write without its suffix, which is that of the container.
        exact: Encode again, so that the part starts at ``start``.

    Returns:
        The file.

    Raises:
        MissingPathError: If there is no such file.
        BadVideoError: If it is no video that can be read.
        InputError: If there are no frames in that part.
    """
    reader = IsolatedVideoReader(source)
    reader.close()  # packets are copied without a decoder
    return cut_part(reader, start, end, stem, exact=exact)


class _Worker:
    """The process, seen from its parent; messages are tuples that begin with their kind."""

    def __init__(self, path: Path, options: dict[str, Any]) -> None:
        self._process, self._connection = start_process(serve)
        with suppress(OSError):  # of a process that has crashed, which the next message says
            self._connection.send((path, options))

    def receive(self, seconds: float) -> tuple[Any, ...]:
        """Return the next message; ("stall",) after so many seconds, ("crash", why) if the process has ended."""
        message: tuple[Any, ...] = ("alive",)
        try:
            while message[0] == "alive":
                if not self._connection.poll(seconds):
                    return ("stall",)
                message = self._connection.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            code = self._process.returncode or 0
            return ("crash", signal.Signals(-code).name if code < 0 else f"exit code {code}")
        return message

    def frames(self, picked: Any, seconds: float) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - an array of indices
        """Have the picked frames decoded, and yield ("frame", index, image) of each, then the last message."""
        with suppress(OSError):  # of a process that has crashed, which the next message says
            self._connection.send(picked)
        memory: Any = None
        while True:
            kind, *what = self.receive(seconds)
            if kind == "memory":
                memory = self._share(what[0])
                continue
            if kind == "shared":
                index, shape, offset = what
                image = np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset).reshape(shape).copy()
                with suppress(OSError):
                    self._connection.send_bytes(b"1")  # the slot is free
                kind, what = "frame", [index, image]
            yield (kind, *what)
            if kind != "frame":
                return

    def _share(self, size: int) -> mmap.mmap:
        roomy = _SHARED.is_dir() and shutil.disk_usage(_SHARED).free > 2 * size
        with tempfile.TemporaryFile(dir=_SHARED if roomy else None) as file:
            file.truncate(size)
            with suppress(OSError):
                reduction.send_handle(self._connection, file.fileno(), self._process.pid)
            return mmap.mmap(file.fileno(), size)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._connection.close()
        self._process.wait()


class _SigningReader(VideoReader):
    """Reads, and sends a sign of life while no frame is due."""

    def __init__(self, connection: Connection, path: Path, options: dict[str, Any]) -> None:
        self._connection, self._signed = connection, time.monotonic()
        super().__init__(path, **options)

    def _alive(self) -> None:
        now = time.monotonic()
        if now - self._signed > _SIGN:
            self._connection.send(("alive",))
            self._signed = now


def serve(handle: int) -> None:
    """Open the video, wait for what is picked, and send its frames; the process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    connection = Connection(handle)
    try:
        path, options = connection.recv()
        connection.send(("started",))
        _send_all(connection, path, options)
        while True:  # the parent ends this process: one that ends with unread messages takes those it sent along
            connection.recv_bytes()
    except (EOFError, OSError):  # the parent has ended
        os._exit(1)


def _send_all(connection: Connection, path: Path, options: dict[str, Any]) -> None:
    try:
        reader = _SigningReader(connection, path, options)
    except NarutoVisionError as error:
        connection.send(("error", str(error)))
        return
    connection.send(("scan", reader.scan))
    reader.pick(connection.recv())
    _send_frames(connection, reader)
    connection.send(("end", reader.faults))


def _send_frames(connection: Connection, reader: VideoReader) -> None:
    memory: Any = None
    size = sent = 0
    for frame in reader:
        if memory is None:
            size = frame.image.nbytes
            connection.send(("memory", _SLOTS * size))
            handle = reduction.recv_handle(connection)
            memory = mmap.mmap(handle, _SLOTS * size)
            os.close(handle)
        if frame.image.nbytes > size:  # frames of another size later on
            connection.send(("frame", frame.index, frame.image))
            continue
        if sent >= _SLOTS:
            connection.recv_bytes()
        offset = sent % _SLOTS * size
        np.frombuffer(memory, np.uint8, frame.image.nbytes, offset)[:] = frame.image.reshape(-1)
        connection.send(("shared", frame.index, frame.image.shape, offset))
        sent += 1
