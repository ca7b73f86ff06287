"""``configs`` and ``completion``."""

import shutil
import subprocess
from pathlib import Path

import pytest

from naruto_vision.cli.main import COMMANDS, TRAINER_COMMANDS, main
from naruto_vision.io.bundles import config_path, packaged_configs


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_configs_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["configs"]) == 0
    shown = capsys.readouterr().out
    assert {"clip-vitb32.yaml", "scenes-vitb.yaml", "scenes-dinov2.yaml"} <= packaged_configs().keys()
    assert all(f"{name:<24}{text}\n" in shown for name, text in packaged_configs().items())


def test_a_config_is_printed_and_copied(capsys: pytest.CaptureFixture[str]) -> None:
    text = config_path("sam.yaml").read_text(encoding="utf-8")
    assert main(["configs", "sam"]) == 0
    assert capsys.readouterr().out == text
    assert main(["configs", "sam.yaml", "--out", "own/my.yaml"]) == 0
    assert Path("own/my.yaml").read_text(encoding="utf-8") == text
    assert "next: `naruto-vision fit --config own/my.yaml`" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["clap.yaml"], "clap.yaml: no such config; did you mean clip.yaml?"),
        (["qqq"], "qqq: no such config; `naruto-vision configs` lists the packaged ones"),
        (["clip.yaml", "--out", "there.yaml"], "--out there.yaml: exists already; give another name"),
        (
            ["--out", "my.yaml"],
            "--out my.yaml: which config? For example: naruto-vision configs clip.yaml --out my.yaml",
        ),
    ],
)
def test_a_wrong_copy_writes_nothing(words: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("there.yaml").write_text("mine")
    assert main(["configs", *words]) == 2
    assert capsys.readouterr().err == f"naruto-vision: error: {error}\n"
    assert [(path.name, path.read_text()) for path in Path().iterdir()] == [("there.yaml", "mine")]


@pytest.fixture(params=["bash", "zsh", "fish"])
def script(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["completion", request.param]) == 0
    path = Path(f"completion.{request.param}")
    path.write_text(capsys.readouterr().out)
    return path


def test_a_script_has_commands_options_configs_and_weights(script: Path) -> None:
    text = script.read_text()
    words = {word for command in (*COMMANDS, *TRAINER_COMMANDS) for word in command.split()}
    options = {"ckpt_path", "data.root", "mask-weights", "bootstrap", "include-unlabeled"}
    assert {
        word for word in words | options | {"clip-vitb32.yaml", "sam_vit_h", "dinov2_vits14"} if word not in text
    } == set()
    shell = script.suffix[1:]
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(script)], check=True)


BASH = """
source completion.bash
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
function=$(complete -p naruto-vision | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function naruto-vision "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
echo "${COMPREPLY[*]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("pred", "predict"),
        ("gallery rel", "relabel"),
        ("evaluate cou", "counts"),
        ("fit --data.ro", "--data.root"),
        ("test --config scenes-d", "scenes-dinov2.yaml"),
        ("fit --config mine", "mine.yaml"),
        ("weights download sam_vit_b", "sam_vit_b"),
        ("predict --encoder dinov2_vits14_", "dinov2_vits14_reg"),
        ("data audit ima", "images"),
        ("evaluate --matching la", "label"),
    ],
)
def test_bash_completes(words: str, found: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images").mkdir()
    Path("mine.yaml").touch()
    assert main(["completion", "bash"]) == 0
    Path("completion.bash").write_text(capsys.readouterr().out)
    command = ["bash", "-c", BASH, "bash", "naruto-vision", *words.split()]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    assert done.stdout.split() == [found]
