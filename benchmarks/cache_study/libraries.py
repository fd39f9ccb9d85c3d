"""Reading a whole store and making floats of it: the cache beside other libraries."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codec_study.subjects import resnet
from hoarfrost.cache import Cache, CacheSpec, Fingerprint
from hoarfrost.codecs import Packed, Shared
from measuring.timing import Seconds, summary, timed, told

__all__ = ["LIBRARIES", "libraries", "serve"]

CHUNK = 64
CODEC = Shared(16)
TRAINING = 4_000
"""Images that the ResNet is trained on."""
LIBRARIES = ("hoarfrost", "tensorstore", "zarr", "blosc2", "memmap", "files")
CHECKED = {"hoarfrost": "crc32, xxh64", "tensorstore": "crc32c", "zarr": "crc32c"}


def ours(folder: Path) -> Cache:
    return Cache.open(folder / "hoarfrost")


def tensorstore_of(folder: Path, shape: tuple[int, ...] | None = None) -> Any:
    import tensorstore

    spec: dict[str, Any] = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(folder / "tensorstore")},
        "context": {"data_copy_concurrency": {"limit": 1}, "file_io_concurrency": {"limit": 1}},
    }
    if shape is None:
        return tensorstore.open(spec).result()
    spec["metadata"] = {
        "shape": list(shape),
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [CHUNK, *shape[1:]]}},
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}],
    }
    return tensorstore.open(spec, create=True).result()


def store(folder: Path, features: Tensor) -> None:
    """The features [N, C, H, W] in each library's form; the cache's own levels where a library stores bytes."""
    spec = CacheSpec(len(features), CHUNK, tuple(features.shape[1:]), torch.float32, 1, False, CODEC)
    writer = Cache.create(folder / "building", Fingerprint({"benchmark": "libraries"}), spec)
    levels = np.empty(features.shape, np.uint8)
    for chunk, block in enumerate(features.split(CHUNK)):
        ids = torch.arange(chunk * CHUNK, chunk * CHUNK + len(block))
        writer.append(chunk, 0, ids, ids, block)
        packed = writer.packed(chunk, 0)
        levels[ids[0] : ids[-1] + 1] = packed.values.numpy()
        np.save(folder / f"scale{chunk}.npy", torch.stack([packed.scale, packed.low]).numpy())  # type: ignore[list-item]
    writer.commit().path.rename(folder / "hoarfrost")
    np.save(folder / "levels.npy", levels)
    np.save(folder / "memmap.npy", features.numpy())
    (folder / "files").mkdir()
    for number, sample in enumerate(features):
        torch.save(sample.clone(), folder / "files" / str(number))


def prepare(library: str, folder: Path) -> None:
    """The library's own store of the levels, if it has one."""
    if library not in ("tensorstore", "zarr", "blosc2"):
        return
    levels = np.load(folder / "levels.npy")
    if library == "tensorstore":
        tensorstore_of(folder, levels.shape)[...].write(levels).result()
    elif library == "zarr":
        import zarr
        from zarr.codecs import Crc32cCodec, ZstdCodec

        chunks = (CHUNK, *levels.shape[1:])
        compressors = [ZstdCodec(level=1), Crc32cCodec()]
        made = zarr.create_array(
            folder / "zarr", shape=levels.shape, chunks=chunks, dtype="uint8", compressors=compressors
        )
        made[...] = levels
    else:
        import blosc2

        parameters = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1}
        chunks = (CHUNK, *levels.shape[1:])
        blosc2.asarray(levels, chunks=chunks, urlpath=str(folder / "blosc2.b2nd"), mode="w", cparams=parameters)


def reader(library: str, folder: Path, samples: int) -> Callable[[int], Tensor]:
    """Chunk number -> its features in float32 [n, C, H, W]."""
    if library == "hoarfrost":
        cache = ours(folder)
        return lambda chunk: cache.read(chunk, 0).features()
    if library == "memmap":
        held = np.load(folder / "memmap.npy", mmap_mode="r")
        return lambda chunk: torch.from_numpy(np.array(held[chunk * CHUNK : (chunk + 1) * CHUNK]))
    if library == "files":
        names = [folder / "files" / str(number) for number in range(samples)]
        return lambda chunk: torch.stack([torch.load(name) for name in names[chunk * CHUNK : (chunk + 1) * CHUNK]])
    get: Callable[[slice], Any]
    if library == "tensorstore":
        opened = tensorstore_of(folder)
        get = lambda rows: opened[rows].read().result()  # noqa: E731
    elif library == "zarr":
        import zarr

        array = zarr.open_array(folder / "zarr", mode="r")
        get = lambda rows: array[rows]  # noqa: E731
    else:
        import blosc2

        blosc2.set_nthreads(1)
        get = blosc2.open(str(folder / "blosc2.b2nd"), mode="r").__getitem__
    tables = [torch.from_numpy(np.load(folder / f"scale{chunk}.npy")) for chunk in range(-(-samples // CHUNK))]

    def read(chunk: int) -> Tensor:
        levels = torch.from_numpy(np.ascontiguousarray(get(slice(chunk * CHUNK, min((chunk + 1) * CHUNK, samples)))))
        return Packed(levels, tables[chunk][0], tables[chunk][1], torch.float32, 1).dense()

    return read


def serve(library: str, folder: Path, samples: int) -> None:
    """A process of its own: prepares and checks, then reads the whole store once for each line that it is sent."""
    torch.set_num_threads(1)
    prepare(library, folder)
    read = reader(library, folder, samples)
    chunks = -(-samples // CHUNK)
    exact = library in ("memmap", "files")
    wanted = torch.from_numpy(np.load(folder / "memmap.npy")) if exact else ours_dense(folder, chunks)
    assert torch.equal(torch.cat([read(chunk) for chunk in range(chunks)]), wanted)
    del wanted

    def everything() -> None:
        for chunk in range(chunks):
            read(chunk)

    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(everything)), flush=True)


def ours_dense(folder: Path, chunks: int) -> Tensor:
    cache = ours(folder)
    return torch.cat([cache.read(chunk, 0).features() for chunk in range(chunks)])


def libraries(options: argparse.Namespace) -> list[dict[str, Any]]:
    model, images = resnet(options.samples, min(TRAINING, 2 * options.samples))
    found = []
    print("| features | store | GB/s of fp32 (processor) | ours is faster by | below fp32 | checks |")
    print("|---|---|---|---|---|---|")
    with torch.no_grad():
        first = model.layer1(model.stem(images))
        boundaries = {"layer1": first.contiguous(), "layer2": model.layer2(first).contiguous()}
    for name, features in boundaries.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            store(folder, features)
            command = [
                sys.executable,
                sys.argv[0],
                "--serve-from",
                temporary,
                "--samples",
                str(len(features)),
                "--library",
            ]
            workers = {
                library: subprocess.Popen([*command, library], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for library in LIBRARIES
            }
            turns: list[dict[str, Seconds]] = []
            try:
                for library, worker in workers.items():
                    if answer(worker) != "ready":
                        raise SystemExit(f"{library} could not be measured: its process ended")
                for _ in range(options.repeats + 1):
                    turns.append({})
                    for library, worker in workers.items():
                        worker.stdin.write("\n")  # type: ignore[union-attr]
                        worker.stdin.flush()  # type: ignore[union-attr]
                        turns[-1][library] = json.loads(answer(worker))
            finally:
                for worker in workers.values():
                    worker.stdin.close()  # type: ignore[union-attr]
                    worker.wait()
            sizes = {library: size_of(next(folder.glob(f"{library}*"))) for library in LIBRARIES}
        for library in LIBRARIES:
            speed = summary([features.nbytes / turn[library][0] / 1e9 for turn in turns[1:]])
            gain = summary([turn[library][0] / turn["hoarfrost"][0] for turn in turns[1:]])
            clock = summary([turn[library][1] / turn["hoarfrost"][1] for turn in turns[1:]])
            below = features.nbytes / sizes[library]
            found.append(
                {
                    "features": name,
                    "store": library,
                    "gb_per_second": speed,
                    "gain": gain,
                    "gain_clock": clock,
                    "below_fp32": below,
                    "checks": CHECKED.get(library, "none"),
                }
            )
            cells = f"{told(speed)} | {told(gain)} | {below:.1f}x | {found[-1]['checks']}"
            print(f"| {name} | {library} | {cells} |", flush=True)
    return found


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in [path, *path.rglob("*")] if file.is_file())


def answer(worker: subprocess.Popen[str]) -> str:
    return worker.stdout.readline().strip()  # type: ignore[union-attr]
