"""A denoising autoencoder is a Gaussian restricted Boltzmann machine under denoising score matching."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from experiments.drawing import COLOURS, axes
from experiments.experiment import Cell, Experiment, Published, Result, Results, Row, Settings
from experiments.learning import rows_of
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
    "truth": Published(0.0, "within", _BLUR, 0.01),
    "nearer": Published(1.0, "at most", _BLUR),
}
"""What follows, compared with what came out and used for nothing else."""

QUICK = {name: PUBLISHED[name] for name in ("equal", "swersky")}

SEED = 0
SCALES = (0.25, 0.5, 1.0, 2.0)
"""Standard deviations of the noise at which the two criteria are set side by side."""

TRUE_VARIANCE, TRUE_MEANS, TRUE_SHARE = 0.09, (-1.0, 0.5), 0.4
"""A machine of one column and one hidden unit: two normal densities of one variance, and the share of the second."""


def _cells(quick: bool) -> list[Cell]:
    sides = {"rows": 50 if quick else 500, "hidden": 20 if quick else 100, "seed": SEED}
    cells = [Cell("criteria", {"data": "digits:train", **sides, "scales": list(SCALES)}, _beside)]
    grid = [(0.5, 2_000), (0.2, 2_000)] if quick else [(0.5, 10_000), (0.2, 100_000), (0.1, 1_000_000)]
    for scale, n in grid:
        settings = {"scale": scale, "n": n, "steps": 50 if quick else 400, "draws": 4, "seed": SEED}
        cells.append(Cell(f"noise-{scale:g}", settings, _recover))
    return cells


# -- the criteria side by side ------------------------------------------------------------------------


def _beside(settings: Settings, state: Path) -> Result:
    """Both criteria of the same weights on the same noisy rows, for each scale of the noise."""
    rows = torch.from_numpy(rows_of(settings["data"])[: settings["rows"]]).double().flatten(1)
    x = (rows - rows.mean(0)) / rows.std()
    found = {}
    for scale in settings["scales"]:
        machines = {"own": machine(x, settings, scale), "unit": machine(x, settings, 1.0)}
        found[f"{scale:g}"] = {name: ratio(made, x, scale, settings["seed"]) for name, made in machines.items()}
        found[f"{scale:g}"]["paper"] = paper_ratio(machines["own"], x, scale, settings["seed"])
    return {"ratios": found, "swersky": swersky(machine(x, settings, 1.0), x)}


def machine(x: Float[Tensor, "rows columns"], settings: Settings, deviation: float) -> RBMEnergy:
    """A machine of one variance for all columns, with weights like those of one that has learned."""
    generator = torch.Generator().manual_seed(settings["seed"])
    likelihood = GaussianLearned(x.shape[1])
    made = RBMEnergy(likelihood, settings["hidden"], weight_scale=0.3, generator=generator).double()
    with torch.no_grad():
        for bias in (made.visible_bias, made.hidden_bias):
            bias.copy_(0.3 * torch.randn(bias.shape, generator=generator))
        likelihood.free_log_variance.fill_(10 * math.atanh(2 * math.log(deviation) / 10))  # its soft bound undone
    return made


def noisy(x: Float[Tensor, "rows columns"], scale: float, seed: int) -> Float[Tensor, "rows columns"]:
    """Rows with Gaussian noise."""
    generator = torch.Generator().manual_seed(seed)
    return x + scale * torch.randn(x.shape, generator=generator, dtype=x.dtype)


def score(made: RBMEnergy, x: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """d log p / dx, by autograd on the free energy."""
    x = x.clone().requires_grad_()
    return -torch.autograd.grad(made.free_energy(x).sum(), x)[0]


def ratio(made: RBMEnergy, x: Float[Tensor, "rows columns"], scale: float, seed: int) -> float:
    """Denoising score matching of the machine over the squared error of the denoising autoencoder of its weights."""
    seen = noisy(x, scale, seed)
    matching = 0.5 * (score(made, seen) - (x - seen) / scale**2).square().sum(1).mean()
    error = (made.mean_field(seen) - x).square().sum(1).mean()
    return float((matching / error).detach())


def paper_ratio(made: RBMEnergy, x: Float[Tensor, "rows columns"], scale: float, seed: int) -> float:
    """The same of the paper's energy, -(c' x - 1/2 ||x||^2 + sum_j softplus(W_j x + b_j)) / s^2."""
    seen = noisy(x, scale, seed).requires_grad_()
    a = torch.nn.functional.linear(seen, made.weight, made.hidden_bias)
    log_p = (seen @ made.visible_bias - 0.5 * seen.square().sum(1) + torch.nn.functional.softplus(a).sum(1)) / scale**2
    (slope,) = torch.autograd.grad(log_p.sum(), seen, retain_graph=True)
    matching = 0.5 * (slope - (x - seen) / scale**2).square().sum(1).mean()
    error = (made.down(torch.sigmoid(a)) - x).square().sum(1).mean()
    return float((matching / error).detach())


def swersky(made: RBMEnergy, x: Float[Tensor, "rows columns"]) -> dict[str, float]:
    """Score matching by autograd beside 1/2 ||r - x||^2 + sum_i h_i (1 - h_i) ||W_i||^2 - columns, unit variance."""
    few = x[:20]
    rows = few.clone().requires_grad_()
    (psi,) = torch.autograd.grad(-made.free_energy(rows).sum(), rows, create_graph=True)
    divergence = torch.zeros(len(few), dtype=few.dtype)
    for column in range(few.shape[1]):
        divergence += torch.autograd.grad(psi[:, column].sum(), rows, retain_graph=True)[0][:, column]
    by_autograd = (0.5 * psi.square().sum(1) + divergence).detach()
    h = made.hidden_mean(few)
    reconstruction = 0.5 * (made.mean_field(few) - few).square().sum(1)
    contraction = (h * (1 - h)) @ made.weight.square().sum(1)
    formula = (reconstruction + contraction - few.shape[1]).detach()
    return {
        "difference": float((by_autograd - formula).abs().max() / formula.abs().mean()),
        "reconstruction": float(reconstruction.detach().mean()), "contraction": float(contraction.detach().mean()),
    }  # fmt: skip


# -- which density is recovered -----------------------------------------------------------------------


def _recover(settings: Settings, state: Path) -> Result:
    """Fit the machine of one hidden unit to rows of a known one by denoising score matching, noise of one scale."""
    generator = torch.Generator().manual_seed(settings["seed"])
    second = torch.rand(settings["n"], 1, generator=generator, dtype=torch.float64) < TRUE_SHARE
    means = torch.where(second, TRUE_MEANS[1], TRUE_MEANS[0]).double()
    x = means + math.sqrt(TRUE_VARIANCE) * torch.randn(means.shape, generator=generator, dtype=torch.float64)
    likelihood = GaussianLearned(1)
    made = RBMEnergy(likelihood, 1, generator=generator).double()
    with torch.no_grad():  # two densities to begin with: one alone has no slope towards two
        made.visible_bias.fill_(float(x.mean()) - 0.5)
        made.weight.fill_(1.0)
    objective = ScoreMatching(made, noise_scale=settings["scale"])
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=settings["steps"], line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        # The same noise at every step, several draws a row: a criterion that a line search can go down.
        draws = torch.Generator().manual_seed(settings["seed"] + 1)
        loss = torch.stack([objective.denoising(x, draws).mean() for _ in range(settings["draws"])]).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return {"variance": float(likelihood.variance.detach()), "density": _density(made).tolist(), **_parts(made)}


def _grid() -> Float[Tensor, " points"]:
    return torch.linspace(-3, 2.5, 221, dtype=torch.float64)


@torch.no_grad()
def _density(made: RBMEnergy) -> Float[Tensor, " points"]:
    return (-made.free_energy(_grid()[:, None]) - made.log_partition()).exp()


@torch.no_grad()
def _parts(made: RBMEnergy) -> dict[str, float]:
    """The means of the two densities and the share of the second."""
    states = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    share = torch.softmax(-made.hidden_free_energy(states), 0)
    means = made.down(states).flatten()
    order = means.argsort()
    return {"low": float(means[order[0]]), "high": float(means[order[1]]), "share": float(share[order[1]])}


def true_density(variance: float) -> Float[Tensor, " points"]:
    """The density that the rows were drawn from, with another variance.

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
    """Half the area between two densities: the total variation."""
    step = float(_grid()[1] - _grid()[0])
    return float((torch.tensor(density, dtype=torch.float64) - other).abs().sum() * step / 2)


def _recovered(results: Results) -> dict[float, Result]:
    return {float(name.removeprefix("noise-")): cell for name, cell in results.items() if name != "criteria"}


def _rows(results: Results, quick: bool) -> list[Row]:
    published = QUICK if quick else PUBLISHED
    ratios, exact = results["criteria"]["ratios"], results["criteria"]["swersky"]
    rows = []
    for scale in SCALES:
        one, expected = ratios[f"{scale:g}"], 1 / (2 * scale**4)
        own, paper = (one[name] / expected - 1 for name in ("own", "paper"))
        rows += [
            Row(f"s = {scale:g}: score matching over denoising, machine of variance s^2", one["own"]),
            Row(
                f"s = {scale:g}: that ratio over 1 / (2 s^4), less 1",
                own,
                published["equal"],
                ".1e",
            ),
            Row(
                f"s = {scale:g}: the same for the paper's energy",
                paper,
                published["equal"],
                ".1e",
            ),
            Row(f"s = {scale:g}: the ratio for a machine of unit variance", one["unit"]),
        ]
    rows += [
        Row("score matching less reconstruction and contractive-like term, relative", exact["difference"],
            published["swersky"], ".1e"),
        Row("of these the reconstruction, nats a row", exact["reconstruction"]),
        Row("and the contractive-like term", exact["contraction"]),
    ]  # fmt: skip
    distances = []
    for scale, cell in _recovered(results).items():
        blurred = TRUE_VARIANCE + scale**2
        distances.append(_distance(cell["density"], true_density(TRUE_VARIANCE)))
        rows += [
            Row(f"s = {scale:g}: variance recovered, where {blurred:.2f} is that of the blurred rows", cell["variance"],
                form=".4f"),
            Row(f"s = {scale:g}: total variation from the blurred density", _distance(cell["density"],
                true_density(blurred)), published.get("blurred"), ".4f"),
            Row(f"s = {scale:g}: total variation from the true one", distances[-1], form=".4f"),
        ]  # fmt: skip
    return [
        *rows,
        Row("total variation from the true density, least noise over most", distances[-1] / distances[0],
            published.get("nearer")),
    ]  # fmt: skip


def _remarks(results: Results, quick: bool) -> list[str]:
    ends = "; ".join(
        f"s = {scale:g}: {cell['low']:.3f} and {cell['high']:.3f}, share {cell['share']:.3f}"
        for scale, cell in _recovered(results).items()
    )
    return [
        "The paper's energy divides all of a unit-variance machine's free energy by s^2. exp(-E) is then a product of "
        "(1 + exp(a_j))^(1/s^2), which binary hidden units give only at s = 1; the machine with binary units for any s "
        "has the variance s^2 and the hidden input W x / s^2 + b.",
        f"The means of the two densities and the share of the second, where {TRUE_MEANS[0]:g} and {TRUE_MEANS[1]:g}, "
        f"{TRUE_SHARE:g} are true: {ends}.",
    ]


def _pictures(results: Results, quick: bool) -> dict[str, Figure]:
    figure, place = axes(7.6)
    x, colours = _grid().tolist(), list(COLOURS)
    place.plot(x, true_density(TRUE_VARIANCE).tolist(), color=colours.pop(0), ls="--", lw=1.6, label="the rows' own")
    for scale, cell in _recovered(results).items():
        place.plot(x, cell["density"], color=colours.pop(0), lw=1.8, label=f"recovered with noise {scale:g}")
    place.set_xlabel("x")
    place.set_ylabel("density")
    place.set_ylim(bottom=0)
    place.legend(frameon=False, fontsize=9)
    place.set_title("Denoising learns the density of blurred rows, and the true one as the noise goes", fontsize=11,
                    loc="left")  # fmt: skip
    return {"densities": figure}


EXPERIMENT = Experiment(
    name="dae-is-rbm",
    claim="The denoising criterion is denoising score matching of a Gaussian machine, and learns the blurred density.",
    source="Vincent, A connection between score matching and denoising autoencoders (2011); Swersky et al. (2011)",
    protocol="Random weights of 64-100 on 500 standardised digits, in float64: denoising score matching by autograd on "
    "the free energy beside the squared error of the tied sigmoid-linear autoencoder, on the same noisy rows, for four "
    "scales. "
    "Then rows of a known machine of one column and one hidden unit (variance .09) are fitted by denoising score "
    "matching with a learned variance: noise .5, .2 and .1 on 10,000, 100,000 and 1,000,000 rows.",
    minutes=1,
    seed=SEED,
    cells=_cells,
    rows=_rows,
    remarks=_remarks,
    pictures=_pictures,
)
