import hashlib
from pathlib import Path

import pytest

from naruto_vision.cli.main import main
from naruto_vision.io import downloads
from naruto_vision.io.bundles import bundle_path
from naruto_vision.io.downloads import OFFICIAL, OfficialWeights

CONTENT = b"weights"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> OfficialWeights:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    row = OfficialWeights("toy", "https://example.org/toy.pth", "toy.pth", 1, "MIT", "nobody", sha256, "url")
    monkeypatch.setattr(downloads, "OFFICIAL", (row,))
    monkeypatch.setattr("naruto_vision.cli.weights.OFFICIAL", (row,))
    return row


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["weights", "list", *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_list_has_every_row_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys)
    for row in OFFICIAL:
        (line,) = [line for line in lines if line.split()[:1] == [row.name]]
        assert line.split()[1:4] == [str(row.megabytes), "MB", row.licence]


def test_the_list_fits_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert max(map(len, shown(capsys))) <= 80


def test_the_list_begins_with_the_packaged_weights_and_their_true_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys)
    assert [line.split()[0] for line in lines[1:3]] == ["tiny-clip", "tiny-sam"]
    size = (bundle_path("tiny-clip") / "model.safetensors").stat().st_size
    assert lines[1].split()[1:3] == [f"{size / 1e6:.0f}", "MB"]


def test_a_row_says_where_its_hash_is_known_from(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.split()[0]: line for line in shown(capsys) if line.startswith("  ")}
    assert lines["RN50.openai"].endswith("in its address")
    assert lines["sam_vit_b"].endswith("public copies")
    assert lines["ViT-B-32.laion2b_s34b_b79k"].endswith("official page")
    assert lines["dinov2_vitg14"].endswith("first download")


def test_the_long_list_has_addresses_hashes_and_what_reads_each(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, "--long"))
    for row in OFFICIAL:
        assert f"      {row.used_for}\n      {row.url}\n      sha256 {row.sha256 or '-'}\n" in text
    assert "MD5 01ec64… in its name" in text
    assert "--long" not in text


def test_an_unknown_name_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", "download", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_verify_tells_right_from_wrong(
    toy: OfficialWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / toy.file).write_bytes(CONTENT)
    assert main(["weights", "verify", "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("ok")
    (tmp_path / toy.file).write_bytes(b"other")
    assert main(["weights", "verify", str(tmp_path / toy.file)]) == 1
    assert capsys.readouterr().out.startswith("WRONG")


def test_verify_says_what_to_do_about_a_missing_file(
    toy: OfficialWeights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "verify", toy.name, "--out", str(tmp_path)]) == 2
    assert "weights download toy" in capsys.readouterr().err
    assert main(["weights", "verify", "--out", str(tmp_path)]) == 2
