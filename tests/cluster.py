"""Processes of one run, as torchrun starts them, forked from the test so that nothing is imported again."""

import multiprocessing
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import BinaryIO

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from naruto_vision.cli.main import main

_FORK = multiprocessing.get_context("fork")
_SECONDS = 240
QUIET = [
    *("--trainer.accelerator", "cpu", "--trainer.logger", "false", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]
ENCODER = ["--model.encoder=ClipEncoder", "--model.encoder.init_args.model=tiny-clip"]


def draw(root: Path, *, side: int, train: int, valid: int, scenes: int, valid_scenes: int) -> None:
    """Draw a cast and scenes into ``root/data``."""
    sizes = {"size": side, "image-size": 32, "train": train, "valid": valid, "test": 1}
    options = {**sizes, "scenes": scenes, "valid-scenes": valid_scenes}
    argv = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main(["draw", "--out", str(root / "data"), *argv]) == 0


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def _started(target: Callable[..., None], *values: object) -> BaseProcess:
    process = _FORK.Process(target=target, args=values)
    process.start()
    return process


def _output_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)


def _alone(log: Path, argv: Sequence[str]) -> None:
    os.chdir(log.parent)
    _output_to(log)
    sys.exit(main(argv))


def start_alone(log: Path, argv: Sequence[str]) -> BaseProcess:
    """Start a command line, whose output is added to ``log``, in a folder of its own and a process of its own."""
    log.parent.mkdir(parents=True, exist_ok=True)
    return _started(_alone, log, argv)


def _iterate(loader: Iterable[object], ready: BinaryIO) -> None:
    for _ in loader:
        ready.write(Path(f"/proc/self/task/{os.getpid()}/children").read_bytes() + b"\n")
        ready.flush()
        signal.pause()


def workers_left_by(loader: Iterable[object], seconds: float = 3) -> set[int]:
    """Kill a process that iterates over a loader; return the workers that still run some seconds later."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as theirs:
        process = _started(_iterate, loader, theirs)
    with os.fdopen(read) as ready:
        workers = {int(word) for word in ready.readline().split()}
    assert workers
    process.kill()
    process.join()
    until = time.monotonic() + seconds
    while (left := {pid for pid in workers if Path(f"/proc/{pid}").exists()}) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return left


def _rank(rank: int, world: int, port: int, folder: Path, command: Callable[[int], int]) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ.update({name: str(value) for name, value in (own | shared).items()})
    os.chdir(folder)
    _output_to(folder / f"rank{rank}.log")
    sys.exit(command(rank))


def run_ranks(world: int, folders: Path | Sequence[Path], command: Callable[[int], int] | Sequence[str]) -> list[int]:
    """Run a command line, or a function of the rank, in several processes of one run; return their exit codes."""
    places = [folders] * world if isinstance(folders, Path) else folders
    own = command if callable(command) else lambda _: main(command)
    port = free_port()
    return [ended(one) for one in [_started(_rank, rank, world, port, places[rank], own) for rank in range(world)]]


def ended(process: BaseProcess) -> int:
    """Wait for a process and return its exit code."""
    process.join(_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"a process did not end in {_SECONDS} s")
    return process.exitcode


def _agent(nodes: int, port: int, folder: Path, log: Path, argv: Sequence[str]) -> None:
    os.chdir(folder)
    _output_to(log)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as docs/cluster.md recommends
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=1,
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{port}",
        run_id="test",
        max_restarts=100,
        start_method="fork",
        local_addr="127.0.0.1",
    )
    elastic_launch(config, _command)(argv)


def _command(argv: Sequence[str]) -> None:
    for file in list(Path("/proc/self/fd").iterdir()):  # torchrun's ranks do not inherit the sockets of its store
        with suppress(OSError):
            if stat.S_ISSOCK(file.stat().st_mode):
                os.close(int(file.name))
    if code := main(argv):
        sys.exit(code)


class Agents:
    """The agents of torchrun, one per host; one that ends is started again, as a cluster does."""

    def __init__(self, folders: Sequence[Path], log: Path, argv: Sequence[str]) -> None:
        self._folders, self._log, self._argv, self._port = folders, log, argv, free_port()
        self.agents = [self._start(host) for host in range(len(folders))]

    def _start(self, host: int) -> BaseProcess:
        return _started(_agent, len(self._folders), self._port, self._folders[host], self._log, self._argv)

    def ranks(self) -> list[int]:
        """Return the ids of the processes that the agents have started."""
        found: list[int] = []
        for agent in self.agents:
            with suppress(FileNotFoundError):
                found += map(int, Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split())
        return found

    def kill_rank(self, choice: int) -> bool:
        """Kill one of the ranks; False if there is none."""
        ranks = self.ranks()
        if ranks:
            with suppress(ProcessLookupError):
                os.kill(ranks[choice % len(ranks)], signal.SIGKILL)
                return True
        return False

    def kill_agent(self, choice: int) -> bool:
        """Kill one of the agents that run; False if there is none."""
        running = [agent for agent in self.agents if agent.exitcode is None]
        if running:
            running[choice % len(running)].kill()
        return bool(running)

    def revive(self) -> bool:
        """Start agents again that failed, all if the others have finished; return whether any runs."""
        codes = [agent.exitcode for agent in self.agents]
        failed = [host for host, code in enumerate(codes) if code]
        for host in range(len(codes)) if failed and None not in codes else failed:
            self.agents[host] = self._start(host)
        return any(agent.exitcode is None for agent in self.agents)

    def stop(self) -> None:
        """Kill everything."""
        ranks = self.ranks()
        for agent in self.agents:
            agent.kill()
            agent.join()
        for rank in ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGKILL)
