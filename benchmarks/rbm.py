"""Compare the restricted Boltzmann machine with that of scikit-learn, and annealed importance sampling with a loop."""

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
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig, batch_bounds, learning_rate_at
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli

N_HIDDEN, BATCH, EPOCHS = 256, 100, 2
SETTINGS = TrainingConfig(
    max_epochs=EPOCHS, batch_size=BATCH, optimizer="sgd", learning_rate=0.1, precision="fp32", device="cpu"
)


class SequentialRows:
    """Rows that ignore the requested order in training, since scikit-learn does not shuffle."""

    def __init__(self, x: Tensor) -> None:
        self.x, self.n_columns, self.served = x, x.shape[1], 0

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: Tensor) -> Batch:
        """Return the next rows in training, and the rows `index` in the evaluation after an epoch."""
        if self.served == len(self.x):
            self.served = 0
            return Batch(self.x[index])
        start, self.served = self.served, self.served + len(index)
        return Batch(self.x[start : self.served])


def machine() -> RBMEnergy:
    """Build an untrained machine with the initial weights of scikit-learn: small weights, zero biases."""
    return RBMEnergy(Bernoulli(784), N_HIDDEN, weight_scale=0.01, generator=torch.Generator().manual_seed(0))


def run_isthmus(x: Tensor) -> tuple[float, RBMEnergy]:
    """Train with the algorithm of scikit-learn: plain SGD, persistent chains, no centring, no weight decay."""
    objective = ContrastiveDivergence(machine(), n_chains=BATCH, centred=False)
    trainer = Trainer(objective, SequentialRows(x), None, SETTINGS, torch.Generator().manual_seed(1))
    start = time.perf_counter()
    trainer.run()
    return time.perf_counter() - start, objective.rbm


def run_scikit_learn(x: Tensor, dtype: type = np.float64) -> tuple[float, RBMEnergy]:
    """Train with the step of scikit-learn on slices of the rows, with the learning rates of isthmus."""
    array, bounds = x.numpy().astype(dtype), batch_bounds(len(x), BATCH)
    planned = len(bounds) * EPOCHS
    model = BernoulliRBM(n_components=N_HIDDEN, batch_size=BATCH, n_iter=1, random_state=0)
    model.fit(array[:BATCH])  # allocates the arrays that are overwritten below
    model.components_ = np.asarray(machine().weight.detach().numpy(), dtype, order="F")
    model.intercept_hidden_, model.intercept_visible_ = np.zeros(N_HIDDEN, dtype), np.zeros(784, dtype)
    model.h_samples_ = np.zeros((BATCH, N_HIDDEN), dtype)
    random_state, start = np.random.RandomState(1), time.perf_counter()
    for step in range(planned):
        model.learning_rate = learning_rate_at(step, planned, SETTINGS)
        model._fit(array[slice(*bounds[step % len(bounds)])], random_state)
    seconds, rbm = time.perf_counter() - start, machine()
    with torch.no_grad():
        rbm.weight.copy_(torch.from_numpy(model.components_))
        rbm.hidden_bias.copy_(torch.from_numpy(model.intercept_hidden_))
        rbm.visible_bias.copy_(torch.from_numpy(model.intercept_visible_))
    return seconds, rbm


@torch.no_grad()
def scores(rbm: RBMEnergy, test: Tensor) -> str:
    """Format the mean-field reconstruction error and the pseudo-likelihood on 500 test rows."""
    rows = test[:500]
    error = float((rbm.mean_field(rows) - rows).square().sum(1).mean())
    return f"{error:18.2f}  {float(log_pseudo_likelihood(rbm, rows).mean()):17.1f}"


def training(x: Tensor, test: Tensor, repeats: int) -> list[str]:
    """Compare the training loops, interleaved, by the median of their repeats."""
    loops: dict[str, Callable[[Tensor], tuple[float, RBMEnergy]]] = {
        "scikit-learn": run_scikit_learn,
        "scikit-learn, float32": lambda x: run_scikit_learn(x, np.float32),
        "isthmus": run_isthmus,
    }
    times: dict[str, list[float]] = {name: [] for name in loops}
    trained = {}
    for _ in range(repeats):
        for name, loop in loops.items():
            seconds, trained[name] = loop(x)
            times[name].append(seconds)
    speed = {name: EPOCHS * len(x) / float(np.median(values)) for name, values in times.items()}
    lines = [f"restricted Boltzmann machine 784-{N_HIDDEN}, persistent chains, batch {BATCH}, {len(x)} rows, "
             f"{EPOCHS} epochs, same order", "loop                   rows/s  / scikit-learn     reconstruction error  "
             "pseudo-likelihood"]  # fmt: skip
    return lines + [
        f"{name:21s} {speed[name]:7.0f}  {speed[name] / speed['scikit-learn']:17.2f}  {scores(trained[name], test)}"
        for name in loops
    ]


def phases(x: Tensor, repeats: int) -> list[str]:
    """Compare the time of one Gibbs step of the chains with that of the positive phase and its gradient."""
    objective, batch = ContrastiveDivergence(machine(), n_chains=BATCH), x[:BATCH]
    rbm, generator = objective.rbm, torch.Generator().manual_seed(0)

    def positive() -> None:
        rbm.free_energy(batch).mean().backward()

    def chain() -> None:
        with torch.no_grad():
            objective.density.gibbs(ChainState(objective.density.particles), generator)

    positive_time, chain_time = milliseconds(positive, 20 * repeats), milliseconds(chain, 20 * repeats)
    return [f"one Gibbs step of {BATCH} persistent chains: {chain_time:.2f} ms; positive phase of {BATCH} rows: "
            f"{positive_time:.2f} ms; ratio {chain_time / positive_time:.2f}"]  # fmt: skip


def milliseconds(call: Callable[[], None], repeats: int) -> float:
    """Return the median milliseconds of a call after one warm-up call."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return float(np.median(times[1:]))


@torch.no_grad()
def bare_annealing(rbm: RBMEnergy, betas: list[float], n_chains: int, generator: torch.Generator) -> float:
    """Estimate log Z of a binary machine by a plain loop of annealed importance sampling from its biases."""
    W, b, c = rbm.weight, rbm.visible_bias, rbm.hidden_bias
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
    """Compare the time of both estimates of log Z of a machine of 784 x 500 units, with the same temperatures."""
    generator = torch.Generator().manual_seed(0)
    rbm = RBMEnergy(Bernoulli(784), 500, weight_scale=0.1, generator=generator)
    betas = torch.linspace(0, 1, 1000, dtype=torch.float64)
    calls: dict[str, Callable[[], float]] = {
        "bare loop": lambda: bare_annealing(rbm, betas.tolist(), 100, generator),
        "isthmus": lambda: annealed_importance_sampling(rbm, generator, n_chains=100, betas=betas).log_partition,
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    log_z = {}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            log_z[name] = call()
            times[name].append(time.perf_counter() - start)
    seconds = {name: float(np.median(values)) for name, values in times.items()}
    return ["annealed importance sampling, 784 x 500, 100 chains, 1000 temperatures",
            "loop        seconds       / bare loop   log Z"] + [
        f"{name:10s} {seconds[name]:8.2f}  {seconds[name] / seconds['bare loop']:16.2f}  {log_z[name]:.2f}"
        for name in calls
    ]  # fmt: skip


def run(x: np.ndarray, test: np.ndarray, repeats: int) -> list[str]:
    """Return the lines of the tables, on binary samples of grey digits."""
    generator = torch.Generator().manual_seed(0)
    probabilities = [torch.from_numpy(rows.reshape(len(rows), -1)).float() / 255 for rows in (x, test)]
    binary, binary_test = ((torch.rand(p.shape, generator=generator) < p).float() for p in probabilities)
    return [*training(binary, binary_test, repeats), *phases(binary, repeats), *annealing(repeats)]
