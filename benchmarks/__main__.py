"""Print all benchmark tables except one: python -m benchmarks [ROWS] [REPEATS].

The rows are those of MNIST if available, else of mnist-sample. `python -m benchmarks.quality` prints the remaining
table, the time to equal test error. It takes about 15 minutes.
"""

from __future__ import annotations

import platform
import sys

import torch

from benchmarks import contraction, kinds, rbm, reading, sparse, stacking, training


def main() -> None:
    """Print every table."""
    n_rows = int(sys.argv[1]) if len(sys.argv) > 1 else 16384
    repeats = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    x, test = (part.X for part in training.digits())
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
