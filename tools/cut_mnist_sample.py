"""Create mnist-sample, the data set included in the package: python tools/cut_mnist_sample.py MNIST_FOLDER.

The sample has 500 training and 100 test digits of each class, drawn without replacement by numpy's PCG64
with seed 0 (training first, classes 0 to 9 in order), in their original order.
"""

import sys
from pathlib import Path

import numpy as np

from isthmus.data.array_files import read_idx
from isthmus.data.named import SAMPLE

PER_CLASS = {"train": ("train-images-idx3-ubyte.gz", 500), "test": ("t10k-images-idx3-ubyte.gz", 100)}


def main(folder: Path) -> None:
    """Draw the sample and write it to the package."""
    generator = np.random.default_rng(0)
    arrays = {}
    for split, (file, n) in PER_CLASS.items():
        data = read_idx(folder / file)
        rows = [generator.choice(np.flatnonzero(data.labels == digit), n, replace=False) for digit in range(10)]
        rows = np.sort(np.concatenate(rows))
        arrays |= {f"x_{split}": data.X[rows], f"y_{split}": data.labels[rows].astype(np.uint8)}
    SAMPLE.parent.mkdir(exist_ok=True)
    np.savez_compressed(SAMPLE, **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
