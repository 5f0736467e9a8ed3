"""Compare the training speed of isthmus, a tutorial loop and a fast plain loop: 784-1000-500-250-30, equal epochs."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch

import isthmus.data
from isthmus import Autoencoder, InputError
from isthmus.learning.precision import resolve_precision

SIZES = (784, 1000, 500, 250, 30)
EPOCHS = 2


def digits() -> tuple[isthmus.data.Dataset, isthmus.data.Dataset]:
    """Return training and test set of MNIST, or of mnist-sample if ISTHMUS_DATA_HOME does not contain MNIST."""
    name = "mnist" if os.environ.get("ISTHMUS_DATA_HOME") else "mnist-sample"
    try:
        return isthmus.data.open(f"{name}:train"), isthmus.data.open(f"{name}:test")
    except InputError:
        return isthmus.data.open("mnist-sample:train"), isthmus.data.open("mnist-sample:test")


def pixels(x: np.ndarray) -> torch.Tensor:
    """Convert images of bytes to rows in [0, 1], (n, 784), float32."""
    return torch.from_numpy(x.reshape(len(x), -1)).float() / 255


def network() -> torch.nn.Sequential:
    """Build a ReLU network with the initial weights of He et al."""
    generator = torch.Generator().manual_seed(0)
    layers: list[torch.nn.Module] = []
    sizes = (*SIZES, *SIZES[-2::-1])
    for n_in, n_out in itertools.pairwise(sizes):
        layer = torch.nn.utils.skip_init(torch.nn.Linear, n_in, n_out)
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)
        torch.nn.init.zeros_(layer.bias)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def tutorial(x: np.ndarray, test: np.ndarray, batch_size: int, bf16: bool) -> tuple[float, float]:
    """Train with DataLoader and default Adam, and read the loss after every step."""
    rows = pixels(x)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=batch_size, shuffle=True)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        tutorial_epoch(model, loader, optimizer, torch.nn.functional.mse_loss)
    return time.perf_counter() - start, squared_error(model, test)


def tutorial_epoch(
    model: torch.nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer, criterion: Callable
) -> float:
    """Run one epoch of the usual loop and return the sum of the losses."""
    total = 0.0
    for (batch,) in loader:
        loss = criterion(model(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total


def by_hand(x: np.ndarray, test: np.ndarray, batch_size: int, bf16: bool) -> tuple[float, float]:
    """Train with a fast plain loop: rows in memory, fused Adam and the precision of isthmus."""
    rows = pixels(x)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for index in torch.randperm(len(rows)).split(batch_size):
            batch = rows[index]
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = torch.nn.functional.mse_loss(model(batch), batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return time.perf_counter() - start, squared_error(model, test)


def ours(x: np.ndarray, test: np.ndarray, batch_size: int, bf16: bool) -> tuple[float, float]:
    """Fit `Autoencoder` and return the training seconds of its history and the test error."""
    model = Autoencoder(
        code_size=SIZES[-1], hidden_sizes=SIZES[1:-1], likelihood="gaussian", batch_size=batch_size,
        max_epochs=EPOCHS, validation_fraction=0, random_state=0, precision="bf16" if bf16 else "fp32",
    )  # fmt: skip
    model.fit(x)
    return model.history_["epochs"][-1]["seconds"], float(model.reconstruction_error(test).mean())


@torch.no_grad()
def squared_error(model: torch.nn.Module, test: np.ndarray) -> float:
    """Compute ||x - r||^2 per row."""
    rows = pixels(test)
    return float((model(rows) - rows).square().sum(1).mean())


def run(x: np.ndarray, test: np.ndarray, repeats: int) -> list[str]:
    """Return the lines of a table: rows per second, from the median of interleaved runs, and ratios."""
    bf16 = resolve_precision("auto", torch.device("cpu")) == "bf16"
    loops: dict[str, Callable] = {"tutorial": tutorial, "by hand": by_hand, "isthmus": ours}
    lines = [f"training 784-1000-500-250-30, {len(x)} rows, {EPOCHS} epochs, {'bf16' if bf16 else 'fp32'}",
             "batch  loop      rows/s     / tutorial     / by hand  test error"]  # fmt: skip
    for batch_size in (128, 512):
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        error = {}
        for _ in range(repeats):
            for name, loop in loops.items():
                took, error[name] = loop(x, test, batch_size, bf16)
                seconds[name].append(took)
        speed = {name: EPOCHS * len(x) / float(np.median(times)) for name, times in seconds.items()}
        lines += [
            f"{batch_size:5d}  {name:8s} {speed[name]:7.0f}  {speed[name] / speed['tutorial']:13.2f}"
            f"  {speed[name] / speed['by hand']:12.2f}  {error[name]:10.2f}"
            for name in loops
        ]
    return lines
