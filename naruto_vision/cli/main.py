"""The entry point: finds the command's module in a literal table and runs it.

Only the standard library is imported here, so that help, the version and usage errors are fast.
"""

import argparse
import difflib
import errno
import importlib
import importlib.metadata
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from naruto_vision.errors import InputError, NarutoVisionError
from naruto_vision.io.text import printable

PROGRAM = "naruto-vision"
EXIT_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_HELP = frozenset({"-h", "--help"})
_DENIED, _FULL = "permission denied; change it, or choose another path", "the disk is full; free some space"
_FILE_IN_THE_WAY = "expected a folder, found a file; choose another path"
_DISK_ERRORS = {
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EROFS: "the file system is read-only; choose another path",
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: "the disk cannot be read or written (I/O error); check it",
    errno.ELOOP: "the link leads back to itself; replace it",
    errno.ENOTDIR: _FILE_IN_THE_WAY,
    errno.EEXIST: _FILE_IN_THE_WAY,
    errno.EISDIR: "expected a file, found a folder; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
}
"""errno → the problem and its fix. Other OSErrors are defects."""

TRAINER_COMMANDS = {
    "fit": "train a model or build a gallery, as a config describes",
    "validate": "validate the model of a config; with gallery.yaml: choose the thresholds of the gallery again",
    "test": "evaluate a model on labelled data, as a config describes",
    "predict": "find and name the characters in a folder: predict DIR, or predict --config FILE",
}
"""Run by LightningCLI."""

COMMANDS = {
    "demo": ("run the whole pipeline on synthetic data: draw, fine-tune, build a gallery, predict, evaluate", "demo"),
    "draw": ("draw synthetic images, scenes or videos with their ground truth", "demo"),
    "data prepare": ("write manifests (CSV files of path and label) of a folder of labelled images", "data"),
    "data audit": ("find duplicates and near-duplicates across the splits of a data set", "data"),
    "data split": ("split labelled images so that near-duplicates share a split", "data"),
    "data shard": ("resize images once and pack them into shards, for large data sets", "data"),
    "export": ("write a run or labelled scenes for other tools: COCO, YOLO, VOC, CVAT, Label Studio, pairs", "export"),
    "export-model": (
        "write the encoder or SAM as ONNX, checked against torch, for ONNX Runtime and OpenVINO",
        "export_model",
    ),
    "evaluate": ("evaluate predicted scenes against their ground truth, one run or several", "evaluate"),
    "evaluate counts": ("compute rates, confidence intervals and comparisons from counts alone", "evaluate"),
    "reproduce": ("reproduce a table from its commands, or name the input that differs", "reproduce"),
    "ablate": ("measure every combination of encoders, segmenters, merging and decision rules", "ablate"),
    "robustness": ("measure what corrupted images cost: noise, blur, JPEG, light, size, occlusion", "robustness"),
    "evaluate tracks": ("compare the tracks of videos with their ground truth", "evaluate"),
    "gallery import": ("convert an index folder of the reference system to a gallery", "gallery"),
    "gallery copy": ("copy a gallery with its history to another folder or vector store", "gallery"),
    "gallery list": ("list the labels of a gallery, or all its entries", "gallery"),
    "gallery add": ("add images to a gallery without embedding the others again", "gallery"),
    "gallery remove": ("remove entries from a gallery", "gallery"),
    "gallery relabel": ("change the label of gallery entries", "gallery"),
    "gallery suspects": ("list entries whose label the other entries contradict", "gallery"),
    "gallery verify": ("check the integrity of a gallery, and say how to fix it", "gallery"),
    "gallery log": ("show the changes to a gallery, generation by generation", "gallery"),
    "gallery rollback": ("restore an earlier generation of a gallery", "gallery"),
    "gallery reindex": ("rebuild the index of a gallery: flat, HNSW or IVF", "gallery"),
    "segment": ("segment objects in images by boxes and points", "segment"),
    "segment grid": ("segment everything in images, from a grid of points", "segment"),
    "segment sweep": ("segment everything, point after point: contours, then a grid", "segment_sweep"),
    "segment saliency": ("segment the salient objects of images, without prompts", "segment_saliency"),
    "segment exemplar": (
        "segment objects that look like exemplar images, or the images of a gallery",
        "segment_exemplar",
    ),
    "segment text": ("segment objects that phrases describe", "segment_exemplar"),
    "describe": ("describe the regions of a run, or whole images, in words", "describe"),
    "video info": ("show what videos are: codec, size, frames, duration, and the cuts between shots", "video"),
    "video extract": ("write the frames of videos as images, with an index of their times", "video"),
    "video rebuild": ("write a video of a folder of frames", "video"),
    "search": ("search a gallery by image or text: the character and the nearest entries", "search"),
    "video index": ("embed the frames of videos into a vector store", "video_search"),
    "video search": ("find moments in videos by text, image or character", "video_search"),
    "video list": ("list the videos of a vector store, or the entries of one", "video_search"),
    "video delete": ("delete videos from a vector store", "video_search"),
    "video copy": ("copy videos from one vector store to another: FAISS, Chroma, Milvus", "video_search"),
    "video cut": ("cut a part out of a video, without encoding it again where possible", "video_search"),
    "video history": ("list the last queries of video search", "video_search"),
    "ui": ("open the web application: scenes, search, prompts, videos, gallery", "ui"),
    "bench index": ("compare the speed and the recall of NumPy search and FAISS indexes", "bench"),
    "weights list": ("list the packaged and the official weights", "weights"),
    "weights download": ("download an official weights file and verify it", "weights"),
    "weights verify": ("verify downloaded weights against their hashes", "weights"),
    "weights import": ("convert a training checkpoint of CLIP to a model bundle", "weights"),
    "doctor": ("show versions, hardware and weights, and report problems", "doctor"),
    "doctor data": ("check whether encoder and segmenter fit your images, and suggest remedies", "data_doctor"),
    "configs": ("list the packaged configs, or print or copy one", "configs"),
    "completion": ("print the completion script of a shell: bash, zsh or fish", "completion"),
}
"""Command → (one line of help, module of `naruto_vision.cli`).

``COMMANDS`` of that module maps the command to the function that declares its options and the function that runs it.
"""

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("demo --out demo",),
    "ui": ("ui", "ui --demo", "ui --runs runs --folder data/scenes --port 8080"),
    "draw": (
        "draw --out data",
        "draw --out small --train 12 --valid 4 --test 4 --scenes 20",
        "draw --out clips --videos 4",
    ),
    "data prepare": ("data prepare --root data --out manifests --rename Mira=Myra",),
    "data audit": (
        "data audit data --out audit",
        "data audit data --gallery runs/gallery --fail-on-leak",
        "data audit data --out audit --encoder tiny-clip",
    ),
    "data split": ("data split data --out parted --valid 0.15 --test 0.15 --seed 42",),
    "data shard": ("data shard data --out shards --size 256",),
    "export": (
        "export runs/scenes --to label-studio --out for_label_studio",
        "export runs/scenes --to yolo-seg --regions all --out yolo",
        "export corrected/tasks.json --to coco --out truth",
    ),
    "export-model": ("export-model", "export-model --mask-weights sam_vit_b --out sam_b"),
    "evaluate": (
        "evaluate --gt data/scenes/test/gt.json --preds-dir runs/scenes",
        "evaluate --gt gt.json --preds-dir runs/scenes --use-overlay --sheet worst.png",
        "evaluate --gt gt.json --preds-dir runs/a --compare runs/b runs/c",
    ),
    "evaluate counts": ("evaluate counts CLIP=45/50/56/62 DINO=39/50/56/62",),
    "reproduce": ("reproduce reference", "reproduce demo --out tables/demo"),
    "ablate": (
        "ablate demo --data data=demo/data",
        "ablate grid.yaml --data scenes=my_scenes --out runs/ablation/mine",
    ),
    "robustness": (
        "robustness --root data --gallery runs/gallery",
        "robustness --scenes data/scenes/test --limit 20 --corruptions salt-and-pepper blur --out runs/robust_scenes",
        "robustness --video episode.mp4 --fps 0.5 --out runs/robust_video",
    ),
    "evaluate tracks": ("evaluate tracks --gt clips --preds-dir runs/scenes",),
    "gallery import": ("gallery import index --out runs/gallery --encoder ViT-B-32 --weights ViT-B-32.openai",),
    "gallery copy": (
        "gallery copy runs/gallery chroma+http://localhost:8000",
        "gallery copy milvus:gallery.db runs/gallery",
    ),
    "gallery list": ("gallery list runs/gallery", "gallery list runs/gallery --rows"),
    "gallery add": (
        "gallery add runs/gallery new.png --label Myra",
        "gallery add runs/gallery --root more_images",
        "gallery add runs/gallery runs/scenes/overlay/a_crops/seg_00_Myra_0.81.jpg --not Myra",
    ),
    "gallery remove": ("gallery remove runs/gallery --id 17 42", "gallery remove runs/gallery --label Myra"),
    "gallery relabel": ("gallery relabel runs/gallery --label Mira --to Myra",),
    "gallery suspects": ("gallery suspects runs/gallery", "gallery suspects runs/gallery --json"),
    "gallery verify": ("gallery verify runs/gallery", "gallery verify runs/gallery --root data"),
    "gallery log": ("gallery log runs/gallery",),
    "gallery rollback": ("gallery rollback runs/gallery --to 3",),
    "gallery reindex": ("gallery reindex runs/gallery --index hnsw",),
    "segment": (
        "segment scene.jpg --box 40,30,210,300",
        "segment scene.jpg --point 120,90,1 --point 200,80,0 --mask 1",
        "segment scenes --prompts prompts.json --gallery runs/gallery",
    ),
    "segment grid": ("segment grid scenes --out runs/grid", "segment grid scene.jpg --weights sam_vit_b"),
    "segment sweep": (
        "segment sweep scenes --out runs/sweep",
        "segment sweep scene.jpg --mode subtract --order iou --orders 5",
    ),
    "describe": (
        "describe runs/scenes",
        "describe runs/scenes --describer endpoint --url http://localhost:11434/v1 --model llava",
        "describe runs/scenes --describer transformers --model models/blip --out runs/blip",
    ),
    "segment saliency": (
        "segment saliency scenes --out runs/salient",
        "segment saliency scenes --preset many-small --min-area 200",
        "segment saliency scene.jpg --dino-model dinov2_vits14 --weights sam_vit_b",
    ),
    "segment exemplar": (
        "segment exemplar scenes --exemplar cat=cat.jpg:40,30,210,300 dog=dog.png",
        "segment exemplar scenes --gallery runs/gallery --label Mira",
    ),
    "segment text": (
        'segment text scenes --text "a girl with pink hair" "a boy with an orange cap"',
        'segment text scenes --text "a red cat" --detector weights/owlv2',
    ),
    "video info": ("video info episode.mkv", "video info episodes --shots --json"),
    "video extract": (
        "video extract episode.mkv --fps 1 --out frames",
        "video extract episode.mkv --fps 24 --size 640x360 --fit stretch",
        "video extract episodes --start 1:30 --end 20:00 --out frames",
    ),
    "video rebuild": ("video rebuild frames --out copy.mp4", "video rebuild frames --fps 30 --codec mp4v"),
    "search": (
        "search --image who.png --sheet sheet.png",
        'search --gallery runs/gallery --text "a boy with an orange cap" --json',
    ),
    "video copy": (
        "video copy --to chroma+http://localhost:8000",
        "video copy episode.mp4 --store chroma:runs/frames --to saved",
    ),
    "video index": ("video index episodes", "video index episode.mp4 --fps 1 --store chroma:runs/frames"),
    "video search": (
        'video search --text "a girl with pink hair" --clips',
        "video search --image frame.png --video episode.mp4 --out found",
        "video search --character Mira --gallery runs/gallery --json",
    ),
    "video list": ("video list", "video list episode.mp4"),
    "video delete": ("video delete episode.mp4", "video delete --all"),
    "video cut": ("video cut episode.mp4 --start 1:02 --end 1:10.5 --out scene",),
    "video history": ("video history",),
    "bench index": ("bench index --vectors 100000 --queries 500",),
    "weights list": ("weights list", "weights list --long"),
    "weights download": ("weights download sam_vit_b",),
    "weights verify": ("weights verify", "weights verify sam_vit_b"),
    "weights import": ("weights import best.pt --encoder ViT-B-32 --out runs/imported",),
    "doctor": ("doctor", "doctor --json"),
    "doctor data": ("doctor data data", "doctor data data --scenes data/scenes/valid"),
    "configs": ("configs", "configs clip.yaml", "configs clip.yaml --out my.yaml"),
    "completion": ("completion bash", "completion zsh", "completion fish"),
}
"""Command → examples at the end of its help, without the program's name."""

_SECTIONS = {
    "getting started:": ("demo", "ui", "doctor", "completion", "weights"),
    "data:": ("draw", "data", "export"),
    "train and predict:": (*TRAINER_COMMANDS, "configs", "export-model"),
    "galleries:": ("gallery", "search"),
    "videos:": ("video",),
    "regions:": ("segment", "describe"),
    "evaluate and time:": ("evaluate", "reproduce", "ablate", "robustness", "bench"),
}
"""Section of the overview → the first names of its commands; commands of no section come last, under "more:"."""


def _overview() -> str:
    texts = TRAINER_COMMANDS | {name: text for name, (text, _) in COMMANDS.items()}
    blocks = []
    for title, firsts in [*_SECTIONS.items(), ("more:", tuple(name.split()[0] for name in texts))]:
        names = [name for first in firsts for name in texts if name.split()[0] == first]
        rows = {name: texts.pop(name) for name in dict.fromkeys(names)}  # each is shown once
        if rows:
            blocks.append(f"{title}\n{_table(rows)}")
    return "\n\n".join(blocks)


def _table(rows: Mapping[str, str]) -> str:
    return "\n".join(f"  {name:<17} {text}" for name, text in rows.items())


def _group(first: str) -> dict[str, str]:
    """Return the two-part commands that start with this name, each with its line of help."""
    return {name: text for name, (text, _) in COMMANDS.items() if name.startswith(f"{first} ")}


def _group_help(first: str) -> str:
    usage = f"usage: {PROGRAM} {first} COMMAND ...\n\ncommands:\n{_table(_group(first))}"
    return f"{usage}\n\n`{PROGRAM} {first} COMMAND --help` shows the options of a command.\n"


def _epilog(command: str) -> str:
    """Return the examples of a command, and the commands below it."""
    examples = EXAMPLES.get(command, ())
    lines = "\n".join(f"  {PROGRAM} {example}" for example in examples)
    blocks = [f"{'examples' if len(examples) > 1 else 'example'}:\n{lines}"] if examples else []
    if below := _group(command):
        blocks.append(f"more commands:\n{_table(below)}")
    return "\n\n".join(blocks)


class _Parser(argparse.ArgumentParser):
    """Shows the default of every option that has one, and errors in one line without the usage."""

    def add_argument(self, *flags: str, **options: Any) -> argparse.Action:
        default = options.get("default")
        if isinstance(default, int | float | str | Path) and default not in ("", argparse.SUPPRESS):
            options["help"] += " (default: %(default)s)"
        return super().add_argument(*flags, **options)

    def error(self, message: str) -> NoReturn:
        option = message.removeprefix("argument ").removesuffix(": expected one argument").rpartition("/")[2]
        if message.endswith(": expected one argument") and option in self._option_string_actions:
            value = self._option_string_actions[option].metavar or "VALUE"
            raise InputError(f"{option} {value}: a value is missing; see `{self.prog} --help`")
        unknown = message.removeprefix("unrecognized arguments: ").split()[0].partition("=")[0]
        near = difflib.get_close_matches(unknown, self._option_string_actions, n=1) if unknown[:2] == "--" else []
        if unknown == "--out" and not near:  # results that are no folder
            near = [option for option in ("--store",) if option in self._option_string_actions]
        hint = f"did you mean {near[0]}?" if near else f"see `{self.prog} --help`"
        if message.startswith("unrecognized") and unknown[:1] != "-" and "--text" in self._option_string_actions:
            hint = f"a text is given by --text, {hint}"
        raise InputError(f"{message}; {hint}")


def _parser() -> argparse.ArgumentParser:
    version = importlib.metadata.version("naruto-vision")
    parser = _Parser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [-h] [--version] COMMAND ...",
        description="Find and name the characters of a drawn series in scenes.",
        epilog=f"{_overview()}\n\n`{PROGRAM} COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {version}")
    return parser


def parse(command: str, argv: Sequence[str]) -> tuple[Callable[[argparse.Namespace], int], argparse.Namespace]:
    """Return what runs a command of ``COMMANDS``, and its parsed options."""
    text, name = COMMANDS[command]
    parser = _Parser(
        prog=f"{PROGRAM} {command}",
        description=text[0].upper() + text[1:] + ".",
        epilog=_epilog(command),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module = importlib.import_module(f"naruto_vision.cli.{name}")
    add_options, run = module.COMMANDS[command]
    add_options(parser)
    return run, parser.parse_args(argv)


def split(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Split the arguments into the command's name, of one or two parts, and the rest."""
    pair = " ".join(argv[:2])
    if pair in COMMANDS:
        return pair, list(argv[2:])
    if argv[0] in COMMANDS or argv[0] in TRAINER_COMMANDS:
        return argv[0], list(argv[1:])
    names = [*TRAINER_COMMANDS, *COMMANDS]
    if group := _group(argv[0]):
        near = difflib.get_close_matches(pair, group, n=1, cutoff=0.8)
        lasts = ", ".join(name.split()[-1] for name in group)
        others = f"expected one of {lasts}; see `{PROGRAM} {argv[0]} --help`"
        what = "no such command" if len(argv) > 1 else "a command is missing"
        raise InputError(f"{pair}: {what}; {f'did you mean `{PROGRAM} {near[0]}`?' if near else others}")
    near = [] if "-" in pair else difflib.get_close_matches(pair, names, n=1)
    near = near or difflib.get_close_matches(argv[0], names, n=1)
    hint = f"did you mean `{PROGRAM} {near[0]}`?" if near else f"`{PROGRAM} --help` lists the commands"
    raise InputError(f"{argv[0]}: no such command; {hint}")


def _run_trainer(command: str, argv: Sequence[str]) -> int:
    from naruto_vision.cli.trainer_args import added_notes, expand_argv, limit_threads, verb_parser
    from naruto_vision.cli.trainer_checks import as_typed, check_run, check_typed

    if _HELP & set(argv):
        sys.stdout.write(verb_parser(command).format_help())
        return 0
    check_typed(command, argv)
    expanded = expand_argv(command, argv)
    try:
        check_run(expanded)
        first = all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID"))
        for note in added_notes(argv, expanded) if first else ():
            logging.getLogger(__name__).info("%s", note)
        limit_threads()
        from naruto_vision.cli.trainer import run_cli  # imports torch and Lightning

        return run_cli(expanded).exit_code
    except InputError as error:
        raise InputError(as_typed(str(error), argv, expanded)) from None


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-"):
        parser = _parser()
        parser.parse_args(argv)
        parser.print_help()
        return EXIT_INPUT
    if len(argv) > 1 and argv[1] in _HELP and argv[0] not in COMMANDS and _group(argv[0]):
        sys.stdout.write(_group_help(argv[0]))
        return 0
    command, rest = split(argv)
    if command in TRAINER_COMMANDS:
        return _run_trainer(command, rest)
    run, arguments = parse(command, rest)
    return run(arguments)


@contextmanager
def _termination_unwinds() -> Iterator[Callable[[], bool]]:
    """Turn SIGTERM into an exception, so that half-written files are cleaned up; yields whether there was one."""
    stopped: list[int] = []
    own = os.getpid()

    def stop(signum: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:  # a worker that was just forked must not clean up for its parent
            os._exit(EXIT_TERMINATED)
        stopped.append(signum)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch raises an error for workers that end with the group
        raise SystemExit(EXIT_TERMINATED)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, which alone may set signal handlers
        yield lambda: False
        return
    try:
        yield lambda: bool(stopped)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), one_line=record.exc_info is None)


@contextmanager
def _log_lines() -> Iterator[None]:
    """Show this package's own log lines on stderr; other packages' loggers stay as they are."""
    logger = logging.getLogger("naruto_vision")
    handler = logging.StreamHandler()
    handler.setFormatter(_Lines())
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)


def _answer(argv: Sequence[str]) -> int:
    """Run one command, and write an expected error in one line."""
    try:
        return _run(argv)
    except NarutoVisionError as error:
        line = printable(" ".join(str(error).split()))
        sys.stderr.write(f"{PROGRAM}: error: {line}\n")
        return error.exit_code
    except RecursionError:
        sys.stderr.write(f"{PROGRAM}: error: a file or an option is nested too deep\n")
        return EXIT_INPUT
    except MemoryError as error:
        reason = f" ({printable(str(error))})" if str(error) else ""
        sys.stderr.write(f"{PROGRAM}: error: not enough memory{reason}; give fewer or smaller inputs\n")
        return EXIT_INPUT
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        path = f"{printable(str(error.filename))}: " if error.filename is not None else ""
        sys.stderr.write(f"{PROGRAM}: error: {path}{_DISK_ERRORS[error.errno]}\n")
        return EXIT_INPUT
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return EXIT_INTERRUPTED
    except SystemExit as stop:  # raised by argparse after help and usage errors
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


def main(args: Sequence[str] | None = None) -> int:
    """Run one command."""
    argv = list(sys.argv[1:] if args is None else args)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # file names that are not valid Unicode are printed as bytes
    if not (sys.stdout.isatty() or sys.stderr.isatty()):
        os.environ.setdefault("TTY_COMPATIBLE", "0")  # FORCE_COLOR, set by notebooks, makes rich redraw bars in a log
    with _log_lines(), _termination_unwinds() as stopped:
        try:
            code = _answer(argv)
        except BaseException:  # whatever is raised on the way out of a stopped run
            if not stopped():
                raise
        if not stopped():
            return code
        sys.stderr.write(f"{PROGRAM}: terminated\n")
        return EXIT_TERMINATED
