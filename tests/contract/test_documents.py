"""The commands in documents and tutorials are commands: known, spelt right, with options that exist, safe to paste."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from source import ROOT

from naruto_vision.cli import main as cli
from naruto_vision.cli import trainer_args
from naruto_vision.cli.trainer import NarutoCLI, run_cli
from naruto_vision.io.bundles import file_sha256, packaged_tables
from naruto_vision.metrics.tables import read_table_file, table_markdown

TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
_SHELL_BLOCK = re.compile(r"^```(?:bash|sh|shell|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
_SHELL_CELL = "%%bash -e\n"  # -e: a command that fails stops the notebook
_JOB = re.compile(r"^```yaml\n(apiVersion:.*?)^```", re.DOTALL | re.MULTILINE)
_LAUNCHERS = frozenset({"--no-python", "srun"})  # of torchrun and SLURM
_OTHER_WORDS = frozenset({"|", "||", "&&", ";", ">", ">>", "2>"})


class _ParsedError(Exception):
    """Stops a Trainer command once its words were understood."""


def _blocks() -> Iterator[tuple[Path, str]]:
    for path in DOCUMENTS:
        for found in _SHELL_BLOCK.finditer(path.read_text(encoding="utf-8")):
            yield path, found.group(1)
    for path in TUTORIALS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        yield path, "\n".join(text.removeprefix(_SHELL_CELL) for text in code if text.startswith(_SHELL_CELL))


def _commands(block: str) -> Iterator[list[str]]:
    """Yield the words after each ``naruto-vision``, continued lines joined as a shell joins them."""
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        for at, word in enumerate(words):
            if word.rsplit("/", 1)[-1] == cli.PROGRAM and (at == 0 or words[at - 1] in _OTHER_WORDS | _LAUNCHERS):
                rest = words[at + 1 :]
                ends = [place for place, other in enumerate(rest) if other in _OTHER_WORDS]
                yield rest[: ends[0]] if ends else rest


def _jobs() -> Iterator[tuple[Path, list[str]]]:
    """Yield what the containers of Kubernetes jobs start."""
    for path in DOCUMENTS:
        for text in _JOB.findall(path.read_text(encoding="utf-8")):
            for replica in yaml.safe_load(text)["spec"]["pytorchReplicaSpecs"].values():
                for container in replica["template"]["spec"]["containers"]:
                    yield path, container["command"][container["command"].index(cli.PROGRAM) + 1 :]


CASES = [*((path, words) for path, block in _blocks() for words in _commands(block)), *_jobs()]
IDS = [f"{path.relative_to(ROOT)}:{' '.join(words)[:60]}" for path, words in CASES]


def _understand(words: Sequence[str]) -> None:
    """Parse one command line without doing what it says."""
    command, rest = cli.split(words)
    if command in cli.TRAINER_COMMANDS:
        run_cli(trainer_args.expand_argv(command, rest))
    else:
        cli.parse(command, rest)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Trainer commands stop after parsing, and folders that a document only names be there."""

    def stop(_cli: object) -> None:
        raise _ParsedError

    monkeypatch.setattr(NarutoCLI, "before_instantiate_classes", stop)
    monkeypatch.setattr(trainer_args, "check_scenes", str)
    monkeypatch.setattr(trainer_args, "check_gallery", Path)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(("path", "words"), CASES, ids=IDS)
def test_commands_in_the_documents_are_understood(path: Path, words: list[str]) -> None:
    if words[0] in cli.TRAINER_COMMANDS:
        with pytest.raises(_ParsedError):
            _understand(words)
    else:
        _understand(words)
    assert path.is_file()


def test_no_comment_breaks_a_continued_line() -> None:
    broken = []
    for path, block in _blocks():
        lines = block.splitlines()
        continued = [(line, below) for line, below in zip(lines, [*lines[1:], ""], strict=True) if line.endswith("\\")]
        broken += [(path.name, line) for line, below in continued if " # " in line or below.lstrip().startswith("#")]
        broken += [(path.name, line) for line in lines if re.search(r"\\\s+$", line)]
    assert broken == []


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    "words",
    [["serch", "--gallery", "G"], ["draw", "--no-such-option"], ["fit", "--config", "clip.yaml", "--data.rot", "data"]],
)
def test_a_wrong_command_in_a_document_would_be_found(words: list[str]) -> None:
    with pytest.raises(cli.InputError):
        _understand(words)


def test_tutorials_are_kept_without_outputs() -> None:
    """They are run when the site is built, so that they show what the program does now."""
    cells = [cell for path in TUTORIALS for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert cells
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []


def test_tables_of_the_documents_are_those_that_a_command_made() -> None:
    named = []
    for path in DOCUMENTS:
        for name, text in re.findall(
            r"<!-- (docs/tables/\S+\.json) -->\n(.*?)(?=\n\n|\Z)", path.read_text(), re.DOTALL
        ):
            made = table_markdown(json.loads((ROOT / name).read_text(encoding="utf-8")))
            assert text == made.partition("\n\n")[0].rstrip("\n"), f"{path.name}: {name}"
            named.append(name)
    kept = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "tables").glob("*.json")]
    assert sorted(set(named)) == sorted(kept)


def test_packaged_tables_are_of_the_packaged_configs_and_weights() -> None:
    """After a change of these: `naruto-vision reproduce NAME`, then its hashes and its ``table.json``."""
    for name in packaged_tables():
        table = read_table_file(ROOT / "configs" / "tables" / f"{name}.yaml")
        made = json.loads((ROOT / "docs" / "tables" / f"{name}.json").read_text(encoding="utf-8"))
        assert (made["steps"], made["made_of"]) == (table.steps, table.expect)
        for what, digest in table.expect.items():
            kind, _, own = what.partition(" ")
            files = {"config": ROOT / "configs" / own, "weights": ROOT / "checkpoints" / own / "model.safetensors"}
            assert kind not in files or file_sha256(files[kind]) == digest, what


def test_links_in_the_documents_lead_to_files() -> None:
    links = [
        (path, target)
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert links
    assert [(path.name, target) for path, target in links if not (path.parent / target).exists()] == []


def test_source_files_that_the_documents_name_exist() -> None:
    package = ROOT / "naruto_vision"
    named = [
        (path, name) for path in DOCUMENTS for name in re.findall(r"`([\w/]+\.py)`", path.read_text(encoding="utf-8"))
    ]
    assert named
    known = {file.relative_to(package).as_posix() for file in package.rglob("*.py")}
    known |= {file.name for file in package.rglob("*.py")}  # in a table whose heading names the folder
    assert [(path.name, name) for path, name in named if name not in known and not (ROOT / name).exists()] == []
