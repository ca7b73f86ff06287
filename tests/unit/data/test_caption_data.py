import numpy as np
import torch
from torch import Tensor

from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.synthetic_captions import SyntheticCaptionData, character_at, draw_character
from naruto_vision.records import ImageArray
from naruto_vision.synthetic.captions import PHRASE_ATTRIBUTES, PHRASES, full_caption, phrase_truths


def _pixels(image: ImageArray) -> Tensor:
    small = np.zeros((3, 8, 8), dtype=np.float32)
    rows, columns = min(8, image.shape[0]), min(8, image.shape[1])
    small[:, :rows, :columns] = image[:rows, :columns].transpose(2, 0, 1)
    return torch.from_numpy(small)


def _data(**options: int) -> SyntheticCaptionData:
    settings = {"batch_size": 6, "batches": 3, "valid": 5, "test": 4, "num_workers": 0, "size": 48, "seed": 3}
    return SyntheticCaptionData(preprocess=_pixels, **(settings | options))


def _same(first: CaptionBatch, second: CaptionBatch) -> bool:
    tensors = all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if isinstance(a, Tensor))
    return tensors and first.captions == second.captions


def test_batches_are_the_same_again_and_with_a_worker() -> None:
    alone = list(_data().train_dataloader())
    assert len(alone) == 3
    assert all(_same(a, b) for a, b in zip(alone, _data().train_dataloader(), strict=True))
    assert all(_same(a, b) for a, b in zip(alone, _data(num_workers=1).train_dataloader(), strict=True))
    assert not any(_same(a, b) for a, b in zip(alone, _data(seed=4).train_dataloader(), strict=True))


def test_twins_share_who_they_are_but_not_their_pixels() -> None:
    batches = list(_data(batches=8).train_dataloader())
    strangers = torch.cat([batch.subjects for batch in batches])
    truths = torch.cat([batch.truths for batch in batches])
    pixels = torch.cat([batch.pixels for batch in batches])
    twins = [place for place in range(0, len(strangers), 2) if strangers[place] == strangers[place + 1]]
    assert 0 < len(twins) < len(strangers) // 2
    for place in twins:
        assert torch.equal(truths[place], truths[place + 1])
        assert not torch.equal(pixels[place], pixels[place + 1])


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


def test_neighbours_are_twins_as_often_as_asked() -> None:
    twins = [character_at(place + 1, 0, 1, 0.25) == place for place in range(0, 800, 2)]
    assert 0.17 < np.mean(twins) < 0.33
    assert not any(character_at(place + 1, 0, 1, 0.0) == place for place in range(0, 80, 2))


def test_one_phrase_of_each_attribute_is_true_at_most() -> None:
    assert len(set(PHRASES)) == len(PHRASES) == len(PHRASE_ATTRIBUTES)
    names = np.array(PHRASE_ATTRIBUTES)
    for number in range(30):
        attributes = draw_character(number, 0, 1)
        truths = phrase_truths(attributes)
        assert f"{attributes.hair_colour} hair" in np.array(PHRASES)[truths]
        assert all(truths[names == name].sum() <= 1 for name in set(PHRASE_ATTRIBUTES))
        assert truths[names == "person"].sum() == 1
