"""Time of one epoch on digits for each kind with its defaults: the columns "epoch" and "fit" of docs/which-kind.md.

- `python -m benchmarks.kinds` measures one epoch on 3,000 digits.
- `python -m benchmarks.kinds --fits` measures whole fits on the 5,000 digits of mnist-sample.

Names of kinds measure these alone, such as `python -m benchmarks.kinds deep psd`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator

import numpy as np
import torch

import isthmus.data
from isthmus.estimators.registry import KINDS, kind_named

N_ROWS = 3000

EPOCHS = (1, 3)
"""Epochs of the two fits. Their difference excludes one-time work: imports, principal components, the findings."""


def run(x: np.ndarray, repeats: int, kinds: Iterable[str] = KINDS) -> list[str]:
    """Return the lines of the table: CPU seconds of one epoch in every phase of a kind, and its layer sizes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _fit("deep", x[:100], 1)  # warm-up: imports and one-time set-up
        lines = [_line(name, x[:N_ROWS], repeats) for name in kinds]
    finally:
        torch.set_num_threads(threads)
    return [f"one epoch on {N_ROWS} digits, fp32, seconds on one core", "kind            seconds  units", *lines]


def run_fits(x: np.ndarray, kinds: Iterable[str] = KINDS) -> Iterator[str]:
    """Yield the lines of the table of whole fits: CPU seconds of each kind, and its layer sizes."""
    torch.set_num_threads(1)
    yield f"one fit on {len(x)} digits, fp32, seconds on one core"
    yield "kind            seconds  units"
    for name in kinds:
        seconds, units = _fit(name, x, None)
        yield f"{name:14s} {seconds:8.0f}  {units}"


def _line(name: str, x: np.ndarray, repeats: int) -> str:
    few, many = EPOCHS
    costs = []
    for _ in range(repeats):
        (before, _), (after, units) = (_fit(name, x, n) for n in EPOCHS)
        costs.append((after - before) / (many - few))
    return f"{name:14s} {float(np.median(costs)):8.2f}  {units}"


def _fit(name: str, x: np.ndarray, n_epochs: int | None) -> tuple[float, str]:
    """Return the CPU seconds of a fit, and the layer sizes."""
    model = KINDS[name](max_epochs=n_epochs, precision="fp32", random_state=0)
    start = time.process_time()
    model.fit(x)
    seconds = time.process_time() - start
    return seconds, "-".join(map(str, (*(getattr(model, "hidden_sizes_", None) or ()), model.code_size_)))


def main() -> None:
    """Read the arguments and print a table for the digits of mnist-sample."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kinds", description=description)
    parser.add_argument("--fits", action="store_true", help="measure whole fits; takes about a quarter of an hour")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="a kind to measure; all by default")
    arguments = parser.parse_args()
    kinds = [kind_named(name).kind for name in arguments.kinds] or list(KINDS)
    x = isthmus.data.open("mnist-sample").X
    for line in run_fits(x, kinds) if arguments.fits else run(x, 1, kinds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
