"""Check every kind on a device against the CPU, and measure the speed of training there.

    python -m benchmarks.device [--device cpu|cuda] [--rows ROWS]

Each model of the first table is fitted on the device to the 1,797 digits of scikit-learn, reads them there, is saved,
and is loaded on the CPU, where it reads them again. The columns are:

- codes, score, score_samples: the largest difference between the device and the CPU, absolute for codes, relative for
  scores. The bound is 1e-4.
- rows: the number of rows beyond the bound. It must be 0. Models whose codes are discontinuous functions of the row,
  such as those of TopK, may have .1% of the rows there, because of ties.
- waits: "yes" if a training step waits for the GPU, which `torch.cuda.set_sync_debug_mode` finds; standard error has
  the traceback. The first step of each phase is not checked. On the CPU it is "n/a".
- seconds: the time of all this.

`benchmarks.device_training` describes the second table. The exit status is 1 if a check of the first table fails. The
command takes less than 5 minutes on a GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits

import isthmus
from benchmarks import device_training
from benchmarks.quality import positive
from benchmarks.training import digits
from isthmus import (
    MLP,
    MMD,
    PCD,
    AdamW,
    BatchTopK,
    CategoricalPosterior,
    Contraction,
    Convolutional,
    FeatureMaps,
    FineTuning,
    Gated,
    GroupL2,
    JumpReLU,
    MatchingPursuit,
    MissingMask,
    TopK,
    Topographic,
    TotalCorrelation,
    VampPrior,
)
from isthmus.data import Conditioned, Paired
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.registry import KINDS
from isthmus.learning.precision import resolve_device
from isthmus.learning.trainer import Trainer
from isthmus.parts.forward import Batch

TOLERANCE = 1e-4
ROWS_WITH_TIES = 1e-3
"""Largest fraction of the rows beyond the tolerance, for models with discontinuous codes."""

DISCONTINUOUS = (TopK, BatchTopK, JumpReLU, Gated)


def small(kind: str, **arguments: Any) -> BaseAutoencoder:
    """Return an unfitted model of a kind with a small code and few epochs."""
    return KINDS[kind](**{"code_size": 5, "max_epochs": 2, "random_state": 0, **arguments})


CONVOLUTIONS = Convolutional((4,), dense_sizes=(8,), activation="silu")
IN_UNIT_INTERVAL = ("bernoulli", "continuous-bernoulli", "gaussian-unit")
UNBOUNDED = ("multinomial", "poisson", "gaussian-learned", "gaussian-predicted", "mixture-density")
TABLE, CONDITION, TARGET = "denoising, groups of a table", "vae, condition", "deep, target"
CASES = {
    "linear": small("linear"),
    "deep": small("deep", hidden_sizes=(16, 8)),
    "deep, tied, dropout, averaged": small(
        "deep",
        network=MLP((16,), tied=True, normalization="batch", dropout=0.2),
        optimizer=AdamW(averaging=0.9, clip_norm=1.0),
    ),
    **{
        f"deep, {likelihood}": small("deep", likelihood=likelihood, scaling="minmax") for likelihood in IN_UNIT_INTERVAL
    },
    **{f"deep, {likelihood}": small("deep", likelihood=likelihood, scaling="none") for likelihood in UNBOUNDED},
    "deep, discrepancy": small("deep", penalties=[MMD()]),
    "conv": small("conv", network=Convolutional((4, 6), dense_sizes=(8,))),
    "denoising": small("denoising", code_size=80),
    TABLE: small("denoising", corruption="groups"),
    "denoising, missing entries": small("denoising", corruption=MissingMask(clean_weight=0.5)),
    "denoising, noise, convolutions": small("denoising", corruption="gaussian", network=CONVOLUTIONS),
    "sparse": small("sparse", code_size=80),
    "sparse, kl, salt and pepper": small("sparse", sparsity="kl", network=MLP(tied=True), corruption="salt-and-pepper"),
    "sparse, student-t, contraction": small("sparse", sparsity="student-t", contraction="encoder"),
    "sparse, topk": small("sparse", code_size=96, sparsity=TopK(k=3)),
    "sparse, batch-topk": small("sparse", code_size=80, sparsity="batch-topk"),
    "sparse, jumprelu": small("sparse", code_size=80, sparsity="jumprelu"),
    "sparse, gated": small("sparse", code_size=80, sparsity="gated"),
    "sparse coding": small("sparse-coding", code_size=20),
    "sparse coding, groups": small("sparse-coding", code_size=20, sparsity=GroupL2(0.5)),
    "sparse coding, matching pursuit": small("sparse-coding", code_size=20, inference=MatchingPursuit(k=3)),
    "psd": small("psd", code_size=20),
    "psd, filters": small("psd", network=FeatureMaps(4, kernel_size=5)),
    "psd, gradient, map": small("psd", code_size=16, sparsity=Topographic(shape=(4, 4)), update="gradient"),
    "vae": small("vae"),
    "vae, importance weighted, mixture prior": small("vae", importance_samples=5, prior="mixture"),
    "vae, full covariance": small("vae", inference="full"),
    "vae, binary": small("vae", inference="bernoulli"),
    "vae, categorical, straight-through": small(
        "vae", code_size=8, inference=CategoricalPosterior(n_levels=4, straight_through=True)
    ),
    CONDITION: small("vae", condition="row"),
    TARGET: small("deep", hidden_sizes=(16,)),
    "vae, pseudo-inputs": small("vae", prior=VampPrior(k=20)),
    "vae, total correlation": small("vae", penalties=[TotalCorrelation()]),
    "vae, discrepancy, mixture prior": small("vae", prior="mixture", penalties=[MMD(kernel="gaussian")]),
    "contractive": small("contractive", code_size=80),
    "contractive, second order": small(
        "contractive", network=MLP((16,), normalization="layer"), contraction=Contraction(order=2)
    ),
    "contractive, probes, convolutions": small(
        "contractive", network=CONVOLUTIONS, contraction=Contraction(of="reconstruction", method="hutchinson")
    ),
    "stacked, denoising": small("stacked", hidden_sizes=(16,), layers="denoising"),
    "stacked, rbm": small(
        "stacked", hidden_sizes=(12,), layers="rbm", pretraining="together", code_activation="linear"
    ),
    "recurrent": small("recurrent", hidden_sizes=(12, 8), n_sweeps=2),
    "hash": small("hash", code_size=16),
    "hash, straight-through": small("hash", code_size=16, binarisation="straight-through"),
    "hash, relaxed": small("hash", code_size=16, binarisation="bernoulli"),
    "recirculation": small("recirculation"),
    "rbm": small("rbm", scaling="minmax"),
    "rbm, rectified": small("rbm", hidden_units="rectified", optimizer="adamw"),
    "rbm, cd, variances": small("rbm", likelihood="gaussian-per-column", method="cd", sparsity="kl"),
    "rbm, lateral": small("rbm", lateral=True, scaling="minmax"),
    "rbm, denoising score matching": small("rbm", method="denoising-score", likelihood="gaussian"),
    "dbn": small("dbn", hidden_sizes=(12, 8), fine_tuning=FineTuning(epochs=2), scaling="minmax"),
    "dbm": small("dbm", hidden_sizes=(12, 8), method=PCD(n_chains=20), scaling="minmax"),
    "dbm, together": small("dbm", hidden_sizes=(12,), pretraining=None, likelihood="gaussian"),
}


def rows_for(name: str, x: np.ndarray) -> Any:
    """Return the digits as the rows of a case: a table of numbers, counts and categories, or the array.

    The array has a condition or a target in the cases of these names.
    """
    if name == CONDITION:
        return Conditioned(x, {"row": np.arange(len(x)) % 3})
    if name == TARGET:
        return Paired(x, x[:, :32])
    if name != TABLE:
        return x
    return pd.DataFrame(
        {"real": x[:, 20] + x[:, 21] / 17, "count": x[:, 28].astype(int), "category": x[:, 36].astype(int).astype(str)}
    )


@dataclass(frozen=True)
class Reading:
    """Codes, score and, for a kind with a density, log-probabilities of the rows."""

    codes: np.ndarray
    score: float
    log_p: np.ndarray | None

    @staticmethod
    def of(model: BaseAutoencoder, X: Any) -> Reading:
        """Read the rows with a fitted model."""
        log_p = model.score_samples(X) if hasattr(model, "score_samples") else None
        return Reading(model.transform(X), model.score(X), log_p)


def relative(found: Any, expected: Any) -> Any:
    """Return |found - expected| / max(1, |expected|)."""
    return np.abs(found - expected) / np.maximum(1.0, np.abs(expected))


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Context manager in which a training step that waits for the GPU raises an error, except the first of a phase."""
    descend = Trainer._descend

    def watched(trainer: Trainer, batch: Batch) -> None:
        torch.cuda.set_sync_debug_mode("error" if trainer.state.step else "default")
        try:
            descend(trainer, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    with patch.object(Trainer, "_descend", watched):
        yield


def fit(model: BaseAutoencoder, X: Any, device: torch.device) -> tuple[BaseAutoencoder, str]:
    """Return the fitted model, and whether a step waits for the device: "yes", "no" or "n/a"."""
    model = clone(model).set_params(device=str(device))
    if device.type != "cuda":
        return model.fit(X), "n/a"
    try:
        with waiting_refused():
            return model.fit(X), "no"
    except RuntimeError as error:
        if "synchronizing" not in str(error):
            raise
        traceback.print_exc()
        return clone(model).fit(X), "yes"


def read_on_cpu(model: BaseAutoencoder, X: Any) -> Reading:
    """Save the model, load it and read the rows on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.isthmus")
        return Reading.of(isthmus.load(Path(folder) / "model.isthmus").set_params(device="cpu"), X)


def check(model: BaseAutoencoder, X: Any, device: torch.device) -> tuple[bool, str]:
    """Return whether a model passes, and the numbers of its line."""
    start = time.perf_counter()
    model, waits = fit(model, X, device)
    here, cpu = Reading.of(model, X), read_on_cpu(model, X)
    codes, score = np.abs(here.codes - cpu.codes).max(1), float(relative(here.score, cpu.score))
    log_p = np.zeros(len(codes)) if cpu.log_p is None else relative(here.log_p, cpu.log_p)
    n_beyond = int((~((codes <= TOLERANCE) & (log_p <= TOLERANCE))).sum())  # NaN is beyond, too
    has_ties = hasattr(model, "sparsity") and isinstance(model.value_of("sparsity"), DISCONTINUOUS)
    n_allowed = ROWS_WITH_TIES * len(codes) if has_ties else 0
    passed = n_beyond <= n_allowed and score <= TOLERANCE and waits != "yes"
    shown = f"{'-':>13s}" if cpu.log_p is None else f"{log_p.max():13.1e}"
    seconds = time.perf_counter() - start
    return passed, f"{codes.max():8.1e}  {score:8.1e}  {shown}  {n_beyond:5d}  {waits:>5s}  {seconds:7.1f}"


def checks(cases: Mapping[str, BaseAutoencoder], device: torch.device) -> Iterator[tuple[bool, str]]:
    """Yield for each case whether it passes, and its line of the table; an error is a failed check."""
    x = load_digits().data
    for name, model in cases.items():
        try:
            passed, numbers = check(model, rows_for(name, x), device)
        except Exception as error:  # the other cases are still checked
            traceback.print_exc()
            passed, numbers = False, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        yield passed, f"{name:33s}  {'ok    ' if passed else 'FAILED'}  {numbers}"


def main() -> None:
    """Read the arguments, print both tables and exit with status 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.device", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="auto", help="cpu or cuda; default: cuda if available, else cpu")
    parser.add_argument(
        "--rows", type=positive, help="training rows of the second table; default 65,536 on a GPU, 8,192 on a CPU"
    )
    arguments = parser.parse_args()
    try:
        device = resolve_device(arguments.device)
    except InputError as error:
        parser.error(str(error))
    began, is_cuda = time.perf_counter(), device.type == "cuda"
    name = torch.cuda.get_device_name(device) if is_cuda else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {device}: {name}")
    print(f"{'case':33s}  result     codes     score  score_samples   rows  waits  seconds", flush=True)
    n_failed = 0
    for passed, line in checks(CASES, device):
        n_failed += not passed
        print(line, flush=True)
    shape = (arguments.rows or (65536 if is_cuda else 8192), 28, 28)
    for line in device_training.run(np.resize(digits()[0].X, shape), device):
        print(line, flush=True)
    print(f"{n_failed} of {len(CASES)} cases failed; {time.perf_counter() - began:.0f} s")
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
