"""Print the benchmark tables except those of five commands: python -m benchmarks [ROWS] [REPEATS].

The rows are those of MNIST if available, else of mnist-sample. `python -m benchmarks.quality` prints the time to equal
test error and takes about 15 minutes, `python -m benchmarks.variational` that to an equal bound.
`python -m benchmarks.anomalies` compares detectors of odd rows, `python -m benchmarks.retrieval` searches in indexes,
`python -m benchmarks.device` a GPU with the CPU.
"""

from __future__ import annotations

import argparse
import platform

import torch

from benchmarks import contraction, kinds, rbm, reading, sparse, stacking, training, variational
from benchmarks.quality import positive


def main() -> None:
    """Read the arguments and print every table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=positive, nargs="?", default=16384, help="number of training rows, default 16384")
    parser.add_argument("repeats", type=positive, nargs="?", default=3, help="runs of each alternative, default 3")
    arguments = parser.parse_args()
    n_rows, repeats = arguments.rows, arguments.repeats
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
        lambda: variational.run(
            variational.binary(x[:n_rows]), variational.binary(test)[: variational.N_TEST], repeats
        ),
        lambda: kinds.run(x, repeats),
    ):
        print(*table(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
