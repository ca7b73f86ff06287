"""``naruto-vision bench pipeline``: ``predict`` against the same job done region by region with stock parts."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naruto_vision.errors import InputError, MissingPathError

if TYPE_CHECKING:
    from naruto_vision.cli.bench import Timing
    from naruto_vision.cli.pipeline_ways import Parity, Parts

OURS, REFERENCE = "predict", "one by one"
LEAST_PARITY = 0.99
_GALLERY_IMAGES = 20  # of each character; enough that every search is a real one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision bench pipeline``.
    """
    parser.add_argument(
        "--scenes", default="20", metavar="N|DIR", help="how many scenes to draw, or a folder of scenes (default: 20)"
    )
    parser.add_argument("--size", type=int, default=384, help="side of a drawn scene in pixels (default: 384)")
    parser.add_argument("--config", default="scenes.yaml", metavar="FILE", help="what searches (default: scenes.yaml)")
    parser.add_argument("--gallery", type=Path, metavar="DIR", help="whom to look for (default: the packaged cast)")
    parser.add_argument("--encoder", default="tiny-clip", metavar="MODEL", help="a CLIP or bundle (default: tiny-clip)")
    parser.add_argument(
        "--predict",
        action="append",
        default=[],
        metavar="WORD",
        help="an option for predict: --predict=--model.crop.pad=0",
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed rounds (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")


def run(arguments: argparse.Namespace) -> int:
    """Search the same scenes in both ways, in turns, and compare what is in the files.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        The exit code: 0, or 1 where the two agree on less than 99 % of the regions.

    Raises:
        InputError: If a number makes no sense, a folder is missing, or the config is not one for scenes.
    """
    for name, least in (("size", 32), ("repeats", 1)):
        if getattr(arguments, name) < least:
            msg = f"--{name} {getattr(arguments, name)}: expected {least} or more"
            raise InputError(msg)
    count = _count(arguments.scenes)
    from naruto_vision.cli.bench import gemm_rate, write_report
    from naruto_vision.cli.trainer_args import limit_threads

    limit_threads()
    with tempfile.TemporaryDirectory() as folder:
        times, results = _take_turns(arguments, Path(folder), count)
    results["gemm_gflops"] = gemm_rate("torch")
    _print(times, results)
    if arguments.json:
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(arguments).items()}
        write_report(arguments.json, "pipeline", settings, results)
    return int(results["parity"]["share"] < LEAST_PARITY)


def _count(scenes: str) -> int:
    """Return how many scenes are to be drawn; 0 for a folder."""
    if not scenes.isdecimal():
        if not Path(scenes).is_dir():
            raise MissingPathError(Path(scenes), "scene folder", "give a number of scenes to draw, or a folder")
        return 0
    if int(scenes) < 1:
        msg = f"--scenes {scenes}: expected 1 or more"
        raise InputError(msg)
    return int(scenes)


def _take_turns(arguments: argparse.Namespace, folder: Path, count: int) -> "tuple[dict[str, Timing], dict[str, Any]]":
    from naruto_vision.cli.bench import interleaved
    from naruto_vision.cli.console import progress
    from naruto_vision.cli.pipeline_ways import compare, one_by_one, predict_all, step_means

    parts = _prepare(arguments, folder, count)
    ways = {OURS: predict_all, REFERENCE: one_by_one}
    warm_up = int(arguments.repeats > 1)
    with progress("searching", len(ways) * (arguments.repeats + warm_up)) as advance:

        def turn(name: str) -> None:
            shutil.rmtree(folder / name, ignore_errors=True)
            ways[name](parts, folder / name)
            advance()

        times = interleaved({name: partial(turn, name) for name in ways}, arguments.repeats, warm_up)
    scenes = len(parts.data.dataset("predict"))
    figures = {name: _figures(times, name, scenes, step_means(folder / name)) for name in ways}
    return times, _results(figures, scenes, compare(folder / OURS, folder / REFERENCE))


def _prepare(arguments: argparse.Namespace, folder: Path, count: int) -> "Parts":
    """Draw what is not given, enrol it, and put a ``predict`` together."""
    from naruto_vision.cli.pipeline_ways import find_parts
    from naruto_vision.cli.train_loops import silence
    from naruto_vision.cli.trainer import run_cli
    from naruto_vision.cli.trainer_args import find_config

    config, drawn = str(find_config(arguments.config)), folder / "world"
    encoder = f"--model.encoder.init_args.model={arguments.encoder}"
    gallery = arguments.gallery or folder / "gallery"
    if count or not arguments.gallery:
        _draw(drawn, count, arguments.size, 0 if arguments.gallery else _GALLERY_IMAGES)
    words = ["--trainer.logger=false", "--trainer.enable_progress_bar=false", f"--model.gallery={gallery}", encoder]
    with silence():
        if not arguments.gallery:
            enrol = str(find_config("gallery.yaml"))
            run_cli(["fit", "--config", enrol, f"--data.root={drawn}", *words])
        scenes = drawn / "scenes" / "test" if count else arguments.scenes
        own = [f"--data.predict={scenes}", f"--out={folder / OURS}", *words]
        return find_parts(run_cli(["predict", "--config", config, *arguments.predict, *own], run=False))


def _draw(folder: Path, scenes: int, size: int, images: int) -> None:
    from naruto_vision.cli.console import progress
    from naruto_vision.io.bundles import config_path
    from naruto_vision.synthetic.attributes import read_cast
    from naruto_vision.synthetic.dataset import WorldPlan, write_world

    cast = read_cast(config_path("cast.yaml"))
    plan = WorldPlan(train=images, valid=0, test=0, scenes=scenes, valid_scenes=0, size=size)
    with progress("drawing", plan.steps(len(cast.members))) as advance:
        write_world(folder, cast, plan, advance=advance)


def _figures(times: "Mapping[str, Timing]", name: str, scenes: int, steps: Mapping[str, float]) -> dict[str, Any]:
    return {
        **times[name].as_json(),
        "scenes_per_s": scenes / times[name].median,
        "times_as_fast": times[REFERENCE].median / times[name].median,
        "times_as_fast_cpu": times[REFERENCE].cpu_median / times[name].cpu_median,
        "ms_per_scene": steps,
    }


def _results(ways: Mapping[str, Any], scenes: int, parity: "Parity") -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    return {
        "ways": dict(ways),
        "scenes": scenes,
        "parity": {**asdict(parity), "share": parity.share},
        "threads": torch.get_num_threads(),
    }


def _print(times: "Mapping[str, Timing]", results: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    ways = results["ways"].values()
    table = Table("", *results["ways"], title=f"{results['scenes']} scenes, {len(times[OURS].seconds)} rounds")
    rows = [("scenes/s", "scenes_per_s"), ("median s", "median_s"), ("CPU s", "cpu_median_s")]
    rows += [("times as fast", "times_as_fast"), ("by CPU time", "times_as_fast_cpu")]
    for title, key in rows:
        table.add_row(title, *(f"{way[key]:.2f}" for way in ways))
    for step in results["ways"][OURS]["ms_per_scene"]:
        table.add_row(f"{step}, ms a scene", *(f"{way['ms_per_scene'][step]:.1f}" for way in ways))
    Console().print(table)
    parity = results["parity"]
    sys.stdout.write(
        f"same region and name: {parity['same']} of {parity['reference']} regions of {REFERENCE!r} and of "
        f"{parity['ours']} of {OURS!r} ({parity['matched']} at a mask IoU of 0.99); {parity['share']:.2%} agree\n"
        f"PyTorch multiplied at {results['gemm_gflops']:.0f} GFLOP/s on {results['threads']} threads in this run\n"
    )
