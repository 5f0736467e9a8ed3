"""Compare the speed of training on a device with that of plain loops: the second table of `benchmarks.device`.

`Autoencoder` and the plain loops train the same network, 784-1000-500-250-30, with the same optimiser, criterion and
precision. The rows of a plain loop are on the device unless its line says otherwise, and one loop is compiled by
`torch.compile`. Where that fails, as without a C compiler, the line says so. Each value is the
median over all epochs but the first. The last column is the fraction of the bf16
peak of the device that 6 operations per weight and row amount to; one large matrix product measures the peak.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.quality import RATE, network
from benchmarks.training import SIZES, pixels
from isthmus import Autoencoder
from isthmus.learning.precision import fast_products

BATCH_SIZES = (512, 8192)
EPOCHS = 6
OPERATIONS = 6 * 2 * sum(n_in * n_out for n_in, n_out in itertools.pairwise(SIZES))
"""Operations per row of a forward and a backward pass: 6 per weight of encoder and decoder."""


def ours(x: np.ndarray, batch_size: int, precision: str, device: torch.device) -> float:
    """Fit `Autoencoder` and return its rows per second."""
    model = Autoencoder(
        code_size=SIZES[-1], hidden_sizes=SIZES[1:-1], batch_size=batch_size, max_epochs=EPOCHS,
        validation_fraction=0, random_state=0, precision=precision, device=str(device),
    )  # fmt: skip
    return float(np.median([epoch["rows_per_second"] for epoch in model.fit(x).history_["epochs"][1:]]))


def plain(
    x: np.ndarray, batch_size: int, precision: str, device: torch.device, *, rows_on: str = "", compiled: bool = False
) -> float:
    """Train the same network by a short loop, with the rows on the device by default; return its rows per second."""
    rows, model = pixels(x).to(rows_on or device), network(nn.SiLU).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    def criterion(batch: torch.Tensor) -> torch.Tensor:
        return 0.5 * F.mse_loss(model(batch), batch, reduction="sum") / len(batch)

    if compiled:
        torch.compiler.reset()
    loss_of: Callable = torch.compile(criterion) if compiled else criterion
    speeds = []
    with fast_products(precision, device):
        for _ in range(EPOCHS):
            start = time.perf_counter()
            for index in torch.randperm(len(rows), device=rows.device).split(batch_size):
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    loss = loss_of(rows[index].to(device))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
            loss.item()  # waits for the device
            speeds.append(len(rows) / (time.perf_counter() - start))
    return float(np.median(speeds[1:]))


def bf16_peak(device: torch.device, repeats: int = 10) -> float:
    """Return the operations per second of a large matrix product in bf16."""
    n = 8192 if device.type == "cuda" else 1024
    a = torch.randn(n, n, device=device).bfloat16()
    float((a @ a)[0, 0])  # warm-up; reading a value waits for the device
    start = time.perf_counter()
    for _ in range(repeats):
        product = a @ a
    float(product[0, 0])
    return 2 * n**3 * repeats / (time.perf_counter() - start)


def run(x: np.ndarray, device: torch.device) -> Iterator[str]:
    """Yield the lines of the table; those of `torch.compile`, which takes longest, are the last."""
    loops: dict[str, Callable[..., float]] = {"plain": plain, "isthmus": ours}
    if device.type == "cuda":
        loops["plain, rows on the CPU"] = partial(plain, rows_on="cpu")
    plain_speeds: dict[tuple[str, int], float] = {}
    peak = bf16_peak(device)
    yield f"training 784-1000-500-250-30, {len(x)} rows, {EPOCHS} epochs; bf16 peak {peak / 1e12:.4g} TFLOP/s"
    yield "precision  batch  loop                       rows/s  / plain  of the peak"
    batch_sizes = sorted({min(size, len(x)) for size in BATCH_SIZES})
    settings = list(itertools.product(("fp32", "bf16"), batch_sizes))
    for precision, batch_size in settings:
        for name, loop in loops.items():
            speed = loop(x, batch_size, precision, device)
            baseline = plain_speeds.setdefault((precision, batch_size), speed)
            yield line(precision, batch_size, name, speed, baseline, peak)
    if device.type != "cuda":
        yield "skipped on the CPU: torch.compile of the plain loop"
        return
    for precision, batch_size in settings:
        try:
            speed = plain(x, batch_size, precision, device, compiled=True)
        except Exception as error:  # which errors there are depends on the compiler
            yield f"{precision:9s}  {batch_size:5d}  skipped: torch.compile failed with {type(error).__name__}"
        else:
            yield line(precision, batch_size, "plain, compiled", speed, plain_speeds[precision, batch_size], peak)


def line(precision: str, batch_size: int, name: str, speed: float, baseline: float, peak: float) -> str:
    """Format a row of the table."""
    share = f"{OPERATIONS * speed / peak:11.1%}" if precision == "bf16" else f"{'-':>11s}"
    return f"{precision:9s}  {batch_size:5d}  {name:22s}  {speed:9.0f}  {speed / baseline:7.2f}  {share}"
