"""The chat-completions client against a real server on the loopback, which misbehaves in every way that servers do."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import numpy as np
import pytest

import naruto_vision as nv
from naruto_vision.errors import InputError

IMAGE = np.zeros((40, 60, 3), np.uint8)
IMAGE[10:20, 5:25] = (200, 30, 30)
RAGGED = np.ones((10, 20), bool)
RAGGED[:5, :10] = False
REGION = nv.Region((5, 10, 24, 19), RAGGED)
KEY = "NARUTO_VISION_API_KEY"


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


class Server(ThreadingHTTPServer):
    """Answers with the functions of a list, one per request, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan: list[Callable[[Handler], None]] = []
        self.models: list[str] = ["some-model"]
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.lock = threading.Lock()
        self.busy = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing about connections that the client has cut."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.answer(json.dumps({"data": [{"id": name} for name in self.server.models]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers.items()), body))
            plan = self.server.plan
            act = plan.pop(0) if len(plan) > 1 else plan[0]
            self.server.busy += 1
            self.server.most = max(self.server.most, self.server.busy)
        try:
            act(self)
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def answer(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("length", str(len(data))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


def says(content: object) -> Callable[[Handler], None]:
    return lambda handler: handler.answer(completion(content))


def fails(status: int, text: str = "", **headers: str) -> Callable[[Handler], None]:
    data = json.dumps({"error": {"message": text}}).encode()
    return lambda handler: handler.answer(data, status, **headers)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv(KEY, raising=False)
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


def ask(server: Server, count: int = 1, **options: Any) -> list[nv.Description]:
    with nv.EndpointDescriber(server.url, **{"pause": 0.01, "timeout": 5.0, **options}) as describer:
        return describer.describe([(IMAGE, REGION)] * count)


def sent_image(server: Server, number: int = 0) -> np.ndarray:
    address = server.requests[number][2]["messages"][0]["content"][0]["image_url"]["url"]
    assert address.startswith("data:image/png;base64,")
    data = np.frombuffer(base64.b64decode(address.partition(",")[2]), np.uint8)
    return np.asarray(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), cv2.COLOR_BGRA2RGBA))


def test_the_cut_out_of_a_region_is_sent_and_the_answer_comes_back(server: Server) -> None:
    server.plan = [says(" A red   thing.\n\nIt is ragged. ")]
    assert ask(server) == [nv.Description("A red thing.\nIt is ragged.")]
    [(path, headers, body)] = server.requests
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert (body["model"], body["max_tokens"], body["temperature"], body["stream"]) == ("some-model", 256, 0.3, False)
    image = sent_image(server)
    assert image.shape == (32, 32, 4)  # never smaller, as vision models refuse a few pixels
    assert np.array_equal(image[:10, :20, 3] == 255, RAGGED)
    assert (image[:10, :20, :3][RAGGED] == (200, 30, 30)).all()
    assert (image[:10, :20, :3][~RAGGED] == 255).all()


def test_the_dam_server_gets_the_whole_image_with_the_mask_as_alpha_and_its_own_settings(server: Server) -> None:
    server.models, server.plan = [], [says([{"type": "text", "text": "A red "}, {"type": "text", "text": "box."}])]
    assert ask(server, payload="alpha")[0].text == "A red box."
    body = server.requests[0][2]
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0.2, 0.5, 128)
    assert body["messages"][0]["content"][1]["text"] == "Describe the masked region in detail."
    image = sent_image(server)
    assert np.array_equal(image[..., :3], IMAGE)
    assert np.array_equal(image[..., 3] == 255, REGION.full_mask(40, 60))


def test_large_images_are_scaled_down_and_keep_a_binary_mask(server: Server) -> None:
    server.plan = [says("small")]
    ask(server, payload="alpha", max_side=32)
    image = sent_image(server)
    assert image.shape == (21, 32, 4)
    assert set(np.unique(image[..., 3])) == {0, 255}


def test_the_thoughts_of_a_model_are_no_description(server: Server) -> None:
    server.plan = [says("<think>red?\nyes</think>A hat."), says("<think>never ends"), says(None)]
    assert [each.text for each in ask(server, 3, workers=1)] == ["A hat.", "", ""]


@pytest.mark.parametrize(
    "first",
    [
        fails(500, "out of memory"),
        fails(429),
        fails(503),
        lambda handler: handler.answer(b'{"choices": [{"mess'),
        lambda handler: handler.answer(b"<html>starting</html>"),
        lambda handler: handler.answer(b'{"error": {"message": "busy"}}'),
        lambda handler: handler.connection.close(),
        lambda handler: handler.answer(completion("cut"), length="9000"),
        lambda handler: handler.wfile.write(b"NONSENSE\r\n\r\n"),
    ],
    ids=["500", "429", "503", "half JSON", "HTML", "error with 200", "dropped", "cut", "no HTTP"],
)
def test_a_question_that_fails_once_is_asked_again(server: Server, first: Callable[[Handler], None]) -> None:
    server.plan = [first, says("fine")]
    assert ask(server) == [nv.Description("fine")]
    assert len(server.requests) == 2


def test_the_attempts_are_bounded_and_the_reason_is_kept(server: Server) -> None:
    server.plan = [fails(500, "no\tmemory \x1b[31m")]
    [found] = ask(server, attempts=3)
    assert (found.text, len(server.requests)) == ("", 3)
    assert found.error == "the server answered 500 Internal Server Error (no memory \\u001b[31m)"


def test_retry_after_is_honoured(server: Server) -> None:
    server.plan = [fails(429, Retry_After="1"), says("later")]
    start = time.monotonic()
    assert ask(server)[0].text == "later"
    assert time.monotonic() - start >= 1.0


def test_a_server_that_asks_for_more_patience_than_the_timeout_is_not_asked_again(server: Server) -> None:
    server.plan = [fails(429, "quota", Retry_After="3600"), says("too late")]
    assert "429" in ask(server)[0].error
    assert len(server.requests) == 1


def test_a_slow_server_is_given_up_after_the_timeout(server: Server) -> None:
    server.plan = [lambda _: time.sleep(0.6)]
    start = time.monotonic()
    assert ask(server, timeout=0.2, attempts=2)[0].error == "no complete answer in time"
    assert 0.4 <= time.monotonic() - start < 1.5


def test_bytes_that_trickle_do_not_extend_the_timeout(server: Server) -> None:
    def trickle(handler: Handler) -> None:
        handler.answer(b"{", length="1000")
        for _ in range(40):
            time.sleep(0.05)
            handler.wfile.write(b" ")
            handler.wfile.flush()

    server.plan = [trickle]
    start = time.monotonic()
    assert ask(server, timeout=0.3, attempts=1)[0].error == "no complete answer in time"
    assert time.monotonic() - start < 1.0


def test_an_answer_without_end_takes_no_memory_and_is_not_asked_for_again(server: Server) -> None:
    sent = 0

    def flood(handler: Handler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.end_headers()
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)
            sent += 65536

    server.plan = [flood]
    assert "more than 1048576 bytes" in ask(server)[0].error
    assert len(server.requests) == 1
    assert sent < 60_000_000


def test_a_long_answer_is_cut(server: Server) -> None:
    server.plan = [says("word " * 10_000)]
    assert len(ask(server)[0].text) == 4000


def test_redirects_are_refused_so_that_the_key_stays_here(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret-key")
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.plan = [lambda handler: handler.answer(b"", 307, Location=f"{other.url}/chat/completions")]
        other.plan = [says("stolen")]
        with pytest.raises(InputError, match="redirects are not followed") as caught:
            ask(server)
        other.shutdown()
        thread.join()
    assert other.requests == []
    assert "secret-key" not in str(caught.value)


def test_the_key_comes_from_the_environment_only(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, " secret-key\n")
    monkeypatch.setenv("OPENAI_API_KEY", "of another service")
    server.plan = [says("a"), fails(401, "bad key")]
    ask(server)
    assert server.requests[0][1]["Authorization"] == "Bearer secret-key"
    with pytest.raises(InputError, match=f"401 .*bad key.*set {KEY}") as caught:
        ask(server, 3)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv(KEY, "two\r\nlines: x")
    with pytest.raises(InputError, match=f"{KEY}: expected a key without spaces") as caught:
        ask(server)
    assert "lines" not in str(caught.value)


def test_a_wrong_model_stops_at_once_and_a_refused_image_is_kept_as_its_error(server: Server) -> None:
    server.plan = [fails(404, "no model x")]
    with pytest.raises(InputError, match=r"404.*no model x.*check --url and --model"):
        ask(server, model="x")
    server.plan = [fails(400, "too small"), says("good")]
    assert [each.error or each.text for each in ask(server, 2, workers=1)] == [
        "the server answered 400 Bad Request (too small)",
        "good",
    ]


def test_no_more_than_the_workers_ask_at_once_and_answers_keep_their_order(server: Server) -> None:
    def slow(handler: Handler) -> None:
        time.sleep(0.03)
        handler.answer(completion(str(len(handler.server.requests))))

    server.plan = [slow]
    with nv.EndpointDescriber(server.url, workers=3, timeout=5.0) as describer:
        start = time.monotonic()
        assert len(describer.describe([(IMAGE, REGION)] * 12)) == 12
    assert server.most == 3
    assert time.monotonic() - start < 12 * 0.03

    regions = [nv.Region((0, 0, side, 0), np.ones((1, side + 1), bool)) for side in (35, 50, 42)]

    def width(handler: Handler) -> None:
        handler.answer(completion(str(sent_image(server, len(server.requests) - 1).shape[1])))

    server.requests.clear()
    server.plan = [width]
    with nv.EndpointDescriber(server.url, workers=1) as describer:
        assert [each.text for each in describer.describe([(IMAGE, each) for each in regions])] == ["36", "51", "43"]


def test_an_error_that_stops_the_run_does_not_wait_for_slow_answers(server: Server) -> None:
    server.plan = [fails(403), lambda _: time.sleep(3.0)]
    start = time.monotonic()
    with pytest.raises(InputError, match="403"):
        ask(server, 2, workers=2)
    assert time.monotonic() - start < 2.5


def test_the_second_question_asks_for_less(server: Server) -> None:
    server.plan = [says(""), says("a hat")]
    with nv.EndpointDescriber(server.url, question="What is it?") as describer:
        [found] = nv.describe_regions(describer, [(IMAGE, REGION)])
    assert (found.description.text, found.asked, found.box_shown) == ("a hat", 2, True)
    texts = [body["messages"][0]["content"][1]["text"] for _, _, body in server.requests]
    assert texts == ["What is it?", "What is it? Answer in one short sentence."]
    assert (sent_image(server, 1)[..., 3] == 255).sum() == 30 * 14  # the whole box, and half as much around it


def test_without_a_server_the_error_says_how_to_start_one() -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(InputError, match=r"nothing listens there; start a server .*ollama serve.*leave out"):
        nv.EndpointDescriber(url).load()


def test_a_server_that_goes_away_is_the_error_of_its_regions(server: Server) -> None:
    server.plan = [says("a")]
    with nv.EndpointDescriber(server.url, pause=0.01, attempts=2) as describer:
        describer.describe([(IMAGE, REGION)])
        server.shutdown()
        server.server_close()
        assert describer.describe([(IMAGE, REGION)])[0].error == "nothing listens there"


@pytest.mark.parametrize(("models", "found"), [(["a", "b"], r"lists 2 models \(a, b\)"), ([], "lists no models")])
def test_the_model_is_never_guessed(server: Server, models: list[str], found: str) -> None:
    server.models = models
    with pytest.raises(InputError, match=rf"{found}; give the name of one: --model NAME"):
        nv.EndpointDescriber(server.url).load()


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "localhost:1234", "http://", "http://h:99999", "http://a b/v1", "http://h\r\nX: y/v1"]
)
def test_only_addresses_of_http_are_taken(url: str) -> None:
    with pytest.raises(InputError, match=r"expected an address|URL"):
        nv.EndpointDescriber(url).load()


def test_a_password_in_the_address_is_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match=KEY) as caught:
        nv.EndpointDescriber("http://user:secret@host/v1")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options", [{"workers": 0}, {"timeout": 0.0}, {"attempts": 0}, {"payload": "mask"}, {"max_side": 8}]
)
def test_numbers_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="endpoint: expected payload crop or alpha"):
        nv.EndpointDescriber(**options)
