"""``fit``, ``validate``, ``test`` and ``predict``: the words are put in order here, LightningCLI does the rest.

What can be told wrong without torch is told here, before it is imported.
"""

import logging
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from naruto_vision.cli.short_options import check_options, lengthened, short_help
from naruto_vision.cli.trainer_help import help_of
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.io.bundles import config_path
from naruto_vision.io.machine import allowed_cpus

_LOG = logging.getLogger(__name__)
SCENES_CONFIG = "scenes.yaml"
GALLERY, BUNDLE = "runs/gallery", "runs/clip/bundle"
"""The gallery and the encoder that ``SCENES_CONFIG`` names."""

_HELP = frozenset({"-h", "--help"})
_CONFIG_OPTIONS = frozenset({"--config", "-c"})
_GALLERY_OPTIONS = frozenset({"--model.gallery", "--model.init_args.gallery"})


def run(command: str, words: Sequence[str], *, alone: bool = False) -> int:
    """Run one Trainer command.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        words: The words after it.
        alone: The process is this command's own; imports that it does not need then wait.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a config, a scene folder or an option is wrong.
    """
    if command == "predict" and _HELP & set(words):
        sys.stdout.write(short_help())
    if (told := help_of(command, words)) is not None:
        sys.stdout.write(told)
        return 0
    return run_trainer([command, *words], alone=alone)


def run_trainer(words: Sequence[str], *, alone: bool = False) -> int:
    """Run one Trainer command from Python, in this process.

    Args:
        words: What follows ``naruto-vision`` on a command line: the command, then its options.
        alone: The process is this command's own; imports that it does not need then wait.

    Returns:
        The exit code, 0.

    Raises:
        InputError: If a config, a scene folder or an option is wrong.
    """
    ordered = arrange_words(words[0], words[1:])
    limit_threads()
    if alone:
        from naruto_vision.cli.slow_imports import defer_slow_imports

        defer_slow_imports(words[0])
    from naruto_vision.cli.trainer import run_cli  # brings torch and Lightning, which mistakes do without

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
        InputError: If a config, the folder or the gallery is missing, the folder has no images, or an option is
            misspelt.
    """
    check_options(command, words)
    arranged = _with_configs_found(words)
    if command == "predict":
        arranged = _arranged_for_predict(arranged)
    return [command, *arranged]


def _arranged_for_predict(words: list[str]) -> list[str]:
    """Write short options out, and the folder as an option behind the packaged config."""
    folder, rest = ("", words) if not words or words[0].startswith("-") else (words[0], words[1:])
    scenes = [f"--data.predict={check_scenes(folder)}"] if folder else []
    packaged = [] if not folder or _CONFIG_OPTIONS & set(rest) else ["--config", str(config_path(SCENES_CONFIG))]
    arranged = lengthened(rest)
    galleries = _given(_GALLERY_OPTIONS, arranged)
    for gallery in galleries[-1:] or ([GALLERY] if packaged else []):
        check_gallery(gallery)
    if packaged and not any(word.startswith("--model.encoder") for word in arranged):
        packaged += remembered_encoder(Path([GALLERY, *galleries][-1]))
    return [*packaged, *arranged, *scenes]


def remembered_encoder(gallery: Path) -> list[str]:
    """Take a gallery's own encoder where nothing was tuned, so that the packaged config's is not there.

    Args:
        gallery: The gallery folder.

    Returns:
        The options that open it; none where the config's encoder is there, or the gallery does not tell.
    """
    if Path(BUNDLE).exists() or not gallery.is_dir():
        return []
    from naruto_vision.gallery.info import encoder_options, list_gallery

    options = encoder_options(list_gallery(gallery).ledger[0].get("note", {}))
    if options:
        _LOG.info("no %s here: %s remembers its encoder, %s", BUNDLE, gallery, " ".join(options))
    return options


def _given(options: frozenset[str], words: Sequence[str]) -> list[str]:
    """Return the values that options are given, in order."""
    apart = [value for name, value in pairwise(words) if name in options]
    joined = [word.partition("=")[2] for word in words if "=" in word and word.partition("=")[0] in options]
    return [*apart, *joined]


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
    """Check that a folder of scenes is there and has images.

    Args:
        folder: The folder.

    Returns:
        The folder.

    Raises:
        MissingPathError: If there is no such folder.
        InputError: If it holds no images.
    """
    path = Path(folder)
    if not path.is_dir():
        raise MissingPathError(path, "scene folder", "give a folder of images")
    from naruto_vision.io.images import SUFFIXES, list_images  # brings OpenCV

    if not list_images(path):
        msg = f"{path}: no images in this folder; files ending in {', '.join(sorted(SUFFIXES))} are read"
        raise InputError(msg)
    return path


def check_gallery(folder: str) -> None:
    """Check that a gallery is there.

    Args:
        folder: The gallery.

    Raises:
        MissingPathError: If there is no such folder, or it is no gallery.
        FormatError: If its manifest is damaged.
    """
    from naruto_vision.gallery.store import read_manifest

    read_manifest(folder)


def limit_threads() -> None:
    """Keep OpenMP to the CPUs that this process may use, and its idle threads asleep, unless the user chose otherwise.

    A container or a taskset often allows fewer CPUs than the machine has, and a thread too many on a CPU costs more
    than it brings. Idle threads sleep: spinning, as is the default, they take the CPU from those that are waited for as
    soon as anybody else computes, and a scene then takes ten times as long. It acts only before torch, OpenCV or FAISS
    start their threads.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cpus()))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
