"""``SceneResult``: the prediction of one scene with its image."""

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from naruto_vision.io.images import encode_image, write_image
from naruto_vision.io.text import score_text
from naruto_vision.recognition.writer import record_document
from naruto_vision.records import Identity, ImageArray, Region, ScenePrediction
from naruto_vision.viz.overlay import Colour, draw_overlay


@dataclass(frozen=True)
class SceneResult:
    """One analyzed scene with its image. A notebook displays it as an image and a table.

    Args:
        image: Shape (H, W, 3), uint8, RGB, upright.
        prediction: Its regions and identities.
        shown: Indices of the regions that the overlay shows, best first.
        colours: RGB from 0 to 255 of each label.
        sha256: Hash of the image file; "" for an array.

    Examples:
        >>> import naruto_vision as nv
        >>> import numpy as np
        >>> region = nv.Region((8, 8, 39, 39), np.ones((32, 32), dtype=bool))
        >>> prediction = nv.ScenePrediction("a.png", 64, 48, (region,), (nv.Identity("ayame", 0.9),))
        >>> result = nv.SceneResult(np.zeros((48, 64, 3), dtype=np.uint8), prediction, shown=(0,))
        >>> result.names, result.overlay().shape, result.to_dict()["regions"][0]["bbox"]
        (('ayame',), (48, 64, 3), [8, 8, 39, 39])
        >>> print(result)
        a.png (64 x 48): ayame 0.900
    """

    image: ImageArray = field(repr=False)
    prediction: ScenePrediction
    shown: Sequence[int] = ()
    colours: Mapping[str, Colour] = field(default_factory=dict, repr=False)
    sha256: str = ""

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every region, largest first."""
        return self.prediction.regions

    @property
    def identities(self) -> tuple[Identity, ...]:
        """The identity of each region, in the order of ``regions``."""
        return self.prediction.identities

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each region, in the order of ``regions``; "unknown" below the threshold."""
        return tuple(identity.name for identity in self.identities)

    def __str__(self) -> str:
        named = ", ".join(f"{one.name} {one.score:.3f}" for one in self.identities)
        return f"{self.prediction.scene} ({self.prediction.width} x {self.prediction.height}): {named or 'no regions'}"

    def overlay(self) -> ImageArray:
        """Draw the shown regions over a copy of the image: shape (H, W, 3), uint8, RGB."""
        return draw_overlay(self.image, self.prediction, self.shown, self.colours)

    def show(self) -> None:
        """Open the overlay in the desktop's image viewer."""
        Image.fromarray(self.overlay()).show(self.prediction.scene)

    def save(self, path: str | Path) -> None:
        """Write the overlay as an image file.

        Args:
            path: A name ending in .jpg, .png or .webp.

        Raises:
            InputError: If the extension is another one.
        """
        write_image(path, self.overlay())

    def to_dict(self) -> dict[str, Any]:
        """Return the record of ``predictions.jsonl``: JSON values of every region, with masks as COCO run lengths."""
        return record_document(self.prediction, self.shown, self.sha256)

    def _repr_html_(self) -> str:
        rows = ["<tr><th>name</th><th>score</th><th>box (x1, y1, x2, y2)</th></tr>"]
        for index in self.shown:
            who, box = self.identities[index], ", ".join(map(str, self.regions[index].box))
            rows.append(f"<tr><td>{html.escape(who.name)}</td><td>{score_text(who.score)}</td><td>{box}</td></tr>")
        data, alt = base64.b64encode(encode_image(self.overlay(), ".jpg")).decode("ascii"), self.prediction.scene
        image = f'<img src="data:image/jpeg;base64,{data}" alt="{html.escape(alt)}" style="max-width: 100%">'
        count = f"<p>{len(self.shown)} of {len(self.regions)} regions are shown.</p>"
        return f"{image}<table>{''.join(rows)}</table>{count}"
