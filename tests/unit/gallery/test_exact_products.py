"""Small products and large ones give the same neighbours, whatever the CPU."""

from collections.abc import Iterator

import numpy as np
import pytest

from naruto_vision.gallery import index as exact
from naruto_vision.gallery.index import best_places
from naruto_vision.records import Vectors


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    exact._small_product.cache_clear()
    yield
    exact._small_product.cache_clear()


def _unit(rows: int, dim: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@pytest.mark.parametrize("wide", [True, False], ids=["AVX-512", "AVX2"])
@pytest.mark.parametrize("queries", [1, 2, 16, 17, 40, 41])
@pytest.mark.parametrize("rows", [640, 643])
def test_neighbours_do_not_depend_on_how_products_are_cut(
    rows: int, queries: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "cpu_features", lambda: {"AVX512": wide})
    vectors, asked = _unit(rows, 24, 0), _unit(queries, 24, 1)
    scores, places = best_places(vectors, asked, 5)
    products = asked.astype(np.float64) @ vectors.astype(np.float64).T
    expected = np.argsort(-products, axis=1)[:, :5]
    assert places.tolist() == expected.tolist()
    assert np.allclose(scores, np.take_along_axis(products, expected, axis=1), atol=1e-6)


@pytest.mark.parametrize(("wide", "expected"), [(True, (16, 40)), (False, (64, 16))])
def test_how_products_are_cut_is_asked_of_the_cpu_once(
    wide: bool, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def features() -> dict[str, bool]:
        asked.append(wide)
        return {"AVX512": wide}

    monkeypatch.setattr(exact, "cpu_features", features)
    assert exact._small_product() == expected
    assert exact._small_product() == expected
    assert asked == [wide]
    rows, _ = expected
    assert exact._GROUP % rows == 0  # whole groups are whole products


def test_a_few_queries_are_multiplied_in_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "cpu_features", lambda: {"AVX512": True})
    shapes: list[tuple[int, ...]] = []

    class _Noted(np.ndarray):  # type: ignore[type-arg]  # of any shape
        def __matmul__(self, other: object) -> object:
            shapes.append(self.shape)
            return np.asarray(self) @ np.asarray(other)

    vectors = _unit(64, 8, 0).view(_Noted)
    for count in (40, 41):
        exact._products(vectors, _unit(count, 8, 1))
    assert shapes == [(4, 16, 8), (64, 8)]
