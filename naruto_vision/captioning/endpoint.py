"""Describe regions through any OpenAI-compatible chat-completions endpoint, with the standard library's HTTP client."""

import base64
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from naruto_vision.captioning.protocol import QUESTION, SHORTER, Describer, Description, ImageRegion
from naruto_vision.errors import InputError
from naruto_vision.io.images import encode_image, shrink
from naruto_vision.io.text import printable
from naruto_vision.records import ImageArray, Region

KEY = "NARUTO_VISION_API_KEY"
"""The environment variable of the key; nothing else is read, so that no other service's key is sent by mistake."""
LOCAL = "http://localhost:1234/v1"
"""Where LM Studio listens."""
Payload: TypeAlias = Literal["crop", "alpha"]
"""The cut-out of the region (RGBA), or the whole image with the mask as alpha, as the DAM server expects it."""

_LOG = logging.getLogger(__name__)
_START = (
    "start a server that can see images: `lms server start` (LM Studio, port 1234), `vllm serve MODEL` (--url "
    "http://localhost:8000/v1), `ollama serve` (--url http://localhost:11434/v1) or `llama-server -m MODEL --mmproj "
    "FILE` (--url http://localhost:8080/v1); or leave out --describer endpoint: attributes need no server"
)
_MOST_BYTES = 1 << 20  # of an answer; 256 tokens are two kilobytes
_MOST_TEXT = 4000
_BLOCK = 1 << 16
_SMALLEST = 32  # pixels: vision models refuse images of less than a patch or two
_LONGEST_PAUSE = 30.0
_CONNECT = 10.0  # seconds
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_FATAL = {401, 403, 404, 405}
_THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)  # of reasoning models


class _Style(NamedTuple):
    """How a kind of server is asked."""

    question: str
    sampling: Mapping[str, Any]
    model: str


_STYLES: Mapping[str, _Style] = {
    "crop": _Style(QUESTION, {"max_tokens": 256, "temperature": 0.3}, ""),
    "alpha": _Style(  # of the DAM server's own client
        "Describe the masked region in detail.",
        {"max_tokens": 128, "temperature": 0.2, "top_p": 0.5},
        "describe_anything_model",
    ),
}


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None  # the DAM server's is a list


class _Choice(msgspec.Struct):
    message: _Message


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _AnswerError(Exception):
    """One request failed. ``pause`` is how long the server asks to wait; None if asking again is of no use."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class EndpointDescriber(Describer):
    """Asks a chat-completions server: LM Studio, vLLM, Ollama, llama.cpp, a hosted service, or the DAM server.

    Regions are sent concurrently, at most ``workers`` at once. After 408, 409, 425, 429, 5xx, a dropped or slow
    connection, or an answer that cannot be read, the request is repeated with growing pauses, or the pause that
    ``Retry-After`` asks for. A region for which all attempts fail has a ``Description`` with an ``error``. The key
    is read from the environment variable ``NARUTO_VISION_API_KEY`` and sent to this server only: redirects are refused.

    Args:
        url: The base URL, to which ``/chat/completions`` is added.
        model: The model's name; empty for the only one that the server lists.
        payload: ``crop`` sends the cut-out of a region, ``alpha`` the whole image with the mask as alpha (DAM).
        question: What is asked; None for the question of the payload. ``alpha`` also takes DAM's sampling.
        workers: Requests at once.
        timeout: Seconds until an answer must be complete.
        attempts: Requests in all for one region, if they fail.
        pause: Seconds before the first repetition, doubled each time.
        max_side: Larger images are scaled down to this many pixels a side.

    Raises:
        InputError: If the URL is no address of HTTP, or a number is out of its range.

    Examples:
        >>> import naruto_vision as nv
        >>> nv.EndpointDescriber("http://localhost:8000", payload="alpha").url
        'http://localhost:8000'
    """

    def __init__(
        self,
        url: str = LOCAL,
        model: str = "",
        *,
        payload: Payload = "crop",
        question: str | None = None,
        workers: int = 4,
        timeout: float = 120.0,
        attempts: int = 4,
        pause: float = 1.0,
        max_side: int = 1024,
    ) -> None:
        if payload not in _STYLES or min(workers, attempts) < 1 or timeout <= 0 or pause < 0 or max_side < _SMALLEST:
            raise InputError(
                f"endpoint: expected payload crop or alpha, workers and attempts >= 1, timeout > 0, pause >= 0 and "
                f"max_side >= {_SMALLEST}, found {payload}, {workers}, {attempts}, {timeout}, {pause}, {max_side}"
            )
        style = _STYLES[payload]
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self._address = _address(self.url)
        self.model = model or style.model
        self.payload, self.question, self._sampling = payload, question or style.question, style.sampling
        self.workers, self.timeout, self.attempts = workers, timeout, attempts
        self.pause, self.max_side = pause, max_side
        self.batch_size = 2 * workers  # what a killed run loses at most, and half a round of waiting
        self._reached = False
        self._stop = threading.Event()  # set once another question has ended the run
        self._open: set[socket.socket] = set()

    @property
    def name(self) -> str:
        """The model and the server."""
        return f"{self.model} at {self.url}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Server, model, payload, question and sampling."""
        asked = {"payload": self.payload, "question": self.question, "max_side": self.max_side, **self._sampling}
        return {"describer": "endpoint", "url": self.url, "model": self.model, **asked}

    def load(self) -> None:
        """Check that the server can be reached, and find its model if none is given.

        Raises:
            InputError: If it cannot be reached; the error says how to start one. If it lists several models or none.
        """
        if self._reached:
            return
        secure = self._address.scheme == "https" or self._address.hostname in {"localhost", "127.0.0.1", "::1"}
        if _key() and not secure:
            _LOG.warning("%s: the key of %s is sent unencrypted; use https", self.url, KEY)
        try:
            names = self._models()
        except (OSError, HTTPException) as error:
            raise InputError(f"{self.url}: {_reason(error)}; {_START}") from None
        if not self.model:
            if len(names) != 1:
                listed = f"lists {len(names)} models ({', '.join(names[:5])})" if names else "lists no models"
                raise InputError(f"{self.url}: {listed}; give the name of one: --model NAME")
            self.model = names[0]
        self._reached = True

    def unload(self) -> None:
        """Forget that the server was reached; the server's own memory is not ours."""
        self._reached = False

    def describe(self, items: Sequence[ImageRegion], *, again: bool = False) -> list[Description]:
        """Ask for all regions, ``workers`` at once: images (H, W, 3), uint8, RGB, upright, each with a region of it.

        Raises:
            InputError: If the server is not there, or refuses the key, the path or the model.
        """
        self._stop.clear()
        self.load()
        question = self.question + (SHORTER if again else "")
        pool = ThreadPoolExecutor(max_workers=self.workers, thread_name_prefix="describe")
        try:
            asked = [pool.submit(self._describe, item, question) for item in items]
            for answered in wait(asked, return_when=FIRST_EXCEPTION).done:
                answered.result()  # raises what stops the run, before slower answers are there
            return [one.result() for one in asked]
        finally:  # also after Ctrl-C, which must not wait for slow answers
            self._stop.set()
            for each in list(self._open):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            pool.shutdown(cancel_futures=True)

    def _describe(self, item: ImageRegion, question: str) -> Description:
        draw = region_with_alpha if self.payload == "alpha" else region_cut_out
        image = base64.b64encode(encode_image(draw(*item, self.max_side), ".png")).decode("ascii")
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
            {"type": "text", "text": question},
        ]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], **self._sampling}
        data, pause, reason = json.dumps({**body, "stream": False}).encode(), self.pause, ""
        for attempt in range(self.attempts):
            if self._stop.wait(pause if attempt else 0.0):
                break
            try:
                return Description(_text(self._ask("POST", "/chat/completions", data)))
            except _AnswerError as error:
                reason = str(error)
                if error.pause is None or error.pause > self.timeout:
                    break
                pause = max(error.pause, min(self.pause * 2**attempt, _LONGEST_PAUSE))
            except (OSError, HTTPException) as error:
                reason = _reason(error)
                pause = min(self.pause * 2**attempt, _LONGEST_PAUSE)
        return Description(error=reason or "stopped")

    def _models(self) -> list[str]:
        """List the server's models; none if it does not say, as the DAM server."""
        try:
            return [model.id for model in _converted(self._ask("GET", "/models"), _Models).data]
        except _AnswerError:
            return []

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """Send one request, and return the body of the answer.

        Raises:
            InputError: On an answer that no other question changes.
            _AnswerError: On another answer than 200.
            OSError, HTTPException: If the connection fails, or is too slow.
        """
        until = time.monotonic() + self.timeout
        headers = {"Accept": "application/json", "User-Agent": "naruto-vision"}
        headers |= {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Authorization": f"Bearer {key}"} if (key := _key()) else {}
        where = self._address
        with self._connected() as (connection, opened):
            target = where.path + path + (f"?{where.query}" if where.query else "")
            connection.request(method, target, body=body, headers=headers)
            answer = connection.getresponse()
            data = _read(answer, opened, until)
        if answer.status == HTTPStatus.OK:
            return data
        reason = f"the server answered {answer.status} {answer.reason}{_server_words(data)}"
        if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
            to = printable(answer.headers.get("Location", "nowhere"))[:200]
            raise InputError(f"{self.url}: redirects to {to}; redirects are not followed: give that address as --url")
        if answer.status in _FATAL and (method == "POST" or answer.status in {401, 403}):
            advice = f"set {KEY}" if answer.status in {401, 403} else "check --url and --model"
            raise InputError(f"{self.url}: {reason}; {advice}")
        raise _AnswerError(reason, _retry_after(answer) if answer.status in _AGAIN else None)

    @contextmanager
    def _connected(self) -> Iterator[tuple[HTTPConnection, socket.socket]]:
        kind = HTTPSConnection if self._address.scheme == "https" else HTTPConnection
        connection = kind(self._address.hostname or "", self._address.port, timeout=min(self.timeout, _CONNECT))
        connection.connect()
        opened: socket.socket = connection.sock  # the connection drops it once the headers say that no answer follows
        opened.settimeout(self.timeout)
        self._open.add(opened)
        try:
            if self._stop.is_set():  # between the look at the open ones and now
                raise _AnswerError("stopped")
            yield connection, opened
        finally:
            self._open.discard(opened)
            connection.close()


def _address(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # which is checked when it is read
    except ValueError as error:
        raise InputError(f"{url}: expected an address such as {LOCAL} ({error})") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(f"endpoint: expected an address without a password, found one; put the key into {KEY}")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isascii() or not url.isprintable():
        raise InputError(f"{url}: expected an address that starts with http:// or https://, such as {LOCAL}")
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/chat/completions"))


def _key() -> str:
    key = os.environ.get(KEY, "").strip()
    if key and not (key.isascii() and key.isprintable() and " " not in key):
        msg = f"{KEY}: expected a key without spaces and line ends, found others"  # the key itself is not shown
        raise InputError(msg)
    return key


def _read(answer: HTTPResponse, opened: socket.socket, until: float) -> bytes:
    """Read a body of bounded size, in bounded time."""
    data, missing = bytearray(), answer.length  # None if the server does not say
    while missing is None or missing > 0:
        opened.settimeout(max(until - time.monotonic(), 1e-3))
        block = answer.read1(_BLOCK if missing is None else min(_BLOCK, missing))
        if not block and missing:
            raise HTTPException("the connection was cut")
        if not block:
            break
        data += block
        missing = None if missing is None else missing - len(block)
        if len(data) > _MOST_BYTES:
            raise _AnswerError(f"the answer has more than {_MOST_BYTES} bytes")
    return bytes(data)


def _converted(data: bytes, kind: type[Any]) -> Any:  # noqa: ANN401 - of the given type
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        msg = f"the answer is no chat completion{_server_words(data)}"
        raise _AnswerError(msg, 0.0) from None


def _text(data: bytes) -> str:
    """Return what the model says, on one line for each of its paragraphs; empty if it says nothing."""
    completion: _Completion = _converted(data, _Completion)
    content = completion.choices[0].message.content if completion.choices else None
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    lines = (" ".join(line.split()) for line in _THOUGHTS.sub("", text).splitlines())
    return printable("\n".join(filter(None, lines))[:_MOST_TEXT])


def _server_words(data: bytes) -> str:
    """Return the server's own message, in brackets, if it has one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    message = found.get("error", found.get("detail")) if isinstance(found, dict) else None
    message = message.get("message") if isinstance(message, dict) else message
    return f" ({printable(' '.join(message.split()))[:200]})" if isinstance(message, str) and message.strip() else ""


def _retry_after(answer: HTTPResponse) -> float:
    """Return how many seconds the server asks to wait; 0 if it does not say."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    with suppress(ValueError, TypeError, OverflowError):
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    return 0.0


def _reason(error: Exception) -> str:
    match error:
        case ConnectionRefusedError():
            return "nothing listens there"
        case TimeoutError():
            return "no complete answer in time"
        case socket.gaierror():
            return "no such host"
        case _:
            return printable(str(error)) or "the connection was dropped"


def region_cut_out(image: ImageArray, region: Region, max_side: int) -> NDArray[np.uint8]:
    """Cut a region out to its mask's box: (h, w, 4), uint8, RGBA, white and transparent outside the mask."""
    x1, y1, x2, y2 = region.box
    mask = region.mask
    canvas = np.full((max(len(mask), _SMALLEST), max(mask.shape[1], _SMALLEST), 4), (255, 255, 255, 0), np.uint8)
    canvas[: len(mask), : mask.shape[1], :3][mask] = image[y1 : y2 + 1, x1 : x2 + 1][mask]
    canvas[: len(mask), : mask.shape[1], 3][mask] = 255
    return _bounded(canvas, max_side)


def region_with_alpha(image: ImageArray, region: Region, max_side: int) -> NDArray[np.uint8]:
    """Return the whole image with the mask as alpha: (h, w, 4), uint8, RGBA."""
    mask = region.full_mask(*image.shape[:2])
    return _bounded(np.dstack([image, mask.astype(np.uint8) * 255]), max_side)


def _bounded(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    """Scale down to a largest side; alpha stays 0 or 255, and no pixel of a small mask is lost."""
    smaller = shrink(image, max_side)
    if smaller is not image:
        smaller[..., 3] = (smaller[..., 3] > 0) * 255
    return smaller
