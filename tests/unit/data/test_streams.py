"""Streams of shards: each image once an epoch, exact resumption, full batches, and nothing that runs code."""

import contextlib
import importlib.util
import io
import itertools
import json
import os
import pickle
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from cluster import workers_left_by
from fsspec.implementations.memory import MemoryFileSystem
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from naruto_vision.cli.main import main
from naruto_vision.data.caption_data import CaptionBatch
from naruto_vision.data.class_data import ClassBatch
from naruto_vision.data.shards import ShardReader
from naruto_vision.data.stream_data import StreamDataModule
from naruto_vision.data.streams import Shards, StreamPlan, find_shards, read_samples
from naruto_vision.errors import FormatError, InputError
from naruto_vision.io.images import encode_image, write_image
from naruto_vision.records import ImageArray

IMAGES = [f"{'ab'[number % 2]}/{number}.png" for number in range(23)]


def prepare(image: ImageArray) -> Tensor:
    return torch.from_numpy(image[:6, :6].copy()).permute(2, 0, 1).float()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 23 training images, five each, and of 5 validation images."""
    root = tmp_path_factory.mktemp("streams")
    for split, names in (("train", IMAGES), ("valid", IMAGES[:5])):
        for seed, name in enumerate(names):
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 7, 3), dtype=np.uint8)
            write_image(root / "data" / split / name, pixels)
    assert main(["data", "shard", str(root / "data"), "--out", str(root / "shards"), "--shard-size", "5"]) == 0
    return root / "shards"


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    for file in (file for file in shards.rglob("*") if file.is_file()):
        target = tmp_path / "shards" / file.relative_to(shards)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return tmp_path / "shards"


@pytest.fixture
def server(copied: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(copied)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def opened(root: object, **options: Any) -> StreamDataModule:
    given = {"batch_size": 4, "num_workers": 0, "shuffle": 6, "augmented": False, "preprocess": prepare, "seed": 1}
    data = StreamDataModule(str(root), **(given | options))
    data.setup("fit")
    return data


def paths(loader: Any, consumed: int | None = None) -> list[list[str]]:
    if consumed is not None:
        loader.consumed = lambda: consumed
    return [batch.paths for batch in loader]


def fake(count: int, size: int = 4) -> Shards:
    """Return an index of ``count`` images without files."""
    counts = [min(size, count - first) for first in range(0, count, size)]
    return Shards(tuple(f"{number}.tar" for number in range(len(counts))), tuple(counts))


@pytest.mark.parametrize("images", [1, 3, 7, 8, 9, 40])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_each_image_is_in_one_batch_of_one_process_and_all_have_equally_many(
    images: int, world: int, workers: int
) -> None:
    for size in (1, 4):
        counts, seen = list[int](), Counter[int]()
        for rank in range(world):
            plan = StreamPlan(fake(images), size, workers, rank, world, shuffle=3)
            batches = [batch for worker in range(workers) for batch in positions(plan, worker)]
            counts.append(len(batches))
            assert len(batches) == plan.batches
            assert all(1 <= len(batch) <= size + 1 for batch in batches if images >= world)
            seen.update(itertools.chain.from_iterable(batches))
        assert seen == Counter(range(images))
        if images >= world:
            assert len(set(counts)) == 1


def positions(plan: StreamPlan, worker: int) -> list[list[int]]:
    """Return the positions in a worker's batches; files that are not there keep theirs."""
    return [[sample.position for sample in batch] for batch in plan.samples(0, worker)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_image_comes_once_an_epoch_with_its_pixels_and_label(shards: Path, workers: int) -> None:
    loader = opened(shards, num_workers=workers).train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    assert [len(batch.paths) for batch in batches] == [4] * 5 + [3]
    reader = ShardReader(shards / "train")
    for batch in batches:
        assert isinstance(batch, ClassBatch)
        for pixels, label, path in zip(batch.pixels, batch.labels, batch.paths, strict=True):
            assert torch.equal(pixels, prepare(reader.read(path)))
            assert reader.classes[int(label)] == path[0]
    assert sorted(path for batch in batches for path in batch.paths) == sorted(IMAGES)


def test_the_order_depends_on_seed_and_epoch_alone(shards: Path) -> None:
    loader = opened(shards).train_dataloader()
    first, second = paths(loader, 0), paths(loader, 6)
    assert first == paths(opened(shards).train_dataloader(), 0)
    assert first != second
    assert first != paths(opened(shards, seed=2).train_dataloader(), 0)
    assert sorted(itertools.chain(*second)) == sorted(IMAGES)
    valid = opened(shards).val_dataloader()
    assert paths(valid) == paths(valid)
    assert sorted(itertools.chain(*paths(valid))) == sorted(IMAGES[:5])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_with_the_next_batch_from_any_position(shards: Path, workers: int) -> None:
    loader = opened(shards, num_workers=workers).train_dataloader()
    whole = paths(loader, 6)
    for done in range(6) if workers == 0 else (1, 4):
        assert paths(loader, 6 + done) == whole[done:]


def test_augmentation_does_not_depend_on_interruption(shards: Path) -> None:
    loader = opened(shards, augmented=True, preprocess=lambda image: prepare(np.resize(image, (6, 6, 3))))
    whole = [batch.pixels for batch in loader.train_dataloader()]
    again = loader.train_dataloader()
    again.consumed = lambda: 2
    for one, other in zip(whole[2:], again, strict=True):
        assert torch.equal(one, other.pixels)


class Noter(pl.LightningModule):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.layer, self.stop_at = nn.Linear(3, 1), stop_at
        self.seen: list[list[str]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)

    def training_step(self, batch: ClassBatch) -> Tensor:
        self.seen.append(batch.paths)
        answer: Tensor = self.layer(batch.pixels.mean(dim=(2, 3)))
        return (answer[:, 0] - batch.labels).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        if self.global_step == self.stop_at:
            self.trainer.save_checkpoint("stopped.ckpt")
            raise KeyboardInterrupt


def fit(module: Noter, data: StreamDataModule, checkpoint: str | None = None, logger: CSVLogger | None = None) -> None:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": logger or False}
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, enable_checkpointing=False, use_distributed_sampler=False, **quiet
    )
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)


@pytest.fixture(scope="module")
def whole(shards: Path) -> Noter:
    """Return a module that was trained for two epochs."""
    module = Noter()
    fit(module, opened(shards))
    return module


@pytest.mark.parametrize("step", [6, 9])  # of 6 an epoch
def test_an_interrupted_fit_sees_each_image_once_an_epoch(
    shards: Path,
    whole: Noter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    stopped, resumed = Noter(step), Noter()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(stopped, opened(shards))
    fit(resumed, opened(shards), "stopped.ckpt")
    assert stopped.seen + resumed.seen == whole.seen
    assert len(whole.seen) == 12
    assert "differ" not in caplog.text
    opened(shards, seed=5).load_state_dict(opened(shards).state_dict())
    assert "seed differ from the interrupted run's" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_missing_and_damaged_shards_are_counted_and_batches_stay_full(
    copied: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = paths(opened(copied, num_workers=workers).train_dataloader())
    lost = {*ShardReader(copied / "train").images}
    (copied / "train" / "train-000001.tar").unlink()
    cut = copied / "train" / "train-000003.tar"
    with tarfile.open(cut) as tar:
        third = tar.getmembers()[6]
    cut.write_bytes(cut.read_bytes()[: third.offset])
    data = opened(copied, num_workers=workers, max_bad_fraction=0.5)
    found = paths(data.train_dataloader())
    assert list(map(len, found)) == list(map(len, whole))
    read = set(itertools.chain(*found))
    assert len(lost - read) == 5 + 4  # the last sample before the damage may lack a file
    for one, other in zip(found, whole, strict=True):  # what is read comes where it would have
        assert [path for path in other if path in read] == one[: sum(path in read for path in other)]
    assert data.quarantines["train"].counts() == {"seen": 23, "ok": 14, "quarantined": 9}
    assert "train-000001.tar" in caplog.text
    assert "before its end mark" in caplog.text
    with pytest.raises(InputError, match="more than the 5% that may be unreadable"):
        paths(opened(copied, num_workers=workers).train_dataloader())


def test_a_damaged_image_is_replaced_by_another_one(copied: Path) -> None:
    shard = copied / "train" / "train-000000.tar"
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b"\x89PNG", b"\x89PNx", 1))
    stream = opened(copied, max_bad_fraction=0.5)
    found = list(itertools.chain(*paths(stream.train_dataloader())))
    assert len(found) == 23
    assert len(set(found)) == 22
    assert stream.quarantines["train"].quarantined == 1


def test_a_run_lists_what_could_not_be_read(copied: Path) -> None:
    (copied / "train" / "train-000001.tar").unlink()
    data = opened(copied, max_bad_fraction=0.5)
    fit(Noter(), data, logger=CSVLogger(copied.parent, "log", ""))
    listed = [json.loads(line) for line in (copied.parent / "log" / "quarantine.jsonl").read_text().splitlines()]
    assert len(listed) == 5
    assert all("train-000001.tar" in row["reason"] for row in listed)


def test_shards_of_a_web_server_give_what_the_folder_gives(copied: Path, server: str) -> None:
    whole = paths(opened(copied).train_dataloader())
    assert paths(opened(server).train_dataloader()) == whole
    assert paths(opened(f"{server}/train").train_dataloader()) == whole
    listed = opened(f"{server}/train/train-{{000000..000004}}.tar")
    assert paths(listed.train_dataloader()) == whole
    assert opened(server).class_counts == (12, 11)
    part = opened(f"{server}/train/train-{{000001..000002}}.tar").train_dataloader()
    assert len(list(itertools.chain(*paths(part)))) == 10
    (copied / "train" / "train-000002.tar").unlink()
    lossy = opened(server, max_bad_fraction=0.3)
    assert list(map(len, paths(lossy.train_dataloader()))) == list(map(len, whole))
    assert lossy.quarantines["train"].quarantined == 5
    assert "404" in lossy.quarantines["train"].rows[0].reason
    with pytest.raises(InputError, match="no such folder of shards"):
        opened(f"{server}/nothing")


def test_object_stores_are_opened_by_fsspec(copied: Path) -> None:
    store = MemoryFileSystem()
    for file in (copied / "train").iterdir():
        store.pipe(f"/bucket/{file.name}", file.read_bytes())
    found = paths(opened("memory://bucket").train_dataloader())
    store.rm("/bucket", recursive=True)
    assert found == paths(opened(copied).train_dataloader())
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(InputError, match=r"s3://bucket/index.json: cannot be opened \(Install s3fs"):
            find_shards("s3://bucket")
    for address in ("zip://x.tar::http://127.0.0.1/y.zip", "reference://x", "ssh://host/x"):
        with pytest.raises(InputError, match="expected a path or an address"):
            find_shards(address)


def test_commands_run_only_if_allowed(copied: Path, tmp_path: Path) -> None:
    shard = copied / "train" / "train-000000.tar"
    command = f"pipe:touch {tmp_path}/ran; cat {shard}"
    for options in ({}, {"valid": command}):
        root = command if not options else copied
        with pytest.raises(InputError, match=r"type --data\.allow_pipe true"):
            opened(root, classes=["a", "b"], epoch_images=8, **options)
    assert [sample.error for sample in read_samples_or_error(command)] == ["refused"]
    assert not (tmp_path / "ran").exists()
    data = opened(command, classes=["a", "b"], epoch_images=8, allow_pipe=True)
    assert len(list(itertools.chain(*paths(data.train_dataloader())))) == 8
    assert (tmp_path / "ran").exists()
    failing = opened("pipe:exit 3", classes=["a"], epoch_images=8, allow_pipe=True, max_bad_fraction=1)
    with pytest.raises(InputError, match="can be read"):
        paths(failing.train_dataloader())


def read_samples_or_error(address: str) -> list[Any]:
    try:
        return list(read_samples(address))
    except InputError:
        return [type("Refused", (), {"error": "refused"})]


@pytest.mark.parametrize("options", [[], ["--data.seed", "3"]])
def test_a_config_does_not_allow_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    config = tmp_path / "allow_pipe.yaml"
    config.write_text(
        "model: {class_path: ContrastiveTuner, init_args: {encoder: {class_path: ClipEncoder, "
        "init_args: {model: tiny-clip}}}}\n"
        f"data: {{class_path: StreamDataModule, init_args: {{root: 'pipe:touch {tmp_path}/ran', allow_pipe: true, "
        "classes: [a], epoch_images: 4}}\n"
    )
    assert main(["fit", "--config", str(config), *options]) == 2
    assert "a config must not run commands" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def loose(path: Path, samples: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in samples.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_shards_without_an_index_are_drawn_with_a_stated_length(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = encode_image(np.full((8, 8, 3), 9, np.uint8), ".png")
    trap = pickle.dumps(Trap(tmp_path / "trap"))
    for number in range(3):
        samples = {}
        for key in "abc":
            more = {f"{key}.pkl": trap, f"{key}.pyd": trap, f"{key}.pth": trap}
            samples |= {f"{key}.png": image, f"{key}.cls": b"xy"[number % 2 : number % 2 + 1], **more}
        loose(tmp_path / f"s-{number}.tar", samples)
    root = f"{tmp_path}/s-{{0..2}}.tar"
    with pytest.raises(InputError, match=r"give --data\.epoch_images"):
        opened(root, classes=["x", "y"])
    data = opened(root, classes=["x", "y"], epoch_images=10, valid=root)
    loader = data.train_dataloader()
    assert len(loader) == 3
    assert list(map(len, paths(loader, 0))) == [4, 4, 4]
    assert paths(loader, 0) != paths(loader, 3)
    assert sorted(set(itertools.chain(*paths(data.val_dataloader())))) == [
        f"{tmp_path}/s-{number}.tar: {key}" for number in range(3) for key in "abc"
    ]
    assert not (tmp_path / "trap").exists()
    data.load_state_dict({})
    assert "goes on with other images" in caplog.text


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ({"a.cls": b"x"}, "no image"),
        ({"a.png": b"no image", "a.cls": b"x"}, "not an image"),
        ({"a.png": b"", "a.cls": b"7"}, "none of data.classes"),
        ({"a.png": b"", "a.json": b"[" * 100_000}, "cannot be used"),
        ({"a.png": b""}, r"no \.cls"),
        ({"a.cls": b"x", "a.CLS": b"y"}, "duplicate"),
        ({"a.png": b"", "a.json": b" " * (1 << 21)}, "more than are read"),
    ],
)
def test_what_is_wrong_with_a_sample_is_said(tmp_path: Path, samples: dict[str, bytes], words: str) -> None:
    tar = loose(tmp_path / "x.tar", samples)
    data = opened(tar, classes=["x"], epoch_images=1, valid=str(tar), max_bad_fraction=1)
    with pytest.raises(InputError, match=words):
        paths(data.val_dataloader())


def test_captions_are_streamed(tmp_path: Path) -> None:
    rows = [(f"{number}.png", f"a text {number // 2}") for number in range(6)] + [("5.png", "another")]
    for name, _ in rows:
        write_image(tmp_path / "data" / name, np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "data" / "captions.csv").write_text("path,text\n" + "".join(f"{name},{text}\n" for name, text in rows))
    out = ["--out", str(tmp_path / "out"), "--kind", "captions"]
    assert main(["data", "shard", str(tmp_path / "data"), *out]) == 0
    data = opened(tmp_path / "out", batch_size=6)
    (batch,) = data.train_dataloader()
    assert isinstance(batch, CaptionBatch)
    assert len(batch.captions) == 6
    assert set(batch.captions) <= {text for _, text in rows}
    assert len(set(batch.subjects.tolist())) == 4  # 0 and 1, 2 and 3, 4, and 5 with its two texts
    assert {"text", "another"} <= set(data.words)


def test_a_broken_index_is_refused(copied: Path) -> None:
    index = copied / "train" / "index.json"
    text = index.read_text()
    for broken in (text.replace("train-000000.tar", "../x.tar"), text.replace('"classes"', '"class"', 1), "{"):
        index.write_text(broken)
        with pytest.raises(FormatError, match="train"):
            opened(copied)


@pytest.mark.parametrize(
    "change", [{"images": 10**15}, {"images": -1}, {"name": "/"}, {"name": "sub/x.tar"}, {"name": "a\0.tar"}]
)
def test_an_index_that_names_what_is_not_beside_it_is_refused(copied: Path, change: dict[str, Any]) -> None:
    index = copied / "train" / "index.json"
    content = json.loads(index.read_text())
    content["shards"][0] |= change
    index.write_text(json.dumps(content))
    for reader in (ShardReader, find_shards):
        with pytest.raises(FormatError, match=rf"index\.json: expected in shards\[0\]\.{next(iter(change))}"):
            reader(str(copied / "train") if reader is find_shards else copied / "train")  # type: ignore[arg-type]


def test_an_index_that_states_too_many_images_ends_in_an_error(copied: Path) -> None:
    index = copied / "train" / "index.json"
    content = json.loads(index.read_text())
    content["shards"] = [{"name": "missing.tar", "images": 1 << 31, "bytes": 1, "sha256": ""}]
    index.write_text(json.dumps(content))
    loader = opened(copied, batch_size=512, shuffle=8, max_bad_fraction=1).train_dataloader()
    assert len(loader) == 1 << 22
    with pytest.raises(InputError, match="images in a row can be read"):
        next(iter(loader))


def test_a_pipe_in_place_of_a_file_is_refused(copied: Path) -> None:
    for name in ("train-000000.tar", "index.json"):
        (copied / "train" / name).unlink()
        os.mkfifo(copied / "train" / name)
        with pytest.raises(FormatError, match=f"{name}: expected a file, found a pipe"):
            paths(opened(copied, shuffle=100).train_dataloader())


class Hostile(BaseHTTPRequestHandler):
    """Redirects to where the address says; otherwise sends files of one sample without end."""

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for number in itertools.count():
                self.wfile.write(special(f"a.{number}.png", 1 << 16) + bytes(1 << 16))

    def log_message(self, *_: Any) -> None:
        pass


def special(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf()


def test_a_hostile_server_sends_neither_elsewhere_nor_without_end(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(special("a.png", 0) + bytes(1024))
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{httpd.server_port}"
    targets = [f"file://{tmp_path}/x.tar", "ftp://127.0.0.1/x.tar", f"pipe:touch {tmp_path}/ran", f"{address}/to/a.tar"]
    found = [
        [sample.error for sample in read_samples(address + path)]
        for path in ("/x.tar", *(f"/to/{target}" for target in targets))
    ]
    reasons = [error.partition("behind 0 images: ")[2] for (error,) in found]
    httpd.shutdown()
    thread.join()
    httpd.server_close()
    assert reasons[0] == "a. has more than 16 files"
    assert all(reasons)
    assert not (tmp_path / "ran").exists()


def test_workers_of_a_killed_process_end(shards: Path) -> None:
    assert workers_left_by(opened(shards, num_workers=2).train_dataloader()) == set()
