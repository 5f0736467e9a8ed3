"""Time and memory of `AnomalyDetector` beside detectors of scikit-learn: python -m benchmarks.anomalies.

Every detector is fitted to 20,000 x 30 rows and scores 100,000 x 30, in one process on one thread. The rows are linear
mixtures of normal variables; one column has a long tail. The seconds are those of the processor.
"""

from __future__ import annotations

import argparse
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from benchmarks.quality import positive
from isthmus import AnomalyDetector

N_COLUMNS = 30
OURS = "AnomalyDetector"


def rows(n: int, seed: int) -> np.ndarray:
    """Return random rows (n, 30)."""
    mixing = np.random.default_rng(0).normal(size=(N_COLUMNS, N_COLUMNS))
    x = np.random.default_rng(seed).normal(size=(n, N_COLUMNS)) @ mixing
    x[:, 3] = np.exp(x[:, 3] / 5)
    return x


def run(n_fit: int, n_score: int) -> list[str]:
    """Return the lines of a table: seconds of each detector, their ratios, and the memory that ours adds."""
    train, test = rows(n_fit, 1), rows(n_score, 2)
    AnomalyDetector(n_folds=2, random_state=0).fit(train[:900]).explain(train[:10])  # warm-up: imports
    before = _peak()
    ours = AnomalyDetector(random_state=0)
    seconds = {OURS: (_seconds(lambda: ours.fit(train)), _seconds(lambda: ours.score_samples(test)))}
    explaining = _seconds(lambda: ours.explain(test))
    added = _peak() - before
    for detector in (IsolationForest(random_state=0), LocalOutlierFactor(novelty=True)):
        times = _seconds(lambda of=detector: of.fit(train)), _seconds(lambda of=detector: of.score_samples(test))
        seconds[type(detector).__name__] = times
    lines = [
        f"odd rows: fit to {n_fit} x {N_COLUMNS}, scores and cells of {n_score} x {N_COLUMNS}, seconds on one core",
        "detector               fit  / ours    score  / ours  explain",
    ]
    for name, times in seconds.items():
        ratios = [one / own for one, own in zip(times, seconds[OURS], strict=True)]
        cells = f"{explaining:7.1f}" if name == OURS else "      -"
        lines.append(f"{name:18s} {times[0]:7.1f}  {ratios[0]:6.2f}  {times[1]:7.1f}  {ratios[1]:6.2f}  {cells}")
    memory = f"peak memory: imports and rows {before:.0f} MiB, added by {OURS} {added:.0f} MiB"
    return [*lines, memory]


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def _peak() -> float:
    """Return the peak resident memory of the process in MiB, on Linux; elsewhere NaN."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+)", status.read_text()) if status.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")


def main() -> None:
    """Read the arguments and print the table."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anomalies", description=description)
    parser.add_argument("rows", type=positive, nargs="?", default=20_000, help="rows of the fit, default 20000")
    parser.add_argument("scored", type=positive, nargs="?", default=100_000, help="scored rows, default 100000")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, 1 thread, {platform.machine()}, "
          f"{torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    print(*run(arguments.rows, arguments.scored), sep="\n")


if __name__ == "__main__":
    main()
