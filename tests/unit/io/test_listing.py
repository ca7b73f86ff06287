"""Listing a folder: what is an image, what is passed over and why; links, loops and folders of our own."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from naruto_vision.errors import BadImageError, InputError
from naruto_vision.io.images import Listing, read_image, scan_folder

PIXELS = np.full((8, 12, 3), (200, 40, 10), dtype=np.uint8)


def put(folder: Path, *names: str, form: str = "PNG") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(folder / name, form)
    return folder


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jfif", "JPEG"),
        ("a.JPE", "JPEG"),
        ("a.tif", "TIFF"),
        ("a.tiff", "TIFF"),
        ("a.avif", "AVIF"),
        ("a.dib", "BMP"),
    ],
)
def test_other_endings_are_listed_and_read(tmp_path: Path, name: str, form: str) -> None:
    assert scan_folder(put(tmp_path, name, form=form)) == Listing((name,))
    assert np.abs(read_image(tmp_path / name).astype(int) - PIXELS).max() < 12


@pytest.mark.parametrize(
    ("name", "form"),
    [("saved", "JPEG"), ("a.jpg_large", "PNG"), ("b.jpg~1", "GIF"), ("phone.heic", "JPEG"), ("x.part", "WEBP")],
)
def test_the_content_decides_where_the_ending_does_not(tmp_path: Path, name: str, form: str) -> None:
    assert scan_folder(put(tmp_path, name, form=form)).images == (name,)


def test_everything_else_is_counted_with_its_reason(tmp_path: Path) -> None:
    put(tmp_path, "a.png", ".hidden.png", ".cache/b.png", "__MACOSX/c.png", "gt.json")
    for name in ("1.txt", "2.txt", "README", "b.heic", "raw.dng"):
        (tmp_path / name).write_bytes(b"II*\0" if name == "raw.dng" else b"BMX")
    listing = scan_folder(tmp_path, used=("gt.json",))
    assert listing.images == ("a.png",)
    assert listing.passed_over == {
        ".dng (not read; convert to JPEG or PNG)": ("raw.dng",),
        ".heic (not read; convert to JPEG or PNG)": ("b.heic",),
        ".txt (no image)": ("1.txt", "2.txt"),
        "file without an ending (no image)": ("README",),
        "folder named __MACOSX": ("__MACOSX",),
        "hidden": (".cache", ".hidden.png"),
    }
    assert listing.as_json()[".txt (no image)"] == {"count": 2, "first": "1.txt"}
    assert ".txt (no image): 2" in listing.sentences()[0]


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_a_heic_image_says_how_to_convert_it(tmp_path: Path, brand: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0" * 40)
    with pytest.raises(BadImageError, match=r"a\.jpg: HEIC is not read; convert it to JPEG or PNG"):
        read_image(tmp_path / "a.jpg")


def test_linked_folders_and_images_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "disk", "far/1.png", "far/sub/2.png", "one.png")
    put(tmp_path / "set", "own/3.png")
    for link, target in {
        "a": "../disk/far",
        "b": "../disk/far",
        "back": "own",
        "own/up": "..",
        "l.png": "../disk/one.png",
    }.items():
        (tmp_path / "set" / link).symlink_to(target)
    (tmp_path / "set" / "self").symlink_to("self")
    listing = scan_folder(tmp_path / "set")
    assert listing.images == ("a/1.png", "a/sub/2.png", "l.png", "own/3.png")
    assert listing.passed_over["link to a folder that is listed already"] == ("b", "back", "own/up")


def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    put(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    assert scan_folder(tmp_path / "a").images == ("1.png", "to_b/2.png")


def test_links_to_nothing_and_deep_folders(tmp_path: Path) -> None:
    deep = "/".join("d" * 600)
    put(tmp_path, "a.png")
    put(tmp_path, f"{deep}/b.png")
    (tmp_path / "Koba").symlink_to("unmounted")
    (tmp_path / "c.png").symlink_to("unmounted.png")
    listing = scan_folder(tmp_path)
    assert listing.images == ("a.png", "c.png", f"{deep}/b.png")  # c.png is counted where it is read
    assert listing.passed_over == {"link to nothing": ("Koba",)}


def test_a_folder_that_may_not_be_listed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png", "locked/b.png")
    real = os.scandir

    def scandir(path: Any) -> Iterator[os.DirEntry[str]]:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    listing = scan_folder(tmp_path)
    assert listing.images == ("a.png",)
    assert listing.passed_over == {"folder that cannot be listed (Permission denied)": ("locked",)}


@pytest.mark.parametrize(
    "marks",
    [("run.json", "predictions.jsonl"), ("manifest.json", "embeddings.npy"), ("shards.json",), ("audit.json",)],
)
def test_our_own_results_are_left_out_and_counted(tmp_path: Path, marks: tuple[str, ...]) -> None:
    put(tmp_path, "a.png", "mine/overlay/a_overlay.jpg", "runs/x.png")
    for mark in marks:
        (tmp_path / "mine" / mark).write_bytes(b"{}")
    listing = scan_folder(tmp_path)
    assert listing.images == ("a.png",)
    assert listing.passed_over["folder of naruto-vision's own results"] == ("mine",)
    assert scan_folder(tmp_path / "mine").images == ("overlay/a_overlay.jpg",)  # named by the user


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"no images in it .*\.heic \(not read; convert to JPEG or PNG\): 1"):
        scan_folder(tmp_path).refuse_empty(tmp_path)


def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "a.png").rename(tmp_path / os.fsdecode(b"caf\xe9.png"))
    (name,) = scan_folder(tmp_path).images
    assert os.fsencode(name) == b"caf\xe9.png"
    assert read_image(tmp_path / name).shape == (8, 12, 3)
