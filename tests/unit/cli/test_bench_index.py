"""``bench index``: the figures it prints and writes."""

import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.bench_index import encoded_trial
from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery

pytest.importorskip("faiss")


def bench(folder: Path, *words: str) -> dict[str, dict[str, object]]:
    assert main(["bench", "index", *words, "--repeats", "1", "--json", str(folder / "r.json")]) == 0
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert report["bench"] == "index"
    return dict(report["results"])


def test_s1_110_naive_and_faiss_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ("naive", "flat-default", "flat", "hnsw", "ivf")
    found = bench(tmp_path, "--vectors", "500", "--dim", "16", "--queries", "40", "--kinds", *kinds)
    image: dict[str, dict[str, dict[str, float]]] = found["image"]  # type: ignore[assignment]  # JSON has no types
    assert list(image["kinds"]) == list(kinds)
    for name in ("naive", "flat-default", "flat"):
        assert (image["kinds"][name]["top1_same"], image["kinds"][name]["recall"]) == (40, 1.0)
    assert all(one["recall"] > 0.9 and one["ms_per_query"] > 0 for one in image["kinds"].values())
    assert image["kinds"]["naive"]["times_as_fast"] == 1.0
    shown = capsys.readouterr().out
    assert "40/40" in shown
    assert "GFLOP/s in this run" in shown


def test_s1_111_queries_are_held_out_and_self_match_can_be_asked_for(tmp_path: Path) -> None:
    rows = np.eye(12, dtype=np.float32)  # no row is near another: only a self match scores
    Gallery.build(rows, [GalleryRow(f"{i}.png", "a") for i in range(12)], fingerprint="b" * 64).save(tmp_path / "g")
    words = ("--gallery", str(tmp_path / "g"), "--queries", "6", "--kinds", "naive", "flat", "--k", "1")
    assert bench(tmp_path, *words)["rows"] == 6
    own = bench(tmp_path, *words, "--self-match")
    assert own["rows"] == 12
    assert "still in it" in str(own["image"])


def test_texts_are_measured_apart(tmp_path: Path) -> None:
    words = ("--vectors", "300", "--dim", "16", "--queries", "8", "--kinds", "naive", "ivf", "--text-queries")
    found = bench(tmp_path, *words)
    assert "in the place of texts" in str(found["text"])
    encoder = ClipEncoder("tiny-clip")
    images = [np.full((16, 16, 3), value, dtype=np.uint8) for value in (0, 90, 160, 250)]
    rows = [GalleryRow(f"{i}.png", f"label {i % 2}") for i in range(4)]
    gallery = Gallery.build(
        embed_images(encoder, images).numpy(),
        rows,
        fingerprint=encoder.fingerprint,
        note={"encoder": dict(encoder.recipe)},
    )
    gallery.save(tmp_path / "g")
    found = bench(tmp_path, "--gallery", str(tmp_path / "g"), "--kinds", "naive", "flat", "--k", "2", "--text-queries")
    assert "14 texts of 2 labels" in str(found["text"])


def test_vectors_can_be_what_an_encoder_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench_index._CHARACTERS", 6)
    monkeypatch.setattr("naruto_vision.cli.bench_index._IMAGES", 3)
    words = ("--encoder", "tiny-clip", "--vectors", "400", "--queries", "9", "--kinds", "naive", "ivf")
    found = bench(tmp_path, *words, "--text-queries")
    assert found["rows"] == 400
    assert "9 further images; rows: 18 drawn images of 6 characters" in str(found["image"])
    assert "captions by its text tower" in str(found["text"])
    assert "text" not in bench(tmp_path, *words)


def test_rows_queries_and_texts_are_the_encoders_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench_index._CHARACTERS", 6)
    monkeypatch.setattr("naruto_vision.cli.bench_index._IMAGES", 3)
    encoder = ClipEncoder("tiny-clip").eval()
    trial, texts = encoded_trial(encoder, 300, 12, 1)
    again, _ = encoded_trial(encoder, 300, 12, 1)
    assert trial.vectors.shape == (300, encoder.dim)
    assert np.array_equal(trial.vectors, again.vectors)
    assert texts is not None
    assert trial.queries.shape == texts[0].shape == (12, encoder.dim)
    images, words = ((asked @ trial.vectors.T).max(axis=1) for asked in (trial.queries, texts[0]))
    assert float(images.min()) > float(words.mean())  # texts lie apart from images
    assert float(images.max()) < 0.9999  # no query is a row


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--encoder", "tiny-clip", "--gallery", "g"], "--encoder: expected neither --gallery nor --self-match"),
        (["--encoder", "tiny-clip", "--self-match"], "--encoder: expected neither --gallery nor --self-match"),
        (["--encoder", "nonsense"], "nonsense: no such model bundle"),
    ],
)
def test_encoders_that_cannot_be_used_are_told(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "index", *words]) == 2
    assert told in capsys.readouterr().err


def test_an_encoder_that_reads_nothing_is_not_asked_for_texts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench_index._CHARACTERS", 2)
    encoder = DinoEncoder("test_vit.r160_in1k", "random", image_size=32).eval()
    monkeypatch.setattr("naruto_vision.encoders.opening.open_encoder", lambda _: encoder)
    words = ["bench", "index", "--encoder", "dino", "--vectors", "60", "--queries", "4", "--kinds", "naive"]
    assert main([*words, "--text-queries"]) == 2
    assert "it has no text tower" in capsys.readouterr().err
    assert main([*words, "--repeats", "1"]) == 0


def test_senseless_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "index", "--queries", "0"]) == 2
    assert "--queries 0: expected 1 or more" in capsys.readouterr().err
