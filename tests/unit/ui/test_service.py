"""Jobs of the web application, without the process with the models."""

import asyncio
from pathlib import Path

import pytest

from naruto_vision.errors import InputError
from naruto_vision.ui.engine import Engine
from naruto_vision.ui.service import Service, StoredFile
from naruto_vision.ui.settings import SceneSettings, UiConfig


def test_no_two_jobs_write_the_results_of_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "job", lambda *_, **__: (0, asyncio.get_running_loop().create_future()))
    service = Service(UiConfig(presets={"own": tmp_path}, out=tmp_path / "kept"))
    files, settings = [StoredFile("x", "a.png", "image", tmp_path / "a.png")], SceneSettings(keep_as="mine")

    async def use() -> None:
        first, second = service.open_session(), service.open_session()
        job = service.analyze(first, files, "own", settings)
        assert job.out == tmp_path / "kept" / "mine"
        with pytest.raises(InputError, match="keep as mine: there are results of that name"):
            service.analyze(second, files, "own", settings)
        assert service.analyze(second, files, "own", SceneSettings(keep_as="hers")).out.name == "hers"

    try:
        asyncio.run(use())
    finally:
        service.close()
