"""The tab Monitoring: numbers of all results of a server and of its prompt sessions, with alerts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from naruto_vision.io.images import write_image
from naruto_vision.prompting.monitor import Monitor
from naruto_vision.prompting.writer import read_results
from naruto_vision.ui.models import Models
from naruto_vision.ui.settings import GridSettings
from naruto_vision.ui.tasks import automatic, monitoring, prompts


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models({}, ("tiny-sam",), "faiss:none", str(tmp_path / "notes.jsonl"))


@pytest.fixture
def square(tmp_path: Path) -> Path:
    image = np.full((48, 64, 3), 200, np.uint8)
    image[12:36, 20:44] = (180, 30, 40)
    write_image(tmp_path / "a.png", image)
    return tmp_path / "a.png"


def use(retries: int = 0, *, accepted: bool = True) -> dict[str, Any]:
    return {"predictions": 1 + retries, "retries": retries, "accepted": accepted}


def step(_done: int, _total: int, _news: Any = None) -> None:
    """Report to nobody."""


def limits_of(found: dict[str, Any]) -> list[str]:
    return [line.rpartition("(")[2].rstrip(")") for line in found["alerts"]]


def test_a_server_without_results_has_no_numbers_and_no_alerts(models: Models) -> None:
    found = monitoring.summary(models, uses=[])
    assert (found["images"], found["alerts"]) == (0, [])
    assert found["summary"]["best_score"]["median"] is None
    assert "sessions" not in found["summary"]
    assert (found["limits"]["retry_share"], found["limits"]["abandon_share"]) == (0.4, 0.2)


def test_each_result_counts_with_the_numbers_of_its_run(models: Models, square: Path, tmp_path: Path) -> None:
    automatic.segment(
        models, step, path=str(square), name="a.png", weights="", settings=GridSettings(4), gallery="",
        describe=False, out=str(tmp_path / "out"),
    )  # fmt: skip
    prompts.save(
        models, step, key="k", path=str(square), name="a.png", weights="tiny-sam",
        operations=[("point", (30.0, 24.0, True)), ("point", (4.0, 4.0, False))], out=str(tmp_path / "saved"),
    )  # fmt: skip
    found, expected = monitoring.summary(models, uses=[]), Monitor()
    for folder in ("out", "saved"):
        for record, times in read_results(tmp_path / folder):
            expected.add(record, times)
    assert found["images"] == 2
    assert found["summary"]["best_score"] == expected.summary()["best_score"]
    assert found["summary"]["masks"] == expected.summary()["masks"]
    assert found["summary"]["prompts"] == expected.summary()["prompts"]
    assert found["summary"]["prompts"]["points"] > 2
    assert found["summary"]["ms_by_size"]["up to 0.5 MP"]["scenes"] == 2
    text = Path(models.notes).read_text(encoding="utf-8")
    assert "a.png" not in text


def test_numbers_survive_a_restart_of_the_process_with_the_models(models: Models, square: Path, tmp_path: Path) -> None:
    automatic.segment(
        models, step, path=str(square), name="a.png", weights="", settings=GridSettings(2), gallery="",
        describe=False, out=str(tmp_path / "out"),
    )  # fmt: skip
    again = Models({}, ("tiny-sam",), "faiss:none", models.notes)
    assert monitoring.summary(again, uses=[])["images"] == 1


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([use(), use(), use(1), use(1), use()], []),  # 40 % tried again, which is no alert
        ([use(1), use(1), use(1), use(), use()], ["retry_share"]),
        ([use(accepted=False), use(), use(), use(), use()], []),
        ([use(accepted=False), use(), use(), use()], ["abandon_share"]),
        ([{"predictions": 0, "retries": 0, "accepted": False}] * 3, []),  # opened, never asked
    ],
)
def test_retries_and_abandoned_sessions_raise_the_alerts_of_the_reference(
    models: Models, uses: list[dict[str, Any]], expected: list[str]
) -> None:
    assert limits_of(monitoring.summary(models, uses=uses)) == expected
