import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from source import ROOT

BUILT_FROM = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "naruto_vision", "configs", "checkpoints")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of the sources and unpack it where there is no checkout."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in BUILT_FROM:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target / "site")
    return target / "site"


def _run(unpacked: Path, folder: Path, code: str) -> str:
    """Run code against the unpacked wheel alone; -S leaves this environment's editable install out."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(unpacked), *packages])}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=folder, env=environment, capture_output=True, check=True, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_configs_resolve_from_a_wheel(unpacked: Path, tmp_path: Path) -> None:
    code = "from naruto_vision.io.bundles import config_path; print(config_path('scenes.yaml'))"
    assert Path(_run(unpacked, tmp_path, code).strip()).is_relative_to(unpacked)
    inside = {path.name for path in (unpacked / "naruto_vision" / "share" / "configs").iterdir()}
    assert {path.name for path in (ROOT / "configs").glob("*.yaml")} <= inside


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in (ROOT / "checkpoints").glob("*/model.json")))
def test_bundles_resolve_from_a_wheel(unpacked: Path, tmp_path: Path, name: str) -> None:
    code = f"from naruto_vision.io.bundles import bundle_path; print(bundle_path({name!r}))"
    folder = Path(_run(unpacked, tmp_path, code).strip())
    assert folder.is_relative_to(unpacked)
    assert (folder / "model.safetensors").stat().st_size <= 12_000_000


@pytest.mark.slow
def test_every_module_and_the_licence_travel(unpacked: Path) -> None:
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "naruto_vision").rglob("*.py")}
    assert expected <= {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*.py")}
    assert list(unpacked.glob("*.dist-info/licenses/LICENSE"))
    assert (unpacked / "naruto_vision" / "py.typed").is_file()
    assert (unpacked / "naruto_vision" / "viz" / "scene_page.html").is_file()
