"""Whether the measurement of moments runs and counts what it says."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import moments
from naruto_vision.synthetic.attributes import random_attributes
from naruto_vision.video.search import UNRELATED, FrameHit


def test_other_things_are_not_those_of_the_calibration() -> None:
    assert len(set(moments.OTHER_THINGS)) == 100
    assert not set(moments.OTHER_THINGS) & set(UNRELATED)


def test_a_frame_is_true_in_the_shot_of_the_figure() -> None:
    figure = random_attributes(np.random.default_rng(1))
    scenes = [moments.Scene("a.mp4", 2.0, 4.0, (figure,))]
    text = moments.describe(figure)
    times = [("a.mp4", 1.9), ("a.mp4", 2.0), ("a.mp4", 3.9), ("a.mp4", 4.0), ("b.mp4", 3.0)]
    hits = [FrameHit(video, video, 0, time, 0, 0.0, 9.0, 0.5, "1") for video, time in times]
    assert [moments.is_true(hit, text, scenes) for hit in hits] == [False, True, True, False, False]
    assert text not in moments.absent_figures(50, scenes)


@pytest.mark.slow
def test_both_tables_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert moments.main([str(tmp_path), "--videos", "2", "--queries", "3", "--seconds", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| recall@1 | ")
    assert "/3 = " in lines[2]
    assert sum(line.startswith("| accepted, ") for line in lines) == 4
