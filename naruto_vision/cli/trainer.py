"""The one LightningCLI: model, data and Trainer by class path, from YAML and from the command line."""

import logging
import re
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerStatus
from typing_extensions import override

from naruto_vision.cli.config_faults import explain_fault
from naruto_vision.cli.usage import one_line
from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.io.checkpoints import check_checkpoint
from naruto_vision.io.machine import has_fast_bf16

_LOG = logging.getLogger(__name__)
ALLOWED_IMPORTS = ("naruto_vision", "lightning.pytorch", "torch.nn", "torch.optim")
"""What a config may name. Everything else is refused before it is imported: a config is data, not code."""

_COMMANDS = ("fit", "validate", "test", "predict")
_NOISE = (  # true of every run here, and nothing that a user could act on
    ".*isinstance.treespec, LeafSpec.*",
    ".*smaller than the logging interval.*",
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*is not supported by the model summary.*",
    ".*returned `None`, this fit will run with no optimizer.*",  # enrolling trains nothing
    ".*Total length of .* across ranks is zero.*",  # the data module says in words that nothing is validated
    ".*module.s. in eval mode at the start of training.*",
    "(?s).*JsonargparseDeprecationWarning.*",  # of LightningCLI's own calls
    "(?s).*was deprecated in v4.*removed in v5.*",
)
_OLD_NEWS = re.compile(
    r"Tip:|\bSeed set to|^\wPU available:|^LOCAL_RANK:|^Loading `train_|^`Trainer\.\w+` stopped: `max_epochs="
)
_TALKERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.accelerators.cuda",
    "lightning.fabric.utilities.seed",
)
_CHECKPOINT_NAMES = frozenset({"last", "best", "hpc"})
_LIGHTNING_FAILURE = 1  # Lightning leaves with this after Ctrl-C


class SaveConfig(SaveConfigCallback):
    """Saves the config beside the logs; a run without logs leaves no file in the current folder."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Save, if there is a log folder.

        Args:
            trainer: The Trainer.
            pl_module: The model.
            stage: What is being run.
        """
        if trainer.logger is not None:
            super().setup(trainer, pl_module, stage)


class NarutoCLI(LightningCLI):
    """LightningCLI for every model and data of the package, closed to code that a file names.

    Args:
        words: The command and its options.

    Raises:
        InputError: If the checkpoint, the precision or ``--out`` cannot be used.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        quiet = {"exit_on_error": False}
        super().__init__(
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},  # a resumed run writes into the folder that it started in
            seed_everything_default=42,
            parser_kwargs={"prog": "naruto-vision", **quiet, **{command: dict(quiet) for command in _COMMANDS}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # modules are given their optimiser as a callable
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the Trainer's verbs, each with the arguments that the command line does not offer."""
        hidden = {"model", "datamodule", "weights_only"}
        loaders = {"train_dataloaders", "val_dataloaders"}
        return {command: hidden | (loaders if command == "fit" else {"dataloaders"}) for command in _COMMANDS}

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """Describe the options of the command that was given (of all, if none was): those of all take half a second."""
        if self.words and subcommand != self.words[0]:
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--out`` and ``--precision``.

        Args:
            parser: The parser of one command.
        """
        parser.add_argument("--out", type=str | None, default=None, help="folder for what the callbacks write")
        parser.add_argument("--fail_fast", type=bool, default=False, help="predict: stop at the first bad image")
        told = "auto: half precision where this machine computes it itself, else trainer.precision"
        parser.add_argument("--precision", type=Literal["auto"] | None, default=None, help=told)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the words; ``sys.argv`` plays no part.

        Args:
            parser: The parser of all commands.
            args: Not used; the words were kept by the constructor.
        """
        self.config = parser.parse_args(self.words)

    def _parse_ckpt_path(self) -> None:
        """Check the checkpoint. Lightning's own version would let it name classes and override given values."""
        path = self._chosen.get("ckpt_path")
        if path and path not in _CHECKPOINT_NAMES:
            check_checkpoint(path)

    @property
    def _chosen(self) -> Namespace:
        """The config of the command that was given."""
        chosen: Namespace = self.config[self.config["subcommand"]]
        return chosen

    def before_instantiate_classes(self) -> None:
        """Hand ``--out`` to the callbacks, and refuse a precision that this machine only emulates."""
        trainer = self._chosen.trainer
        if self._chosen.precision == "auto":
            trainer.precision = _fastest_precision(trainer.accelerator, trainer.precision)
        _check_precision(trainer.precision, trainer.accelerator)
        if self._chosen.out is not None:
            _redirect(trainer, self._chosen.out)
        if self._chosen.fail_fast:
            _set_in_callbacks(trainer, "fail_fast", True, "stops at bad images")

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer.

        Raises:
            NarutoVisionError: If a constructor raised it (the parser's wrapping is taken off) or refused a value.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise _own_error(error) or InputError(one_line(str(error))) from None

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}

    def _run_subcommand(self, subcommand: str) -> None:
        _LOG.info("%s: %s, seed %s", subcommand, _told_of_device(self.trainer), self._chosen.seed_everything)
        try:
            super()._run_subcommand(subcommand)
        except SystemExit as stop:
            if stop.code == _LIGHTNING_FAILURE and self.trainer.state.status == TrainerStatus.INTERRUPTED:
                raise KeyboardInterrupt from None
            raise


def _told_of_device(trainer: pl.Trainer) -> str:
    """Say what computes: ``cpu``, or how many of which GPU."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def _own_error(error: BaseException | None) -> NarutoVisionError | None:
    """Find this package's own error among the causes of another one."""
    while error is not None and not isinstance(error, NarutoVisionError):
        error = error.__cause__ or error.__context__
    return error


def _fastest_precision(accelerator: object, given: object) -> object:
    """Choose mixed precision where it is faster; float16 on older GPUs is scaled by Lightning's gradient scaler."""
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if accelerator in {"auto", "cpu"} and has_fast_bf16() else given


def _check_precision(precision: object, accelerator: object) -> None:
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and "bf16" in str(precision) and not has_fast_bf16():
        msg = (
            f"trainer.precision {precision}: this CPU has neither AMX nor AVX512-BF16 and would be far slower than "
            "in float32; use 32-true"
        )
        raise InputError(msg)


def _redirect(trainer: Namespace, out: str) -> None:
    """Give every callback that has a folder for results this one."""
    _set_in_callbacks(trainer, "out", out, "writes results")


def _set_in_callbacks(trainer: Namespace, name: str, value: object, what: str) -> None:
    """Set a value in every callback that has it."""
    listed = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
    found = [callback for callback in listed if callback is not None and name in callback.get("init_args", {})]
    if not found:
        msg = f"--{name} {value}: no callback of this config {what}; leave --{name} away"
        raise InputError(msg)
    for callback in found:
        callback["init_args"][name] = value


def run_cli(words: Sequence[str], kind: type[NarutoCLI] = NarutoCLI) -> NarutoCLI:
    """Run one Trainer command.

    Args:
        words: ``fit``, ``validate``, ``test`` or ``predict``, then its options.
        kind: What is built of them.

    Returns:
        The model, the data and the Trainer that did it.

    Raises:
        InputError: If the words or the config are wrong; the message is one line.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=list(ALLOWED_IMPORTS))
    for name in _TALKERS:
        logging.getLogger(name).addFilter(_is_news)
    try:
        with warnings.catch_warnings():
            for noise in _NOISE:
                warnings.filterwarnings("ignore", message=noise)
            return kind(words)
    except ArgumentError as error:
        raise InputError(explain_fault(words, one_line(str(error), command=words[0]))) from None
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from None


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of Lightning's says more than our own first line does."""
    return not _OLD_NEWS.search(record.getMessage())
