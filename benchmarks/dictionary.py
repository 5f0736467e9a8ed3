"""Compare dictionary learning and sparse codes with scikit-learn: python -m benchmarks.dictionary [REPEATS].

Dictionaries of 256 atoms are learned on 10,000 digits with alpha = 1. The criterion on other digits is that of codes
within a duality gap of 1e-4, for each dictionary. All times are of one thread; the alternatives are interleaved.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.exceptions import ConvergenceWarning

from benchmarks import training
from benchmarks.quality import positive
from isthmus import FISTA, L1, SparseCoding
from isthmus.parts.sparse_inference import SparseProblem, fista

N_ATOMS, ALPHA = 256, 1.0
N_TRAIN, N_TEST, N_CODES = 10_000, 2_000, 2_000

Matrix = Float[np.ndarray, "rows columns"]


def objective(rows: Matrix, atoms: Float[np.ndarray, "atoms columns"]) -> float:
    """Return the mean criterion of centred rows, each with its best code."""
    problem = SparseProblem.of(torch.from_numpy(rows), torch.from_numpy(np.ascontiguousarray(atoms)), ALPHA)
    return float(problem.objective(fista(problem, gap=1e-4).code).mean())


def learned(x: Matrix, epochs: int) -> tuple[float, Matrix]:
    """Return the seconds of a whole fit of `SparseCoding`, and its atoms."""
    model = SparseCoding(
        code_size=N_ATOMS, sparsity=L1(ALPHA), scaling="none", max_epochs=epochs, random_state=0,
        validation_fraction=0.0,
    )  # fmt: skip
    began = time.perf_counter()
    model.fit(x)
    return time.perf_counter() - began, model.components_


def learned_by_scikit_learn(x: Matrix, algorithm: str, batch_size: int) -> tuple[float, Matrix]:
    """Return the seconds of one pass of scikit-learn, and its atoms."""
    model = MiniBatchDictionaryLearning(
        N_ATOMS, alpha=ALPHA, batch_size=batch_size, fit_algorithm=algorithm, max_iter=1, tol=0.0,
        max_no_improvement=None, random_state=0,
    )  # fmt: skip
    began = time.perf_counter()
    model.fit(x)
    return time.perf_counter() - began, model.components_


def learning(x: Matrix, test: Matrix, repeats: int) -> list[str]:
    """Return the lines of the table of dictionary learning."""
    lines = [f"dictionary of {N_ATOMS} atoms, {len(x)} x {x.shape[1]}, alpha {ALPHA:g}",
             "learner                          seconds  criterion  ratio"]  # fmt: skip
    arms: dict[str, Callable[[], tuple[float, Matrix]]] = {
        "isthmus, 1 pass": lambda: learned(x, 1),
        "isthmus, 3 passes": lambda: learned(x, 3),
        "scikit-learn, cd, batches 256": lambda: learned_by_scikit_learn(x, "cd", 256),
        "scikit-learn, cd, batches 64": lambda: learned_by_scikit_learn(x, "cd", 64),
        "scikit-learn, lars, batches 256": lambda: learned_by_scikit_learn(x, "lars", 256),
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    found: dict[str, float] = {}
    for _ in range(repeats):
        for name, arm in arms.items():
            seconds, atoms = arm()
            times[name].append(seconds)
            found.setdefault(name, objective(test, atoms))
    first = float(np.median(times["isthmus, 1 pass"]))
    return lines + [
        f"{name:32s} {np.median(taken):8.2f}  {found[name]:9.3f}  {np.median(taken) / first:5.1f}"
        for name, taken in times.items()
    ]


def coding(x: Matrix, rows: Matrix, repeats: int) -> list[str]:
    """Return the lines of the table of codes over one dictionary."""
    _, atoms = learned(x, 1)
    lines = [f"codes of {len(rows)} rows over {N_ATOMS} atoms, alpha {ALPHA:g}",
             "gap     isthmus, s  lasso_lars / isthmus  lasso_cd / isthmus"]  # fmt: skip
    for gap in (1e-3, 1e-4):
        model = SparseCoding(atoms=atoms, sparsity=L1(ALPHA), inference=FISTA(gap=gap), scaling="none").fit(rows)
        arms: dict[str, Callable[[], object]] = {
            "isthmus": lambda model=model: model.transform(rows),
            "lasso_lars": lambda: sparse_encode(rows, atoms, algorithm="lasso_lars", alpha=ALPHA),
            "lasso_cd": lambda: sparse_encode(rows, atoms, algorithm="lasso_cd", alpha=ALPHA),
        }
        times: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(repeats + 1):
            for name, arm in arms.items():
                began = time.perf_counter()
                arm()
                if turn:  # the first turn is a warm-up
                    times[name].append(time.perf_counter() - began)
        median = {name: float(np.median(taken)) for name, taken in times.items()}
        ratios = [median[name] / median["isthmus"] for name in ("lasso_lars", "lasso_cd")]
        lines.append(f"{gap:g}   {median['isthmus']:10.3f}  {ratios[0]:20.1f}  {ratios[1]:18.1f}")
    return lines


def stream(n_parts: int = 100, n_rows: int = 10_000, n_columns: int = 64) -> list[str]:
    """Return the line on memory and speed of a stream of parts, none of which is kept."""
    rng = np.random.default_rng(0)
    model = SparseCoding(code_size=128, sparsity=L1(ALPHA), random_state=0)
    model.partial_fit(rng.standard_normal((n_rows, n_columns)).astype(np.float32))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for _ in range(n_parts - 1):
        model.partial_fit(rng.standard_normal((n_rows, n_columns)).astype(np.float32))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    speed = (n_parts - 1) * n_rows / (time.perf_counter() - began)
    return [f"stream of {n_parts * n_rows:,} rows x {n_columns}, 128 atoms: {speed:,.0f} rows/s, "
            f"{grown:.0f} MiB more memory after the first part"]  # fmt: skip


def main() -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dictionary", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("repeats", type=positive, nargs="?", default=3, help="runs of each alternative, default 3")
    repeats = parser.parse_args().repeats
    warnings.simplefilter("ignore", ConvergenceWarning)  # of lasso_cd at its default tolerance
    torch.set_num_threads(1)
    rows, test = (np.asarray(part.X, np.float32).reshape(len(part.X), -1) / 255 for part in training.digits())
    mean = rows[:N_TRAIN].mean(0)
    x, held_out = rows[:N_TRAIN] - mean, test[:N_TEST] - mean
    for table in (
        lambda: learning(x, held_out, repeats),
        lambda: coding(x, held_out[:N_CODES], repeats),
        stream,
    ):
        print(*table(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
