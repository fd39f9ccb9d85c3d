"""Who reads files from elsewhere: each is given a content, seals it with the checksums that fit, and reads it."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from hoarfrost import Freezer
from hoarfrost.cache import Cache, CacheSpec, Fingerprint, list_caches
from hoarfrost.cache.journal import Record, write_line
from hoarfrost.checkpoints import load_tree, save_tree
from hoarfrost.codecs import BFloat16, Codec, Exact, FirstTokens, Half, Linear, Shared
from hoarfrost.codecs.frame import squeeze, unsqueeze_parts
from hoarfrost.errors import HoarfrostError
from hoarfrost.running import RunConfig
from hoarfrost.running.reporting import report_on
from hoarfrost.running.resuming import Progress, Training

__all__ = ["READERS", "Reader"]


class Reader(ABC):
    """One kind of file."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        self.folder = Path(self._directory.name)

    @property
    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Contents as the library writes them, to begin from."""

    @abstractmethod
    def read(self, content: bytes) -> None:
        """Read it, as a user's call would."""

    def survives(self, content: bytes) -> bool:
        """Whether the content was taken; False where it was refused by name. Anything else goes through."""
        try:
            self.read(content)
        except HoarfrostError:
            return False
        return True


def _cache(folder: Path, codec: Codec | None = None, *, ragged: bool = False) -> Cache:
    codec = codec or Linear(4)
    if ragged:
        spec = CacheSpec(6, 4, (3,), torch.float32, 1, False, codec, (None, (2, 0)), 15)
    else:
        spec = CacheSpec(10, 4, (3, 5, 5), torch.float32, 1, False, codec, (None, (2, 0)))
    with Cache.create(folder, Fingerprint({"cut": "layer1", "codec": codec.to_config()}), spec) as writer:
        for chunk, view in sorted(spec.records):
            rows = spec.rows(chunk)
            lengths = [1, 4, 0, 5, 2, 3][4 * chunk : 4 * chunk + rows] if ragged else None
            draw = torch.Generator().manual_seed(chunk)
            features = torch.randn(sum(lengths) if lengths else rows, *spec.view_shape(view), generator=draw).relu()
            ids = range(4 * chunk, 4 * chunk + rows)
            writer.append(chunk, view, list(ids), torch.tensor(list(ids)) % 3, features, lengths)
        return writer.commit()


def _read_all(cache: Cache) -> None:
    for chunk in range(min(3, cache.spec.chunks)):
        for view in range(min(2, cache.spec.views)):
            try:
                cache.read(chunk, view).features()
            except HoarfrostError:
                continue
    cache.verify()
    assert cache.nbytes > 0
    assert cache.dense_nbytes >= 0


class ManifestReader(Reader):
    """manifest.json, its sha256 made right."""

    def __init__(self, codec: Codec | None = None, *, ragged: bool = False) -> None:
        super().__init__()
        self.path = _cache(self.folder, codec, ragged=ragged).path
        self.file = self.path / "manifest.json"
        self.own = self.file.read_bytes()

    @property
    def seeds(self) -> list[bytes]:
        return [json.dumps(json.loads(self.own)).encode()]

    def read(self, content: bytes) -> None:
        try:
            body = json.loads(content)
            body.pop("sha256", None)
            text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
            content = json.dumps({**body, "sha256": hashlib.sha256(text).hexdigest()}).encode()
        except (ValueError, TypeError, AttributeError, RecursionError):
            pass
        self.file.write_bytes(content)
        list_caches(self.folder)
        _read_all(Cache.open(self.path))


class JournalReader(Reader):
    """journal.jsonl, each line's crc32 made right."""

    def __init__(self, *, ragged: bool = False) -> None:
        super().__init__()
        self.path = _cache(self.folder, ragged=ragged).path
        self.file = self.path / "journal.jsonl"
        self.own = self.file.read_bytes()

    @property
    def seeds(self) -> list[bytes]:
        lines = [json.loads(line) for line in self.own.split(b"\n") if line]
        return [b"\n".join(json.dumps({k: v for k, v in line.items() if k != "line_crc32"}).encode() for line in lines)]

    def read(self, content: bytes) -> None:
        bodies = (line.rstrip().removesuffix(b"}") for line in content.split(b"\n"))
        self.file.write_bytes(b"".join(b'%s,"line_crc32":"%08x"}\n' % (body, zlib.crc32(body)) for body in bodies))
        _read_all(Cache.open(self.path))


class RecordReader(Reader):
    """What a codec's frame holds, in a frame and under checksums that fit."""

    def __init__(self, codec: Codec, *, ragged: bool = False) -> None:
        super().__init__()
        self.path = _cache(self.folder, codec, ragged=ragged).path
        self.data, self.journal = self.path / "features.bin", self.path / "journal.jsonl"
        self.own, self.lines = self.data.read_bytes(), self.journal.read_bytes()
        self.raw = isinstance(codec, FirstTokens)
        self.record: Record = Cache.open(self.path)._journal.records[0, 0]

    @property
    def seeds(self) -> list[bytes]:
        frame = self.own[self.record.offset :][: self.record.nbytes]
        return [frame if self.raw else unsqueeze_parts(frame, 0, 1 << 20)]

    def read(self, content: bytes) -> None:
        frame = content if self.raw else squeeze(content)
        known = self.record
        at = (known.targets_crc32, known.sample_ids, known.edition, known.lengths, known.cache)
        line = write_line(Record(0, 0, len(self.own), len(frame), zlib.crc32(frame), *at))
        self.data.write_bytes(self.own + frame)
        self.journal.write_bytes(self.lines + line)
        Cache.open(self.path).read(0, 0).features()


class CheckpointReader(Reader):
    """The plain part of a checkpoint, its crc32 made right, or the header of its tensors as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.file = self.folder / "tree"
        save_tree(
            self.file, {"model": {"a": torch.arange(6.0).view(2, 3)}, "state": {0: {"step": 1}}, "list": [1, None]}
        )
        data = self.file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        self.header, self.tensors = json.loads(data[8 : 8 + size]), data[8 + size :]

    @property
    def seeds(self) -> list[bytes]:
        return [self.header["__metadata__"]["tree"].encode(), json.dumps(self.header).encode()]

    def read(self, content: bytes) -> None:
        if b"__metadata__" in content:
            self.file.write_bytes(struct.pack("<Q", len(content)) + content + self.tensors)
            load_tree(self.file)
            return
        text = content.decode("utf-8", errors="replace")
        crc = zlib.crc32(text.encode("utf-8", "surrogatepass"))
        crc = zlib.crc32(b"/model/a torch.float32 (2, 3)", crc)
        crc = zlib.crc32(self.tensors, crc)
        metadata = {**self.header["__metadata__"], "tree": text, "crc32": f"{crc:08x}"}
        header = json.dumps({**self.header, "__metadata__": metadata}).encode()
        self.file.write_bytes(struct.pack("<Q", len(header)) + header + self.tensors)
        load_tree(self.file)


class StateReader(Reader):
    """A training's checkpoint whose plain part was changed, and a run that goes on from it."""

    def __init__(self, policy: Any = "budget:2x") -> None:
        super().__init__()
        self.policy, self.file = policy, self.folder / "checkpoint"
        with self._freezer() as (freezer, told):
            for _ in freezer.batches(0):
                pass
            freezer.end_epoch({"loss": 1.0})
            Training(freezer, *told, 4).save(self.file, Progress(1))
        self.tree = load_tree(self.file)
        self.tensors: list[Any] = []
        self.plain = self._without(self.tree)

    @contextmanager
    def _freezer(self) -> Iterator[Any]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 2))
        data = [(torch.rand(1, 8, 8), n % 2) for n in range(8)]
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        policy, quiet = self.policy, {"verbose": False}
        with Freezer(model, data, batch_size=4, epochs=4, policy=policy, optimizer=optimizer, **quiet) as freezer:
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda done: 1.0)
            yield freezer, (optimizer, schedule, torch.amp.GradScaler("cpu", enabled=False))

    def _without(self, node: Any) -> Any:
        if isinstance(node, torch.Tensor):
            self.tensors.append(node)
            return {"!tensor": len(self.tensors) - 1}
        if isinstance(node, dict):
            integer = bool(node) and all(isinstance(key, int) for key in node)
            inner = {str(key): self._without(value) for key, value in node.items()}
            return {"!whole": inner} if integer else inner
        return [self._without(value) for value in node] if isinstance(node, list) else node

    def _with(self, node: Any) -> Any:
        if isinstance(node, dict):
            if type(node.get("!tensor")) is int and 0 <= node["!tensor"] < len(self.tensors):
                return self.tensors[node["!tensor"]]
            if isinstance(node.get("!whole"), dict) and all(key.isdecimal() for key in node["!whole"]):
                return {int(key): self._with(value) for key, value in node["!whole"].items()}
            return {key: self._with(value) for key, value in node.items()}
        return [self._with(value) for value in node] if isinstance(node, list) else node

    @property
    def seeds(self) -> list[bytes]:
        return [json.dumps(self.plain).encode()]

    def read(self, content: bytes) -> None:
        try:
            tree = self._with(json.loads(content))
        except (ValueError, RecursionError):
            return
        save_tree(self.file, tree)
        with self._freezer() as (freezer, told):
            Training(freezer, *told, 4).resume(self.file)


class ConfigReader(Reader):
    """config.yaml."""

    @property
    def seeds(self) -> list[bytes]:
        told = {
            "model": "cifar_resnet",
            "samples": 64,
            "epochs": 3,
            "policy": "egeria:thaw_at=none",
            "views": 2,
            "lr": 0.1,
            "ladder": 8,
            "batch_size": 8,
            "disk_budget": "2GiB",
            "over_budget": "views,cut",
            "evaluation": "images",
            "harm": "auto",
            "tolerance": 0.001,
            "cache_dir": "x",
            "workers": 0,
            "precision": "bf16",
            "out": "y",
        }
        written = RunConfig.told(epochs=2, views={"count": 2, "bits": 4}, ladder=[8, 4], freeze={1: "layer1"})
        written.write(self.folder / "written.yaml")
        return [
            json.dumps(told).encode(),
            yaml.safe_dump(told).encode(),
            (self.folder / "written.yaml").read_bytes(),
            json.dumps(yaml.safe_load((self.folder / "written.yaml").read_text())).encode(),
        ]

    def read(self, content: bytes) -> None:
        file = self.folder / "config.yaml"
        file.write_bytes(content)
        config = RunConfig.told(file)
        config.write(self.folder / "again.yaml")
        assert RunConfig.told(self.folder / "again.yaml") == config


class RecordsReader(Reader):
    """metrics.jsonl, and the report that is drawn of it."""

    @property
    def seeds(self) -> list[bytes]:
        rung = {"codec": {"name": "linear", "bits": 4}, "kl": 0.001, "bytes_per_sample": 30.0, "chosen": True}
        at = {"epoch": 1, "step": 3, "cut": "layer1", "policy": "schedule"}
        records: list[dict[str, Any]] = [
            {
                "event": "start",
                "model": "m",
                "data": "d",
                "samples": 9,
                "epochs": 2,
                "seed": 0,
                "cuts": ["a", "b"],
                "versions": {"torch": "2"},
                "transform": ["x"],
            },
            {"event": "epoch", "epoch": 0, "depth": 0, "source": "images", "seconds": 1.5, "test_accuracy": 0.4},
            {
                "event": "freeze",
                "epoch": 1,
                "depth": 1,
                "cut": "layer1",
                "choice": "cache",
                "rungs": [rung, rung],
                "sensitivity": [0.1, 0.2, 0.0],
                "stored_channels": [[0, 1]],
                "views": 2,
                "cache_bytes": 10,
                "dense_bytes": 90,
                "build_seconds": 0.5,
                "read_seconds": 0.1,
                "prefix_seconds": 2,
                "decision": "so",
            },
            {
                "event": "epoch",
                "epoch": 1,
                "depth": 1,
                "cut": "layer1",
                "source": "cache",
                "seconds": 1,
                "saved_seconds": 3,
                "test_accuracy": 0.5,
                "train_flops": 1000,
                "cache_bytes": 10,
            },
            {"event": "decision", **at, "depth": 1, "why": "so"},
            {"event": "midway", **at, "depth": 1},
            {"event": "thaw", **at, "before": 1, "depth": 0},
            {"event": "changed", **at, "names": ["w"]},
            {"event": "heal", "chunk": 1, "view": 0, "reason": "checksum"},
            {"event": "end", "seconds": 3, "test_accuracy": 0.5, "augmented_accuracy": 0.4},
        ]
        return [b"\n".join(json.dumps(record).encode() for record in records)]

    def read(self, content: bytes) -> None:
        (self.folder / "metrics.jsonl").write_bytes(content)
        report_on([self.folder])


READERS: dict[str, Callable[[], Reader]] = {
    "manifest": ManifestReader,
    "manifest of lengths": lambda: ManifestReader(FirstTokens(1, Shared(9, (0, 1, 2))), ragged=True),
    "manifest, shared": lambda: ManifestReader(Shared(9, (0, 1, 2))),
    "journal": JournalReader,
    "journal of lengths": lambda: JournalReader(ragged=True),
    "record, exact": lambda: RecordReader(Exact()),
    "record, half": lambda: RecordReader(Half()),
    "record, bfloat16": lambda: RecordReader(BFloat16()),
    "record, linear": lambda: RecordReader(Linear(4)),
    "record, shared": lambda: RecordReader(Shared(9)),
    "record of lengths": lambda: RecordReader(Shared(40, (0, 3, 5)), ragged=True),
    "record, first tokens": lambda: RecordReader(FirstTokens(2, Linear(4)), ragged=True),
    "checkpoint": CheckpointReader,
    "state": StateReader,
    "state, frozen": lambda: StateReader({1: 0}),
    "configuration": ConfigReader,
    "records": RecordsReader,
}
