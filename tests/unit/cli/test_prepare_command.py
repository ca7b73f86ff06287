"""``naruto-vision data prepare``: bytes of the manifests, keys of the statistics, one line for what is wrong."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from naruto_vision.cli.data import add_arguments, read_aliases, run
from naruto_vision.data.readers import read_present
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.images import write_image


def export(root: Path) -> Path:
    for split in ("train", "valid", "test"):
        (root / split).mkdir(parents=True)
        for name in ("2.rf.png", "1,5.rf.png", "both.png", "none.png"):
            write_image(root / split / name, np.zeros((4, 4, 3), dtype=np.uint8))
        (root / split / "_classes.csv").write_text(
            'filename, Kobba, Odran, Unlabeled\n2.rf.png, 1, 0, 0\n"1,5.rf.png", 0, 1, 0\n'
            "both.png, 1, 1, 0\nnone.png, 0, 0, 1\nabsent.png, 1, 0, 0\n../up.png, 1, 0, 0"
        )
    return root


def prepare(*words: str) -> int:
    parser = argparse.ArgumentParser(prog="data prepare")
    add_arguments(parser)
    return run(parser.parse_args(words))


def test_manifests_classes_and_statistics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aliases.json").write_text('{"Kobba": "Koba"}')
    assert prepare("--aliases", "aliases.json") == 0
    for split in ("train", "valid", "test"):
        expected = f'path,label\ndata/{split}/2.rf.png,Koba\n"data/{split}/1,5.rf.png",Odran\n'
        assert (tmp_path / "manifests" / f"{split}.csv").read_bytes() == expected.encode()
    assert json.loads((tmp_path / "manifests" / "classes.json").read_text()) == ["Koba", "Odran"]
    statistics = json.loads((tmp_path / "manifests" / "stats_train.json").read_text())
    assert statistics["total_rows_seen"] == 6
    assert statistics["total_rows_kept"] == statistics["written_rows"] == 2
    assert statistics["total_rows_discarded"] == 4
    assert statistics["discarded_by_num_positives"] == {"0": 1, "2": 1}
    assert statistics["missing_files"] == 1
    assert statistics["refused_paths"] == ["'../up.png' climbs out with '..'"]
    assert statistics["kept_per_label"] == {"Koba": 1, "Odran": 1}
    assert statistics["renamed"] == {"Kobba": "Koba"}
    shown = capsys.readouterr().out
    assert "2 classes: Koba, Odran" in shown
    assert "renamed: Kobba to Koba\n" in shown
    assert "not renamed" not in shown
    assert prepare("--rename", "Koba=Boh", "Odran=Odran") == 0
    assert "not renamed, as no class has the name: Koba\n" in capsys.readouterr().out


def test_what_was_written_reads_back_the_same(tmp_path: Path) -> None:
    prepare("--root", str(export(tmp_path / "data")), "--out", str(tmp_path / "manifests"), "--policy", "all")
    again = read_present(tmp_path / "manifests")
    assert {split: len(table) for split, table in again.items()} == {"train": 2, "valid": 2, "test": 2}
    assert again["train"].classes == ("Kobba", "Odran")


def test_labels_choose_classes_and_their_order(tmp_path: Path) -> None:
    root = str(export(tmp_path / "data"))
    prepare("--root", root, "--out", str(tmp_path / "m"), "--labels", "Odran", "Kobba")
    assert json.loads((tmp_path / "m" / "classes.json").read_text()) == ["Odran", "Kobba"]
    with pytest.raises(InputError, match="no class Senka; there are Kobba, Odran"):
        prepare("--root", root, "--out", str(tmp_path / "m"), "--labels", "Senka")


def test_wrong_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingPathError, match="folder of class data"):
        prepare("--root", str(tmp_path / "nowhere"))
    with pytest.raises(MissingPathError, match="alias file"):
        read_aliases(tmp_path / "nowhere.json")
    for text in ("[", "[]", '{"a": 3}', '{"a": ["b"]}'):
        (tmp_path / "aliases.json").write_text(text)
        with pytest.raises(FormatError):
            read_aliases(tmp_path / "aliases.json")
    assert read_aliases(None) == {}
