"""Official weights by their usual names: where they lie, how to know them, and under which licence.

Only hashes that are published somewhere stand here, and each row says where. A file without one is
recorded when it is first downloaded, and that is said to the user.
"""

from dataclasses import dataclass
from typing import Literal

from naruto_vision.errors import InputError

HashSource = Literal["url", "copies", "hub", "none"]
"""Where a row's sha256 comes from: the path of its own URL, several public copies that agree, the official
repository's page, or nowhere."""

_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_OPENAI = "https://openaipublic.azureedge.net/clip/models/"
_HUB = "https://huggingface.co/laion/"
_DINO = "https://dl.fbaipublicfiles.com/dinov2/"


@dataclass(frozen=True)
class OfficialWeights:
    """One official weights file.

    Args:
        name: The name that `naruto-vision weights` takes.
        url: Its public home.
        file: The name that it is saved under.
        megabytes: About how large it is, in units of 1e6 bytes.
        licence: The licence of the weights.
        used_for: The constructor that reads it.
        sha256: 64 hexadecimal digits, or "" where none is published.
        hash_source: Where ``sha256`` comes from.
        md5_prefix: The first digits of its MD5, where the publisher put them into the file's name.
    """

    name: str
    url: str
    file: str
    megabytes: int
    licence: str
    used_for: str
    sha256: str = ""
    hash_source: HashSource = "none"
    md5_prefix: str = ""


def _sam(size: str, md5_prefix: str, megabytes: int, sha256: str) -> OfficialWeights:
    # The six digits in the official file names are the start of the MD5, not of the sha256.
    file = f"sam_{size}_{md5_prefix}.pth"
    use = f"SamModel('{size}')"
    return OfficialWeights(
        f"sam_{size}", _SAM + file, file, megabytes, "Apache-2.0", use, sha256, "copies", md5_prefix=md5_prefix
    )


def _openai(model: str, megabytes: int, sha256: str, file: str = "") -> OfficialWeights:
    file = file or f"{model}.pt"
    url = f"{_OPENAI}{sha256}/{file}"
    return OfficialWeights(f"{model}.openai", url, file, megabytes, "MIT", f"ClipEncoder('{model}')", sha256, "url")


def _laion(model: str, tag: str, repository: str, megabytes: int, sha256: str = "") -> OfficialWeights:
    url = f"{_HUB}{repository}/resolve/main/open_clip_pytorch_model.bin"
    name = f"{model}.{tag}"
    source: HashSource = "hub" if sha256 else "none"
    return OfficialWeights(name, url, f"{name}.bin", megabytes, "MIT", f"ClipEncoder('{model}')", sha256, source)


def _dino(size: str, megabytes: int, *, registers: bool = False, sha256: str = "") -> OfficialWeights:
    file = f"dinov2_{size}14{'_reg4' if registers else ''}_pretrain.pth"
    timm = {"vits": "small", "vitb": "base", "vitl": "large", "vitg": "giant"}[size]
    use = f"DinoEncoder('vit_{timm}_patch14_{'reg4_' if registers else ''}dinov2')"
    source: HashSource = "copies" if sha256 else "none"
    name = f"dinov2_{size}14{'_reg' if registers else ''}"
    return OfficialWeights(name, f"{_DINO}dinov2_{size}14/{file}", file, megabytes, "Apache-2.0", use, sha256, source)


OFFICIAL: tuple[OfficialWeights, ...] = (
    _sam("vit_b", "01ec64", 375, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    _sam("vit_l", "0b3195", 1250, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    _sam("vit_h", "4b8939", 2565, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
    _openai("RN50", 256, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    _openai("RN101", 292, "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    _openai("RN50x4", 422, "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    _openai("RN50x16", 661, "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    _openai("RN50x64", 1326, "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    _openai("ViT-B-32", 354, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    _openai("ViT-B-16", 351, "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    _openai("ViT-L-14", 933, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    _openai(
        "ViT-L-14-336",
        934,
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        file="ViT-L-14-336px.pt",
    ),
    _laion(
        "ViT-B-32",
        "laion2b_s34b_b79k",
        "CLIP-ViT-B-32-laion2B-s34B-b79K",
        605,
        "1bd3c7172de5b207ceac554f5ab5266166f3b9baccc9af5989bc801016d080ad",
    ),
    _laion("ViT-B-16", "laion2b_s34b_b88k", "CLIP-ViT-B-16-laion2B-s34B-b88K", 599),
    _laion("ViT-L-14", "laion2b_s32b_b82k", "CLIP-ViT-L-14-laion2B-s32B-b82K", 1711),
    _laion("ViT-H-14", "laion2b_s32b_b79k", "CLIP-ViT-H-14-laion2B-s32B-b79K", 3945),
    _laion("ViT-g-14", "laion2b_s34b_b88k", "CLIP-ViT-g-14-laion2B-s34B-b88K", 5467),
    _laion("ViT-bigG-14", "laion2b_s39b_b160k", "CLIP-ViT-bigG-14-laion2B-39B-b160k", 10160),
    _dino("vits", 88, sha256="b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    _dino("vitb", 346, sha256="0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    _dino("vitl", 1218, sha256="d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
    _dino("vitg", 4546),
    _dino("vits", 88, registers=True),
    _dino("vitb", 346, registers=True),
    _dino("vitl", 1218, registers=True),
    _dino("vitg", 4546, registers=True),
)
"""Every official file that the encoders and the segmenter read."""


def find_weights(name: str) -> OfficialWeights:
    """Look a row up.

    Args:
        name: A row's name or file name.

    Returns:
        The row.

    Raises:
        InputError: If no row has that name.
    """
    for row in OFFICIAL:
        if name in {row.name, row.file}:
            return row
    near = [row.name for row in OFFICIAL if name.lower().replace("/", "-") in row.name.lower()]
    hint = f"did you mean {', '.join(near[:4])}?" if near else "`naruto-vision weights list` shows the names"
    msg = f"{name}: no such official weights; {hint}"
    raise InputError(msg)
