"""Several processes, of one host or more, that torchrun or srun started for one command."""

import ctypes
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.modules.gathering import check_same
from naruto_vision.recognition.writer import software_versions

_LOG = logging.getLogger(__name__)
_OWN_STORE = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_LOST = re.compile(
    r"[Cc]onnection (closed|reset) by peer|[Cc]onnection refused|Broken pipe|NCCL.*(remote|abort)|Socket ?Timeout|"
    r"Timed out waiting|failed to (recv|send)|[Tt]imeout.*(store|peer|rank)|TCPStore"
)
_COMPARED = ("model", "data", "seed_everything")


class PeerLostError(NarutoVisionError):
    """Another process of the run has ended, so this one cannot go on."""


def started_processes(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Return processes per host and hosts as torchrun or srun has started them; None for neither.

    Raises:
        InputError: If hosts have different numbers of processes, or a SLURM job of several tasks runs without srun.
    """
    if TorchElasticEnvironment.detect():
        world, own, by = int(environment["WORLD_SIZE"]), int(environment["LOCAL_WORLD_SIZE"]), "torchrun"
    elif SLURMEnvironment.detect():
        world, nodes = int(environment["SLURM_NTASKS"]), int(environment.get("SLURM_NNODES", 1))
        if world > 1 and "SLURM_STEP_ID" not in environment:
            msg = f"this job has {world} tasks, and the command was not started by srun; write srun before it"
            raise InputError(msg)
        own, by = world // nodes if world % nodes == 0 else world, "srun"
    else:
        return None
    if world % own:
        raise InputError(f"{by} started {world} processes, {own} of them on this host; give every host the same number")
    return own, world // own


def fit_to_launcher(trainer: Namespace, environment: Mapping[str, str] = os.environ) -> None:
    """Set ``devices`` and ``num_nodes`` to what torchrun or srun started, so that any config can be used.

    Warns if torchrun would restart processes that keep its first key-value store, which still has the lost addresses.

    Raises:
        InputError: If the options ask for something else.
    """
    started = started_processes(environment)
    if started is None or started == (1, 1):
        return
    given = (trainer.devices, trainer.num_nodes)
    if given not in {("auto", 1), (1, 1), ("1", 1), started, (str(started[0]), started[1])}:
        raise InputError(
            f"trainer.devices {given[0]}, trainer.num_nodes {given[1]}: {started[0]} processes were started on each "
            f"of {started[1]} hosts; omit both options"
        )
    trainer.devices, trainer.num_nodes = started
    restarts = environment.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    if restarts and environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and environment.get("RANK") == "0":
        _LOG.warning(
            "after a restart by torchrun, processes may wait for lost ones; `export %s=1` before it", _OWN_STORE
        )


def end_with_agent() -> None:
    """Kill this process together with the agent of torchrun: alone it would keep its folder locked and wait for peers.

    SIGTERM is not enough, as Python handles no signal while torch.distributed waits.
    """
    if TorchElasticEnvironment.detect() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def end_group() -> None:
    """End torch.distributed, as its threads can abort a process that ends with them: a finished run then fails."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def log_in_first_process() -> None:
    """Leave messages to the first process; the others log warnings and errors."""
    if getattr(rank_zero_only, "rank", 0):
        logging.getLogger("naruto_vision").setLevel(logging.WARNING)


def is_lost_peer(error: BaseException) -> bool:
    """Whether an error of torch.distributed says that another process ended."""
    return isinstance(error, RuntimeError) and _LOST.search(str(error)) is not None


class Processes(Callback):
    """Checks that all processes of a run see the same, and lets SIGTERM end each of them.

    Lightning's handler of SIGTERM waits for the other processes, and one that was killed never answers.
    """

    def __init__(self, config: Namespace) -> None:
        self._config = config
        self._stop = signal.getsignal(signal.SIGTERM)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare versions and options, and the checkpoint to resume from."""
        if trainer.world_size == 1:
            return
        versions = [f"{name} {version}" for name, version in software_versions().items()]
        check_same(trainer, "versions", versions, "install the same on every host")
        options = [f"{key} {value}" for key, value in self._config.items() if key.split(".")[0] in _COMPARED]
        check_same(trainer, "options", options, "give every host the same command and configs")
        if trainer.state.fn == TrainerFn.FITTING:
            path = trainer.ckpt_path
            size = Path(path).stat().st_size if path and Path(path).is_file() else 0
            found = f"{path} of {size} bytes" if size else "no checkpoint"
            check_same(trainer, "--ckpt_path", [found], "checkpoints have to be in a folder that all hosts share")

    def _own_handler(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002 - of Lightning
        if trainer.world_size > 1 and trainer.strategy.launcher is None:
            signal.signal(signal.SIGTERM, self._stop)

    on_sanity_check_start = on_train_start = on_validation_start = _own_handler
    on_test_start = on_predict_start = _own_handler
