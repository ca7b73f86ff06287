"""Vectors for ``bench index`` as an encoder gives them: drawn characters, and texts that describe them."""

import numpy as np

from naruto_vision.drawn.attributes import random_attributes
from naruto_vision.drawn.captions import caption
from naruto_vision.drawn.folders import seed_of
from naruto_vision.drawn.pictures import draw_picture
from naruto_vision.encoders.base import Encoder, embed_pictures
from naruto_vision.gallery.trial import Trial, grown
from naruto_vision.records import Vectors

_CHARACTERS = 100
_PICTURES = 8  # of each character, that the rows are made of
_SIDE = 96  # pixels of a drawn picture


def encoded_trial(encoder: Encoder, rows: int, queries: int, seed: int) -> tuple[Trial, tuple[Vectors, str] | None]:
    """Embed pictures of drawn characters and make many rows of them; ask with further pictures, and with texts.

    Args:
        encoder: Embeds the pictures and, where it reads, the texts.
        rows: N.
        queries: Q pictures and Q texts, none of which the rows were made of.
        seed: Draws the characters; any number from 0.

    Returns:
        Rows (N, D) and picture queries (Q, D); and text queries (Q, D) with their source, None where it reads none.
    """
    rng = np.random.default_rng([4, seed])
    cast = [random_attributes(rng) for _ in range(_CHARACTERS)]
    known = np.arange(_CHARACTERS * _PICTURES) % _CHARACTERS
    asked = np.arange(queries) % _CHARACTERS
    drawn = [
        draw_picture(cast[who], seed_of("bench index", seed, place), _SIDE).picture
        for place, who in enumerate([*known.tolist(), *asked.tolist()])
    ]
    vectors, pictures = np.split(embed_pictures(encoder, drawn).numpy(), [len(known)])
    made = f"{len(known)} drawn pictures of {_CHARACTERS} characters, multiplied with their covariance"
    trial = Trial(grown(vectors, known, rows, seed), pictures, f"{queries} further pictures; rows: {made}")
    if not encoder.has_text:
        return trial, None
    texts = [caption(cast[who], rng) for who in asked.tolist()]
    return trial, (encoder.encode_texts(texts).detach().cpu().numpy(), f"{len(set(texts))} captions by its text tower")
