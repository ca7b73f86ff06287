"""``fit``, ``validate``, ``test`` and ``predict`` through one LightningCLI."""

import difflib
import inspect
import logging
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.trainer.states import TrainerStatus
from typing_extensions import override

import naruto_vision
from naruto_vision.callbacks.scenes import SceneWriterCallback
from naruto_vision.callbacks.tensorboard import summary_writer
from naruto_vision.cli.next_steps import next_step
from naruto_vision.cli.processes import (
    PeerLostError,
    Processes,
    end_group,
    end_with_agent,
    fit_to_launcher,
    is_lost_peer,
    log_in_first_process,
)
from naruto_vision.cli.trainer_args import (
    RUN_CONFIG,
    SHORT_OPTIONS,
    config_keys,
    config_paths,
    opened_packages,
    take_imports,
)
from naruto_vision.errors import FormatError, InputError, NarutoVisionError
from naruto_vision.gallery.store import store_uri
from naruto_vision.io.atomic import unicode_text, write_text
from naruto_vision.io.checkpoints import MISFITS, check_callback_states, check_checkpoint
from naruto_vision.io.locks import LOCK, folder_lock, lock_beside
from naruto_vision.io.machine import has_fast_bf16
from naruto_vision.io.yaml_files import UNUSABLE, check_yaml, read_yaml
from naruto_vision.modules.tuning import AtomicCheckpoints, restore_random_state

_LOG = logging.getLogger(__name__)
_Class = TypeVar("_Class")
ALLOWED_IMPORTS = ("naruto_vision", "lightning.pytorch", "torch.nn", "torch.optim")
"""Packages whose classes a config may name, with those of ``--allow-imports`` and of installed plugins.

Others are refused before import: a config must not run code.
"""

_SUPPRESSED_WARNINGS = (  # expected in every run; no action for the user
    ".*isinstance.treespec, LeafSpec.*",
    ".*smaller than the logging interval.*",
    ".*It is recommended to use `self.log.*sync_dist=True.*",  # what is logged is gathered before
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*is not supported by the model summary.*",
    ".*returned `None`, this fit will run with no optimizer.*",  # building a gallery trains nothing
    ".*Total length of .* across ranks is zero.*",  # the data module logs that there is no validation
    ".*module.s. in eval mode at the start of training.*",
    "(?s).*JsonargparseDeprecationWarning.*",  # of LightningCLI's own calls
    "(?s).*was deprecated in v4.*removed in v5.*",
)
_SUPPRESSED_MESSAGES = re.compile(
    r"Tip:|\bSeed set to|^\wPU available:|^LOCAL_RANK:|^Loading `train_|^`Trainer\.\w+` stopped: `max_epochs=|"
    r"Received SIGTERM: |^`weights_only` was not set"
)
_NOISY_LOGGERS = (
    "lightning.pytorch.utilities.rank_zero",
    "lightning.pytorch.accelerators.cuda",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
    "lightning.pytorch.trainer.connectors.signal_connector",
)
_CHECKPOINT_NAMES = frozenset({"last", "hpc"})
_LIGHTNING_FAILURE = 1  # Lightning exits with this after Ctrl-C
_NOT_OFFERED: set[str | int] = {"model", "datamodule", "weights_only"}
_DATALOADERS = {"fit": {"train_dataloaders", "val_dataloaders"}}
_OF_CALLBACKS = {
    "out": "writes results",
    "fail_fast": "skips unreadable images",
    "fail_on_drift": "compares scenes",
    "drift_reference": "compares scenes",
    "explain": "explains names",
    "track_memory": "links regions of videos",
}
"""Option that sets the argument of this name in every callback that has it, and what such a callback does."""

_load_yaml = get_loader("yaml")
_opened: set[str] = set()  # every package opened so far in this process; jsonargparse keeps them


class SaveConfig(SaveConfigCallback):
    """Saves the config beside the logs after the first batch, and beside the results of ``predict``, for ``load``.

    A run that is refused, or has nothing to do, leaves no folder.
    """

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.already_saved = False

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        unread = isinstance(batch, list) and all(getattr(item, "image", item) is None for item in batch)
        if unread or self.already_saved or not trainer.is_global_zero or not trainer.loggers:
            return
        self.already_saved = True
        text, logger = self.parser.dump(self.config, skip_none=False), trainer.loggers[0]
        if folder := logger.log_dir or logger.save_dir:
            write_text(Path(folder) / self.config_filename, text)
        if writer := summary_writer(trainer):
            writer.add_text("config", unicode_text("".join(f"    {line}\n" for line in text.splitlines())))

    on_validation_batch_end = on_test_batch_end = on_predict_batch_end = on_train_batch_end

    @override
    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        folders = {each["init_args"]["out"] for each in _callbacks_with("out", self.config.trainer)}
        for folder in folders if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False) else ():
            write_text(Path(folder) / RUN_CONFIG, self.parser.dump(self.config, skip_none=False))

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse the states of callbacks, before they are restored, that would delete files of others."""
        check_callback_states(trainer.ckpt_path or "checkpoint", checkpoint.get("callbacks"))


class _ProgressBar(RichProgressBar):
    """Lightning's progress bar, without the number of the logger's folder."""

    @override
    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        items = super().get_metrics(trainer, pl_module)
        items.pop("v_num", None)
        return items


class NarutoCLI(LightningCLI):
    """Model, data and Trainer of one command, from its config and options."""

    def __init__(self, argv: Sequence[str], packages: Sequence[str] = ()) -> None:
        self.command, self.argv, self.packages = argv[0], list(argv[1:]), packages
        self.method_options: list[str] = []
        super().__init__(
            save_config_callback=SaveConfig,
            save_config_kwargs={"overwrite": True},  # a resumed run writes into the folder that it started in
            seed_everything_default=42,
            parser_kwargs={"prog": f"naruto-vision {self.command}", "exit_on_error": False, "allow_abbrev": False},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,  # modules take their optimiser as a callable
            run=False,
        )

    @override
    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        skip = _NOT_OFFERED | _DATALOADERS.get(self.command, {"dataloaders"})
        self.method_options = parser.add_method_arguments(pl.Trainer, self.command, skip=skip)
        parser.set_defaults({"trainer.enable_model_summary": False})
        text = "folder for the results, set in every callback that has one"
        parser.add_argument("--out", type=str | None, default=None, help=text)
        parser.add_argument("--fail_fast", type=bool, default=False, help="stop at the first unreadable image")
        parser.add_argument("--explain", type=bool, default=False, help="explain the names of shown regions")
        text = "SAM 2 that follows the regions of videos, by name or file (null: boxes and vectors link them)"
        parser.add_argument("--track_memory", type=str | None, default=None, help=text)
        text = "folder of a run or gallery to compare scenes with (null: the validation scenes of the gallery)"
        parser.add_argument("--drift_reference", type=str | None, default=None, help=text)
        parser.add_argument("--fail_on_drift", type=bool, default=False, help="exit with 1 if the scenes have drifted")
        text = "auto: mixed precision where the hardware has it, unless trainer.precision is given"
        parser.add_argument("--precision", type=Literal["auto"] | None, default=None, help=text)

    @override
    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            self.config = parser.parse_args(self.argv)
        except ArgumentError as error:
            raise InputError(explain_error(str(error), parser, self.command, self.argv)) from None
        except RecursionError:
            raise InputError(f"{self.command}: an option or a config is nested too deep") from None
        own = self.config.get("data.init_args.allow_pipe", False)
        if own and not any(word.startswith(("--data.allow_pipe", "--data.init_args.allow_pipe")) for word in self.argv):
            msg = "data.allow_pipe: a config must not run commands; type --data.allow_pipe true on the command line"
            raise InputError(msg)
        if not 0 <= int(self.config.get("seed_everything") or 0) < 2**32:  # of NumPy
            raise InputError(f"--seed_everything {self.config.seed_everything}: expected 0 to {2**32 - 1}")
        path = self.config.get("ckpt_path")
        if path and path not in _CHECKPOINT_NAMES:
            check_checkpoint(path)

    @override
    def before_instantiate_classes(self) -> None:
        """Hand ``--out`` and options like it to the callbacks, and refuse what this machine does not have."""
        trainer = self.config.trainer
        if self.config.precision == "auto" and trainer.precision is None:
            trainer.precision = _fastest_precision(trainer.accelerator)
        _check_machine(trainer.precision, trainer.accelerator)
        fit_to_launcher(trainer)
        _leave_out_callbacks(trainer)
        own_bar = any("ProgressBar" in each.class_path for each in _callbacks(trainer))
        self.trainer_defaults = {} if trainer.enable_progress_bar is False or own_bar else {"callbacks": _ProgressBar()}
        for name, what in _OF_CALLBACKS.items():
            if (value := self.config[name]) not in (None, False):
                _set_in_callbacks(trainer, name, value, what)

    @override
    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            raise _own_error(error) or InputError(one_line(str(error))) from None
        self.trainer.strategy.checkpoint_io = AtomicCheckpoints()
        callbacks: list[pl.Callback] = getattr(self.trainer, "callbacks", [])
        callbacks.insert(0, Processes(self.config))  # the first to be set up
        for callback in callbacks:
            if isinstance(callback, SceneWriterCallback):
                callback.allowed_imports = self.packages

    def run(self) -> None:
        """Run the command."""
        _LOG.info("%s: %s, seed %s", self.command, _device_name(self.trainer), self.config.seed_everything)
        options = {name: self.config[name] for name in self.method_options}
        method = getattr(self.trainer, self.command)
        with self._locked():
            try:
                method(self.model, datamodule=self.datamodule, weights_only=True, **options)
            except SystemExit as stop:
                if stop.code == _LIGHTNING_FAILURE and self.trainer.state.status == TrainerStatus.INTERRUPTED:
                    raise KeyboardInterrupt from None
                raise
            except MISFITS as error:
                if self.trainer.world_size > 1 and is_lost_peer(error):
                    msg = f"rank {self.trainer.global_rank}: stopped, because another process of this run has ended"
                    raise PeerLostError(f"{msg}; its own message has the reason") from None
                if (path := self.trainer.ckpt_path) and _while_restoring(error):
                    found = f"{type(error).__name__}: {one_line(str(error))[:200]}"
                    expected, hint = "a checkpoint of this model and its settings", "resume from one of such a run"
                    raise FormatError(path, expected, found, hint) from None
                raise
        if self.command != "predict" and self.trainer.is_global_zero:
            for line in next_step(self.model, self.datamodule):
                _LOG.info("%s", line)

    @property
    def exit_code(self) -> int:
        """1 if the scenes have drifted and ``fail_on_drift`` is set, otherwise 0."""
        writers = [each for each in getattr(self.trainer, "callbacks", ()) if isinstance(each, SceneWriterCallback)]
        return int(any(each.fail_on_drift and each.run.get("drift", {}).get("drifted") for each in writers))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Lock every folder that the command writes into; the first of several processes holds the locks for all."""
        folders: dict[Path, tuple[str, Path | None]] = {}
        for callback in getattr(self.trainer, "callbacks", ()) if self.trainer.is_global_zero else ():
            out, stage = getattr(callback, "out", None), getattr(callback, "stage", "fit")
            if out is not None and stage == self.command:
                folders[Path(out)] = ("--out", None)
            if isinstance(callback, ModelCheckpoint) and callback.dirpath and self.command == "fit":
                folders[Path(callback.dirpath)] = ("dirpath", None)
        if self.trainer.is_global_zero and self.command in {"fit", "validate"}:
            if self.command == "fit" and (bundle := getattr(self.model, "bundle_dir", None)):
                folders[Path(bundle)] = ("--model.bundle_dir", lock_beside(bundle))
            gallery = getattr(self.model, "gallery", None)
            if gallery and store_uri(gallery) is None:  # edits have a lock of their own, and may go on
                folders[Path(gallery)] = ("--model.gallery", Path(gallery) / f".run{LOCK}")
        with ExitStack() as locks:
            for folder, (option, file) in folders.items():
                locks.enter_context(folder_lock(folder, option, file=file))
            yield


def _device_name(trainer: pl.Trainer) -> str:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def _while_restoring(error: BaseException) -> bool:
    """Return whether an error was raised while Lightning or a module put back what a checkpoint states."""
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    return any(
        "checkpoint_connector" in each.co_filename or each.co_name == restore_random_state.__name__ for each in codes
    )


def _own_error(error: BaseException | None) -> NarutoVisionError | None:
    """Find this package's own error among the causes of another one."""
    while error is not None and not isinstance(error, NarutoVisionError):
        error = error.__cause__ or error.__context__
    return error


def _fastest_precision(accelerator: object) -> str | None:
    """Choose mixed precision where it is faster; float16 on older GPUs is scaled by Lightning's gradient scaler."""
    if accelerator in {"auto", "gpu", "cuda"} and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if accelerator in {"auto", "cpu"} and has_fast_bf16() else None


def _check_machine(precision: object, accelerator: object) -> None:
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and "bf16" in str(precision) and not has_fast_bf16():
        raise InputError(
            f"trainer.precision {precision}: this CPU has neither AMX nor AVX512-BF16 and would be far slower than "
            "in float32; use 32-true"
        )
    if accelerator in {"gpu", "cuda"} and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise InputError(f"trainer.accelerator {accelerator}: no GPU that torch can use; give auto or cpu")


def _leave_out_callbacks(trainer: Namespace) -> None:
    """Leave out callbacks that Lightning refuses without a logger or without checkpoints."""
    left_out = {"LearningRateMonitor", "DeviceStatsMonitor"} if trainer.logger is False else set()
    left_out |= {"ModelCheckpoint", "ChooseWeights"} if trainer.enable_checkpointing is False else set()
    if isinstance(trainer.callbacks, list):
        trainer.callbacks = [each for each in trainer.callbacks if each.class_path.rpartition(".")[2] not in left_out]


def _callbacks(trainer: Namespace) -> list[Namespace]:
    listed = trainer.callbacks if isinstance(trainer.callbacks, list) else [trainer.callbacks]
    return [callback for callback in listed if callback is not None]


def _callbacks_with(name: str, trainer: Namespace) -> list[Namespace]:
    """Return the configured callbacks that have an argument of this name."""
    return [callback for callback in _callbacks(trainer) if name in callback.get("init_args", {})]


def _set_in_callbacks(trainer: Namespace, name: str, value: object, what: str) -> None:
    """Set a value in every callback that has it."""
    found = _callbacks_with(name, trainer)
    if not found:
        raise InputError(f"--{name} {value}: no callback of this config {what}; omit --{name}")
    for callback in found:
        callback["init_args"][name] = value


def run_cli(argv: Sequence[str], *, run: bool = True) -> NarutoCLI:
    """Build model, data and Trainer of a command and run it."""
    end_with_agent()
    log_in_first_process()
    given, argv = take_imports(argv)
    packages = opened_packages(given)
    if packages:
        _LOG.info(
            "classes of %s are allowed in configs, by --allow-imports or an installed plugin", ", ".join(packages)
        )
    _prepare_class_paths(
        " ".join([*argv, *(path.read_text(encoding="utf-8") for path in config_paths(argv))]), packages
    )
    with quiet_lightning():
        try:
            cli = NarutoCLI(argv, packages)
            if run:
                cli.run()
                end_group()
        except MisconfigurationException as error:
            raise InputError(" ".join(str(error).split())) from None
    return cli


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence messages and warnings of Lightning that are expected in every run."""
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).addFilter(_is_shown)
    with warnings.catch_warnings():
        for message in _SUPPRESSED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def _bounded_yaml(text: str) -> object:
    """Load YAML as jsonargparse does, after checking its size and depth."""
    try:
        check_yaml(text)
        return _load_yaml(text)
    except UNUSABLE as error:
        raise error if isinstance(error, yaml.YAMLError) else yaml.YAMLError(str(error)) from None


def _prepare_class_paths(text: str, packages: Sequence[str] = ()) -> None:
    """Refuse class paths of other packages, and import the public classes named in a text.

    jsonargparse takes a class path without dots for a class that is imported already.
    """
    set_loader("yaml", _bounded_yaml, (yaml.YAMLError,))
    closed = sorted(_opened.difference(packages))
    try:
        set_parsing_settings(import_path_denylist=["*", *closed], import_path_allowlist=[*ALLOWED_IMPORTS, *packages])
    except ValueError as error:
        raise InputError(f"--allow-imports {','.join(packages)}: {one_line(str(error))}") from None
    _opened.update(packages)
    for name in set(re.findall(r"\w+", text)).intersection(naruto_vision.__all__):
        getattr(naruto_vision, name)


def parse_class(kind: type[_Class], section: dict[str, Any], path: Path, allow_imports: Sequence[str] = ()) -> _Class:
    """Build the object that a section of a config describes, as the Trainer commands do."""
    _prepare_class_paths(str(section), opened_packages(allow_imports))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(kind, "model", required=True)
    try:
        built: _Class = parser.instantiate_classes(parser.parse_object({"model": section})).model
    except (ArgumentError, ValueError) as error:
        raise _own_error(error) or InputError(f"{path}: {one_line(str(error))}") from None
    return built


def _is_shown(record: logging.LogRecord) -> bool:
    return not _SUPPRESSED_MESSAGES.search(record.getMessage())


_PARSER_KEY = re.compile(r'Parser key "([^"]+)":')
_UNKNOWN = re.compile(r"(?:[Oo]ption '|unrecognized arguments: (?=--))([\w.-]+)")
_CLASS = re.compile(r"Problem with given class_path '(?:([\w.]+)\.)?(\w+)':")
_UNINFORMATIVE = re.compile(
    r"(- )?($|Does not validate against any|Subtypes:|Errors:|Given value|Expected a path but|"
    r"Expected a <class 'NoneType'>)"
)
_DENIED = re.compile(r", denied by the '\S+' entry of the import path denylist\. Add .*? to allow it\.")


def _unfit_class(found: re.Match[str]) -> str:
    near = difflib.get_close_matches(found[1], naruto_vision.__all__, n=1, cutoff=0.7)
    if not near or near[0] == found[1]:
        return f"no class {found[1]} of the expected type"
    return f"no class {found[1]}; did you mean {near[0]}?"


def one_line(message: str) -> str:
    """Shorten a message of the config parser, of any number of lines, to the key, its value and the reasons."""
    text = ""
    for line in dict.fromkeys(_PARSER_KEY.sub("", line).strip() for line in message.splitlines()):
        if not _UNINFORMATIVE.match(line):
            text += ("; " if text and line.startswith("- ") and text[-1] != ":" else " ") + line.removeprefix("- ")
    text = _DENIED.sub(" in a config", " ".join((text or message).split()))
    text = re.sub(r"Expected an? <class '([\w.]+)'>", r"expected \1", _CLASS.sub(r"\2:", text))
    text = re.sub(r"Expected a dot import path string: (\w+)", _unfit_class, text)
    text = re.sub(r"\. Got value: (.{1,60})$", r", found \1", text)
    text = re.sub(r"Type typing\.Callable\[.*\] expects a function or a callable class: (expected \w+);.*", r"\1", text)
    text = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"expected one of \1", text)
    keys = ".".join(dict.fromkeys(_PARSER_KEY.findall(message)))
    given = re.findall(r"^\s*Given value: (?!NestedArg)(.{1,60})$", message, flags=re.MULTILINE)
    return f"{' '.join([keys, *given[-1:]])}: {text}" if keys else text


def explain_error(message: str, parser: LightningArgumentParser, command: str, argv: Sequence[str]) -> str:
    """Report in one line which config or option the parser refused, and the closest valid option."""
    text = one_line(message)
    unknown = _UNKNOWN.search(message)
    if unknown is None:
        pointed = "required" in text or "unrecognized" in text
        return f"{text}; see `naruto-vision {command} --help`" if pointed else text
    key, flag = unknown[1].lstrip("-"), unknown[1].startswith("--")
    if not flag and not any(argument.partition("=")[0].endswith(f".{key}") for argument in argv):
        text = "".join(f"{path}: " for path in config_paths(argv) if _has_key(path, key)) + text
    near = difflib.get_close_matches(key, _known_options(message[: unknown.start()], parser, command), n=1, cutoff=0.7)
    if near:
        return f"{text}; did you mean {'--' if flag else ''}{near[0]}?"
    return f"{text}; see `naruto-vision {command} --help`"


def _has_key(config: Path, key: str) -> bool:
    keys = config_keys(read_yaml(config))
    return any(f".{parent}.{name}".endswith(f".{key}") for parent, name in keys)


def _known_options(before: str, parser: LightningArgumentParser, command: str) -> list[str]:
    """Return the options of the class that the message named last, or else all of the command."""
    allowed = tuple(f"{package}." for package in (*ALLOWED_IMPORTS, *_opened))
    for module, name in _CLASS.findall(before)[-1:]:
        # a message quotes values of the config, so it may name any module: none is imported for it
        found = getattr(sys.modules.get(module), name, None) if f"{module}.".startswith(allowed) else None
        if inspect.isclass(found):
            return list(inspect.signature(found).parameters)
    dotted = [str(key) for key in parser.get_defaults().keys()]  # noqa: SIM118 - a Namespace
    short = [option.flag[2:] for option in SHORT_OPTIONS] if command == "predict" else []
    return sorted({*dotted, *(key.rpartition(".")[2] for key in dotted), *short})
