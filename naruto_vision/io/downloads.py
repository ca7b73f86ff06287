"""Official weights: names, URLs, hashes, licences; downloads that resume and are verified.

A listed hash is published somewhere, and its row says where; that of another file is recorded at its first download.
An interrupted download is continued, which neither pooch nor open_clip does.
"""

import difflib
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Literal

from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.atomic import sync_folder, write_json
from naruto_vision.io.bundles import file_digest, file_sha256
from naruto_vision.io.typed_json import read_json

HashSource = Literal["url", "copies", "hub", "none"]
"""Where a row's sha256 comes from: the path of its own URL, several public copies that agree, the official
repository's page, or nowhere."""

_SAM = "https://dl.fbaipublicfiles.com/segment_anything/"
_SAM2 = "https://dl.fbaipublicfiles.com/segment_anything_2/092824/"
_OPENAI = "https://openaipublic.azureedge.net/clip/models/"
_HUB = "https://huggingface.co/laion/"
_DINO = "https://dl.fbaipublicfiles.com/dinov2/"


@dataclass(frozen=True)
class OfficialWeights:
    """One official weights file."""

    name: str
    url: str
    file: str
    """The file name on disk."""
    megabytes: int
    licence: str
    used_for: str
    """The constructor that reads it."""
    sha256: str = ""
    hash_source: HashSource = "none"
    md5_prefix: str = ""
    """The first digits of its MD5, if the publisher put them into the file name."""


def _sam(size: str, md5: str, megabytes: int, sha256: str) -> OfficialWeights:
    file = f"sam_{size}_{md5}.pth"
    use = f"SamModel('{size}')"
    return OfficialWeights(f"sam_{size}", _SAM + file, file, megabytes, "Apache-2.0", use, sha256, "copies", md5)


def _sam2(size: str, megabytes: int, sha256: str) -> OfficialWeights:
    name = f"sam2.1_hiera_{size}"
    file, use = f"{name}.pt", f"Sam2Model('{name}')"
    return OfficialWeights(name, _SAM2 + file, file, megabytes, "Apache-2.0", use, sha256, "copies")


def _openai(model: str, megabytes: int, sha256: str) -> OfficialWeights:
    file = f"{model}px.pt" if model.endswith("-336") else f"{model}.pt"
    url = f"{_OPENAI}{sha256}/{file}"
    return OfficialWeights(f"{model}.openai", url, file, megabytes, "MIT", f"ClipEncoder('{model}')", sha256, "url")


def _laion(model: str, tag: str, repository: str, megabytes: int, sha256: str = "") -> OfficialWeights:
    name, url = f"{model}.{tag}", f"{_HUB}{repository}/resolve/main/open_clip_pytorch_model.bin"
    source: HashSource = "hub" if sha256 else "none"
    return OfficialWeights(name, url, f"{name}.bin", megabytes, "MIT", f"ClipEncoder('{model}')", sha256, source)


def _dino(size: str, megabytes: int, sha256: str = "", *, registers: bool = False) -> OfficialWeights:
    name, file = f"dinov2_{size}14", f"dinov2_{size}14{'_reg4' if registers else ''}_pretrain.pth"
    timm = {"vits": "small", "vitb": "base", "vitl": "large", "vitg": "giant"}[size]
    use = f"DinoEncoder('vit_{timm}_patch14_{'reg4_' if registers else ''}dinov2')"
    source: HashSource = "copies" if sha256 else "none"
    url = f"{_DINO}{name}/{file}"
    return OfficialWeights(name + "_reg" * registers, url, file, megabytes, "Apache-2.0", use, sha256, source)


OFFICIAL: tuple[OfficialWeights, ...] = (
    _sam("vit_b", "01ec64", 375, "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912"),
    _sam("vit_l", "0b3195", 1250, "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622"),
    _sam("vit_h", "4b8939", 2565, "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e"),
    _sam2("tiny", 156, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    _sam2("small", 184, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    _sam2("base_plus", 324, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    _sam2("large", 898, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    _openai("RN50", 256, "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762"),
    _openai("RN101", 292, "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599"),
    _openai("RN50x4", 422, "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd"),
    _openai("RN50x16", 661, "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa"),
    _openai("RN50x64", 1326, "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c"),
    _openai("ViT-B-32", 354, "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"),
    _openai("ViT-B-16", 351, "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"),
    _openai("ViT-L-14", 933, "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836"),
    _openai("ViT-L-14-336", 934, "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"),
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
    _dino("vits", 88, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    _dino("vitb", 346, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    _dino("vitl", 1218, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
    _dino("vitg", 4546),
    _dino("vits", 88, registers=True),
    _dino("vitb", 346, registers=True),
    _dino("vitl", 1218, registers=True),
    _dino("vitg", 4546, registers=True),
)
"""Every official file that the encoders and the segmenter read."""


def find_weights(name: str) -> OfficialWeights:
    """Find a row by its name or file name."""
    for row in OFFICIAL:
        if name in {row.name, row.file}:
            return row
    near = [row.name for row in OFFICIAL if name.lower().replace("/", "-") in row.name.lower()]
    near = near or difflib.get_close_matches(name, [row.name for row in OFFICIAL])
    hint = f"did you mean {', '.join(near[:4])}?" if near else "`naruto-vision weights list` shows the names"
    raise InputError(f"{name}: no such official weights; {hint}")


FOLDER = Path("weights")
"""Where ``weights download`` puts files: in the current folder, so that no large file is written to the home folder."""


def official_file(name: str, constructor: str, *, missing_ok: bool = False) -> Path | None:
    """Find the file that ``weights download`` saved; None if ``name`` names no official weights of a constructor.

    A name is one that `weights list` shows, the architecture in front of its dot (``ViT-B-32``), or a file. Weights
    that were not downloaded are a MissingPathError with the command that does so, misspelt ones an InputError; with
    ``missing_ok`` both are None.
    """
    path = Path(name)
    if path.is_file():
        return path
    readable = [row for row in OFFICIAL if row.used_for.startswith(f"{constructor}(")]
    rows = [row for row in readable if name in {row.name, row.name.partition(".")[0]} or path.name == row.file]
    found = [FOLDER / row.file for row in rows if path.name == name and (FOLDER / row.file).is_file()]
    if found or missing_ok or path.exists() or any(row.name.endswith(f".{name}") for row in readable):  # a tag
        return found[0] if found else None
    if rows:
        raise MissingPathError(name, "weights file", f"run: naruto-vision weights download {rows[0].name}")
    if near := difflib.get_close_matches(name, [row.name for row in readable], n=1, cutoff=0.75):
        raise InputError(f"{name}: no such official weights; did you mean {near[0]}?")
    return None


LOCK = "weights.lock.json"
Known = Literal["published", "recorded", "new"]
"""How a file was recognised: by a published hash, by the record of an earlier download, or not at all yet."""
Progress = Callable[[int, int], None]
"""Called after every block with the bytes received and those in all, 0 where the server does not say."""

_BLOCK = 1 << 18


@dataclass(frozen=True)
class Verdict:
    """Result of checking a weights file."""

    path: Path
    sha256: str
    known: Known


@dataclass(frozen=True)
class Retries:
    """Retry settings of broken connections."""

    attempts: int = 3  # connections in a row that may end without a single new byte
    pause: float = 2.0  # seconds before the next connection
    timeout: float = 30.0  # seconds without data after which a connection counts as broken


def _read_lock(folder: Path) -> dict[str, str]:
    """Read the record of first downloads, file to sha256."""
    path = folder / LOCK
    return read_json(path, dict[str, str], hint="remove it, and verify the files again") if path.is_file() else {}


def check_weights(row: OfficialWeights, path: Path, hint: str = "remove it and download it again") -> Verdict:
    """Check a file against all known hashes; the record of first downloads is beside it."""
    sha256 = file_sha256(path)
    recorded = _read_lock(path.parent).get(row.file, "")
    expected = row.sha256 or recorded
    if expected and sha256 != expected:
        raise FormatError(path, f"sha256 {expected[:12]}…", f"{sha256[:12]}…", hint)
    if row.md5_prefix and not file_digest(path, "md5").startswith(row.md5_prefix):
        raise FormatError(path, f"MD5 {row.md5_prefix}… as in its name", "another one", hint)
    return Verdict(path, sha256, "published" if row.sha256 else "recorded" if recorded else "new")


def download_weights(
    row: OfficialWeights,
    folder: Path,
    *,
    base_url: str = "",
    progress: Progress = lambda _received, _total: None,
    retries: Retries = Retries(),
) -> Verdict:
    """Download one official file into a folder; an interrupted download is continued."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / row.file
    if final.exists():
        verdict = check_weights(row, final)
    else:
        part = folder / f"{row.file}.part"
        _fetch(f"{base_url.rstrip('/')}/{row.file}" if base_url else row.url, part, progress, retries)
        _etag_file(part).unlink(missing_ok=True)
        try:
            found = check_weights(row, part, "the download has another hash and was removed")
        except FormatError:
            part.unlink()
            raise
        verdict = replace(found, path=final)
        part.replace(final)
        sync_folder(folder)
    if verdict.known == "new":
        write_json(folder / LOCK, dict(sorted({**_read_lock(folder), row.file: verdict.sha256}.items())))
    return verdict


def _etag_file(part: Path) -> Path:
    """Return the file of the partial download's ETag."""
    return part.with_name(part.name + ".etag")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def open_web(url: str, timeout: float, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    """Open an address that the caller has found to be of http or https; ``timeout``: seconds without data."""
    sent = {"User-Agent": "naruto-vision", **(headers or {})}
    request = urllib.request.Request(url, headers=sent)  # noqa: S310 - http(s)
    response: HTTPResponse = _web().open(request, timeout=timeout)
    return response


@cache
def _web() -> urllib.request.OpenerDirector:
    """Return an opener of http(s) alone: the usual one lets a server redirect to ftp."""
    opener, web = urllib.request.OpenerDirector(), urllib.request
    handlers = (web.ProxyHandler, web.HTTPHandler, web.HTTPSHandler, web.HTTPRedirectHandler, web.UnknownHandler)
    for handler in (*handlers, web.HTTPErrorProcessor, web.HTTPDefaultErrorHandler):
        opener.add_handler(handler())
    return opener


def _fetch(url: str, part: Path, progress: Progress, retries: Retries) -> None:
    """Download into ``part``, over several connections if necessary."""
    if not url.startswith(("http://", "https://")):
        raise InputError(f"{url}: expected an address that starts with http:// or https://")
    fruitless = 0
    while True:
        before = _size(part)
        try:
            if _one_connection(url, part, progress, retries.timeout):
                return
            reason = "the connection was cut"
        except urllib.error.HTTPError as error:
            reason = f"the server answered {error.code} {error.reason}"
            if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise InputError(f"{url}: {reason}") from None
        except (OSError, HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        fruitless = 0 if _size(part) > before else fruitless + 1
        if fruitless >= retries.attempts:
            raise InputError(f"{url}: {reason} after {_size(part)} bytes; run the command again to continue")
        time.sleep(retries.pause)


def _one_connection(url: str, part: Path, progress: Progress, timeout: float) -> bool:
    """Read one response into ``part``; return whether the file is complete."""
    here, etag = _size(part), _etag_file(part)
    headers = {"Range": f"bytes={here}-"} if here else {}
    if here and etag.is_file():  # if the version changed, the server sends it whole
        headers["If-Range"] = etag.read_text(encoding="utf-8")
    try:
        with open_web(url, timeout, headers) as response:
            return _save(response, part, progress)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{here}":
            return True  # the file was complete already
        part.unlink()
        return False


def _save(response: HTTPResponse, part: Path, progress: Progress) -> bool:
    resumed = response.status == HTTPStatus.PARTIAL_CONTENT
    here = _size(part) if resumed else 0
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {here}-"):
        part.unlink()
        return False
    length = response.headers.get("Content-Length")
    total = here + int(length) if length else 0
    etag = response.headers.get("ETag", "")
    _etag_file(part).unlink(missing_ok=True)
    if etag and not etag.startswith("W/"):
        _etag_file(part).write_text(etag, encoding="utf-8")
    with part.open("ab" if resumed else "wb") as handle:
        while block := response.read(_BLOCK):
            handle.write(block)
            here += len(block)
            progress(here, total)
    return not total or here == total
