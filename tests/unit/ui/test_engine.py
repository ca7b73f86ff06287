"""The process with the models, seen from the page: what a cancelled job ends, and what it does not."""

import asyncio
from pathlib import Path

import pytest

from naruto_vision.ui import engine as engines
from naruto_vision.ui.engine import CancelledError, Engine


def test_a_job_that_is_cancelled_while_it_waits_does_not_end_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_GRACE", 0.05)
    engine = Engine({"presets": {}, "weights": ("tiny-sam",), "store": "faiss:none"})

    async def use() -> None:
        engine.start()
        pid = engine.pid
        _, first = engine.job("demo.prepare", lambda *_: None, out=str(tmp_path / "demo"))
        number, second = engine.job("gallery.suspects", lambda *_: None, preset="p", out="")
        engine.cancel(number)
        with pytest.raises(CancelledError):
            await second
        await asyncio.sleep(0.3)
        assert engine.pid == pid
        assert not first.done()
        first.cancel()

    try:
        asyncio.run(use())
    finally:
        engine.stop()
