"""``naruto-vision ui``: the web application."""

import argparse
import logging
from pathlib import Path

from naruto_vision.cli.console import show, whole_number
from naruto_vision.cli.trainer_args import GALLERY, RUN_CONFIG, model_section, read_config
from naruto_vision.cli.video_search import HISTORY
from naruto_vision.errors import InputError, MissingPathError
from naruto_vision.gallery.store import MANIFEST
from naruto_vision.io.machine import require_package

_PORT = 7860


def _options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    text = "folder with gallery/ (as `fit` writes it), a run of `predict`, or a gallery; may be repeated"
    add("--runs", action="append", type=Path, default=[], metavar="DIR", help=f"{text} (default: runs)")
    text = "folder whose images and videos users may choose; may be repeated. Nothing else of the disk is readable"
    add("--folder", action="append", type=Path, default=[], metavar="DIR", help=text)
    add("--store", default="faiss:runs/videos", metavar="URI", help="vector store of videos, as of `video index`")
    text = "weights of SAM that users may choose; the first is the default; may be repeated (default: tiny-sam)"
    add("--weights", action="append", default=[], metavar="NAME", help=text)
    add("--out", type=Path, default=Path("runs/ui"), metavar="DIR", help="folder for results that users keep")
    add("--logs", type=Path, default=Path("lightning_logs"), metavar="DIR", help="folder of the TensorBoard logs")
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on; another one needs --auth")
    text = "host name under which browsers reach it, as that of a proxy; may be repeated"
    add("--name", action="append", default=[], metavar="HOST", help=text)
    add("--port", type=whole_number, default=_PORT, metavar="PORT", help="port; 0 takes a free one")
    add("--auth", type=Path, metavar="FILE", help="file with the password that users must give, one line")
    add("--demo", action="store_true", help="draw a cast, scenes and a video, and open with them")


def ui(arguments: argparse.Namespace) -> int:
    """Serve the web application until it is interrupted."""
    require_package("nicegui", "ui")
    from naruto_vision.ui.app import run
    from naruto_vision.ui.settings import UiConfig

    for folder in arguments.folder:
        if not folder.is_dir():
            raise MissingPathError(folder, "folder", "--folder takes one with images or videos")
    presets = {} if arguments.demo else _presets(arguments.runs)
    config = UiConfig(
        presets=presets,
        galleries={name: _gallery_of(folder) for name, folder in presets.items()},
        folders=tuple(folder.resolve() for folder in arguments.folder),
        store=arguments.store,
        out=arguments.out,
        logs=arguments.logs,
        history=None if arguments.demo else Path(HISTORY),
        weights=tuple(arguments.weights) or ("tiny-sam",),
        demo=arguments.demo,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    password = _password(arguments.auth)
    run(config, host=arguments.host, port=arguments.port, password=password, ready=_ready, names=arguments.name)
    return 0


def _ready(address: str) -> None:
    show(f"open {address}  (Ctrl+C ends it)")


def _presets(runs: list[Path]) -> dict[str, Path]:
    """Return the folders with a gallery by the ends of their paths; a named one without is refused."""
    found: list[Path] = []
    for folder in runs or [Path("runs")]:
        if any((folder / name).exists() for name in (f"gallery/{MANIFEST}", MANIFEST, RUN_CONFIG)):
            found.append(folder)
        elif runs:
            hint = "make one with `naruto-vision fit --config gallery.yaml --data.root DIR`"
            raise MissingPathError(folder / "gallery", "gallery", hint)
    return dict(zip(_short_names(found), found, strict=True))


def _short_names(folders: list[Path]) -> list[str]:
    """Return the shortest distinct ends of the paths, so that users do not see whole paths."""
    parts = [folder.resolve().parts[1:] for folder in folders]
    depth = next((n for n in range(1, 20) if len({each[-n:] for each in parts}) == len(set(parts))), 20)
    return ["/".join(each[-depth:]) for each in parts]


def _gallery_of(folder: Path) -> Path:
    """Return the gallery of a preset: that of a run is in its config."""
    path = folder / RUN_CONFIG
    if path.is_file():
        return Path(model_section(read_config(path), path, {})["init_args"].get("gallery", GALLERY))
    return folder if (folder / MANIFEST).exists() else folder / "gallery"


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    if not path.is_file():
        raise MissingPathError(path, "file", "--auth takes one whose only line is the password")
    text = path.read_text(encoding="utf-8").strip("\r\n")
    if not 8 <= len(text) <= 200 or "\n" in text:
        raise InputError(f"--auth {path}: expected one line of 8 to 200 characters")
    return text


COMMANDS = {"ui": (_options, ui)}
