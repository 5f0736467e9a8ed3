"""A denoising autoencoder is a Gaussian restricted Boltzmann machine under denoising score matching."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings, Setup, Target
from experiments.learning import load_rows
from isthmus.learning.score_matching import ScoreMatching
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.likelihoods import GaussianLearned

_VINCENT = "Vincent (2011), section 4.3: the criteria are proportional, by 1 / (2 s^4)"
_SWERSKY = "Swersky et al. (2011), section 4: reconstruction and a contractive-like term"
_BLUR = "Vincent (2011), section 4.2: denoising score matching is score matching of the blurred rows"

PUBLISHED = {
    "equal": Published(0.0, "within", _VINCENT, 1e-9),
    "swersky": Published(0.0, "within", _SWERSKY, 1e-9),
    "blurred": Published(0.0, "within", _BLUR, 0.01),
}

TARGETS = {"nearer": Target(1.0, "at most", "less noise blurs the density less")}

SEED = 0
SCALES = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations of the noise at which the two criteria are compared."""

TRUE_VARIANCE, TRUE_MEANS, TRUE_SHARE = 0.09, (-1.0, 0.5), 0.4
"""An RBM of one column and one hidden unit: two normal densities of one variance, and the share of the second."""


@dataclass(frozen=True, kw_only=True)
class _Setup(Setup):
    rows: int
    hidden: int
    grid: tuple[tuple[float, int], ...]
    """Scale of the noise and number of rows of each fit."""
    steps: int


FULL = _Setup(
    published=PUBLISHED, targets=TARGETS, rows=500, hidden=100, grid=((0.5, 10_000), (0.2, 100_000), (0.1, 1_000_000)),
    steps=400,
)  # fmt: skip

QUICK = _Setup(
    published={name: PUBLISHED[name] for name in ("equal", "swersky")}, rows=50, hidden=20,
    grid=((0.5, 2_000), (0.2, 2_000)), steps=50,
)  # fmt: skip


def _cells(setup: _Setup) -> list[Cell]:
    criteria = {"data": "digits:train", "rows": setup.rows, "hidden": setup.hidden, "seed": SEED}
    cells = [Cell("criteria", {**criteria, "scales": list(SCALES)}, _compare)]
    for scale, n in setup.grid:
        settings = {"scale": scale, "n": n, "steps": setup.steps, "draws": 4, "seed": SEED}
        cells.append(Cell(f"noise-{scale:g}", settings, _recover))
    return cells


# -- comparison of the criteria -----------------------------------------------------------------------


def _compare(settings: Settings, state: Path) -> Result:
    """Evaluate both criteria for the same weights on the same noisy rows, at each scale of the noise."""
    rows = torch.from_numpy(load_rows(settings["data"])[: settings["rows"]]).double().flatten(1)
    x = (rows - rows.mean(0)) / rows.std()
    found = {}
    for scale in settings["scales"]:
        models = {"own": random_rbm(x, settings, scale), "unit": random_rbm(x, settings, 1.0)}
        found[f"{scale:g}"] = {name: ratio(rbm, x, scale, settings["seed"]) for name, rbm in models.items()}
        found[f"{scale:g}"]["paper"] = paper_ratio(models["own"], x, scale, settings["seed"])
    return {"ratios": found, "swersky": swersky(random_rbm(x, settings, 1.0), x)}


def random_rbm(x: Float[Tensor, "rows columns"], settings: Settings, deviation: float) -> RBMEnergy:
    """Return an RBM of one variance for all columns, with random weights of the size that trained ones have."""
    generator = torch.Generator().manual_seed(settings["seed"])
    likelihood = GaussianLearned(x.shape[1])
    rbm = RBMEnergy(likelihood, settings["hidden"], weight_scale=0.3, generator=generator).double()
    with torch.no_grad():
        for bias in (rbm.visible_bias, rbm.hidden_bias):
            bias.copy_(0.3 * torch.randn(bias.shape, generator=generator))
        likelihood.free_log_variance.fill_(
            10 * math.atanh(2 * math.log(deviation) / 10)
        )  # the inverse of its soft bound
    return rbm


def noisy(x: Float[Tensor, "rows columns"], scale: float, seed: int) -> Float[Tensor, "rows columns"]:
    """Return the rows with Gaussian noise."""
    generator = torch.Generator().manual_seed(seed)
    return x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def score(rbm: RBMEnergy, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """Return d log p / dx by autograd on the free energy."""
    x = x.clone().requires_grad_()
    return -torch.autograd.grad(rbm.free_energy(x).sum(), x)[0]


def ratio(rbm: RBMEnergy, x: Float[Tensor, "rows columns"], scale: float, seed: int) -> float:
    """Return denoising score matching of the RBM over the squared error of the denoising autoencoder of its weights."""
    x_noisy = noisy(x, scale, seed)
    matching = 0.5 * (score(rbm, x_noisy) - (x - x_noisy) / scale**2).square().sum(1).mean()
    error = (rbm.mean_field(x_noisy) - x).square().sum(1).mean()
    return float((matching / error).detach())


def paper_ratio(rbm: RBMEnergy, x: Float[Tensor, "rows columns"], scale: float, seed: int) -> float:
    """Return the ratio for the energy of the paper, -(c' x - 1/2 ||x||^2 + sum_j softplus(W_j x + b_j)) / s^2."""
    x_noisy = noisy(x, scale, seed).requires_grad_()
    a = torch.nn.functional.linear(x_noisy, rbm.weight, rbm.hidden_bias)
    log_p = (
        x_noisy @ rbm.visible_bias - 0.5 * x_noisy.square().sum(1) + torch.nn.functional.softplus(a).sum(1)
    ) / scale**2
    (slope,) = torch.autograd.grad(log_p.sum(), x_noisy, retain_graph=True)
    matching = 0.5 * (slope - (x - x_noisy) / scale**2).square().sum(1).mean()
    error = (rbm.down(torch.sigmoid(a)) - x).square().sum(1).mean()
    return float((matching / error).detach())


def swersky(rbm: RBMEnergy, x: Float[Tensor, "rows columns"]) -> dict[str, float]:
    """Compare score matching with 1/2 ||r - x||^2 + sum_i h_i (1 - h_i) ||W_i||^2 - columns, for unit variance."""
    few = x[:20]
    rows = few.clone().requires_grad_()
    (psi,) = torch.autograd.grad(-rbm.free_energy(rows).sum(), rows, create_graph=True)
    divergence = torch.zeros(len(few), dtype=few.dtype)
    for column in range(few.shape[1]):
        divergence += torch.autograd.grad(psi[:, column].sum(), rows, retain_graph=True)[0][:, column]
    by_autograd = (0.5 * psi.square().sum(1) + divergence).detach()
    h = rbm.hidden_mean(few)
    reconstruction = 0.5 * (rbm.mean_field(few) - few).square().sum(1)
    contraction = (h * (1 - h)) @ rbm.weight.square().sum(1)
    formula = (reconstruction + contraction - few.shape[1]).detach()
    return {
        "difference": float((by_autograd - formula).abs().max() / formula.abs().mean()),
        "reconstruction": float(reconstruction.detach().mean()), "contraction": float(contraction.detach().mean()),
    }  # fmt: skip


# -- the recovered density ----------------------------------------------------------------------------


def _recover(settings: Settings, state: Path) -> Result:
    """Fit an RBM of one hidden unit to rows of a known one by denoising score matching, noise of one scale."""
    generator = torch.Generator().manual_seed(settings["seed"])
    second = torch.rand(settings["n"], 1, generator=generator, dtype=torch.float64) < TRUE_SHARE
    means = torch.where(second, TRUE_MEANS[1], TRUE_MEANS[0]).double()
    x = means + math.sqrt(TRUE_VARIANCE) * torch.randn(means.shape, generator=generator, dtype=torch.float64)
    likelihood = GaussianLearned(1)
    rbm = RBMEnergy(likelihood, 1, generator=generator).double()
    with torch.no_grad():  # start with two components: a single one has zero gradient towards two
        rbm.visible_bias.fill_(float(x.mean()) - 0.5)
        rbm.weight.fill_(1.0)
    objective = ScoreMatching(rbm, noise_scale=settings["scale"])
    optimizer = torch.optim.LBFGS(rbm.parameters(), max_iter=settings["steps"], line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # The same noise at every step, several samples a row: the line search needs a deterministic criterion.
        draws = torch.Generator().manual_seed(settings["seed"] + 1)
        loss = torch.stack([objective.denoising(x, draws).mean() for _ in range(settings["draws"])]).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"variance": float(likelihood.variance.detach()), "density": _density(rbm).tolist(), **_parts(rbm)}


def _grid() -> Float[Tensor, " points"]:
    return torch.linspace(-3, 2.5, 221, dtype=torch.float64)


@torch.no_grad()
def _density(rbm: RBMEnergy) -> Float[Tensor, " points"]:
    return (-rbm.free_energy(_grid()[:, None]) - rbm.log_partition()).exp()


@torch.no_grad()
def _parts(rbm: RBMEnergy) -> dict[str, float]:
    """Return the means of the two components and the share of the second."""
    states = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    share = torch.softmax(-rbm.hidden_free_energy(states), 0)
    means = rbm.down(states).flatten()
    order = means.argsort()
    return {"low": float(means[order[0]]), "high": float(means[order[1]]), "share": float(share[order[1]])}


def true_density(variance: float) -> Float[Tensor, " points"]:
    """Return the density of the rows with another variance.

    Example:
        >>> round(float(true_density(0.5).sum() * 5.5 / 220), 2)
        1.0
    """
    shares = ((1 - TRUE_SHARE), TRUE_SHARE)
    normals = [torch.distributions.Normal(mean, math.sqrt(variance)) for mean in TRUE_MEANS]
    return torch.stack(
        [share * normal.log_prob(_grid()).exp() for share, normal in zip(shares, normals, strict=True)]
    ).sum(0)


def _distance(density: list[float], other: Float[Tensor, " points"]) -> float:
    """Return the total variation distance: half the area between two densities."""
    step = float(_grid()[1] - _grid()[0])
    return float((torch.tensor(density, dtype=torch.float64) - other).abs().sum() * step / 2)


def _recovered(results: Results) -> dict[float, Result]:
    return {float(name.removeprefix("noise-")): cell for name, cell in results.items() if name != "criteria"}


def _rows(results: Results, setup: _Setup) -> list[Row]:
    ratios, exact = results["criteria"]["ratios"], results["criteria"]["swersky"]
    rows = []
    for scale in SCALES:
        one, expected = ratios[f"{scale:g}"], 1 / (2 * scale**4)
        own, paper = (one[name] / expected - 1 for name in ("own", "paper"))
        rows += [
            Row(f"s = {scale:g}: score matching over denoising, RBM of variance s^2", one["own"]),
            setup.row(f"s = {scale:g}: that ratio over 1 / (2 s^4), minus 1", own, "equal", ".1e"),
            setup.row(f"s = {scale:g}: the same for the energy of the paper", paper, "equal", ".1e"),
            Row(f"s = {scale:g}: the ratio for an RBM of unit variance", one["unit"]),
        ]
    rows += [
        setup.row("score matching minus reconstruction and contractive-like term, relative", exact["difference"],
                  "swersky", ".1e"),
        Row("reconstruction term, nats a row", exact["reconstruction"]),
        Row("contractive-like term, nats a row", exact["contraction"]),
    ]  # fmt: skip
    distances = []
    for scale, cell in _recovered(results).items():
        blurred = TRUE_VARIANCE + scale**2
        distances.append(_distance(cell["density"], true_density(TRUE_VARIANCE)))
        rows += [
            Row(f"s = {scale:g}: recovered variance ({blurred:.2f} for the blurred rows)", cell["variance"],
                form=".4f"),
            setup.row(f"s = {scale:g}: total variation from the blurred density",
                      _distance(cell["density"], true_density(blurred)), "blurred", ".4f"),
            Row(f"s = {scale:g}: total variation from the true density", distances[-1], form=".4f"),
        ]  # fmt: skip
    ratio = distances[-1] / distances[0]
    return [*rows, setup.row("total variation from the true density, least noise over most noise", ratio, "nearer")]


def _remarks(results: Results, setup: _Setup) -> list[str]:
    ends = "; ".join(
        f"s = {scale:g}: {cell['low']:.3f} and {cell['high']:.3f}, share {cell['share']:.3f}"
        for scale, cell in _recovered(results).items()
    )
    return [
        "The energy of the paper is the free energy of a unit-variance RBM divided by s^2. exp(-E) is then a product "
        "of (1 + exp(a_j))^(1/s^2), which binary hidden units give only at s = 1. The RBM with binary units for any s "
        "has the variance s^2 and the hidden input W x / s^2 + b.",
        f"Recovered means of the two components and share of the second (true: {TRUE_MEANS[0]:g}, {TRUE_MEANS[1]:g} "
        f"and {TRUE_SHARE:g}): {ends}.",
    ]


def _pictures(results: Results, setup: _Setup) -> dict[str, Figure]:
    figure, ax = axes(7.6)
    x, colours = _grid().tolist(), list(COLOURS)
    ax.plot(x, true_density(TRUE_VARIANCE).tolist(), color=colours.pop(0), ls="--", lw=1.6, label="true density")
    for scale, cell in _recovered(results).items():
        ax.plot(x, cell["density"], color=colours.pop(0), lw=1.8, label=f"recovered with noise {scale:g}")
    ax.set_xlabel("x")
    ax.set_ylabel("density")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=9)
    ax.set_title("Denoising recovers the blurred density, and the true one as the noise vanishes", fontsize=11,
                 loc="left")  # fmt: skip
    return {"densities": figure}


EXPERIMENT = Experiment(
    name="dae-is-rbm",
    claim="The denoising criterion is denoising score matching of a Gaussian RBM, and recovers the blurred density.",
    source="Vincent, A connection between score matching and denoising autoencoders (2011); Swersky et al. (2011)",
    protocol="Random weights of 64-100 on 500 standardised digits, in float64: denoising score matching by autograd on "
    "the free energy, and the squared error of the tied sigmoid-linear autoencoder, on the same noisy rows, at four "
    "scales. Then an RBM is fitted to rows of a known RBM of one column and one hidden unit (variance .09) by "
    "denoising score matching with a learned variance: noise .5, .2 and .1 on 10,000, 100,000 and 1,000,000 rows.",
    minutes=1,
    seed=SEED,
    full=FULL,
    quick=QUICK,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
