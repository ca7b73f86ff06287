"""Whose vectors a gallery holds is checked once, and the message names the folder."""

from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest

from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.errors import FingerprintError
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.modules.scene_retriever import SceneRetriever
from naruto_vision.segmentation.generator import Segmenter


def test_the_weights_are_hashed_once_and_the_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    monkeypatch.setattr(ClipEncoder, "fingerprint", property(lambda _: hashed.append("once") or "a" * 64))
    segmenter = create_autospec(Segmenter, instance=True)
    segmenter.model = None
    row = np.eye(1, 192, dtype=np.float32)
    for fingerprint in ("a" * 64, "b" * 64):
        hashed.clear()
        Gallery.build(row, [GalleryRow("0.png", "a")], fingerprint=fingerprint).save(tmp_path / "g")
        module = SceneRetriever(ClipEncoder("tiny-clip"), segmenter, gallery=str(tmp_path / "g"))
        if fingerprint == "a" * 64:
            assert module.analyzer.gallery.folder == tmp_path / "g"
        else:
            with pytest.raises(FingerprintError, match="g: built by encoder bbbbbbbbbbbb, opened with encoder aaaa"):
                _ = module.analyzer
        assert hashed == ["once"]
