"""A restricted Boltzmann machine beside scikit-learn's, and annealed importance sampling beside a bare loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.neural_network import BernoulliRBM
from torch import Tensor

from isthmus.evaluation.partition import annealed_importance_sampling, log_pseudo_likelihood
from isthmus.learning.chains import ChainState
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.trainer import Trainer, TrainingConfig, batch_bounds, learning_rate_at
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli

N_HIDDEN, BATCH, EPOCHS = 256, 100, 2
SETTINGS = TrainingConfig(
    max_epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", learning_rate=0.1, precision="fp32", device="cpu"
)


class SequentialRows:
    """Rows that learning sees from the first to the last, whatever order it asks for: scikit-learn does not shuffle."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.n_columns, self.served = x, x.shape[1], 0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        """The next rows; those asked for, after an epoch's last, when learning is looked at."""
        if self.served == len(self.x):
            self.served = 0
            return Batch(self.x[index])
        start, self.served = self.served, self.served + len(index)
        return Batch(self.x[start : self.served])


def machine() -> RBMEnergy:
    """Untrained, as scikit-learn begins: small weights, no biases."""
    return RBMEnergy(Bernoulli(784), N_HIDDEN, weight_scale=0.01, generator=torch.Generator().manual_seed(0))


def run_isthmus(x: Tensor) -> tuple[float, RBMEnergy]:
    """The loop with plain steps, persistent chains, no centring and no decay: the algorithm of scikit-learn."""
    objective = ContrastiveDivergence(machine(), n_chains=BATCH, centred=False)
    learning = Trainer(objective, SequentialRows(x), None, SETTINGS, torch.Generator().manual_seed(1))
    start = time.perf_counter()
    learning.run()
    return time.perf_counter() - start, objective.rbm


def run_scikit_learn(x: Tensor, dtype: type = np.float64) -> tuple[float, RBMEnergy]:
    """Its own step on slices of the rows, as its `fit` calls it, at the same learning rates."""
    array, bounds = x.numpy().astype(dtype), batch_bounds(len(x), BATCH)
    planned = len(bounds) * EPOCHS
    model = BernoulliRBM(n_components=N_HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
    model.fit(array[:BATCH])  # makes its arrays; overwritten below
    model.components_ = np.asarray(machine().weight.detach().numpy(), dtype, order="F")
    model.intercept_hidden_, model.intercept_visible_ = np.zeros(N_HIDDEN, dtype), np.zeros(784, dtype)
    model.h_samples_ = np.zeros((BATCH, N_HIDDEN), dtype)
    draws, start = np.random.RandomState(1), time.perf_counter()
    for step in range(planned):
        model.learning_rate = learning_rate_at(step, planned, SETTINGS)
        model._fit(array[slice(*bounds[step % len(bounds)])], draws)
    took, learned = time.perf_counter() - start, machine()
    with torch.no_grad():
        learned.weight.copy_(torch.from_numpy(model.components_))
        learned.hidden_bias.copy_(torch.from_numpy(model.intercept_hidden_))
        learned.visible_bias.copy_(torch.from_numpy(model.intercept_visible_))
    return took, learned


@torch.no_grad()
def scores(learned: RBMEnergy, test: Tensor) -> str:
    """The error of one mean-field trip and the pseudo-likelihood, on test rows."""
    some = test[:500]
    error = float((learned.mean_field(some) - some).square().sum(1).mean())
    return f"{error:18.2f}  {float(log_pseudo_likelihood(learned, some).mean()):17.1f}"


def learning(x: Tensor, test: Tensor, repeats: int) -> list[str]:
    """The two loops, taking turns."""
    loops: dict[str, Callable[[Tensor], tuple[float, RBMEnergy]]] = {
        "scikit-learn": run_scikit_learn,
        "scikit-learn, float32": lambda x: run_scikit_learn(x, np.float32),
        "isthmus": run_isthmus,
    }
    spent: dict[str, list[float]] = {name: [] for name in loops}
    learned = {}
    for _ in range(repeats):
        for name, loop in loops.items():
            took, learned[name] = loop(x)
            spent[name].append(took)
    speed = {name: EPOCHS * len(x) / float(np.median(times)) for name, times in spent.items()}
    lines = [f"restricted Boltzmann machine 784-{N_HIDDEN}, persistent chains, batch {BATCH}, {len(x)} rows, "
             f"{EPOCHS} epochs, same order", "loop                   rows/s  over scikit-learn  reconstruction error  "
             "pseudo-likelihood"]  # fmt: skip
    return lines + [
        f"{name:21s} {speed[name]:7.0f}  {speed[name] / speed['scikit-learn']:17.2f}  {scores(learned[name], test)}"
        for name in loops
    ]


def phases(x: Tensor, repeats: int) -> list[str]:
    """What moving the chains costs beside the positive phase: the data's product, its rates and its gradient."""
    objective, batch = ContrastiveDivergence(machine(), n_chains=BATCH), x[:BATCH]
    learned, generator = objective.rbm, torch.Generator().manual_seed(0)

    def positive() -> None:
        learned.free_energy(batch).mean().backward()

    def chain() -> None:
        with torch.no_grad():
            objective.gibbs(ChainState(objective.particles), generator)

    spent = {
        "positive phase": milliseconds(positive, 20 * repeats),
        "one chain step": milliseconds(chain, 20 * repeats),
    }
    ratio = spent["one chain step"] / spent["positive phase"]
    return [f"a step of {BATCH} persistent chains costs {ratio:.2f} of the positive phase of {BATCH} rows "
            f"({spent['one chain step']:.2f} and {spent['positive phase']:.2f} ms)"]  # fmt: skip


def milliseconds(call: Callable[[], None], repeats: int) -> float:
    """The median of some calls, the first left out."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


@torch.no_grad()
def bare_annealing(learned: RBMEnergy, betas: list[float], n_chains: int, generator: torch.Generator) -> float:
    """Annealed importance sampling of a binary machine from its own biases, written out: what one would type."""
    W, b, c = learned.weight, learned.visible_bias, learned.hidden_bias
    v = (torch.rand(n_chains, len(b), generator=generator) < torch.sigmoid(b)).float()
    a, log_w = v @ W.t() + c, torch.zeros(n_chains)
    for i in range(1, len(betas)):
        log_w += (F.softplus(betas[i] * a) - F.softplus(betas[i - 1] * a)).sum(1)
        h = (torch.rand(n_chains, len(c), generator=generator) < torch.sigmoid(betas[i] * a)).float()
        v = (torch.rand(n_chains, len(b), generator=generator) < torch.sigmoid(b + betas[i] * (h @ W))).float()
        a = v @ W.t() + c
    base = F.softplus(b).sum() + len(c) * math.log(2)
    return float(log_w.logsumexp(0) - math.log(n_chains) + base)


def annealing(repeats: int) -> list[str]:
    """log Z of a machine of 784 x 500 by both, over equal temperatures."""
    generator = torch.Generator().manual_seed(0)
    learned = RBMEnergy(Bernoulli(784), 500, weight_scale=0.1, generator=generator)
    betas = torch.linspace(0, 1, 1000, dtype=torch.float64)
    calls: dict[str, Callable[[], float]] = {
        "bare loop": lambda: bare_annealing(learned, betas.tolist(), 100, generator),
        "isthmus": lambda: annealed_importance_sampling(learned, generator, n_chains=100, betas=betas).log_partition,
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    found = {}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            found[name] = call()
            spent[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(times)) for name, times in spent.items()}
    return ["annealed importance sampling, 784 x 500, 100 chains, 1000 temperatures",
            "loop        seconds  of the bare loop   log Z"] + [
        f"{name:10s} {seconds[name]:8.2f}  {seconds[name] / seconds['bare loop']:16.2f}  {found[name]:.2f}"
        for name in calls
    ]  # fmt: skip


def run(x: np.ndarray, test: np.ndarray, repeats: int) -> list[str]:
    """Lines of the tables."""
    draws = torch.Generator().manual_seed(0)
    rates = [torch.from_numpy(rows.reshape(len(rows), -1)).float() / 255 for rows in (x, test)]
    binary, held_out = (
        (torch.rand(learning_rate_at.shape, generator=draws) < learning_rate_at).float() for learning_rate_at in rates
    )
    return [*learning(binary, held_out, repeats), *phases(binary, repeats), *annealing(repeats)]
