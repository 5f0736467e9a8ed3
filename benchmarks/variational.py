"""Compare the variational autoencoder 784-1000-500-20 with a bare loop, and with pythae if it is installed.

    python -m benchmarks.variational [ROWS] [REPEATS] [--epochs N]

The rows are binary digits. Seconds are those of one processor core, of which every loop uses one. The loops of the
first table run in turns, in batches of 512 rows:

- bare loop: the mathematics of isthmus as a short torch loop: its initial weights, SiLU layers, criterion, fused AdamW,
  learning rates, order of the rows and random numbers. Rows are float32 in memory. It does not evaluate the criterion
  after an epoch, accumulate the terms, or check the loss.
- isthmus: the training in `VariationalAutoencoder.fit`, with its evaluations.
- isthmus, whole fit: all of `fit`, with the survey of the rows, the principal components and the findings.
- pythae: the epochs of its `BaseTrainer`, with ReLU layers of these sizes and Adam.

The second table has the time until a loop reaches the bound that isthmus reaches with its defaults in N epochs. pythae
has its defaults: batches of 64 rows, Adam at 1e-4. The bound is the mean of -log p(x | h) + KL over the test rows,
with the same random numbers in every loop. Its evaluation does not count in the seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.quality import positive
from benchmarks.training import digits, pixels
from isthmus import KL, VariationalAutoencoder
from isthmus.data.streams import Affine, DenseRows
from isthmus.estimators.records import Shape
from isthmus.estimators.variational import RATE
from isthmus.learning.precision import fast_products
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig, batch_bounds, learning_rate_at

HIDDEN, CODE, BATCH, EPOCHS = (1000, 500), 20, 512, 2
N_TEST = 2000
"""Test rows on which the bound is evaluated."""

MAX_EPOCHS = 100
"""Largest number of epochs of pythae in the second table."""

Encoder = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Rows to mean and log-variance of the code."""

Outcome = tuple[dict[str, float], float]
"""Seconds by the name of a line of the table, and the bound on test rows."""


def has_pythae() -> bool:
    """Return whether pythae is installed."""
    return importlib.util.find_spec("pythae") is not None


def binary(x: np.ndarray) -> np.ndarray:
    """Sample each pixel once, 1 with its grey value as the probability, (n, 784), float32."""
    rate = pixels(x)
    return (torch.rand(rate.shape, generator=torch.Generator().manual_seed(0)) < rate).float().numpy()


def estimator(precision: str = "fp32", **arguments: Any) -> VariationalAutoencoder:
    """Return an unfitted variational autoencoder of these sizes without validation rows and warm-up."""
    return VariationalAutoencoder(
        code_size=CODE, hidden_sizes=HIDDEN, likelihood="bernoulli", kl=KL(warmup=0), validation_fraction=0,
        patience=None, random_state=0, precision=precision, device="cpu", **arguments,
    )  # fmt: skip


def negative_bound(logits: Tensor, x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the mean of -log p(x | h) + KL(q(h | x) || N(0, I)) over the rows."""
    nll = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
    return (nll + 0.5 * (mean.square() + log_variance.exp() - log_variance - 1.0).sum(-1)).mean()


@torch.no_grad()
def test_bound(encode: Encoder, decode: Callable[[Tensor], Tensor], test: np.ndarray) -> float:
    """Return the bound on the test rows; the random numbers are the same in every loop."""
    x = torch.from_numpy(test[:N_TEST])
    mean, log_variance = encode(x)
    e = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    return float(negative_bound(decode(mean + (0.5 * log_variance).exp() * e), x, mean, log_variance))


def bare(x: np.ndarray, test: np.ndarray) -> Outcome:
    """Train as isthmus does, in a short loop."""
    rows, generator = torch.from_numpy(x), torch.Generator().manual_seed(0)
    encoder, decoder = starting_networks(x, generator)
    config = TrainingConfig(max_epochs=EPOCHS, batch_size=BATCH, learning_rate=RATE)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0, fused=True)
    bounds = batch_bounds(len(x), BATCH)

    def encode(batch: Tensor) -> tuple[Tensor, Tensor]:
        mean, free = encoder(batch).chunk(2, -1)
        return mean, 10.0 * torch.tanh(free / 10.0)

    with fast_products("fp32", torch.device("cpu")):
        start = time.process_time()
        for step in range(EPOCHS * len(bounds)):
            if step % len(bounds) == 0:
                order = torch.randperm(len(rows), generator=generator)
            batch = rows[order[slice(*bounds[step % len(bounds)])]]
            mean, log_variance = encode(batch)
            code = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator)
            loss = negative_bound(decoder(code), batch, mean, log_variance)
            optimizer.param_groups[0]["lr"] = learning_rate_at(step, EPOCHS * len(bounds), config)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds = time.process_time() - start
    return {"bare loop": seconds}, test_bound(encode, decoder, test)


def starting_networks(x: np.ndarray, generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """Return encoder and decoder as plain layers, with the weights with which the training of isthmus starts."""
    model = estimator()
    recipe = model._recipe(Shape(x.shape[1], CODE, None, {"name": "bernoulli"}), generator)
    recipe.objective.prepare(DenseRows(x, Affine(np.zeros(x.shape[1]), np.ones(x.shape[1]))))
    return recipe.coder.encoder.layers, recipe.coder.decoder.layers


def ours(x: np.ndarray, test: np.ndarray) -> Outcome:
    """Fit `VariationalAutoencoder`; the bound is that of its coder."""
    start = time.process_time()
    with training_seconds() as seconds:
        model = estimator(batch_size=BATCH, max_epochs=EPOCHS).fit(x)
    whole = time.process_time() - start
    return {"isthmus": sum(seconds), "isthmus, whole fit": whole}, bound_of(model, test)


def ours_in_bf16(x: np.ndarray, test: np.ndarray) -> Outcome:
    """Fit `VariationalAutoencoder` with matrix products in bf16."""
    with training_seconds() as seconds:
        model = estimator("bf16", batch_size=BATCH, max_epochs=EPOCHS).fit(x)
    return {"isthmus, bf16": sum(seconds)}, bound_of(model, test)


@contextlib.contextmanager
def training_seconds() -> Iterator[list[float]]:
    """Context manager that yields a list, to which each training run appends its seconds."""
    seconds, original = [], Trainer.run

    def timed(trainer: Trainer) -> Any:
        start = time.process_time()
        state = original(trainer)
        seconds.append(time.process_time() - start)
        return state

    with patch.object(Trainer, "run", timed):
        yield seconds


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Context manager with one thread, whose processor time other programs hardly affect."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def bound_of(model: Any, test: np.ndarray) -> float:
    """Return the bound of a fitted variational autoencoder on the test rows."""
    coder = model.coder_
    return test_bound(coder.inference.posterior, coder.decoder, test)


@dataclass
class Clock:
    """The seconds of each epoch of pythae and the bound after it, until the bound is at most the target."""

    target: float
    seconds: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    started: float = 0.0


class Reached(Exception):
    """The bound is at most the target."""


def pythae_epochs(x: np.ndarray, test: np.ndarray, target: float = -torch.inf, **arguments: Any) -> Clock:
    """Train by pythae until the bound on the test rows is at most the target, or the epochs of the arguments end."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = relu_layers(x.shape[1], *HIDDEN, 2 * CODE)

        def forward(self, x: Tensor) -> Any:
            mean, log_variance = self.layers(x).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.layers = relu_layers(CODE, *HIDDEN[::-1], x.shape[1])

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))

    class Timing(TrainingCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            clock.started = time.process_time()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            clock.seconds.append(time.process_time() - clock.started)
            clock.bounds.append(test_bound(lambda x: encoder.layers(x).chunk(2, -1), decoder.layers, test))
            if clock.bounds[-1] <= clock.target:
                raise Reached

    clock, rows = Clock(target), torch.from_numpy(x)
    with tempfile.TemporaryDirectory() as folder, silent():
        torch.manual_seed(0)
        encoder, decoder = Encoder(), Decoder()
        config = VAEConfig(input_dim=(x.shape[1],), latent_dim=CODE, reconstruction_loss="bce")
        model = VAE(config, encoder=encoder, decoder=decoder)
        training = BaseTrainerConfig(output_dir=folder, no_cuda=True, keep_best_on_train=True, **arguments)
        trainer = BaseTrainer(model, BaseDataset(rows, torch.zeros(len(rows))), None, training, [Timing()])
        with contextlib.suppress(Reached):
            trainer.train()
    return clock


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Context manager without log messages and progress bars."""
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def relu_layers(*sizes: int) -> nn.Sequential:
    """Return ReLU layers with the default initial weights of torch and a linear output."""
    layers = [part for n_in, n_out in pairwise(sizes) for part in (nn.Linear(n_in, n_out), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def peer(x: np.ndarray, test: np.ndarray) -> Outcome:
    """Train by pythae at the batch size and the largest learning rate of the other loops."""
    clock = pythae_epochs(x, test, per_device_train_batch_size=BATCH, num_epochs=EPOCHS, learning_rate=RATE)
    return {"pythae": sum(clock.seconds)}, clock.bounds[-1]


def multiplies_bf16() -> bool:
    """Return whether the processor has instructions for products in bf16."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@one_thread()
def run(x: np.ndarray, test: np.ndarray, repeats: int) -> list[str]:
    """Return the lines of the first table: medians of interleaved runs, and the median ratio to the bare loop.

    Args:
        x, test: binary rows.
        repeats: runs of each loop.
    """
    loops: list[Callable[[np.ndarray, np.ndarray], Outcome]] = [bare, ours]
    loops += [ours_in_bf16] if multiplies_bf16() else []
    loops += [peer] if has_pythae() else []
    turns: list[dict[str, float]] = []
    bounds: dict[str, float] = {}
    for loop in loops:
        loop(x[:BATCH], test)  # warm-up: imports and one-time set-up
    for _ in range(repeats):
        turns.append({})
        for loop in loops:
            seconds, bound = loop(x, test)
            turns[-1] |= seconds
            bounds |= dict.fromkeys(seconds, bound)
    lines = [f"variational autoencoder {network()}, batches of {BATCH}, {len(x)} rows, {EPOCHS} epochs, fp32",
             "loop                seconds  / bare loop  -log p bound"]  # fmt: skip
    for name in turns[0]:
        ratio = float(np.median([turn[name] / turn["bare loop"] for turn in turns]))
        seconds_of = float(np.median([turn[name] for turn in turns]))
        lines.append(f"{name:18s} {seconds_of:8.2f}  {ratio:11.2f}  {bounds[name]:12.2f}")
    return lines if has_pythae() else [*lines, "pythae is not installed: pip install 'isthmus[benchmarks]'"]


@one_thread()
def time_to_bound(x: np.ndarray, test: np.ndarray, epochs: int) -> list[str]:
    """Return the lines of the second table: the time until the bound of isthmus with its defaults is reached."""
    ours(x[:BATCH], test)  # warm-up: imports and one-time set-up
    start = time.process_time()
    model = VariationalAutoencoder(
        code_size=CODE, hidden_sizes=HIDDEN, likelihood="bernoulli", max_epochs=epochs, random_state=0, device="cpu"
    ).fit(x)
    seconds, target = time.process_time() - start, bound_of(model, test)
    lines = [f"time to equal bound, {network()}, {len(x)} rows, the other settings are defaults",
             "loop      epochs  seconds  / isthmus  -log p bound",
             f"isthmus   {len(model.history_['epochs']):6d}  {seconds:7.1f}  {1:9.2f}  {target:12.2f}"]  # fmt: skip
    if not has_pythae():
        return [*lines, "pythae is not installed: pip install 'isthmus[benchmarks]'"]
    clock = pythae_epochs(x, test, target, num_epochs=MAX_EPOCHS)
    took, best = sum(clock.seconds), min(clock.bounds)
    line = f"pythae    {len(clock.seconds):6d}  {took:7.1f}  {took / seconds:9.2f}  {best:12.2f}"
    return [*lines, line if best <= target else f"{line}  not reached"]


def network() -> str:
    """Return the sizes of the encoder."""
    return "-".join(map(str, (784, *HIDDEN, CODE)))


def main() -> None:
    """Read the arguments and print both tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.variational", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("rows", type=positive, nargs="?", default=16384, help="number of training rows, default 16384")
    parser.add_argument("repeats", type=positive, nargs="?", default=5, help="runs of each loop, default 5")
    parser.add_argument("--epochs", type=positive, default=20, metavar="N", help="epochs of isthmus, default 20")
    arguments = parser.parse_args()
    train, test = (binary(part.X) for part in digits())
    x = train[: arguments.rows]
    print(f"torch {torch.__version__}, 1 thread, {torch.backends.cpu.get_cpu_capability()}")
    for table in (lambda: run(x, test, arguments.repeats), lambda: time_to_bound(x, test, arguments.epochs)):
        print(*table(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
