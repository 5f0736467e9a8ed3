"""Time to equal test error: 784-1000-500-250-30 on MNIST, batches of 512 rows, fp32, one run of each loop.

    python -m benchmarks.quality [ROWS] [--tutorial-epochs N]

- isthmus: `Autoencoder` with its own schedule, for one epoch and for two. The seconds are those of `fit`: they include
  the choice of the likelihood, the principal components and the findings.
- plain loop, our settings: a short loop with the initial weights, the loss and the schedule of `Autoencoder`, for the
  same number of epochs. A test error equal to that of isthmus shows that the gain in error comes from these settings.
  The difference in seconds is the cost of everything else in `fit`.
- tutorial loop: data loader, ReLU, sigmoid output, cross-entropy, Adam with a constant rate of 1e-3 and the default
  initial weights of `torch.nn.Linear`, until its test error is at most that of isthmus or N epochs have passed.
- tutorial loop, He: the same with the initial weights of He et al. (2015).

The test error is ||x - r||^2, the mean over the test rows. Its evaluation does not count in the seconds.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.training import SIZES, digits, pixels, squared_error, tutorial_epoch
from isthmus import Autoencoder
from isthmus.parts.likelihoods import likelihood_from

BATCH = 512
EPOCHS = (1, 2)
LINEAR = (SIZES[0], SIZES[-1])
"""The sizes of the layers without an activation: output and code."""

RATE = Autoencoder().learning_rate
WARMUP = 0.05
SILU_GAIN = 1.6765325
"""1 / sqrt(E[silu(z)^2]), z ~ N(0, 1): the gain that keeps the second moment from layer to layer."""

TUTORIALS = {False: "tutorial loop", True: "tutorial loop, He"}
"""The names of the two tutorial loops, by whether their initial weights are those of He et al."""


@dataclass(frozen=True)
class Result:
    """The epochs and the seconds of a loop, and the test error after them."""

    epochs: int
    seconds: float
    error: float


def ours(x: np.ndarray, test: np.ndarray, epochs: int) -> Result:
    """Fit `Autoencoder` with its default settings."""
    model = Autoencoder(
        code_size=SIZES[-1], hidden_sizes=SIZES[1:-1], batch_size=BATCH, max_epochs=epochs, validation_fraction=0,
        random_state=0, precision="fp32", device="cpu",
    )  # fmt: skip
    start = time.perf_counter()
    model.fit(x)
    return Result(epochs, time.perf_counter() - start, float(model.reconstruction_error(test).mean()))


def plain(x: np.ndarray, test: np.ndarray, epochs: int) -> Result:
    """Train as `Autoencoder` does: loss 1/2 ||x - sigmoid(l)||^2, fused AdamW, linear warm-up, cosine to zero."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    rows = pixels(x)
    model = started_at_mean(rows.mean(0), generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, fused=True)
    n_batches = math.ceil(len(rows) / BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: relative_rate(step, n_batches * epochs))
    for _ in range(epochs):
        for index in torch.randperm(len(rows), generator=generator).tensor_split(n_batches):
            batch = rows[index]
            loss = 0.5 * F.mse_loss(model(batch), batch, reduction="sum") / len(batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return Result(epochs, time.perf_counter() - start, squared_error(model, test))


def started_at_mean(mean: Tensor, generator: torch.Generator) -> nn.Sequential:
    """Build SiLU layers with a first layer that centres the rows and an output that starts at their mean."""
    model = network(nn.SiLU)
    maps = linear_maps(model)
    for layer in maps:
        n_out, n_in = layer.weight.shape
        deviation = math.sqrt(2 / (n_in + n_out)) if n_out in LINEAR else SILU_GAIN / math.sqrt(n_in)
        nn.init.normal_(layer.weight, 0.0, deviation, generator=generator)
        nn.init.zeros_(layer.bias)
    with torch.no_grad():
        maps[0].bias.copy_(-maps[0].weight @ mean)
        maps[-1].bias.copy_(likelihood_from({"name": "gaussian-unit"}, SIZES[0]).parameters_for(mean))
    return model


def network(activation: Callable[[], nn.Module]) -> nn.Sequential:
    """Build the layers of every loop: a linear code, a sigmoid output and the default initial weights of torch."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise((*SIZES, *SIZES[-2::-1])):
        layers += [nn.Linear(n_in, n_out)] if n_out in LINEAR else [nn.Linear(n_in, n_out), activation()]
    return nn.Sequential(*layers, nn.Sigmoid())


def linear_maps(model: nn.Sequential) -> list[nn.Linear]:
    """Return the linear layers, first to last."""
    return [layer for layer in model if isinstance(layer, nn.Linear)]


def relative_rate(step: int, planned: int) -> float:
    """Return the ratio of the learning rate of a step to the maximum: a linear warm-up, then a cosine to zero."""
    warm = max(1, round(WARMUP * planned))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, planned - warm)))


def tutorial_network(he: bool) -> nn.Sequential:
    """Build ReLU layers with the default initial weights of torch or with those of He et al."""
    torch.manual_seed(0)
    model = network(nn.ReLU)
    for layer in linear_maps(model) if he else []:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return model


def tutorial(x: np.ndarray, test: np.ndarray, he: bool, target: float, max_epochs: int) -> list[Result]:
    """Run the usual loop until its test error reaches the target, for at most `max_epochs`; a result per epoch."""
    name = TUTORIALS[he]
    start = time.perf_counter()
    model = tutorial_network(he)
    rows = torch.utils.data.TensorDataset(pixels(x))
    loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, results = time.perf_counter() - start, []
    while len(results) < max_epochs and (not results or results[-1].error > target):
        start = time.perf_counter()
        tutorial_epoch(model, loader, optimizer, F.binary_cross_entropy)
        seconds += time.perf_counter() - start
        result = Result(len(results) + 1, seconds, squared_error(model, test))
        results.append(result)
        print(f"{name}, epoch {result.epochs}: {seconds:.1f} s, test error {result.error:.2f}", file=sys.stderr)
    return results


def run(x: np.ndarray, test: np.ndarray, max_epochs: int) -> Iterator[str]:
    """Yield the lines of the table, a group for each number of epochs of isthmus."""
    ours(x[:100], test[:1], 1)  # warm-up: torch and other libraries load modules at first use
    yield f"{'loop':24s}  epochs  seconds  test error  seconds / isthmus"
    targets = [ours(x, test, epochs) for epochs in EPOCHS]
    plains = [plain(x, test, epochs) for epochs in EPOCHS]
    least = min(target.error for target in targets)
    tutorials = {name: tutorial(x, test, he, least, max_epochs) for he, name in TUTORIALS.items()}
    for target, plain_result in zip(targets, plains, strict=True):
        yield line("isthmus", target, target)
        yield line("plain loop, our settings", plain_result, target)
        for name, results in tutorials.items():
            reached = next((result for result in results if result.error <= target.error), None)
            best = replace(results[-1], error=min(result.error for result in results))
            yield line(name, reached or best, target) + ("" if reached else "  not reached; its best error")


def line(name: str, result: Result, ours: Result) -> str:
    """Format a row of the table."""
    return (
        f"{name:24s}  {result.epochs:6d}  {result.seconds:7.1f}  {result.error:10.2f}"
        f"  {result.seconds / ours.seconds:17.2f}"
    )


def positive(text: str) -> int:
    """Parse a positive integer of the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def main() -> None:
    """Read the arguments and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rows", type=positive, nargs="?", default=60000, help="number of training rows, default 60000")
    parser.add_argument(
        "--tutorial-epochs",
        type=positive,
        default=30,
        metavar="N",
        help="maximum number of epochs of the tutorial loops, default 30",
    )
    arguments = parser.parse_args()
    train, test = digits()
    x = train.X[: arguments.rows]
    if not train.name.startswith("mnist:"):
        print("note: MNIST was not found; set ISTHMUS_DATA_HOME to use it. The rows are those of mnist-sample.")
    print(f"{'-'.join(map(str, SIZES))}, {train.name}, {len(x)} rows, batches of {BATCH}, fp32")
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for text in run(x, test.X, arguments.tutorial_epochs):
        print(text, flush=True)


if __name__ == "__main__":
    main()
