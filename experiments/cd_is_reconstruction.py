"""Compare CD-k and the gradient of the reconstruction error with the exact gradient of the likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import COLOURS, axes, curves
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.likelihoods import Bernoulli

_THEOREM = "Bengio & Delalleau (2009): CD-k is the first 2k terms of the gradient"
_RESIDUAL = "Bengio & Delalleau (2009): the residual converges to zero"
_SIGN = "Bengio & Delalleau (2009): the sign is correct most of the time, even when the bias is large"
_BIAS = "Bengio & Delalleau (2009): the bias grows with the weights and falls with k"
_EARLIER = "Bengio & Delalleau (2009): the gradient of the reconstruction error truncates the series before CD does"

PUBLISHED = {
    "terms": Published(0.0, "within", _THEOREM, 1e-10),
    "whole": Published(0.0, "within", _THEOREM, 1e-10),
    "residual": Published(1.0, "at most", _RESIDUAL),
    "sign": Published(0.5, "at least", _SIGN),
    "grows": Published(1.0, "at least", _BIAS),
    "falls": Published(1.0, "at most", _BIAS),
    "earlier": Published(0.0, "at least", _EARLIER),
}

SEED = 0
K = 10
SHOWN = (1, 2, 5, 10)
"""The numbers of Gibbs steps k of the CD-k in the table."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    side: int
    hidden: int
    looks: list[int]
    n_machines: int


FULL = _Setup(published=PUBLISHED, side=3, hidden=6, looks=[0, 30, 100, 300, 1000, 3000], n_machines=5)

QUICK = _Setup(
    published={name: PUBLISHED[name] for name in ("terms", "whole")}, side=2, hidden=3, looks=[0, 5, 10], n_machines=1
)


def _cells(setup: _Setup) -> list[Cell]:
    shape = {"side": setup.side, "hidden": setup.hidden, "looks": setup.looks}
    return [
        Cell(f"machine-{n}", {**shape, "seed": SEED, "machine": n, "learning_rate": 0.1, "steps": K}, _follow)
        for n in range(setup.n_machines)
    ]


def bars_and_stripes(side: int) -> Float[Tensor, "images pixels"]:
    """Return every image of whole rows and every image of whole columns, each once.

    Example:
        >>> len(bars_and_stripes(2)), len(bars_and_stripes(3))
        (6, 14)
    """
    lines = torch.tensor(list(product([0.0, 1.0], repeat=side)), dtype=torch.float64)
    rows = lines[:, :, None].expand(-1, -1, side).flatten(1)
    columns = lines[:, None, :].expand(-1, side, -1).flatten(1)
    return torch.unique(torch.cat([rows, columns]), dim=0)


@dataclass(frozen=True)
class Enumerated:
    """A small RBM with all of its states enumerated, and exact gradients of expectations over them.

    Attributes:
        rbm: in float64.
        v, h: every state of the visible and of the hidden layer.
        data: the data distribution over the states of v.
    """

    rbm: RBMEnergy
    v: Float[Tensor, "states columns"]
    h: Float[Tensor, "states hidden"]
    data: Float[Tensor, " states"]

    def log_up(self) -> Float[Tensor, "visible hidden"]:
        """Return log p(h | v) of every pair."""
        return _log_bernoulli(self.rbm(self.v), self.h)

    def log_down(self) -> Float[Tensor, "hidden visible"]:
        """Return log p(v | h) of every pair."""
        return _log_bernoulli(self.rbm.down(self.h), self.v)

    def gradient(self, value: Tensor) -> Float[Tensor, " weights"]:
        """Return the gradient of a number by all weights, as one vector."""
        weights = [self.rbm.weight, self.rbm.hidden_bias, self.rbm.visible_bias]
        parts = torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    def energy_gradient(self, share: Float[Tensor, " states"]) -> Float[Tensor, " weights"]:
        """Return sum_v share(v) dF(v) in closed form: minus the mean statistics."""
        h = self.rbm.hidden_mean(self.v).detach()
        return -torch.cat([((h * share[:, None]).t() @ self.v).flatten(), share @ h, share @ self.v])


def _log_bernoulli(logits: Float[Tensor, "given units"], states: Float[Tensor, "states units"]) -> Tensor:
    """Return the log probability of every state under every row of logits, (given, states)."""
    return logits @ states.t() - torch.nn.functional.softplus(logits).sum(1, keepdim=True)


def enumerated(settings: Settings) -> Enumerated:
    """Return the untrained RBM and the data distribution."""
    rows = bars_and_stripes(settings["side"])
    generator = torch.Generator().manual_seed(settings["seed"] + settings["machine"])
    rbm = RBMEnergy(Bernoulli(rows.shape[1]), settings["hidden"], weight_scale=0.1, generator=generator).double()
    v, h = (torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
            for n in (rows.shape[1], settings["hidden"]))  # fmt: skip
    data = (v[:, None] == rows).all(2).any(1).double()
    return Enumerated(rbm, v, h, data / data.sum())


def _follow(settings: Settings, state: Path) -> Result:
    """Train by the expected CD-1, and compare all gradients at some steps."""
    exact, looks = enumerated(settings), []
    rbm = exact.rbm
    for step in range(max(settings["looks"]) + 1):
        if step in settings["looks"]:
            looks.append({"step": step, **gradients_at(exact, settings["steps"])})
        with torch.no_grad():
            reached = exact.data @ exact.log_up().exp() @ exact.log_down().exp()
            move = settings["learning_rate"] * (exact.energy_gradient(reached) - exact.energy_gradient(exact.data))
            start = 0
            for weight in (rbm.weight, rbm.hidden_bias, rbm.visible_bias):
                weight += move[start : start + weight.numel()].view_as(weight)
                start += weight.numel()
    return {"looks": looks}


def gradients_at(model: Enumerated, k: int) -> dict[str, Any]:
    """Return the gradients at these weights: of the likelihood, its terms, CD-1 .. CD-k, and the reconstruction."""
    rbm, log_up, log_down = model.rbm, model.log_up(), model.log_down()
    up, down = log_up.detach().exp(), log_down.detach().exp()
    energies = rbm.free_energy(model.v)
    log_p = -energies - (-energies).logsumexp(0)
    exact = model.gradient(model.data @ log_p)
    visible, terms, divergences, residuals = model.data, [], [], []
    for _ in range(k):
        hidden = visible @ up
        # E log p(x_s | h_s), then E log p(h_s | x_(s+1)); the distribution of the chain is held fixed.
        terms.append(model.gradient(((visible[:, None] * up).t() * log_down).sum()))
        visible = hidden @ down
        terms.append(model.gradient(((hidden[:, None] * down).t() * log_up).sum()))
        divergences.append(model.energy_gradient(visible) - model.energy_gradient(model.data))
        residuals.append(model.gradient(visible @ log_p))
    sums = torch.stack(terms).cumsum(0)[1::2]
    means = _log_bernoulli(rbm.down(rbm.hidden_mean(model.v)), model.v)
    reconstruction = model.gradient(model.data @ means.diagonal())
    gradients = {f"CD-{n}": divergences[n - 1] for n in SHOWN} | {
        "first term": terms[0], "reconstruction error": reconstruction,
    }  # fmt: skip
    largest = exact.norm().clamp(min=1e-300)
    return {
        "log_likelihood": float((model.data @ log_p).detach()),
        "largest_weight": float(rbm.weight.detach().abs().max()),
        "terms": [float(term.norm()) for term in terms],
        "terms_beside_cd": float((sums - torch.stack(divergences)).norm(dim=1).max() / largest),
        "terms_beside_exact": float((sums + torch.stack(residuals) - exact).norm(dim=1).max() / largest),
        "residuals": [float(residual.norm() / largest) for residual in residuals],
        "angles": {name: angle(gradient, exact) for name, gradient in gradients.items()},
        "reconstruction_beside_cd": angle(reconstruction, divergences[0]),
        "signs": {
            name: float((gradient.sign() == exact.sign()).double().mean()) for name, gradient in gradients.items()
        },
    }


def angle(a: Float[Tensor, " weights"], b: Float[Tensor, " weights"]) -> float:
    """Return the angle between two vectors in degrees.

    Example:
        >>> round(angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])))
        45
    """
    cosine = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _looks(results: Results) -> list[dict[str, Any]]:
    """Return the measurements at all steps of all RBMs."""
    return [one for cell in results.values() for one in cell["looks"]]


def _mean(results: Results, time: int, of: str, name: str) -> float:
    """Return the mean of a measurement at one step over the RBMs."""
    values = [cell["looks"][time][of][name] for cell in results.values()]
    return sum(values) / len(values)


def _rows(results: Results, setup: _Setup) -> list[Row]:
    every, times = _looks(results), [one["step"] for one in next(iter(results.values()))["looks"]]
    signs = [one["signs"]["CD-1"] for one in every]
    rows = [
        setup.row("first 2k terms minus CD-k, relative to the gradient, largest",
                  max(one["terms_beside_cd"] for one in every), "terms", ".1e"),
        setup.row("first 2k terms plus residual minus the gradient, relative, largest",
                  max(one["terms_beside_exact"] for one in every), "whole", ".1e"),
        setup.row(f"residual after {K} steps over that after one, largest",
                  max(one["residuals"][-1] / one["residuals"][0] for one in every), "residual", ".3f"),
        setup.row("share of correct signs of CD-1, mean over RBMs and steps", sum(signs) / len(signs), "sign"),
        Row("share of correct signs of CD-1, least", min(signs)),
    ]  # fmt: skip
    for time, step in enumerate(times):
        rows += [
            Row(f"step {step}: degrees from the gradient, {name}", _mean(results, time, "angles", name), form=".1f")
            for name in every[0]["angles"]
        ]
    last = len(times) - 1
    grown = _mean(results, last, "angles", "CD-1") / _mean(results, 0, "angles", "CD-1")
    fallen = _mean(results, last, "angles", f"CD-{K}") / _mean(results, last, "angles", "CD-1")
    least = min(
        _mean(results, time, "angles", "reconstruction error") - _mean(results, time, "angles", "CD-1")
        for time in range(len(times))
    )
    return [
        *rows,
        setup.row("angle of CD-1, last step over first step", grown, "grows"),
        setup.row(f"last step: angle of CD-{K} over that of CD-1", fallen, "falls"),
        setup.row("angle of the reconstruction error minus that of CD-1, degrees, least over the steps", least,
                  "earlier", ".1f"),
    ]  # fmt: skip


def _remarks(results: Results, setup: _Setup) -> list[str]:
    first = next(iter(results.values()))["looks"]
    course = "; ".join(
        f"step {one['step']}: largest weight {one['largest_weight']:.1f}, "
        f"log-likelihood {one['log_likelihood']:.2f} nats" for one in first
    )  # fmt: skip
    beside = ", ".join(f"{one['reconstruction_beside_cd']:.0f}" for one in first)
    return [
        f"First RBM: {course}.",
        "Degrees between the gradient of the reconstruction error and CD-1 of the first RBM, at these steps: "
        f"{beside}.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    times = [one["step"] for one in next(iter(results.values()))["looks"]]
    names = list(_looks(results)[0]["angles"])
    lines = {
        name: (list(range(len(times))), [_mean(results, time, "angles", name) for time in range(len(times))])
        for name in ("reconstruction error", *(name for name in names if name != "reconstruction error"))
    }
    angles = curves(lines, across="training steps", up="degrees from the gradient of the likelihood",
                    title="Longer chains give a better direction")  # fmt: skip
    angles.axes[0].set_xticks(range(len(times)), [f"{step:,}" for step in times])
    return {"angles": angles, "terms": _terms_picture(next(iter(results.values())))}


def _terms_picture(cell: Result) -> Figure:
    """Return the norms of the terms of the expansion at some steps of one run."""
    figure, ax = axes(7.6)
    looks = cell["looks"]
    for colour, one in zip(COLOURS, [looks[0], *looks[1:][-3:]], strict=False):
        ax.plot(range(1, len(one["terms"]) + 1), one["terms"], color=colour, marker="o", ms=3.5, lw=1.6,
                label=f"step {one['step']:,}")  # fmt: skip
    ax.set_yscale("log")
    ax.set_xticks(range(1, len(looks[0]["terms"]) + 1))
    ax.set_xlabel("term of the expansion (two for each Gibbs step)")
    ax.set_ylabel("norm")
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("Terms of the gradient decay more slowly for larger weights", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="cd-is-reconstruction",
    claim="CD-k is the first 2k terms of the likelihood gradient; the reconstruction error truncates it earlier.",
    source="Bengio & Delalleau, Justifying and generalizing contrastive divergence (2009)",
    protocol="An RBM of 9 x 6 binary units, all states enumerated, is trained on the 14 images of bars and stripes of "
    "3 x 3 by the expected CD-1 (rate .1, 5 RBMs). At some steps all gradients are computed exactly: of the "
    "log-likelihood; of each term of its expansion along the Gibbs chain, by autograd; of CD-k, in closed form; and of "
    "the mean-field reconstruction error, by back-propagation.",
    minutes=1,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
