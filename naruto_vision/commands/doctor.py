"""``naruto-vision doctor``: what is here, and what is wrong with it."""

import argparse
import json
import sys
from typing import Any

_TITLES = {
    "cpus": "CPUs allowed",
    "threads": "OMP_NUM_THREADS",
    "gpu": "GPU",
    "gpu_driver": "NVIDIA driver",
    "duplicates_allowed": "KMP_DUPLICATE_LIB_OK set",
    "versions": "Installed, and which versions are supported",
    "faults": "Import faults",
    "features": "Vector units",
    "openmp": "OpenMP runtimes loaded",
    "weights": "Packaged weights",
    "free_gb": "Free space, GB",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options.

    Args:
        parser: The parser of ``naruto-vision doctor``.
    """
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(arguments: argparse.Namespace) -> int:
    """Print the facts, then what is wrong and what to do about it.

    Args:
        arguments: As ``add_arguments`` declares them.

    Returns:
        0 if all is well, 1 if something is wrong.
    """
    from naruto_vision.commands.diagnosis import diagnose
    from naruto_vision.commands.health import gather_facts

    facts = gather_facts()
    findings = diagnose(facts)
    if arguments.json:
        listed = [{"problem": finding.problem, "remedy": finding.remedy} for finding in findings]
        text = json.dumps({"facts": facts.as_json(), "wrong": listed}, indent=2, ensure_ascii=False)
    else:
        wrong = [f"  - {finding.problem}\n    {finding.remedy}" for finding in findings]
        text = "\n".join([*_sections(facts.as_json()), "What is wrong", *(wrong or ["  nothing"])])
    sys.stdout.write(text + "\n")
    return 1 if findings else 0


def _sections(facts: dict[str, Any]) -> list[str]:
    """Lay the facts out, a heading for each group and a line for each fact; a group of nothing is left out."""
    lines: list[str] = []
    single: list[str] = []
    supported = facts.pop("required", {})
    for name, value in facts.items():
        title = _TITLES.get(name, name.replace("_", " "))
        match value:
            case dict():
                shown = [f"  {key:<28}{_shown(item)}" for key, item in value.items()]
                if name == "versions":
                    shown = [f"  {key:<28}{_shown(item):<12}{supported.get(key, '')}" for key, item in value.items()]
                lines += _group(title, shown)
            case list() | tuple():
                lines += _group(title, [f"  {item}" for item in value])
            case _:
                single.append(f"  {title:<28}{_shown(value)}")
    return ["This process", *single, "", *lines]


def _group(title: str, shown: list[str]) -> list[str]:
    return [title[0].upper() + title[1:], *(line.rstrip() for line in shown), ""] if shown else []


def _shown(value: object) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.1f}"
        case _:
            return str(value) or "-"
