"""Whether weights fit the user's images: one line with what is wrong, how sure that is, and the two best remedies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any

from naruto_vision.metrics.stats import Rate
from naruto_vision.recognition.decision import Rule

_FEWEST = 20  # validation images; of fewer nothing can be said
_GOOD = 0.9  # of the images named correctly: nothing to improve before more images are there
_RARE = 10  # training images of a class

_OFFICIAL = (
    "official weights (`naruto-vision weights download ViT-B-32.openai`, then "
    "`naruto-vision fit --config clip-vitb32.yaml --data.root {root}`)"
)
_SAM = "SAM's official weights (`naruto-vision weights download sam_vit_b`, then `predict --config scenes-vitb.yaml`)"
_LEARN = f"try boxes of about 50 scenes and `naruto-vision fit --config regions.yaml --data.root {{folder}}`, or {_SAM}"
_FOUND = 0.8  # of the labelled boxes: enough to name a scene
_EMPTY = 0.1  # of the scenes
_FEWEST_SCENES = 10
_SURE_OF_MASKS = 0.8  # tiny-sam has .82 and .83 on drawn scenes, .76 on a cartoon's, .64 and .65 on photographs
_NAMELESS = 0.5  # of the scenes; on drawn scenes 11 of 30 with thresholds from the gallery alone


@dataclass(frozen=True)
class Named:
    """How many validation images are named correctly: by the training images, and by the texts of their class."""

    rule: Rule
    right: Rate
    by_texts: int = 0
    images: str = "validation images"

    def __str__(self) -> str:
        low, high = self.right.interval or (0.0, 1.0)
        return f"{self.right.count} of {self.right.total} {self.images} [{low:.2f}, {high:.2f}] by {self.rule}"


@dataclass(frozen=True)
class Floors:
    """How many validation images are named correctly without an encoder, and what there is to learn from."""

    colours: int  # by the training image with the nearest colours
    majority: int  # by the commonest class of the training images
    rarest: tuple[str, int]  # the class with the fewest training images

    def __str__(self) -> str:
        return f"colours alone name {self.colours}, the commonest class {self.majority}"


def advise(named: Named, floors: Floors, root: str, *, tuned: bool) -> str:
    """Say in one line whether an encoder fits the images, how sure that is, and the two best remedies; "" if it does.

    It fits where it names nine of ten images correctly, or more than colours and the commonest class do by more than
    chance: the lower end of the interval is above both.
    """
    right, floor = named.right, max(floors.colours, floors.majority)
    low, high = right.interval or (0.0, 1.0)
    share = floor / max(right.total, 1)
    name, images = floors.rarest
    more = f"more images (class {name} has {images} to train on)" if images < _RARE else "more images of every class"
    if right.total < _FEWEST:
        return f"only {right.total} validation images: too few to say whether the weights fit; add {more}"
    if low > share or right.count >= _GOOD * right.total:
        return ""
    if right.count > floor:
        found = f"the weights may be no better than colours or guessing: {named}, {floors}; not certain"
    else:
        sure = "certain" if high < share else f"not certain with {right.total} images"
        found = f"the weights do not fit these images: {named}, {floors}; {sure}"
    root = quote(root)
    tune = f"fine-tuning (`naruto-vision fit --config clip.yaml --data.root {root}`)"
    remedies = [*([] if tuned else [tune]), *([more] if images < _RARE else []), _OFFICIAL.format(root=root), more]
    return f"{found}; try {remedies[0]}, or {remedies[1]}"


def advise_gallery(heads: Mapping[str, Any], labels: Sequence[str], root: str, *, tuned: bool) -> str:
    """Say the same of the images of a gallery, each named by the others as ``compare_rules`` found; "" if it fits."""
    rule, counts = heads["decision"], Counter(labels)
    if not heads["rules"]:  # too few images, or of one class
        return ""
    named = Named(rule, Rate(heads["rules"][rule]["right"], heads["of"]), images="gallery images, by the others,")
    rarest = min(counts, key=lambda name: (counts[name], name))
    floors = Floors(heads.get("colour", 0), heads.get("majority", 0), (rarest, counts[rarest]))
    return advise(named, floors, root, tuned=tuned)


def advise_run(run: Mapping[str, Any], folder: str, *, masks: bool) -> str:
    """Say the same of scenes without ground truth, by what ``predict`` found in them; "" if nothing is significant.

    Args:
        run: What ``SceneWriter.finish`` returned.
        folder: The scenes.
        masks: Whether the regions are masks of a SAM, which estimates their IoU.
    """
    total, facts = run["counts"]["ok"], run["scenes"]
    if total < _FEWEST_SCENES:
        return ""
    empty, nameless = Rate(facts["without_regions"], total), Rate(facts["without_names"], total)
    if wrong := advise_scenes(empty, Rate(0, 0), folder):
        return wrong
    mean, low, high = facts["best_iou"] or (1.0, 1.0, 1.0)
    if masks and high < _SURE_OF_MASKS:
        what = f"it expects an IoU of only {mean:.2f} [{low:.2f}, {high:.2f}] of the best region of a scene"
        return f"the segmenter does not fit these scenes: {what}; certain; {_LEARN.format(folder=quote(folder))}"
    low, high = nameless.interval or (0.0, 1.0)
    if low <= _NAMELESS:
        return ""
    return (
        f"the gallery does not fit these scenes, unless its characters are not in them: {nameless.count} of {total} "
        f"[{low:.2f}, {high:.2f}] have no named region; certain; try thresholds from labelled scenes (`naruto-vision "
        "validate --config scenes.yaml --data.valid DIR`), or a gallery of labelled boxes (`naruto-vision fit --config "
        "gallery.yaml --data.root DIR`)"
    )


def advise_scenes(empty: Rate, found: Rate, folder: str) -> str:
    """Say in one line whether the segmenter fits the scenes, how sure that is, and two remedies; "" if it does."""
    learn = f"`naruto-vision fit --config regions.yaml --data.root {quote(folder)}`"
    low, high = found.interval or (0.0, 1.0)
    if found.total:
        if found.count >= _FOUND * found.total:
            return ""
        sure = "certain" if high < _FOUND else f"not certain with {found.total} boxes"
        what = f"the segmenter does not fit these scenes: {found.total - found.count} of {found.total} labelled boxes"
        return f"{what} have no region [{1 - high:.2f}, {1 - low:.2f}]; {sure}; try learning them ({learn}), or {_SAM}"
    if empty.count <= _EMPTY * empty.total:
        return ""
    low, _ = empty.interval or (0.0, 1.0)
    sure = "certain" if low > _EMPTY else f"not certain with {empty.total} scenes"
    what = f"the segmenter does not fit these scenes: {empty.count} of {empty.total} have no region; {sure}"
    return f"{what}; {_LEARN.format(folder=quote(folder))}"
