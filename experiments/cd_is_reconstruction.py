"""Contrastive divergence is a truncated gradient of the likelihood, and reconstruction error one truncated earlier."""

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
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.likelihoods import Bernoulli

_THEOREM = "Bengio & Delalleau (2009): CD-k is the first 2k terms of the gradient"
_RESIDUAL = "Bengio & Delalleau (2009): the residual converges to zero"
_SIGN = "Bengio & Delalleau (2009): the sign is correct most of the time, even when the bias is large"
_BIAS = "Bengio & Delalleau (2009): the bias grows with the weights and falls with k"
_EARLIER = "Bengio & Delalleau (2009): reconstruction error truncates even more than CD"

PUBLISHED = {
    "terms": Published(0.0, "within", _THEOREM, 1e-10),
    "whole": Published(0.0, "within", _THEOREM, 1e-10),
    "residual": Published(1.0, "at most", _RESIDUAL),
    "sign": Published(0.5, "at least", _SIGN),
    "grows": Published(1.0, "at least", _BIAS),
    "falls": Published(1.0, "at most", _BIAS),
    "earlier": Published(0.0, "at least", _EARLIER),
}
"""What is claimed, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("terms", "whole")}

SEED = 0
K = 10
SHOWN = (1, 2, 5, 10)
"""Gibbs steps whose contrastive divergence is looked at."""


def _cells(quick: bool) -> list[Cell]:
    shape = {"side": 2, "hidden": 3, "looks": [0, 5, 10]} if quick else {
        "side": 3, "hidden": 6, "looks": [0, 30, 100, 300, 1000, 3000],
    }  # fmt: skip
    return [
        Cell(f"machine-{n}", {**shape, "seed": SEED, "machine": n, "learning_rate": 0.1, "steps": K}, _follow)
        for n in range(1 if quick else 5)
    ]


def bars_and_stripes(side: int) -> Float[Tensor, "images pixels"]:
    """Every image of whole rows, and every image of whole columns, each once.

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
    """A small machine with all of its states written out, and the gradients of what is said of them.

    Attributes:
        machine: in float64.
        v, h: every state of either layer.
        data: the share of the rows that each state of v is.
    """

    machine: RBMEnergy
    v: Float[Tensor, "states columns"]
    h: Float[Tensor, "states hidden"]
    data: Float[Tensor, " states"]

    def log_up(self) -> Float[Tensor, "visible hidden"]:
        """log p(h | v), every pair."""
        return _log_bernoulli(self.machine(self.v), self.h)

    def log_down(self) -> Float[Tensor, "hidden visible"]:
        """log p(v | h), every pair."""
        return _log_bernoulli(self.machine.down(self.h), self.v)

    def gradient(self, value: Tensor) -> Float[Tensor, " weights"]:
        """Of a number, by all weights in one line."""
        weights = [self.machine.weight, self.machine.hidden_bias, self.machine.visible_bias]
        parts = torch.autograd.grad(value, weights, retain_graph=True, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    def energy_gradient(self, share: Float[Tensor, " states"]) -> Float[Tensor, " weights"]:
        """sum_v share(v) dF(v), in closed form: minus the mean statistics."""
        h = self.machine.hidden_mean(self.v).detach()
        return -torch.cat([((h * share[:, None]).t() @ self.v).flatten(), share @ h, share @ self.v])


def _log_bernoulli(logits: Float[Tensor, "given units"], states: Float[Tensor, "states units"]) -> Tensor:
    """log of every state under every line of logits, (given, states)."""
    return logits @ states.t() - torch.nn.functional.softplus(logits).sum(1, keepdim=True)


def enumerated(settings: Settings) -> Enumerated:
    """The machine before learning, and the distribution it is to learn."""
    rows = bars_and_stripes(settings["side"])
    generator = torch.Generator().manual_seed(settings["seed"] + settings["machine"])
    machine = RBMEnergy(Bernoulli(rows.shape[1]), settings["hidden"], weight_scale=0.1, generator=generator).double()
    v, h = (torch.tensor(list(product([0.0, 1.0], repeat=n)), dtype=torch.float64)
            for n in (rows.shape[1], settings["hidden"]))  # fmt: skip
    data = (v[:, None] == rows).all(2).any(1).double()
    return Enumerated(machine, v, h, data / data.sum())


def _follow(settings: Settings, state: Path) -> Result:
    """Learn by the expected CD-1, and look at every gradient now and then."""
    world, looks = enumerated(settings), []
    machine = world.machine
    for step in range(max(settings["looks"]) + 1):
        if step in settings["looks"]:
            looks.append({"step": step, **look(world, settings["steps"])})
        with torch.no_grad():
            reached = world.data @ world.log_up().exp() @ world.log_down().exp()
            move = settings["learning_rate"] * (world.energy_gradient(reached) - world.energy_gradient(world.data))
            start = 0
            for weight in (machine.weight, machine.hidden_bias, machine.visible_bias):
                weight += move[start : start + weight.numel()].view_as(weight)
                start += weight.numel()
    return {"looks": looks}


def look(world: Enumerated, k: int) -> dict[str, Any]:
    """Every gradient at these weights: of the likelihood, of its terms, of CD-1 .. CD-k, of the reconstruction."""
    machine, log_up, log_down = world.machine, world.log_up(), world.log_down()
    up, down = log_up.detach().exp(), log_down.detach().exp()
    energies = machine.free_energy(world.v)
    log_p = -energies - (-energies).logsumexp(0)
    exact = world.gradient(world.data @ log_p)
    visible, terms, divergences, residuals = world.data, [], [], []
    for _ in range(k):
        hidden = visible @ up
        # E log p(x_s | h_s), then E log p(h_s | x_(s+1)); the chain of which they are expectations is held.
        terms.append(world.gradient(((visible[:, None] * up).t() * log_down).sum()))
        visible = hidden @ down
        terms.append(world.gradient(((hidden[:, None] * down).t() * log_up).sum()))
        divergences.append(world.energy_gradient(visible) - world.energy_gradient(world.data))
        residuals.append(world.gradient(visible @ log_p))
    sums = torch.stack(terms).cumsum(0)[1::2]
    means = _log_bernoulli(machine.down(machine.hidden_mean(world.v)), world.v)
    reconstruction = world.gradient(world.data @ means.diagonal())
    told = {f"CD-{n}": divergences[n - 1] for n in SHOWN} | {
        "first term": terms[0], "reconstruction error": reconstruction,
    }  # fmt: skip
    largest = exact.norm().clamp(min=1e-300)
    return {
        "log_likelihood": float((world.data @ log_p).detach()),
        "largest_weight": float(machine.weight.detach().abs().max()),
        "terms": [float(term.norm()) for term in terms],
        "terms_beside_cd": float((sums - torch.stack(divergences)).norm(dim=1).max() / largest),
        "terms_beside_exact": float((sums + torch.stack(residuals) - exact).norm(dim=1).max() / largest),
        "residuals": [float(residual.norm() / largest) for residual in residuals],
        "angles": {name: angle(gradient, exact) for name, gradient in told.items()},
        "reconstruction_beside_cd": angle(reconstruction, divergences[0]),
        "signs": {name: float((gradient.sign() == exact.sign()).double().mean()) for name, gradient in told.items()},
    }


def angle(a: Float[Tensor, " weights"], b: Float[Tensor, " weights"]) -> float:
    """Between two directions, degrees.

    Example:
        >>> round(angle(torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])))
        45
    """
    cosine = float(torch.nn.functional.cosine_similarity(a, b, dim=0))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def _looks(results: Results) -> list[dict[str, Any]]:
    """What was seen at every time of every machine."""
    return [one for cell in results.values() for one in cell["looks"]]


def _mean(results: Results, time: int, of: str, name: str) -> float:
    """A measure at one time, the mean over the machines."""
    values = [cell["looks"][time][of][name] for cell in results.values()]
    return sum(values) / len(values)


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    every, times = _looks(results), [one["step"] for one in next(iter(results.values()))["looks"]]
    signs = [one["signs"]["CD-1"] for one in every]
    rows = [
        Row("first 2k terms beside CD-k, largest difference over it", max(o["terms_beside_cd"] for o in every),
            published["terms"], ".1e"),
        Row("first 2k terms and the residual beside the gradient, largest difference",
            max(o["terms_beside_exact"] for o in every), published["whole"], ".1e"),
        Row(f"residual after {K} steps over that after one, largest",
            max(o["residuals"][-1] / o["residuals"][0] for o in every), published.get("residual"), ".3f"),
        Row("share of signs that CD-1 has right, the mean over machines and steps", sum(signs) / len(signs),
            published.get("sign")),
        Row("the least of these", min(signs)),
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
        Row("angle of CD-1 at the end over the start", grown, published.get("grows")),
        Row(f"at the end: angle of CD-{K} over that of CD-1", fallen, published.get("falls")),
        Row("degrees by which the reconstruction error is farther off than CD-1, least over training", least,
            published.get("earlier"), ".1f"),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    first = next(iter(results.values()))["looks"]
    told = "; ".join(
        f"step {one['step']}: largest weight {one['largest_weight']:.1f}, "
        f"log-likelihood {one['log_likelihood']:.2f} nats" for one in first
    )  # fmt: skip
    beside = ", ".join(f"{one['reconstruction_beside_cd']:.0f}" for one in first)
    return [
        f"Of the first machine, {told}.",
        f"Degrees between the reconstruction error's gradient and CD-1's, first machine, at these steps: {beside}.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    times = [one["step"] for one in next(iter(results.values()))["looks"]]
    names = list(_looks(results)[0]["angles"])
    lines = {
        name: (list(range(len(times))), [_mean(results, time, "angles", name) for time in range(len(times))])
        for name in ("reconstruction error", *(name for name in names if name != "reconstruction error"))
    }
    angles = curves(lines, across="steps of learning", up="degrees from the gradient of the likelihood",
                    title="The farther the chain is followed, the nearer the direction")  # fmt: skip
    angles.axes[0].set_xticks(range(len(times)), [f"{step:,}" for step in times])
    return {"angles": angles, "terms": _terms_picture(next(iter(results.values())))}


def _terms_picture(cell: Result) -> Figure:
    """The norm of each term of the expansion, at some times of one run."""
    figure, place = axes(7.6)
    looks = cell["looks"]
    for colour, one in zip(COLOURS, [looks[0], *looks[1:][-3:]], strict=False):
        place.plot(range(1, len(one["terms"]) + 1), one["terms"], color=colour, marker="o", ms=3.5, lw=1.6,
                   label=f"step {one['step']:,}")  # fmt: skip
    place.set_yscale("log")
    place.set_xticks(range(1, len(looks[0]["terms"]) + 1))
    place.set_xlabel("term of the expansion (two for each Gibbs step)")
    place.set_ylabel("norm")
    place.legend(frameon=False, fontsize=9)
    place.set_title("Terms of the gradient: the larger the weights, the slower they fall", fontsize=11, loc="left")
    return figure


EXPERIMENT = Experiment(
    name="cd-is-reconstruction",
    claim="CD-k is the first 2k terms of the gradient of the likelihood; reconstruction error is still less of it.",
    source="Bengio & Delalleau, Justifying and generalizing contrastive divergence (2009)",
    protocol="A machine of 9 x 6 binary units, all its states enumerated, learns the 14 images of bars or stripes of "
    "3 x 3 by the expected CD-1 (rate .1, 5 machines). At some steps all gradients are had exactly: of the "
    "log-likelihood; of each term of its expansion along the Gibbs chain, by autograd; of CD-k, in closed form; and of "
    "the mean-field reconstruction error, back-propagated.",
    minutes=1,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
