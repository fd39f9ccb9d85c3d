"""Make the subset of Fashion-MNIST that ships with the package.

Reads the Debian package dataset-fashion-mnist (or another folder of the four files), takes 1,000 training and
200 test images of each class, and writes gzipped IDX files to src/hoarfrost/data/embedded. Every ten samples
in a row hold each class once, so that a shorter subset is balanced too. The same seed gives the same bytes.

    python scripts/make_embedded_data.py [--source FOLDER] [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hoarfrost.data.fashion import DEBIAN_FOLDER, EMBEDDED_FOLDER
from hoarfrost.data.idx import read_idx, write_idx

SAMPLES = {"train": 10_000, "t10k": 2_000}


def choose(targets: npt.NDArray[np.uint8], samples: int, seed: int) -> npt.NDArray[np.intp]:
    """Indices of a balanced subset: each run of ten (as many as there are classes) has every class once."""
    # PCG64 through Generator.random: its stream is part of numpy's compatibility promise for bit generators.
    keys = np.random.Generator(np.random.PCG64(seed))
    order = np.argsort(keys.random(len(targets)), kind="stable")
    classes = np.unique(targets)
    columns = [order[targets[order] == number][: samples // len(classes)] for number in classes]
    rows = np.stack(columns, axis=1)
    shuffled = np.argsort(keys.random(rows.shape), axis=1, kind="stable")
    return np.take_along_axis(rows, shuffled, axis=1).reshape(-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=DEBIAN_FOLDER, help="folder of the four gzipped IDX files")
    parser.add_argument("--target", type=Path, default=EMBEDDED_FOLDER, help="folder to write to")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    for part, samples in SAMPLES.items():
        images_name, labels_name = f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"
        targets = read_idx(options.source / labels_name)
        chosen = choose(targets, samples, options.seed)
        write_idx(options.target / images_name, read_idx(options.source / images_name)[chosen])
        write_idx(options.target / labels_name, targets[chosen])
        print(f"{part}: {samples} images, {(options.target / images_name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
