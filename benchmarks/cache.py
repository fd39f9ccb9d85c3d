"""What reading costs, beside what else could read, and how well the shuffle window mixes.

epoch:     one training epoch (a) from the cache in memory, (b) from the cache on disk, nothing kept in memory, (c)
           with a quarter of the decoded bytes kept in memory and the files dropped from the page cache (posix_fadvise
           DONTNEED) before each epoch, against (d) the same suffix, optimizer and batch sizes over random features
           that lie in memory. In turns, a b c d a b c d ...; ratios are taken turn by turn.
libraries: reading a whole store of the same 4 bit levels and making floats of them, each library in a process of its
           own, in turns; fp32 by memmap and by one file for each sample beside them.
shuffle:   how far windows of 1, 4, 16 and all chunks are from a full shuffle, and the accuracy of a small network
           that is trained with each, three seeds; chunks that are random parts of the data, and chunks of data sorted
           by class.

Each is told in seconds of the processor (all threads of the process), which other work on the machine changes little,
and in seconds of the clock. One thread trains, so that reading hides behind nothing: an upper bound.
On: embedded Fashion-MNIST images, fewer for the largest model; a small ResNet and a small ViT as initialised,
EfficientNet-Lite0 with its weights.
Repeats: `--repeats` turns (5 by default) after one uncounted turn; median and range.

    python benchmarks/cache.py --part epoch
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cache_study.epoch import SUBJECTS, epoch
from cache_study.libraries import LIBRARIES, libraries, serve
from cache_study.shuffle import shuffle
from measuring.record import write_record

PARTS = {"epoch": epoch, "libraries": libraries, "shuffle": shuffle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=[*PARTS], default="epoch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2_000, help="images; of EfficientNet-Lite0 256 at most")
    parser.add_argument("--model", choices=[*SUBJECTS, "all"], default="all", help="of the epochs")
    parser.add_argument("--cuts", nargs="+", help="in place of those of each model")
    parser.add_argument("--size", type=int, help="pixels, in place of each model's own")
    parser.add_argument("--seeds", type=int, default=3, help="of the shuffle")
    parser.add_argument("--epochs", type=int, default=6, help="of the shuffle")
    parser.add_argument("--out", type=Path, help="JSON; runs/benchmarks/cache_<part>.json")
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--serve-from", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.library:
        serve(options.library, options.serve_from, options.samples)
        return
    out = options.out or Path(f"runs/benchmarks/cache_{options.part}.json")
    write_record(out, options, rows=PARTS[options.part](options))


if __name__ == "__main__":
    main()
