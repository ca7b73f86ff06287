import numpy as np
import pytest

from naruto_vision.geometry import rle_from_mask
from naruto_vision.metrics import fragments
from naruto_vision.metrics.fragments import FragmentCounts, add_fragments, poisson_interval
from naruto_vision.records import Mask


def count_fragments(regions: list[Mask], figures: list[Mask]) -> FragmentCounts:
    return fragments.count_fragments(*([rle_from_mask(mask) for mask in masks] for masks in (regions, figures)))


def mask(x1: int, y1: int, x2: int, y2: int) -> Mask:
    whole = np.zeros((20, 40), dtype=np.bool_)
    whole[y1:y2, x1:x2] = True
    return whole


LEFT, RIGHT = mask(0, 0, 10, 20), mask(20, 0, 30, 20)


def test_two_pieces_of_a_figure_are_two_fragments() -> None:
    counts = count_fragments([mask(0, 0, 10, 8), mask(0, 12, 10, 20)], [LEFT, RIGHT])
    assert counts == FragmentCounts(objects=2, found=0, in_pieces=1, fragments=2, regions=2, over_merged=0)


def test_a_found_figure_with_a_piece_is_not_in_pieces() -> None:
    counts = count_fragments([LEFT, mask(0, 0, 4, 4)], [LEFT])
    assert (counts.found, counts.in_pieces, counts.fragments) == (1, 0, 1)


def test_a_region_over_half_of_two_figures_is_an_over_merge() -> None:
    assert count_fragments([mask(0, 0, 30, 10)], [LEFT, RIGHT]).over_merged == 1  # exactly half of each
    assert count_fragments([mask(0, 0, 30, 9)], [LEFT, RIGHT]).over_merged == 0


def test_scenes_without_regions_or_figures_stay_in_the_counts() -> None:
    total = add_fragments([count_fragments([], [LEFT]), count_fragments([LEFT], [])])
    assert (total.objects, total.regions, total.found) == (1, 1, 0)
    assert total.as_json()["mask_recall"]["total"] == 1
    assert FragmentCounts().as_json()["fragments_per_object"] is None


def test_the_interval_of_a_count_is_garwood_s() -> None:
    assert poisson_interval(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson_interval(10) == pytest.approx((4.795, 18.390), abs=1e-3)
    with pytest.raises(ValueError, match="0 or more"):
        poisson_interval(-1)


def oracle(regions: list[Mask], figures: list[Mask]) -> FragmentCounts:
    """Count pixel by pixel, as the definitions say."""
    shared = np.array([[int((r & f).sum()) for f in figures] for r in regions])
    either = np.array([[int((r | f).sum()) for f in figures] for r in regions])
    sizes, areas = np.array([int(r.sum()) for r in regions]), np.array([int(f.sum()) for f in figures])
    whole = shared >= 0.5 * either
    piece = (shared >= 0.8 * sizes[:, None]) & ~whole
    held = (shared * 2 >= areas[None]).sum(axis=1)
    return FragmentCounts(
        len(figures),
        int(whole.any(axis=0).sum()),
        int((piece.any(axis=0) & ~whole.any(axis=0)).sum()),
        int((piece.any(axis=1) & ~whole.any(axis=1)).sum()),
        len(regions),
        int((held >= 2).sum()),
    )


def test_run_lengths_are_counted_as_pixels_are() -> None:
    rng = np.random.Generator(np.random.PCG64(3))

    def boxes(count: int) -> list[Mask]:
        corners = [(*rng.integers(0, 30, 1), *rng.integers(0, 12, 1)) for _ in range(count)]
        return [mask(x, y, x + int(rng.integers(2, 20)), y + int(rng.integers(2, 12))) for x, y in corners]

    for _ in range(60):
        regions, figures = boxes(6), boxes(4)
        assert count_fragments(regions, figures) == oracle(regions, figures)
