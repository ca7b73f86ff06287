import csv
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from naruto_vision.cli.main import main
from naruto_vision.data.caption_data import Caption, CaptionBatch, CaptionDataModule, read_captions
from naruto_vision.data.synthetic_captions import SyntheticCaptionData, character_at, draw_character
from naruto_vision.encoders.clip import ClipEncoder
from naruto_vision.encoders.tiny import TinySizes
from naruto_vision.errors import FormatError, InputError, MissingPathError
from naruto_vision.io.bundles import bundle_path, read_bundle_info
from naruto_vision.io.images import write_image
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.captions import PHRASE_ATTRIBUTES, PHRASES, full_caption, phrase_truths

SIZES = TinySizes(
    embed_dim=16, image_size=24, patch_size=12, vision_width=32, vision_layers=1, text_width=32, text_layers=1
)


def _pixels(image: ImageArray) -> Tensor:
    small = np.zeros((3, 8, 8), dtype=np.float32)
    rows, columns = min(8, image.shape[0]), min(8, image.shape[1])
    small[:, :rows, :columns] = image[:rows, :columns].transpose(2, 0, 1)
    return torch.from_numpy(small)


def _data(**options: int) -> SyntheticCaptionData:
    settings = {"batch_size": 6, "batches": 2, "valid": 5, "test": 4, "num_workers": 0, "size": 48, "seed": 3}
    return SyntheticCaptionData(preprocess=_pixels, **(settings | options))


def _same(first: CaptionBatch, second: CaptionBatch) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if isinstance(a, Tensor))
    return tensors and first.captions == second.captions


def test_batches_are_the_same_again_and_with_a_worker() -> None:
    alone = list(_data().train_dataloader())
    assert len(alone) == 2
    assert all(_same(a, b) for a, b in zip(alone, _data().train_dataloader(), strict=True))
    assert all(_same(a, b) for a, b in zip(alone, _data(num_workers=1).train_dataloader(), strict=True))
    assert not any(_same(a, b) for a, b in zip(alone, _data(seed=4).train_dataloader(), strict=True))


def test_twins_share_who_they_are_but_not_their_pixels() -> None:
    batches = list(_data(batches=5).train_dataloader())
    subjects = torch.cat([batch.subjects for batch in batches])
    truths = torch.cat([batch.truths for batch in batches])
    pixels = torch.cat([batch.pixels for batch in batches])
    twins = [k for k in range(0, len(subjects), 2) if subjects[k] == subjects[k + 1]]
    assert 0 < len(twins) < len(subjects) // 2
    for k in twins:
        assert torch.equal(truths[k], truths[k + 1])
        assert not torch.equal(pixels[k], pixels[k + 1])


def test_validation_and_test_have_everybody_once_and_say_everything() -> None:
    seen = []
    for loader, stream, count in ((_data().val_dataloader(), 2, 5), (_data().test_dataloader(), 3, 4)):
        batches = list(loader)
        captions = [text for batch in batches for text in batch.captions]
        assert captions == [full_caption(draw_character(number, 3, stream)) for number in range(count)]
        assert torch.cat([batch.subjects for batch in batches]).tolist() == list(range(count))
        seen += captions
    training = {full_caption(draw_character(number, 3, 1)) for number in range(50)}
    assert not training & set(seen)


def test_neighbours_are_twins_at_the_given_rate() -> None:
    twins = [character_at(k + 1, 0, 1, 0.25) == k for k in range(0, 800, 2)]
    assert 0.17 < np.mean(twins) < 0.33
    assert not any(character_at(k + 1, 0, 1, 0.0) == k for k in range(0, 80, 2))


def test_one_phrase_of_each_attribute_is_true_at_most() -> None:
    assert len(set(PHRASES)) == len(PHRASES) == len(PHRASE_ATTRIBUTES)
    names = np.array(PHRASE_ATTRIBUTES)
    for number in range(30):
        attributes = draw_character(number, 0, 1)
        truths = phrase_truths(attributes)
        assert f"{attributes.hair_colour} hair" in np.array(PHRASES)[truths]
        assert all(truths[names == name].sum() <= 1 for name in set(PHRASE_ATTRIBUTES))
        assert truths[names == "person"].sum() == 1


def test_a_batch_carries_the_phrases_and_their_groups() -> None:
    batch = next(iter(_data().train_dataloader()))
    assert batch.phrases == list(PHRASES)
    assert batch.truths.shape == (6, len(PHRASES))
    same = [[a == b for b in PHRASE_ATTRIBUTES] for a in PHRASE_ATTRIBUTES]
    assert (batch.phrase_groups[:, None] == batch.phrase_groups).tolist() == same


def test_the_packaged_vocabulary_is_that_of_the_synthetic_captions() -> None:
    encoder = ClipEncoder("tiny-clip", "random", sizes=SIZES)
    before = encoder.clip.token_embedding
    encoder.build_vocabulary(SyntheticCaptionData.words)
    assert encoder.clip.token_embedding is before  # the same words in the same order: nothing is re-initialised
    assert list(encoder.tokenizer.vocabulary) == read_bundle_info(bundle_path("tiny-clip"), "clip")["vocabulary"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for k in range(10):
        write_image(tmp_path / "img" / f"{k}.png", np.full((12, 9, 3), 20 * k + 10, np.uint8))
    _write(tmp_path / "captions.csv", [(f"img/{k}.png", f"a shade, number {k % 5}") for k in range(10)])
    return tmp_path


def _write(path: Path, rows: list[tuple[str, ...]], header: tuple[str, ...] = ("path", "text")) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as handle:
        csv.writer(handle).writerows([header, *rows])


def _module(root: Path, **options: Any) -> CaptionDataModule:
    return CaptionDataModule(str(root), preprocess=_pixels, **({"batch_size": 4, "num_workers": 0} | options))


def test_rows_are_read_whatever_the_dialect(root: Path) -> None:
    text = '﻿Text ,id, PATH\r\n"a shade, ""dark"" ",1, img/0.png\r\n\r\n , ,\r\nein Rötton,2,img/1.png'
    (root / "captions.csv").write_bytes(text.encode())
    table = read_captions(root / "captions.csv")
    assert table.rows == (Caption("img/0.png", 'a shade, "dark"'), Caption("img/1.png", "ein Rötton"))
    assert table.left_out == ()


def test_rows_that_cannot_be_used_are_counted_with_their_line(root: Path) -> None:
    rows = [("img/0.png", "a"), ("img/none.png", "b"), ("img/1.png", ""), ("../x.png", "c"), ("", "d")]
    _write(root / "captions.csv", rows)
    table = read_captions(root / "captions.csv")
    assert len(table.rows) == 1
    assert [bad.reason for bad in table.left_out] == [
        "line 3: 'img/none.png' is not there",
        "line 4: 'img/1.png' has no text",
        "line 5: '../x.png' climbs out with '..'",
        "line 6: '' names no file",
    ]
    with pytest.raises(InputError, match=r"4 of 5 captions of split 'train' cannot be read.*line 3"):
        _module(root).setup("fit")
    data = _module(root, max_bad_fraction=0.9)
    data.setup("fit")
    assert data.quarantines["train"].counts() == {"seen": 4, "ok": 0, "quarantined": 4}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "one column 'path' and one column 'text', found an empty file"),
        (b"path,caption\na,b", "found path, caption"),
        (b"path,text,text\na,b,c", "found path, text, text"),
        (b"path,text\nimg/0.png,a, b", "2 values in line 2, found 3; put texts with commas in double quotes"),
        (
            b"path,text\nimg/0.png,a\nimg/1.png,\x83i\x83\x8b\x83g",
            "UTF-8 text, found another encoding in line 3; save it as UTF-8",
        ),
        (b'path,text\nimg/0.png,"a', r"quotes in pairs, found .* in line 2"),
        (b"path,text\n", "rows of images and texts, found none"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(root: Path, content: bytes, message: str) -> None:
    (root / "captions.csv").write_bytes(content)
    with pytest.raises(FormatError, match=rf"captions\.csv: expected .*{message}"):
        _module(root).setup("fit")


def test_a_split_that_is_not_there_is_named(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no captioned images of split 'test'"):
        _module(root).setup("test")
    with pytest.raises(MissingPathError, match=r"no such data with captions: expected captions\.csv or train/"):
        _module(tmp_path / "img").setup("fit")


def test_every_image_trains_or_validates(root: Path) -> None:
    data = _module(root, hold_out_fraction=0.3)
    train, valid = ({row.path for row in data.tables[split].rows} for split in ("train", "valid"))  # type: ignore[index]  # both are splits
    assert (len(train), len(valid)) == (7, 3)
    assert not train & valid
    assert _module(root, hold_out_fraction=0.3).tables == data.tables
    assert _module(root, hold_out_fraction=0.3, seed=1).tables != data.tables
    assert _module(root, hold_out_fraction=0.0).val_dataloader() == []


def test_splits_of_their_own_are_used(root: Path) -> None:
    for split in ("train", "valid", "test"):
        write_image(root / split / "a.png", np.full((8, 8, 3), 9, np.uint8))
        _write(root / split / "captions.csv", [("a.png", split), ("a.png", "another")])
    data = _module(root)
    assert next(iter(data.train_dataloader())).captions.count("train") == 2  # both rows, twice
    assert [batch.captions for batch in data.val_dataloader()] == [["valid"]]  # the first caption of each image
    assert [batch.captions for batch in data.test_dataloader()] == [["test"]]


def test_captions_of_one_image_and_equal_captions_are_one_subject(root: Path) -> None:
    _write(root / "captions.csv", [(f"img/{k}.png", t) for k, t in ((0, "a"), (0, "b"), (1, "a"), (2, "c"), (3, "c"))])
    a, b, other, c, d = read_captions(root / "captions.csv").subjects
    assert a == b
    assert c == d
    assert len({a, other, c}) == 3


def test_batches_of_own_captions_do_not_depend_on_workers(root: Path) -> None:
    alone = list(_module(root).train_dataloader())
    assert len(alone) == 3
    assert all(not batch.phrases and batch.truths.shape == (4, 0) for batch in alone)
    assert all(_same(a, b) for a, b in zip(alone, _module(root, num_workers=1).train_dataloader(), strict=True))
    assert not all(_same(a, b) for a, b in zip(alone, _module(root, seed=1).train_dataloader(), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_images_that_cannot_be_decoded_are_left_out_and_counted(
    root: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "img" / "3.png").write_bytes(b"no image")
    data = _module(root, batch_size=1, num_workers=workers, hold_out_fraction=0.0, max_bad_fraction=0.1)
    batches = list(data.train_dataloader())
    assert [len(batch.pixels) for batch in batches] == [1] * 10  # none is empty: the next image stands in
    assert Counter(text for batch in batches for text in batch.captions)["a shade, number 4"] == 3
    assert data.quarantines["train"].counts() == {"seen": 10, "ok": 9, "quarantined": 1}
    data.teardown("fit")
    assert "3.png: not an image" in caplog.text
    assert "1 of 10 captions of split 'train' could not be read and were left out" in caplog.text
    with pytest.raises(InputError, match=r"1 of 10 captions of split 'train' cannot be read"):
        list(_module(root, batch_size=10, hold_out_fraction=0.0).train_dataloader())


def test_nothing_but_broken_images_stops(root: Path) -> None:
    for k in range(10):
        (root / "img" / f"{k}.png").write_bytes(b"")
    with pytest.raises(InputError, match="none of 9 captions of split 'train' can be read"):
        next(iter(_module(root).train_dataloader()))


def test_fit_trains_on_own_captions_and_their_words_travel_in_the_bundle(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    tiny = ["--model.encoder.init_args.pretrained=random"]
    tiny += [f"--model.encoder.init_args.sizes.{name}={value}" for name, value in asdict(SIZES).items()]
    quick = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    data = ["--data.root=.", "--data.batch_size=4", "--data.num_workers=0", "--data.hold_out_fraction=0.2"]
    assert main(["fit", "--config=captions.yaml", *tiny, *quick, *data]) == 0
    encoder = ClipEncoder("runs/captions/bundle")
    assert {"shade", "number", "4", "manga"} <= set(encoder.tokenizer.vocabulary)  # captions and templates
    assert "hair" not in encoder.tokenizer.vocabulary
    assert encoder.encode_texts(["a shade, number 4"]).shape == (1, 16)
    tuned = ["--model.encoder.init_args.model=runs/captions/bundle", "--model.bundle_dir=runs/again"]
    assert main(["fit", "--config=captions.yaml", *tuned, *quick, *data]) == 0
    assert ClipEncoder("runs/again").tokenizer.vocabulary == encoder.tokenizer.vocabulary
