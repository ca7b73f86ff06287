"""What torchrun and srun started is what the Trainer uses, and the end of another process is recognised."""

import pytest
from jsonargparse import Namespace

from naruto_vision.cli.processes import fit_to_launcher, is_lost_peer, started_processes
from naruto_vision.errors import InputError

TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"}
SRUN = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "names"}


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SRUN, "RANK", "TORCHELASTIC_MAX_RESTARTS", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)


def _started(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> tuple[int, int] | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return started_processes(variables)


@pytest.mark.parametrize(
    ("variables", "expected"), [({}, None), (TORCHRUN, (3, 2)), (SRUN, (4, 2)), (SRUN | TORCHRUN, (3, 2))]
)
def test_processes_of_each_host_and_hosts(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: tuple[int, int] | None
) -> None:
    assert _started(monkeypatch, variables) == expected


def test_a_job_without_srun_and_uneven_hosts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^this job has 8 tasks, .*; write srun before it$"):
        _started(monkeypatch, {name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"})
    with pytest.raises(InputError, match=r"^torchrun started 6 processes, 4 of them on this host"):
        _started(monkeypatch, TORCHRUN | {"LOCAL_WORLD_SIZE": "4"})


@pytest.mark.parametrize("given", [(1, 1), ("auto", 1), (3, 2), ("3", 2)])
def test_the_trainer_uses_what_was_started(monkeypatch: pytest.MonkeyPatch, given: tuple[int | str, int]) -> None:
    trainer = Namespace(devices=given[0], num_nodes=given[1])  # type: ignore[no-untyped-call]  # of jsonargparse
    fit_to_launcher(trainer, {})
    assert (trainer.devices, trainer.num_nodes) == given
    _started(monkeypatch, TORCHRUN)
    fit_to_launcher(trainer, TORCHRUN)
    assert (trainer.devices, trainer.num_nodes) == (3, 2)


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({}, True),
        ({"RANK": "1"}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, False),
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, False),
    ],
)
def test_restarts_that_keep_the_store_are_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, changed: dict[str, str], warned: bool
) -> None:
    restarts = {"RANK": "0", "TORCHELASTIC_MAX_RESTARTS": "3", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    variables = TORCHRUN | restarts | changed
    _started(monkeypatch, variables)
    fit_to_launcher(Namespace(devices=1, num_nodes=1), variables)  # type: ignore[no-untyped-call]  # of jsonargparse
    assert ("export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1" in caplog.text) == warned


def test_options_that_ask_for_something_else_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _started(monkeypatch, TORCHRUN)
    with pytest.raises(InputError, match=r"^trainer.devices 2, trainer.num_nodes 2: 3 processes .* omit both options$"):
        fit_to_launcher(Namespace(devices=2, num_nodes=2), TORCHRUN)  # type: ignore[no-untyped-call]  # of jsonargparse


def test_only_errors_of_other_processes_are_theirs() -> None:
    assert is_lost_peer(RuntimeError("[pair.cc:561] Connection closed by peer [127.0.0.1]:56486"))
    assert not is_lost_peer(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost_peer(OSError("Connection closed by peer"))
