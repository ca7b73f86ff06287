"""``Engine``: one process with the models, which all sessions of the web application share.

The page's process never imports torch. Quick calls pass running jobs at their next step, jobs take turns, and a job
that does not stop when it is cancelled is ended with its process, which is then started again.
"""

import asyncio
import heapq
import importlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.io.processes import start_process

if TYPE_CHECKING:
    import subprocess

_LOG = logging.getLogger(__name__)
_GRACE = 5.0  # seconds that a cancelled job has to reach its next step
_FAULT = "something went wrong; the log of the server has the details"


class BusyError(NarutoVisionError):
    """The queue is full."""

    def __init__(self, text: str = "busy: too many requests are waiting; try again in a moment") -> None:
        super().__init__(text)


class LostError(NarutoVisionError):
    """The process with the models has ended."""

    def __init__(self, text: str = "the models were started again while this was running; run it again") -> None:
        super().__init__(text)


class CancelledError(NarutoVisionError):
    """The job was cancelled."""

    def __init__(self, text: str = "cancelled") -> None:
        super().__init__(text)


Watch = Callable[[int, int, Any], None]
"""Takes how many steps of a job are done, how many there are, and any news of the last one."""


@dataclass
class _Request:
    message: tuple[Any, ...]
    answer: "asyncio.Future[Any]"
    watch: Watch | None = None
    started: bool = False
    running: bool = False
    """Whether it computes now: a job that waits for its turn does not."""


@dataclass
class Engine:
    """The process with the models, seen from the process of the page. All methods belong to one event loop."""

    settings: Mapping[str, Any]  # of ``Models`` in the process
    most: int = 32  # requests that may wait or run at a time
    _requests: dict[int, _Request] = field(default_factory=dict)
    _numbers: Any = field(default_factory=count)
    _process: "subprocess.Popen[bytes] | None" = None
    _connection: Connection | None = None
    _send: threading.Lock = field(default_factory=threading.Lock)
    _heard: bool = False  # of this process

    def start(self) -> None:
        """Start the process; it imports its packages while the page opens."""
        self._heard = False
        self._process, self._connection = start_process(serve)
        self._connection.send(dict(self.settings))
        arguments = (self._connection, asyncio.get_running_loop())
        threading.Thread(target=self._receive_all, args=arguments, daemon=True, name="engine").start()

    @property
    def pid(self) -> int | None:
        """The process's id; None before it was started."""
        return None if self._process is None else self._process.pid

    @property
    def waiting(self) -> int:
        """Requests that wait or run."""
        return len(self._requests)

    def stop(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    async def call(self, task: str, /, **arguments: Any) -> Any:  # noqa: ANN401 - whatever the task returns
        """Run a function of ``ui.tasks`` ("scenes.view") before the next step of any job; returns what it returns.

        Raises:
            BusyError: If too many requests are waiting.
            LostError: If the process ended meanwhile.
            NarutoVisionError: As the task raises it.
        """
        _, answer = self._ask("call", task, arguments, None)
        return await answer

    def job(self, task: str, watch: Watch, /, **arguments: Any) -> "tuple[int, asyncio.Future[Any]]":
        """Queue a function of ``ui.tasks`` that reports its steps, or BusyError; returns its number and future."""
        return self._ask("job", task, arguments, watch)

    def _ask(
        self, kind: str, task: str, arguments: Mapping[str, Any], watch: Watch | None
    ) -> "tuple[int, asyncio.Future[Any]]":
        if len(self._requests) >= self.most:
            raise BusyError
        if self._process is None:
            self.start()
        number, answer = next(self._numbers), asyncio.get_running_loop().create_future()
        request = _Request((kind, number, task, dict(arguments)), answer, watch)
        self._requests[number] = request
        answer.add_done_callback(lambda _: self._requests.pop(number, None))
        self._post(request.message)
        return number, answer

    def _post(self, message: tuple[Any, ...]) -> None:
        with self._send, suppress(OSError):  # of a process that has ended, which _lost deals with
            if self._connection is not None:
                self._connection.send(message)

    def cancel(self, number: int) -> None:
        """Stop a job at its next step; if it reaches none in time, its process is ended and started again."""
        request = self._requests.get(number)
        if request is not None:
            self._post(("cancel", number))
            _in_background(self._end_if_running(number, request))

    async def _end_if_running(self, number: int, request: _Request) -> None:
        await asyncio.sleep(_GRACE)
        if self._requests.get(number) is not request or request.answer.done():
            return
        request.answer.set_exception(CancelledError())
        if request.running and self._process is not None:  # one that waits for the step of another stops by itself
            _LOG.warning("a cancelled job did not stop; the models are started again")
            self._process.kill()  # the other requests are sent again, by _lost

    def _receive_all(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        try:
            while True:
                loop.call_soon_threadsafe(self._received, connection.recv())
        except (EOFError, OSError):
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._lost, connection)

    def _received(self, message: tuple[Any, ...]) -> None:
        self._heard = True
        kind, number, *what = message
        request = self._requests.get(number)
        if request is None or request.answer.done():
            return
        request.started, request.running = True, kind == "began"
        if kind == "began":
            return
        if kind == "step":
            if request.watch is not None:
                request.watch(*what)
        elif kind == "done":
            request.answer.set_result(what[0])
        else:
            request.answer.set_exception(what[0])

    def _lost(self, connection: Connection) -> None:
        """Start again after the process ended; what had not begun is sent again, the rest has failed.

        A process that ended before it did anything is started by the next request only, as it may end again.
        """
        if connection is not self._connection or self._process is None:  # it was stopped
            return
        code = self._process.wait()
        if code != -signal.SIGKILL:
            _LOG.error("the process with the models ended (exit code %s); it is started again", code)
        waiting = [request for request in self._requests.values() if not request.answer.done()]
        again = self._heard
        if again:
            self.start()
        else:
            self._process = None
        for request in waiting:
            if request.started or not again:
                request.answer.set_exception(LostError())
            else:
                self._post(request.message)


_running: set["asyncio.Task[None]"] = set()


def _in_background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    _running.add(task)  # the loop keeps weak references only
    task.add_done_callback(_running.discard)


class _Turns:
    """A lock that is given to the waiting thread of the lowest rank, and of equal ranks to the one that came first."""

    def __init__(self) -> None:
        self._lock, self._taken = threading.Lock(), False
        self._waiting: list[tuple[int, int, threading.Event]] = []
        self._numbers = count()

    def take(self, rank: int) -> None:
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Event()
            heapq.heappush(self._waiting, (rank, next(self._numbers), turn))
        turn.wait()

    def give(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].set()
            else:
                self._taken = False


_CALL, _JOB = 0, 1
"""Ranks: calls go before jobs."""


class _Server:
    """Runs the tasks: each request in a thread of its own, one of which computes at a time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending, self._turns = threading.Lock(), _Turns()
        self._cancelled: set[int] = set()
        self._models: Any = None

    def run(self) -> None:
        settings = self._connection.recv()
        self._turns.take(_JOB)  # which _open gives away
        threading.Thread(target=self._open, args=(settings,), daemon=True).start()
        while True:
            kind, number, *what = self._connection.recv()
            if kind == "cancel":
                self._cancelled.add(number)
            else:
                arguments = (kind, number, *what)
                threading.Thread(target=self._answer, args=arguments, daemon=True).start()

    def _open(self, settings: Mapping[str, Any]) -> None:
        from naruto_vision.ui.models import Models

        self._models = Models(**settings)
        self._turns.give()

    def _send(self, *message: Any) -> None:
        with self._sending:
            self._connection.send(message)

    def _check(self, number: int) -> None:
        if number in self._cancelled:
            raise CancelledError

    def _answer(self, kind: str, number: int, task: str, arguments: dict[str, Any]) -> None:
        rank = _CALL if kind == "call" else _JOB

        def step(done: int, total: int, news: Any = None) -> None:  # noqa: ANN401 - whatever the task reports
            self._send("step", number, done, total, news)
            self._turns.give()
            self._turns.take(rank)
            self._check(number)
            self._send("began", number)

        self._turns.take(rank)
        try:
            self._check(number)
            self._send("began", number)
            more = {"step": step} if kind == "job" else {}
            module, _, function = task.partition(".")
            run = getattr(importlib.import_module(f"naruto_vision.ui.tasks.{module}"), function)
            found = run(self._models, **arguments, **more)
        except NarutoVisionError as error:
            self._send("failed", number, _portable(error))
        except Exception:  # noqa: BLE001 - one request's defect must not end those of other sessions
            _LOG.exception("task %s failed", task)
            self._send("failed", number, NarutoVisionError(_FAULT))
        else:
            self._send("done", number, found)
        finally:
            self._cancelled.discard(number)
            self._turns.give()


def _portable(error: NarutoVisionError) -> NarutoVisionError:
    """Return an error that can be sent: those of the package have constructors of their own."""
    if isinstance(error, CancelledError):
        return error
    return InputError(str(error)) if isinstance(error, InputError) else NarutoVisionError(str(error))


def serve(handle: int) -> None:
    """Run what the process of the page asks for; the process's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    logging.basicConfig(format="%(message)s")
    logging.getLogger("naruto_vision").setLevel(logging.INFO)  # not what libraries tell, as faiss does at import
    try:
        _Server(Connection(handle)).run()
    except (EOFError, OSError):  # the parent has ended
        os._exit(0)
