"""A server of the web application over a tiny drawn cast, as a user starts it, for all tests of this folder."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import naruto_vision as nv
from naruto_vision.io.bundles import config_path
from naruto_vision.synthetic.attributes import read_cast
from naruto_vision.synthetic.dataset import SyntheticConfig, write_dataset

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
REQUIRED = os.environ.get("NARUTO_VISION_BROWSER") == "1"
"""Set by `.ci/run`, which installs a browser: its tests are then not skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests in a browser where there is none, unless they are required."""
    skip = pytest.mark.skip(reason="needs Chromium: apt-get install chromium")
    for item in items:
        if item.get_closest_marker("browser") and CHROMIUM is None and not REQUIRED:
            item.add_marker(skip)


@dataclass
class World:
    """Folders of a drawn cast with a gallery."""

    root: Path

    @property
    def scenes(self) -> list[Path]:
        """The drawn scenes."""
        return sorted((self.root / "data/scenes/test/images").iterdir())

    @property
    def runs(self) -> Path:
        """The folder with the gallery."""
        return self.root / "runs"


@dataclass
class Server:
    """A running server."""

    address: str
    log: Path
    world: World
    process: "subprocess.Popen[bytes]"

    def client(self, **options: object) -> httpx.Client:
        """Return a client that keeps its session's cookie."""
        return httpx.Client(base_url=self.address, timeout=60.0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Draw a cast, and enrol it."""
    root = tmp_path_factory.mktemp("world")
    plan = SyntheticConfig(train=4, valid=0, test=0, scenes=4, valid_scenes=0, size=128, image_size=64)
    write_dataset(root / "data", read_cast(config_path("cast.yaml")), plan)
    nv.enrol(root / "data", nv.ClipEncoder("tiny-clip"), root / "runs/gallery")
    return World(root)


StartServer = Callable[..., Server]


@contextmanager
def _started(world: World, folder: Path, *options: str) -> Iterator[Server]:
    log = folder / "server.log"
    argv = [sys.executable, "-m", "naruto_vision", "ui", "--port", "0", "--out", str(folder / "kept")]
    argv += ["--store", f"faiss:{folder / 'videos'}", *options]
    with log.open("wb") as out:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(argv, stdout=out, stderr=out, cwd=folder, env=environment)
    try:
        for _ in range(600):
            words = log.read_text(encoding="utf-8").split()
            address = next((word for word in words if word.startswith("http://")), "")
            if address or process.poll() is not None:
                break
            time.sleep(0.1)
        assert address, log.read_text(encoding="utf-8")
        yield Server(address, log, world, process)
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def server(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of most tests."""
    options = ("--runs", str(world.runs), "--folder", str(world.root / "data/scenes/test/images"))
    with _started(world, tmp_path_factory.mktemp("server"), *options) as started:
        yield started


@pytest.fixture(scope="session")
def scratch(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a gallery of its own, which tests may change, and processes that they may kill."""
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copytree(world.runs, folder / "own")
    with _started(world, folder, "--runs", str(folder / "own")) as started:
        yield started


@pytest.fixture
def workers(world: World, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers over one folder of runs, as behind one address."""
    shutil.copytree(world.runs, tmp_path / "own")
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
        first, second = (
            stack.enter_context(_started(world, folder, "--runs", str(tmp_path / "own"))) for folder in folders
        )
        yield first, second


@pytest.fixture(scope="session")
def locked(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for the password "open sesame", and is known as vision.example too."""
    folder = tmp_path_factory.mktemp("locked")
    (folder / "password").write_text("open sesame\n", encoding="utf-8")
    options = ("--runs", str(world.runs), "--auth", str(folder / "password"), "--name", "vision.example")
    with _started(world, folder, *options) as started:
        yield started


@pytest.fixture
def start_server(world: World, tmp_path: Path) -> Iterator[StartServer]:
    """Start a server with other options."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(_started(world, tmp_path, *options))
