"""``bench index`` and what benchmarks share: timing in turns, data, figures and the report."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from store_servers import PACKAGES

from naruto_vision.cli.bench import (
    Timing,
    encoded_data,
    gemm_rate,
    grown,
    held_out,
    interleaved,
    machine_facts,
    normalised,
    random_data,
    recall,
    self_match,
    shifted,
    write_report,
)
from naruto_vision.cli.main import main
from naruto_vision.encoders.base import embed_images
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.dino import DinoEncoder
from naruto_vision.gallery.content import GalleryRow
from naruto_vision.gallery.gallery import Gallery
from naruto_vision.gallery.index import exact_search
from naruto_vision.gallery.vector_store import open_store
from naruto_vision.records import Vectors

pytest.importorskip("faiss")


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench.GEMM_SIDE", 256)


def bench(folder: Path, *words: str) -> dict[str, dict[str, object]]:
    assert main(["bench", "index", *words, "--repeats", "1", "--json-out", str(folder / "r.json")]) == 0
    report = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert report["bench"] == "index"
    return dict(report["results"])


def test_naive_and_faiss_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ("naive", "flat-default", "flat", "hnsw", "ivf", "sq")
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


def test_queries_are_held_out_and_self_match_can_be_asked_for(tmp_path: Path) -> None:
    rows = np.eye(12, dtype=np.float32)  # no row is near another: only a self match scores
    Gallery.build(rows, [GalleryRow(f"{i}.png", "a") for i in range(12)], fingerprint="b" * 64).save(tmp_path / "g")
    words = ("--gallery", str(tmp_path / "g"), "--queries", "6", "--kinds", "naive", "flat", "--top-k", "1")
    assert bench(tmp_path, *words)["rows"] == 6
    own = bench(tmp_path, *words, "--self-match")
    assert own["rows"] == 12
    assert "not held out" in str(own["image"])


@pytest.mark.parametrize("store", ["faiss:store", pytest.param("milvus:store.db", marks=pytest.mark.slow)])
def test_a_store_is_measured_beside_local_indexes_and_left_as_it_was(tmp_path: Path, store: str) -> None:
    kind, _, rest = store.partition(":")
    for package in PACKAGES.get(kind, ()):
        pytest.importorskip(package)
    uri = f"{kind}:{tmp_path / rest}"
    with open_store(uri) as opened:
        opened.create("a.mp4", {"dim": 4})
    words = ("--vectors", "300", "--dim", "16", "--queries", "20", "--kinds", "flat", "ivf", "--text-queries")
    found = bench(tmp_path, *words, "--store", uri)
    for kind in ("image", "text"):
        kinds: dict[str, dict[str, float]] = found[kind]["kinds"]  # type: ignore[assignment]  # JSON has no types
        assert list(kinds) == ["flat", "ivf", uri]
        assert kinds[uri]["recall"] == 1.0
        assert kinds[uri]["ms_per_query"] > 0
    with open_store(uri) as opened:
        assert opened.collections() == ["a.mp4"]


@pytest.mark.slow
def test_texts_are_measured_apart(tmp_path: Path) -> None:
    words = ("--vectors", "300", "--dim", "16", "--queries", "8", "--kinds", "naive", "ivf", "--text-queries")
    found = bench(tmp_path, *words)
    assert "to simulate texts" in str(found["text"])
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
    found = bench(
        tmp_path, "--gallery", str(tmp_path / "g"), "--kinds", "naive", "flat", "--top-k", "2", "--text-queries"
    )
    assert "14 texts of 2 labels" in str(found["text"])


@pytest.mark.slow
def test_vectors_can_be_what_an_encoder_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench._CHARACTERS", 6)
    monkeypatch.setattr("naruto_vision.cli.bench._IMAGES", 3)
    words = ("--encoder", "tiny-clip", "--vectors", "400", "--queries", "9", "--kinds", "naive", "ivf")
    found = bench(tmp_path, *words, "--text-queries")
    assert found["rows"] == 400
    assert "9 further images; rows: 18 synthetic images of 6 characters" in str(found["image"])
    assert "captions by its text tower" in str(found["text"])
    assert "text" not in bench(tmp_path, *words)


def test_rows_queries_and_texts_are_the_encoders_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("naruto_vision.cli.bench._CHARACTERS", 6)
    monkeypatch.setattr("naruto_vision.cli.bench._IMAGES", 3)
    encoder = ClipEncoder("tiny-clip").eval()
    trial, texts = encoded_data(encoder, 300, 12, 1)
    again, _ = encoded_data(encoder, 300, 12, 1)
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
    monkeypatch.setattr("naruto_vision.cli.bench._CHARACTERS", 2)
    encoder = DinoEncoder("test_vit.r160_in1k", "random", image_size=32).eval()
    monkeypatch.setattr("naruto_vision.encoders.opening.open_encoder", lambda _: encoder)
    words = ["bench", "index", "--encoder", "dino", "--vectors", "60", "--queries", "4", "--kinds", "naive"]
    assert main([*words, "--text-queries"]) == 2
    assert "it has no text tower" in capsys.readouterr().err
    assert main([*words, "--repeats", "1"]) == 0


def test_senseless_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "index", "--queries", "0"]) == 2
    assert "argument --queries: expected a whole number of 1 or more, found '0'" in capsys.readouterr().err


def units(count: int, dim: int = 6, seed: int = 0) -> Vectors:
    return normalised(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def is_unit(vectors: Vectors) -> bool:
    return vectors.dtype == np.float32 and bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))


def test_random_datas_have_unit_rows_and_queries_that_are_none_of_them() -> None:
    trial, again = random_data(50, 16, 9, seed=3), random_data(50, 16, 9, seed=3)
    assert trial.vectors.shape == (50, 16)
    assert trial.queries.shape == (9, 16)
    assert is_unit(trial.vectors)
    assert is_unit(trial.queries)
    assert np.array_equal(trial.vectors, again.vectors)
    assert (trial.queries @ trial.vectors.T).max() < 0.999999
    assert trial.source.startswith("8 random characters; cosine of the first neighbour ")
    assert not np.array_equal(trial.vectors, random_data(50, 16, 9, seed=4).vectors)


def test_rows_that_are_taken_out_are_asked_for_and_not_searched() -> None:
    vectors = units(10)
    trial = held_out(vectors, 3, seed=1)
    assert (len(trial.vectors), len(trial.queries)) == (7, 3)
    together = {row.tobytes() for row in (*trial.vectors, *trial.queries)}
    assert together == {row.tobytes() for row in vectors}
    assert trial.source == "3 of the gallery's entries, held out"


@pytest.mark.parametrize(("rows", "asked", "taken"), [(10, 100, 5), (10, 0, 1), (3, 9, 1), (2, 5, 1)])
def test_at_most_half_of_the_rows_are_taken_out_and_at_least_one(rows: int, asked: int, taken: int) -> None:
    assert len(held_out(units(rows), asked, 0).queries) == taken


def test_a_gallery_asked_for_itself_stays_whole() -> None:
    vectors = units(8)
    trial = self_match(vectors, 5, 0)
    assert trial.vectors is vectors
    assert len(trial.queries) == len(np.unique(trial.queries, axis=0)) == 5
    assert np.allclose((trial.queries @ vectors.T).max(axis=1), 1)
    assert len(self_match(vectors, 99, 0).queries) == 8


def test_an_offset_moves_all_rows_alike() -> None:
    vectors = units(200, 64)
    texts = shifted(vectors, 1)
    assert is_unit(texts)
    assert (vectors * texts).sum(axis=1).mean() < 0.8
    common = normalised(texts.mean(axis=0, keepdims=True))
    assert float((texts @ common.T).min()) > 0.2
    assert np.array_equal(shifted(vectors, 1), texts)
    assert not np.array_equal(shifted(vectors, 2), texts)


@pytest.mark.parametrize(
    ("found", "truth", "share"),
    [
        ([[0, 1]], [[1, 0]], 1.0),
        ([[0, 2]], [[1, 0]], 0.5),
        ([[-1, -1]], [[1, 0]], 0.0),
        ([[0, 0], [1, 2]], [[0, 1], [1, 2]], 0.75),
    ],
)
def test_recall_is_the_share_of_true_neighbours(found: list[list[int]], truth: list[list[int]], share: float) -> None:
    assert recall(np.array(found), np.array(truth)) == share


DIM = 12


def _characters() -> tuple[Vectors, NDArray[np.int64]]:
    """Vectors whose characters differ along the first axes and whose images along the last."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 20
    between, within = np.zeros(DIM), np.zeros(DIM)
    between[:4], within[-3:] = 0.6, 0.2
    means = np.eye(DIM)[5] + rng.normal(size=(20, DIM)) * between
    return normalised((means[labels] + rng.normal(size=(len(labels), DIM)) * within).astype(np.float32)), labels


def test_many_rows_resemble_the_few_that_they_are_resampled_from() -> None:
    vectors, labels = _characters()
    rows = grown(vectors, labels, 70_000, 1)
    assert rows.shape == (70_000, DIM)
    assert is_unit(rows)
    assert np.linalg.norm(rows.mean(axis=0) - vectors.mean(axis=0)) < 0.15
    own, known = (np.cov(one.astype(np.float64).T) for one in (rows, vectors))
    assert np.linalg.norm(own - known) < 0.3 * np.linalg.norm(known)
    within = np.diag(own)[-3:] / np.diag(known)[-3:]  # along axes in which images of one character differ
    assert 0.9 < float(within.min()) < float(within.max()) < 1.7
    assert len(np.unique(rows[:2000].round(6), axis=0)) == 2000  # no row comes twice
    assert np.array_equal(rows, grown(vectors, labels, 70_000, 1))
    assert not np.array_equal(rows, grown(vectors, labels, 70_000, 2))


def test_small_galleries_hold_the_known_characters_and_large_ones_others_too() -> None:
    vectors, labels = _characters()
    means = normalised(np.stack([vectors[labels == label].mean(axis=0) for label in range(20)]))
    few, many = (exact_search(means, grown(vectors, labels, rows, 1), 1)[0][:, 0] for rows in (500, 70_000))
    assert float((few < 0.8).mean()) < 0.02
    assert float((many < 0.8).mean()) > 2 * float((few < 0.8).mean())


def test_candidates_take_turns_and_the_turns_change_direction() -> None:
    calls: list[str] = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warm_up=1)
    assert calls == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert list(times) == ["a", "b"]
    assert [len(timing.seconds) for timing in times.values()] == [3, 3]


def test_a_timing_reports_its_middle() -> None:
    report = Timing((3.0, 1.0, 2.0), (0.5, 0.1, 0.3)).as_json()
    assert report == {"median_s": 2.0, "min_s": 1.0, "max_s": 3.0, "cpu_median_s": 0.3, "repeats": 3}


def test_senseless_timings_are_refused() -> None:
    with pytest.raises(ValueError, match="repeats >= 1, found 0"):
        interleaved({}, repeats=0)
    with pytest.raises(ValueError, match="1 wall times and 0 CPU times"):
        Timing((1.0,), ())


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_machine_multiplies(library: str) -> None:
    assert gemm_rate("torch" if library == "torch" else "numpy", repeats=1) > 0.1


def test_a_report_holds_the_machine_beside_the_figures(tmp_path: Path) -> None:
    write_report(tmp_path / "r.json", "index", {"k": 5}, {"ratio": 2.5})
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (report["bench"], report["settings"], report["results"]) == ("index", {"k": 5}, {"ratio": 2.5})
    assert report["machine"] == json.loads(json.dumps(machine_facts()))
    assert "numpy" in report["machine"]["versions"]
