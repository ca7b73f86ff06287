"""The Containerfile: known instructions, files that exist and are sent, packages by their hashes, no root."""

import json
import re
from itertools import takewhile

import pytest
from source import ROOT

KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "USER", "WORKDIR"}
"""Not ADD, which fetches addresses and unpacks archives."""


def _instructions() -> list[tuple[str, str]]:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


LINES = _instructions()


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_an_instruction_is_known_and_fetches_nothing_by_itself(line: tuple[str, str]) -> None:
    name, rest = line
    assert name in KNOWN
    assert rest
    assert not re.search(r"https?://|curl |wget |apt-get |sudo |--trusted-host|--extra-index-url", rest)
    if name in {"CMD", "ENTRYPOINT"}:
        assert isinstance(json.loads(rest), list)  # a shell would not pass signals on


def test_it_starts_with_what_is_built_from_and_ends_with_the_chosen_device() -> None:
    arguments = dict(rest.split("=", 1) for _, rest in takewhile(lambda line: line[0] == "ARG", LINES))
    stages = [rest for name, rest in LINES if name == "FROM"]
    names = [stage.partition(" AS ")[2] for stage in stages]
    assert set(re.findall(r"\$\{(\w+)\}", " ".join(stages))) == set(arguments)
    assert re.fullmatch(r"[\w./-]+:[\w.-]+", arguments["PYTHON"])
    assert not arguments["PYTHON"].endswith(":latest")
    assert arguments["DEVICE"] in names
    assert "cuda" in names
    assert stages[-1] == "${DEVICE}"


def test_what_is_copied_exists_and_is_sent() -> None:
    sent = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")]
    copied = [rest.split()[:-1] for name, rest in LINES if name == "COPY" and "--from=" not in rest]
    files = [name for names in copied for name in names]
    assert sorted(sent) == sorted(files)
    assert all((ROOT / name).exists() for name in files)
    stages = {rest.partition(" AS ")[2] for name, rest in LINES if name == "FROM"}
    origins = {rest.split()[0].removeprefix("--from=") for name, rest in LINES if name == "COPY" and "--from=" in rest}
    assert origins <= stages


def test_packages_are_installed_from_the_lock_by_their_hashes() -> None:
    installs = [rest for name, rest in LINES if name == "RUN" and "pip install" in rest]
    assert [rest.split("install ")[1] for rest in installs] == [
        "--require-hashes -r requirements.lock",
        "--no-deps --no-build-isolation .",
    ]


def test_nothing_runs_as_root() -> None:
    last = [rest for name, rest in LINES if name == "USER"]
    assert last
    assert not {"root", "0"} & {each.partition(":")[0] for each in last}
    after = LINES[max(index for index, line in enumerate(LINES) if line[0] == "USER") :]
    assert not [line for line in after if line[0] in {"RUN", "COPY"}]
