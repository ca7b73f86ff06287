"""``fit``, ``validate``, ``test`` and ``predict``: the words are put in order here, LightningCLI does the rest.

What can be told wrong without torch is told here, before it is imported.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from naruto_vision.commands.trainer_help import help_of
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.files.machine import allowed_cpus
from naruto_vision.files.share import config_path

SCENES_CONFIG = "scenes.yaml"
_CONFIG_OPTIONS = frozenset({"--config", "-c"})
_SHORT = {
    "--gallery": "--model.gallery",
    "--threshold": "--model.overlay.min_score",
    "--top-k": "--model.overlay.top_k",
    "--min-area": "--model.segmenter.init_args.keep.min_area",
    "--max-masks": "--model.segmenter.init_args.keep.max_masks",
    "--decision": "--model.decision",
}
_SHORT_SWITCHES = {
    "--prefer-different-label": "--model.overlay.prefer_different_label=true",
    "--fail-fast": "--fail_fast=true",
}
"""Short words for what ``predict`` is told most often; the long ones say the same in every command."""


def run(command: str, words: Sequence[str]) -> int:
    """Run one Trainer command.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        words: The words after it.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a config, a scene folder or an option is wrong.
    """
    if (told := help_of(command, words)) is not None:
        sys.stdout.write(told)
        return 0
    return run_trainer([command, *words])


def run_trainer(words: Sequence[str]) -> int:
    """Run one Trainer command from Python, in this process.

    Args:
        words: What follows ``naruto-vision`` on a command line: the command, then its options.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a config, a scene folder or an option is wrong.
    """
    ordered = arrange_words(words[0], words[1:])
    limit_threads()
    from naruto_vision.commands.trainer_cli import run_cli  # brings torch and Lightning, which mistakes do without

    run_cli(ordered)
    return 0


def arrange_words(command: str, words: Sequence[str]) -> list[str]:
    """Find configs by name, turn ``predict DIR`` into its config, and check what can be checked early.

    Args:
        command: The Trainer command.
        words: The words after it.

    Returns:
        The words that LightningCLI is given, the command first.

    Raises:
        InputError: If a config or the folder is missing, or the folder has no pictures.
    """
    arranged = _with_configs_found(words)
    if command == "predict" and arranged and not arranged[0].startswith("-"):
        folder = check_scenes(arranged.pop(0))
        config = [] if _CONFIG_OPTIONS & set(arranged) else ["--config", str(config_path(SCENES_CONFIG))]
        arranged = [*config, *map(_lengthened, arranged), f"--data.predict={folder}"]
    return [command, *arranged]


def _lengthened(word: str) -> str:
    name, equals, value = word.partition("=")
    return _SHORT_SWITCHES.get(word, _SHORT.get(name, name) + equals + value)


def _with_configs_found(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in _CONFIG_OPTIONS:
            found += [name, str(find_config(value))]
        elif found and found[-1] in _CONFIG_OPTIONS:
            found.append(str(find_config(word)))
        else:
            found.append(word)
    return found


def find_config(name: str) -> Path:
    """Find a config: a file, or the bare name of one that the package carries.

    Args:
        name: A path, or a name such as ``scenes.yaml``.

    Returns:
        An existing file.

    Raises:
        MissingPathError: If it is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    if len(path.parts) == 1:
        try:
            return config_path(name)
        except MissingPathError:
            pass  # told below, in the user's terms
    raise MissingPathError(path, "config", "give a YAML file, or the bare name of a packaged one such as scenes.yaml")


def check_scenes(folder: str) -> Path:
    """Check that a folder of scenes is there and has pictures.

    Args:
        folder: The folder.

    Returns:
        The folder.

    Raises:
        MissingPathError: If there is no such folder.
        InputError: If it holds no pictures.
    """
    path = Path(folder)
    if not path.is_dir():
        raise MissingPathError(path, "scene folder", "give a folder of pictures")
    from naruto_vision.files.images import SUFFIXES, list_pictures  # brings OpenCV

    if not list_pictures(path):
        msg = f"{path}: no pictures in this folder; files ending in {', '.join(sorted(SUFFIXES))} are read"
        raise InputError(msg)
    return path


def limit_threads() -> None:
    """Keep OpenMP to the CPUs that this process may use, and its idle threads asleep, unless the user chose otherwise.

    A container or a taskset often allows fewer CPUs than the machine has, and a thread too many on a CPU costs more
    than it brings. Idle threads sleep: spinning, as is the default, they take the CPU from those that are waited for as
    soon as anybody else computes, and a scene then takes ten times as long. It acts only before torch, OpenCV or FAISS
    start their threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cpus()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
