from pathlib import Path

import pytest

from naruto_vision.errors import MissingPathError
from naruto_vision.io import bundles


def test_packaged_configs_are_found_by_name() -> None:
    assert bundles.config_path("scenes.yaml").read_text(encoding="utf-8").startswith("# naruto-vision")


def test_a_folder_wins_over_a_packaged_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny-clip").mkdir()
    (tmp_path / "tiny-clip" / "model.json").write_text("{}")
    assert bundles.bundle_path("tiny-clip") == Path("tiny-clip")


def test_a_bundle_that_is_nowhere_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match=r"fit --config clip\.yaml"):
        bundles.bundle_path(tmp_path / "none")
    with pytest.raises(MissingPathError, match="packaged config"):
        bundles.config_path("none.yaml")


def test_a_path_never_falls_back_to_a_packaged_name(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError):
        bundles.bundle_path(tmp_path / "tiny-clip")
