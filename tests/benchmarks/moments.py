"""Text to moment on drawn videos: recall, and how often nothing is found; cost of an index beside embedding alone.

``python -m benchmarks.moments DIR``: draws videos there, indexes them with tiny-clip, and prints two tables. There are
three kinds of queries: descriptions of figures in the videos, texts of other things, and descriptions of figures that
are in none.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from naruto_vision.encoders.base import Encoder, embed_images, embed_pixels
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.gallery.vector_store import Collection, open_store
from naruto_vision.io.video import VideoReader, VideoWriter
from naruto_vision.metrics.stats import Rate
from naruto_vision.records import Vectors
from naruto_vision.synthetic.attributes import Attributes, Cast, random_attributes
from naruto_vision.synthetic.captions import aliases
from naruto_vision.synthetic.scene import draw_image
from naruto_vision.synthetic.videos import SyntheticVideo, VideoConfig
from naruto_vision.video.index import FrameSampling, frame_views, index_videos
from naruto_vision.video.search import UNRELATED, FoundMoments, FrameHit, find_threshold, fuse_queries, search_moments

OTHER_THINGS = (
    "a train in the mountains", "a glass of milk", "pizza with cheese", "a laptop on a desk", "a crowd at a concert",
    "an old telephone", "a house with a garden", "a jar of honey", "a zebra drinking", "a helicopter rescue",
    "a wedding ceremony", "an x-ray of a hand", "a snowman", "a trumpet", "a microscope slide",
    "palm trees on an island", "a traffic light", "a soccer ball in a net", "rain on a window", "a candle in the dark",
    "penguins on ice", "an open suitcase", "a roller coaster", "the surface of the moon", "a hot air balloon",
    "a bathtub with foam", "a pile of coins", "a sandwich", "an ambulance", "a tiger", "wheat in the wind",
    "a subway map", "a blackboard with formulas", "a boxing ring", "a parachute", "strawberries", "a wooden door",
    "a satellite dish", "a steam engine", "people dancing at a party", "a monkey in a tree", "a washing machine",
    "bees on a flower", "a golf course", "skyscrapers", "a fountain in a park", "a campfire", "an iceberg",
    "a cow on a farm", "a stack of books", "cherry blossoms", "a dentist", "a helmet", "a frozen pond", "a violin",
    "a traffic jam", "a gas station", "a pyramid", "a turtle", "a globe", "a vending machine", "a goldfish bowl",
    "a telescope", "a broken window", "a ladder", "a scarecrow", "a lightning strike", "a sailing boat", "a drum kit",
    "a pair of shoes", "a suspension bridge", "a tennis racket", "a beehive", "an anchor", "a bus full of tourists",
    "a row of mailboxes", "an oil platform", "a statue on a horse", "a basketball hoop", "a bonsai tree",
    "a sewing machine", "a submarine", "an elevator", "an old typewriter", "a ferris wheel", "a carousel",
    "a pine forest in fog", "a river delta from space", "a thermometer", "a broom in a corner", "a fishing net",
    "a parking garage", "a toaster", "a pile of firewood", "a hedgehog", "a wind turbine", "a bottle of perfume",
    "a crossword puzzle", "an ice hockey game", "a skyline at dawn",
)  # fmt: skip
"""None of them is in ``UNRELATED``, on which thresholds are calibrated."""


@dataclass(frozen=True)
class Scene:
    """A shot of a drawn video, in seconds, and its figures."""

    video: str
    start: float
    end: float
    figures: tuple[Attributes, ...]

    @property
    def captions(self) -> frozenset[str]:
        """The descriptions of the figures."""
        return frozenset(map(describe, self.figures))


def describe(attributes: Attributes) -> str:
    """Describe a character as drawn videos do."""
    return aliases(attributes)[1 if attributes.bottom != "none" else 0]


def draw(folder: Path, videos: int, config: VideoConfig) -> list[Scene]:
    """Draw videos, each with characters of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    scenes = []
    for seed in range(videos):
        rng, members = np.random.default_rng(1000 + seed), dict[str, Attributes]()
        while len(members) < config.members:
            members[f"member {len(members)}"] = random_attributes(rng, avoid=tuple(members.values()))
        video = SyntheticVideo(seed, Cast(members), config)
        path = folder / f"{seed:02}.mp4"
        if not path.exists():
            with VideoWriter(path, fps=config.fps) as writer:
                for frame in video:
                    writer.write(frame.image)
        scenes += [
            Scene(
                path.name,
                shot.start / config.fps,
                shot.end / config.fps,
                tuple(role.attributes for role in shot.roles),
            )
            for shot in video.shots
        ]
    return scenes


@torch.inference_mode()
def embed(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """Embed texts: (T, D), float32."""
    return encoder.encode_texts(texts).numpy()


def is_true(hit: FrameHit, query: str, scenes: Sequence[Scene]) -> bool:
    """Return whether a frame is of a shot in which somebody of this description plays."""
    return any(
        scene.video == hit.video and scene.start <= hit.time < scene.end and query in scene.captions for scene in scenes
    )


def absent_figures(count: int, scenes: Sequence[Scene]) -> list[str]:
    """Describe characters that are in no video."""
    there, rng, found = frozenset().union(*(scene.captions for scene in scenes)), np.random.default_rng(7), list[str]()
    while len(found) < count:
        text = describe(random_attributes(rng))
        if text not in there:
            found.append(text)
    return found


def rate_text(count: int, total: int) -> str:
    """Write a rate with its counts and 95 % Wilson interval."""
    rate = Rate(count, total)
    low, high = rate.interval or (0.0, 1.0)
    return f"{count}/{total} = {rate.value or 0:.3f} [{low:.3f}, {high:.3f}]"


def measure(collections: Sequence[Collection], encoder: Encoder, scenes: Sequence[Scene], most: int) -> list[str]:
    """Return the rows of the table of search."""
    queries = [caption for scene in scenes for caption in sorted(scene.captions)]
    order = np.random.default_rng(3).permutation(len(queries))[:most]
    queries = [queries[number] for number in order.tolist()]
    value, _ = find_threshold(collections, "auto", embed(encoder, UNRELATED), ())
    found = [
        search_moments(collections, vector[None], text, threshold=-1.0, top_k=5)
        for text, vector in zip(queries, embed(encoder, queries), strict=True)
    ]
    ranks = [
        next((k for k, each in enumerate(one.moments) if is_true(each.best, one.query, scenes)), 9) for one in found
    ]
    best_true = [max(hit.score for hit in one.frames if is_true(hit, one.query, scenes)) for one in found]
    best = [one.frames[0].score for one in found]
    rows = [
        f"| recall@1 | {rate_text(sum(rank < 1 for rank in ranks), len(ranks))} |",
        f"| recall@5 | {rate_text(sum(rank < 5 for rank in ranks), len(ranks))} |",
        f"| true moment kept, auto | {rate_text(sum(score >= value for score in best_true), len(found))} |",
    ]
    nineties = [score - 0.1 * abs(score) for score in best]
    kept = sum(score >= least for score, least in zip(best_true, nineties, strict=True))
    rows.append(f"| true moment kept, auto90 | {rate_text(kept, len(found))} |")
    rows += _precision(found, scenes, value, nineties)
    for name, texts in (("other things", OTHER_THINGS), ("figures of no video", absent_figures(most, scenes))):
        scores = np.max(
            [[hits[0].score for hits in each.search(embed(encoder, texts), 1)] for each in collections], axis=0
        )
        rows.append(f"| accepted, {name}, auto | {rate_text(int((scores >= value).sum()), len(texts))} |")
        rows.append(f"| accepted, {name}, auto90 | {rate_text(len(texts), len(texts))} |")  # the best always passes
    return rows


def measure_characters(
    collections: Sequence[Collection], encoder: Encoder, scenes: Sequence[Scene], most: int
) -> list[str]:
    """Return the rows of the table of characters: the mean of six images of each as the query."""
    there = list({describe(each): each for scene in scenes for each in scene.figures}.items())[-most:]
    rng = np.random.default_rng(11)
    absent = [random_attributes(rng, avoid=[each for _, each in there]) for _ in range(most)]
    value, _ = find_threshold(collections, "auto", None, (), of_class=True)
    first = fifth = kept = accepted = 0
    for name, attributes in [*there, *(("", each) for each in absent)]:
        images = [draw_image(attributes, seed, 128).image for seed in range(6)]
        vectors = embed_images(encoder, images).numpy()
        found = search_moments(collections, fuse_queries(vectors[:0], vectors), name, threshold=-1.0, top_k=5)
        if not name:
            accepted += found.frames[0].score >= value
            continue
        true = [is_true(moment.best, name, scenes) for moment in found.moments]
        first, fifth = first + true[0], fifth + any(true)
        kept += max(hit.score for hit in found.frames if is_true(hit, name, scenes)) >= value
    return [
        f"| characters: recall@1 | {rate_text(first, len(there))} |",
        f"| characters: recall@5 | {rate_text(fifth, len(there))} |",
        f"| characters: true moment kept, auto | {rate_text(kept, len(there))} |",
        f"| characters of no video accepted, auto | {rate_text(accepted, len(absent))} |",
    ]


def _precision(
    found: Sequence[FoundMoments], scenes: Sequence[Scene], value: float, nineties: Sequence[float]
) -> list[str]:
    """Return how many of the frames above each threshold are true."""
    rows = []
    for name, limits in (("auto", [value] * len(found)), ("auto90", nineties)):
        kept = [
            (hit, one.query)
            for one, least in zip(found, limits, strict=True)
            for hit in one.frames
            if hit.score >= least
        ]
        rows.append(
            f"| frames that are true, {name} | {rate_text(sum(is_true(*each, scenes) for each in kept), len(kept))} |"
        )
    return rows


def cost(videos: Sequence[Path], encoder: Encoder, folder: Path) -> list[str]:
    """Return the CPU seconds of an index of one frame a second, and of embedding the same images alone."""
    sampling = FrameSampling(fps=1.0)
    with open_store(str(folder)) as store:
        began = _cpu()
        report = index_videos([str(video) for video in videos], store, encoder, sampling=sampling)
        indexed = _cpu() - began
    views = [
        view
        for video in videos
        for frame in VideoReader(video, fps=1.0)
        for view in frame_views(frame.image, sampling.windows)
    ]
    began = _cpu()
    for at in range(0, len(views), 32):
        embed_pixels(encoder, [encoder.preprocess(view) for view in views[at : at + 32]])
    alone = _cpu() - began
    entries = sum(report.videos.values())
    return [f"| {entries} entries, 1 frame/s | {indexed:.1f} s | {alone:.1f} s | {indexed / alone:.2f} |"]


def _cpu() -> float:
    return sum(os.times()[:4])


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, index, search and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moments", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=15.0)
    arguments = parser.parse_args(argv)
    encoder = ClipEncoder("tiny-clip").eval()
    config = VideoConfig(seconds=arguments.seconds, fps=12)
    scenes = draw(arguments.folder / "videos", arguments.videos, config)
    paths = sorted((arguments.folder / "videos").glob("*.mp4"))
    with open_store(str(arguments.folder / "store")) as store:
        index_videos([str(path) for path in paths], store, encoder)
        collections = [store.open(name) for name in store.collections()]
    lines = ["| what | of all queries |", "|---|---|", *measure(collections, encoder, scenes, arguments.queries), ""]
    lines[-1:] = [*measure_characters(collections, encoder, scenes, 40), ""]
    lines += ["| index | CPU s, whole | CPU s, embedding alone | times |", "|---|---|---|---|"]
    lines += cost(paths[:5], encoder, arguments.folder / "cost")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
