"""Tar files from anybody: what is listed and read of them, and what is said of damaged and hostile ones."""

import io
import tarfile
from pathlib import Path

import pytest

from naruto_vision.errors import BadImageError, InputError
from naruto_vision.io.tars import TarReader, expand_braces, list_tar, member_or_none, read_member


def pack(path: Path, files: dict[str, bytes], more: tuple[tarfile.TarInfo, ...] = (), form: int = 1) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for member in more:
            tar.addfile(member)
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def special(name: str, kind: bytes, size: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member


def streamed(data: bytes) -> dict[str, bytes]:
    class Pipe(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(min(100, count or 0))  # a pipe gives less than is asked for

        def seekable(self) -> bool:
            return False

    reader = TarReader(Pipe(data))
    return {member.name: reader.read(member) for member in reader if member.isreg()}


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_are_listed_and_read_where_they_lie(tmp_path: Path, form: int) -> None:
    files = {"a.png": b"1" * 700, "b/c.png": b"", f"{'d' * 80}/{'e' * 90}.png": b"3"}
    files |= {"é.png": b"4", "x" * 300: b"5"} if form != tarfile.USTAR_FORMAT else {}
    tar = pack(tmp_path / "x.tar", files, form=form)
    listing = list_tar(tar)
    assert listing.damage == ""
    assert listing.passed_over == {}
    assert {name: tar.read_bytes()[first : first + size] for name, (first, size) in listing.files.items()} == files
    assert {name: read_member(tar / name) for name in files} == files
    assert streamed(tar.read_bytes()) == files
    assert read_member(tmp_path / "y" / "a.png") is None
    with pytest.raises(BadImageError, match="not in the tar file"):
        read_member(tar / "z.png")


def test_only_plain_files_with_harmless_names_are_listed(tmp_path: Path) -> None:
    hostile = (
        special("/etc/passwd", tarfile.REGTYPE),
        special("../up.png", tarfile.REGTYPE),
        special("link.png", tarfile.SYMTYPE, link="/etc/passwd"),
        special("hard.png", tarfile.LNKTYPE, link="/etc/passwd"),
        special("null.png", tarfile.CHRTYPE),
        special("pipe.png", tarfile.FIFOTYPE),
        special("folder.png", tarfile.DIRTYPE),
    )
    tar = pack(tmp_path / "x.tar", {"good.png": b"1"}, hostile)
    listing = list_tar(tar)
    assert list(listing.files) == ["good.png"]
    assert sum(map(len, listing.passed_over.values())) == 6  # a folder is no file
    assert listing.damage == ""


def test_what_is_damaged_is_said_and_what_is_before_it_is_read(tmp_path: Path) -> None:
    data = pack(tmp_path / "x.tar", {"a.png": b"1" * 600, "b.png": b"2" * 600}).read_bytes()
    first, second = 512 + 1024, 2 * (512 + 1024)
    for cut, files in ((first - 500, []), (first, ["a.png"]), (first + 700, ["a.png"]), (second, ["a.png", "b.png"])):
        (tmp_path / "y.tar").write_bytes(data[:cut])
        listing = list_tar(tmp_path / "y.tar")
        assert [name for name in listing.files if member_or_none(tmp_path / "y.tar" / name)] == files
        assert "before its end mark" in listing.damage
    (tmp_path / "y.tar").write_bytes(data[:first] + b"\xff" * 512 + data[first + 512 :])
    listing = list_tar(tmp_path / "y.tar")
    assert (list(listing.files), listing.damage) == (["a.png"], f"no file begins at byte {first}")
    (tmp_path / "y.tar").write_bytes(b"")
    assert "before its end mark" in list_tar(tmp_path / "y.tar").damage


def test_sizes_are_not_believed(tmp_path: Path) -> None:
    huge = special("huge.png", tarfile.REGTYPE, 1 << 40).tobuf(tarfile.GNU_FORMAT)
    sparse = special("sparse.png", tarfile.GNUTYPE_SPARSE, 1 << 40).tobuf(tarfile.GNU_FORMAT)
    header = special("pax", tarfile.XHDTYPE, 1 << 40).tobuf(tarfile.GNU_FORMAT)
    for data in (huge, sparse, header):
        tar = tmp_path / "x.tar"
        tar.write_bytes(data + bytes(2048))
        assert list_tar(tar).damage
        with pytest.raises(OSError, match=r"before its end mark|at most 65536"):
            streamed(data + bytes(2048))
    (tmp_path / "z.tar").write_bytes(huge + bytes(2048))
    with pytest.raises(BadImageError, match="at most"):
        read_member(tmp_path / "z.tar" / "huge.png")


def test_a_size_that_no_file_has_is_damage(tmp_path: Path) -> None:
    for size in (1 << 63, 1 << 80):
        tar = tmp_path / f"{size}.tar"
        tar.write_bytes(special("a.png", tarfile.REGTYPE, size).tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        assert list_tar(tar).damage == f"the file at byte 0 has the size {size}"


def test_names_are_paths(tmp_path: Path) -> None:
    tar = pack(tmp_path / "x.tar", {"./a.png": b"1", "b//./c.png": b"2", "a.png": b"3"})
    assert [*list_tar(tar).files] == ["a.png", "b/c.png"]  # as `tar cf x.tar .` names them
    assert [read_member(tar / name) for name in ("a.png", "b/c.png")] == [b"1", b"2"]
    assert list_tar(tar).passed_over == {"name that a tar file has twice": ("a.png",)}


def test_braces_stand_for_names() -> None:
    assert expand_braces("s-{008..011}.tar") == ["s-008.tar", "s-009.tar", "s-010.tar", "s-011.tar"]
    assert expand_braces("{a,b}/{0..1}.tar") == ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]
    assert expand_braces("a{b.tar") == ["a{b.tar"]
    assert expand_braces(r"a\b{0..1}") == [r"a\b0", r"a\b1"]
    for text in ("{0..999999999999}", "{0..999}{0..999}"):
        with pytest.raises(InputError):
            expand_braces(text)
