"""Galleries on GPUs: what a GPU finds is what the CPU finds; without one, that is said and the CPU searches."""

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from naruto_vision.cli.bench import random_data
from naruto_vision.gallery import index as search_module
from naruto_vision.gallery.index import IndexKind, VectorIndex, has_gpus

faiss = pytest.importorskip("faiss")
DATA = random_data(2000, 16, 20, 3)
VECTORS, QUERIES = DATA.vectors, DATA.queries
ON_GPUS: tuple[IndexKind, ...] = ("faiss", "ivf", "sq")


def _found(index: VectorIndex, k: int = 12) -> list[tuple[list[float], list[int]]]:
    return [(scores.tolist(), rows.tolist()) for scores, rows in index.search(QUERIES, k)]


def _in_shards(index: Any, co: Any) -> tuple[Any, list[Any]]:
    """Divide an index as FAISS divides one among GPUs, on the CPU."""
    assert co.shard
    flat = isinstance(index, faiss.IndexFlat)
    shards = faiss.IndexShards(index.d, False, flat)
    parts = []
    for number in range(2):
        if flat:
            part = faiss.IndexFlatIP(index.d)
            half = index.ntotal // 2
            part.add(index.reconstruct_n(number * half, half if number == 0 else index.ntotal - half))
        else:
            part = faiss.clone_index(index)
            part.remove_ids(np.arange(number, 10_000, 2))
        parts.append(part)
        shards.add_shard(part)
    return shards, parts


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Two GPUs that are none; what is copied to them."""
    copied: list[Any] = []

    def copy(index: Any, co: Any) -> Any:
        copied.append(_in_shards(index, co))
        return copied[-1][0]

    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "GpuMultipleClonerOptions", SimpleNamespace, raising=False)
    monkeypatch.setattr(faiss, "GpuParameterSpace", faiss.ParameterSpace, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 2)
    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", copy)
    has_gpus.cache_clear()
    yield copied
    has_gpus.cache_clear()


@pytest.mark.parametrize("kind", ON_GPUS)
def test_shards_find_what_the_whole_index_finds(
    kind: IndexKind, gpus: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delattr(faiss, "StandardGpuResources")
        expected = VectorIndex.build(kind, VECTORS)
        whole = _found(expected)
    assert not gpus
    has_gpus.cache_clear()
    index = expected.updated(VECTORS, expected.ids)
    assert _found(index) == whole
    assert len(gpus) == 1
    assert [part.ntotal for part in gpus[0][1]] == [1000, 1000]
    assert len(index.search(QUERIES[:1], 1500)[0][1]) == 1500  # of which a further search asks for more than a GPU has
    edited = index.updated(VECTORS[:1500], expected.ids[:1500])
    assert max(max(rows) for _, rows in _found(edited)) < 1500


@pytest.mark.parametrize("kind", ["ivf", "sq"])
def test_an_index_that_is_built_with_gpus_has_all_rows_on_them(kind: IndexKind, gpus: list[Any]) -> None:
    index = VectorIndex.build(kind, VECTORS)
    everything = index.propose(VECTORS, 1, "image", width=index.widths()[-1])[1]
    assert (everything[:, 0] >= 0).all()
    assert sum(part.ntotal for part in gpus[-1][1]) == 2000


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_other_kinds_stay_on_the_cpu(kind: IndexKind, gpus: list[Any]) -> None:
    _found(VectorIndex.build(kind, VECTORS))
    assert not gpus


def test_a_machine_without_a_gpu_is_told_once(
    gpus: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert _found(VectorIndex.build("faiss", VECTORS)) == _found(VectorIndex.build("exact", VECTORS))
    assert [record.message for record in caplog.records] == ["faiss-gpu finds no GPU: search on the CPU"]
    assert not gpus


def test_what_does_not_fit_is_searched_on_the_cpu(
    gpus: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(index: Any, co: Any) -> Any:  # noqa: ARG001 - as FAISS calls them
        msg = "Error in allocMemory\nat StandardGpuResources.cpp"
        raise RuntimeError(msg)

    monkeypatch.setattr(faiss, "index_cpu_to_all_gpus", full)
    with caplog.at_level(logging.WARNING):
        assert _found(VectorIndex.build("faiss", VECTORS)) == _found(VectorIndex.build("exact", VECTORS))
    assert "does not fit on the GPU: search on the CPU (Error in allocMemory)" in caplog.text
    assert not gpus


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ON_GPUS)
def test_a_gpu_finds_what_the_cpu_finds(kind: IndexKind, monkeypatch: pytest.MonkeyPatch) -> None:
    index = VectorIndex.build(kind, VECTORS)
    assert has_gpus()
    found = _found(index)
    monkeypatch.setattr(search_module, "has_gpus", lambda: False)
    assert found == _found(index.updated(VECTORS, index.ids))
