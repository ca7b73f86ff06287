import re
from urllib.parse import urlsplit

import pytest

from naruto_vision.errors import InputError
from naruto_vision.io.downloads import OFFICIAL, OfficialWeights, find_weights


def test_names_files_and_addresses_are_unique() -> None:
    for values in ([row.name for row in OFFICIAL], [row.file for row in OFFICIAL], [row.url for row in OFFICIAL]):
        assert len(set(values)) == len(values)


def test_every_family_is_there() -> None:
    names = {row.name for row in OFFICIAL}
    assert {"sam_vit_b", "sam_vit_l", "sam_vit_h", "ViT-B-32.openai", "RN50.openai"} <= names
    assert {"ViT-B-32.laion2b_s34b_b79k", "dinov2_vits14", "dinov2_vitg14_reg"} <= names


@pytest.mark.parametrize("row", OFFICIAL, ids=lambda row: row.name)
def test_hashes_are_whole_and_say_where_they_come_from(row: OfficialWeights) -> None:
    assert re.fullmatch(r"([0-9a-f]{64})?", row.sha256)
    assert (row.hash_source == "none") == (row.sha256 == "")
    if row.hash_source == "url":
        assert row.sha256 in row.url
    if row.md5_prefix:
        assert row.md5_prefix in row.file
    assert urlsplit(row.url).scheme == "https"
    assert row.megabytes > 0
    assert row.licence


def test_lookup_takes_names_and_file_names_and_helps() -> None:
    assert find_weights("sam_vit_b_01ec64.pth").name == "sam_vit_b"
    with pytest.raises(InputError, match=r"did you mean ViT-B-32\.openai"):
        find_weights("ViT-B/32")
    with pytest.raises(InputError, match="weights list"):
        find_weights("nothing")
