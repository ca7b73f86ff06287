"""Weights that would have to be downloaded, where there is no network."""

from typing import NoReturn

import open_clip
import pytest
import timm

from naruto_vision.encoders.opening import open_encoder
from naruto_vision.errors import InputError


def refuse(monkeypatch: pytest.MonkeyPatch, library: object, error: Exception) -> None:
    def no_network(*_arguments: object, **_options: object) -> NoReturn:
        raise error

    monkeypatch.setattr(library, "create_model", no_network)


def test_an_open_clip_tag_says_which_file_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, open_clip, RuntimeError("Failed to download weights for tag 'openai'"))
    with pytest.raises(InputError, match=r"naruto-vision weights download ViT-B-32\.openai`.* and give the file"):
        open_encoder("ViT-B-32", "openai")


def test_a_dinov2_name_says_what_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, timm, FileNotFoundError("no such file in the cache, and no network"))
    with pytest.raises(InputError, match="naruto-vision weights download dinov2_vits14"):
        open_encoder("dinov2_vits14")


@pytest.mark.parametrize(
    ("model", "weights", "library", "error"),
    [
        ("ViT-B-32", "openai", open_clip, RuntimeError("out of memory")),
        ("ViT-B-32", "random", open_clip, RuntimeError("download")),
        ("dinov2_vits14", "random", timm, PermissionError("cache")),
    ],
)
def test_other_failures_are_not_taken_for_a_missing_network(
    monkeypatch: pytest.MonkeyPatch, model: str, weights: str, library: object, error: Exception
) -> None:
    refuse(monkeypatch, library, error)
    with pytest.raises(type(error)):
        open_encoder(model, weights)
