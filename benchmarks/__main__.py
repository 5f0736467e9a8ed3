"""python -m benchmarks [ROWS] [REPEATS]: everything, as ratios; on MNIST where it is at hand, else on the sample."""

from __future__ import annotations

import os
import platform
import sys

import numpy as np
import torch

import isthmus.data
from benchmarks import contraction, kinds, rbm, reading, sparse, stacking, training
from isthmus import InputError


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Training and test images."""
    name = "mnist" if os.environ.get("ISTHMUS_DATA_HOME") else "mnist-sample"
    try:
        return isthmus.data.open(f"{name}:train").X, isthmus.data.open(f"{name}:test").X
    except InputError:
        return isthmus.data.open("mnist-sample:train").X, isthmus.data.open("mnist-sample:test").X


def main() -> None:
    """Print every table."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    x, test = digits()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}, "
          f"{torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    for table in (
        lambda: training.run(x[:n_rows], test, repeats),
        lambda: reading.encoding(x, repeats),
        reading.memory,
        lambda: contraction.run(x, repeats),
        lambda: sparse.run(repeats),
        lambda: stacking.run(x, repeats),
        lambda: rbm.run(x[:n_rows], test, repeats),
        lambda: kinds.run(x, repeats),
    ):
        print(*table(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
