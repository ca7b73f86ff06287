"""What stands at the end of a command's help: how it is typed, and which commands are near."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "demo": ("demo --out demo",),
    "draw": ("draw --out data", "draw --out small --train 12 --valid 4 --test 4 --scenes 20"),
    "data prepare": ("data prepare --root data --out manifests --rename Mira=Myra",),
    "data audit": (
        "data audit data --out audit",
        "data audit data --gallery runs/gallery --fail-on-leak",
        "data audit data --out audit --encoder tiny-clip",
    ),
    "data split": ("data split data --out parted --valid 0.15 --test 0.15 --seed 42",),
    "data shard": ("data shard data --out shards --size 256",),
    "evaluate": (
        "evaluate --gt data/scenes/test/gt.json --preds-dir runs/scenes",
        "evaluate --gt gt.json --preds-dir runs/scenes --use-overlay --sheet worst.png",
        "evaluate --gt gt.json --preds-dir runs/a --compare runs/b runs/c",
    ),
    "evaluate counts": ("evaluate counts CLIP=45/50/56/62 DINO=39/50/56/62",),
    "gallery import": (
        "gallery import index --out runs/gallery --encoder ViT-B-32 --pretrained weights/ViT-B-32.openai.pt",
    ),
    "gallery list": ("gallery list runs/gallery", "gallery list runs/gallery --rows"),
    "gallery add": ("gallery add runs/gallery new.png --label Myra", "gallery add runs/gallery --root more_images"),
    "gallery remove": ("gallery remove runs/gallery --id 17 42", "gallery remove runs/gallery --label Myra"),
    "gallery relabel": ("gallery relabel runs/gallery --label Mira --to Myra",),
    "gallery verify": ("gallery verify runs/gallery", "gallery verify runs/gallery --root data"),
    "gallery log": ("gallery log runs/gallery",),
    "gallery rollback": ("gallery rollback runs/gallery --to 3",),
    "gallery reindex": ("gallery reindex runs/gallery --index hnsw",),
    "search": (
        "search --image who.png --sheet sheet.png",
        'search --gallery runs/gallery --text "a boy with an orange cap" --json',
    ),
    "bench index": ("bench index --vectors 100000 --queries 500",),
    "weights": ("weights list", "weights download sam_vit_b", "weights verify"),
    "doctor": ("doctor", "doctor --json"),
}
"""Command → how it is typed, without the program's name."""


def closing(command: str, near: str) -> str:
    """Return what stands below a command's options.

    Args:
        command: One or two words.
        near: Commands that begin with this one, laid out, or "".
    """
    typed = "\n".join(f"  naruto-vision {words}" for words in EXAMPLES.get(command, ()))
    blocks = [f"{'examples' if len(EXAMPLES.get(command, ())) > 1 else 'example'}:\n{typed}" if typed else ""]
    blocks.append(f"more commands:\n{near}" if near else "")
    return "\n\n".join(filter(None, blocks))
