"""``naruto-vision configs``: list the packaged configs, print one, or copy it to a file of one's own."""

import argparse
from pathlib import Path

from naruto_vision.cli.console import show
from naruto_vision.cli.trainer_args import find_config
from naruto_vision.errors import InputError
from naruto_vision.io.atomic import write_text
from naruto_vision.io.bundles import packaged_configs


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="config to print (default: list all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="copy the config to this new file instead")


def _run(arguments: argparse.Namespace) -> int:
    name, out = arguments.name, arguments.out
    if not name:
        if out is not None:
            raise InputError(f"--out {out}: which config? For example: naruto-vision configs clip.yaml --out {out}")
        show(*(f"{config:<24}{text}" for config, text in packaged_configs().items()))
        show("`naruto-vision configs NAME` prints one, `naruto-vision configs NAME --out my.yaml` copies it")
        return 0
    text = find_config(name).read_text(encoding="utf-8")
    if out is None:
        show(text.rstrip("\n"))
        return 0
    if out.exists():
        raise InputError(f"--out {out}: exists already; give another name")
    write_text(out, text)
    command = text.partition("\n")[0].removeprefix("# ").replace(find_config(name).name, str(out))
    show(f"{out}: a copy of {find_config(name).name}; next: `{command.replace(f'configs/{out}', str(out))}`")
    return 0


COMMANDS = {"configs": (_options, _run)}
