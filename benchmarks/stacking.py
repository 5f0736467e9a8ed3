"""Compare greedy training of stacked layers, one epoch each, with plain loops of the same computations."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F

from isthmus import StackedAutoencoder
from isthmus.data.streams import Affine, DenseRows
from isthmus.estimators.records import Shape
from isthmus.learning.phases import run_phases
from isthmus.learning.precision import resolve_precision
from isthmus.learning.training_config import TrainingConfig

SIZES = (784, 1000, 1000, 1000)
BATCH = 128
BOUND = 1.3


def plain(x: np.ndarray, bf16: bool) -> tuple[float, float]:
    """Train tied sigmoid layers with cross-entropy, each in a separate loop on the codes of the layer below."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    rows = torch.from_numpy(x.reshape(len(x), -1)).float() / 255
    totals = []
    for n_in, n_out in pairwise(SIZES):
        weight = torch.empty(n_out, n_in)
        torch.nn.init.xavier_normal_(weight, gain=4.0, generator=generator)
        up, down = torch.zeros(n_out), torch.zeros(n_in)
        parameters = [part.requires_grad_() for part in (weight, up, down)]
        optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)
        total = torch.zeros(())
        for index in torch.randperm(len(rows), generator=generator).split(BATCH):
            batch = rows[index]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = F.linear(torch.sigmoid(F.linear(batch, weight, up)), weight.t(), down)
                entropy = F.binary_cross_entropy_with_logits(logits.float(), batch, reduction="none").sum(1)
            loss = entropy.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += entropy.detach().sum()
        totals.append(float(total) / len(rows))
        with torch.no_grad():
            rows = torch.sigmoid(F.linear(rows, weight, up))
    return time.perf_counter() - start, totals[0]


def ours(x: np.ndarray, bf16: bool) -> tuple[float, float]:
    """Run the phases of `StackedAutoencoder` on rows that are read in batches."""
    model = StackedAutoencoder(hidden_sizes=SIZES[1:-1], fine_tuning=None)
    model.code_size_, model.seed_, generator = SIZES[-1], 0, torch.Generator().manual_seed(0)
    rows = DenseRows(x, Affine(np.zeros(SIZES[0]), np.full(SIZES[0], 255.0)))
    training_config = TrainingConfig(
        max_epochs=1, batch_size=BATCH, learning_rate=1e-3, precision="bf16" if bf16 else "fp32"
    )
    start = time.perf_counter()
    recipe = model._recipe(Shape(SIZES[0], SIZES[-1], None, {"name": "bernoulli"}), generator)
    model._keep(recipe)
    records = run_phases(recipe.parts, model._phases(recipe, training_config, generator), rows, None, generator)
    return time.perf_counter() - start, records[0]["epochs"][-1]["terms"]["reconstruction"]


def run(x: np.ndarray, repeats: int) -> list[str]:
    """Return the lines of a table: median seconds of interleaved runs, and their ratio."""
    precisions = [False, True] if resolve_precision("auto", torch.device("cpu")) == "bf16" else [False]
    lines = [
        f"stacking {'-'.join(map(str, SIZES))}, {len(x)} rows, batches of {BATCH}, one epoch per layer",
        "precision  loop        seconds     / plain  mean loss of the first layer",
    ]
    loops: dict[str, Callable] = {"three plain": plain, "isthmus": ours}
    for bf16 in precisions:
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        nats = {}
        for _ in range(repeats):
            for name, loop in loops.items():
                took, nats[name] = loop(x, bf16)
                seconds[name].append(took)
        median = {name: float(np.median(times)) for name, times in seconds.items()}
        precision, reference = "bf16" if bf16 else "fp32", median["three plain"]
        lines += [
            f"{precision:9s}  {name:11s} {took:7.2f}  {took / reference:10.2f}  {nats[name]:9.1f}"
            for name, took in median.items()
        ]
    return [*lines, f"(bound: {BOUND} times the three plain loops)"]
