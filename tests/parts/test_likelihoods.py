"""One table of likelihoods, each with an independent oracle, through one suite of properties.

Longer than 400 lines because table, oracles and suite are read together, and test files cannot import each other.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from isthmus.parts.likelihoods import (
    LIKELIHOODS,
    Categorical,
    Likelihood,
    Mixed,
    likelihood_from,
)

Block = tuple[Tensor, Tensor]
"""Points of a measure (points, columns) and the volume of each."""


def cartesian(*blocks: Block) -> Block:
    numbers = torch.cartesian_prod(*[torch.arange(len(volume)) for _, volume in blocks]).reshape(-1, len(blocks))
    points = torch.cat([block[0][number] for block, number in zip(blocks, numbers.T, strict=True)], dim=1)
    volumes = torch.stack([block[1][number] for block, number in zip(blocks, numbers.T, strict=True)])
    return points, volumes.prod(0)


def reordered(block: Block, columns: list[int]) -> Block:
    return block[0][:, columns], block[1]


def line(n_points: int = 241) -> Block:
    points = torch.linspace(-10, 10, n_points, dtype=torch.float64)
    return points[:, None], torch.full((n_points,), 20 / (n_points - 1), dtype=torch.float64)


def unit_interval() -> Block:
    nodes, volume = np.polynomial.legendre.leggauss(40)
    return torch.tensor((nodes + 1) / 2)[:, None], torch.tensor(volume / 2)


def atoms(points: Any) -> Block:
    points = torch.as_tensor(points, dtype=torch.float64)
    return points, torch.ones(len(points), dtype=torch.float64)


def bits() -> Block:
    return atoms([[0.0], [1.0]])


def one_hot(size: int) -> Block:
    return atoms(torch.eye(size))


def counts(scale: float) -> Block:
    return atoms(torch.arange(80, dtype=torch.float64)[:, None] / scale)


def compositions(total: int, size: int) -> Block:
    return atoms([c for c in itertools.product(range(total + 1), repeat=size) if sum(c) == total])


def reals(n_columns: int, generator: Generator) -> Tensor:
    return torch.randn(n_columns, generator=generator).double() * 10 ** uniform(n_columns, -6, 6, generator)


def rates(n_columns: int, generator: Generator) -> Tensor:
    """From 1e-6 to 1 - 1e-6, both ends often."""
    near_zero = 10 ** uniform(n_columns, -8, math.log10(0.5), generator).clamp(min=-6)
    return torch.where(uniform(n_columns, 0, 1, generator) < 0.5, near_zero, 1 - near_zero)


def shares(n_columns: int, generator: Generator) -> Tensor:
    """At least 1e-6 each, 1 together."""
    logits = 15 * torch.randn(n_columns, generator=generator).double()
    return torch.softmax(logits, -1) * (1 - n_columns * 1e-6) + 1e-6


def mean_counts(*scales: float) -> Callable[[int, Generator], Tensor]:
    """From 1e-3 to 1e5 counts, in model units."""
    return lambda n, generator: 10 ** uniform(n, -3, 5, generator) / torch.tensor(scales, dtype=torch.float64)


def side_by_side(*parts: tuple[Callable[[int, Generator], Tensor], list[int]]) -> Callable[[int, Generator], Tensor]:
    """The means of several groups of columns, each in its columns."""

    def means(n_columns: int, generator: Generator) -> Tensor:
        mean = torch.zeros(n_columns, dtype=torch.float64)
        for its_means, columns in parts:
            mean[columns] = its_means(len(columns), generator)
        return mean

    return means


def uniform(n: int, low: float, high: float, generator: Generator) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator).double()


def bounded(value: np.ndarray, bound: float) -> np.ndarray:
    return bound * np.tanh(value / bound)


def gaussian(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(x, parameters).sum(-1)


def gaussian_unit(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.norm.logpdf(x, special.expit(parameters)).sum(-1)


def gaussian_learned(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    s = bounded(likelihood.free_log_variance.detach().numpy(), 10)
    return stats.norm.logpdf(x, parameters, np.exp(s / 2)).sum(-1)


def gaussian_predicted(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    r, a = np.split(parameters, 2, axis=-1)
    return stats.norm.logpdf(x, r, np.exp(bounded(a, 10) / 2)).sum(-1)


def bernoulli(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.bernoulli.logpmf(x, special.expit(parameters)).sum(-1)


def continuous_bernoulli(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """p(x) is proportional to exp(l x) on [0, 1]: a truncated exponential, reflected where l > 0."""
    rate, y = np.abs(parameters), np.where(parameters > 0, 1 - x, x)
    return stats.truncexpon.logpdf(y, b=rate, scale=1 / rate).sum(-1)


def categorical(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    columns = likelihood.groups
    return sum(stats.multinomial.logpmf(x[:, g], 1, special.softmax(parameters[:, g], -1)) for g in columns)


def multinomial(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    return stats.multinomial.logpmf(x, x.sum(-1), special.softmax(parameters, -1))


def poisson(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    scale = np.array(likelihood.config()["scale"])
    return stats.poisson.logpmf(np.rint(x * scale), scale * np.exp(bounded(parameters, 20))).sum(-1)


def bounded_poisson(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    config = likelihood.config()
    scale, bound = np.array(config["scale"]), 2 * np.maximum(config["largest"], 1 / np.array(config["scale"]))
    mean = bound * np.exp(-np.logaddexp(np.log(bound) - bounded(parameters, 20), 0))
    return stats.poisson.logpmf(np.rint(x * scale), scale * mean).sum(-1)


def mixture(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    k, d = likelihood.n_components, x.shape[-1]
    log_densities = np.empty((len(x), k))
    for row, component in np.ndindex(len(x), k):
        m = parameters[row, k + component * d : k + (component + 1) * d]
        b = parameters[row, k + k * d :].reshape(k, -1)[component]
        covariance = np.diag(np.broadcast_to(np.exp(bounded(b, 10)), d))
        log_densities[row, component] = stats.multivariate_normal.logpdf(x[row], m, covariance)
    return special.logsumexp(special.log_softmax(parameters[:, :k], -1) + log_densities, axis=-1)


def mixed(likelihood: Any, parameters: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The columns of MIXED, written out by hand."""
    p, rate = parameters, 4 * np.exp(bounded(parameters[:, 1], 20))
    return (
        stats.norm.logpdf(x[:, 3], p[:, 3])
        + stats.bernoulli.logpmf(x[:, 5], special.expit(p[:, 5]))
        + stats.multinomial.logpmf(x[:, [4, 0, 2]], 1, special.softmax(p[:, [4, 0, 2]], -1))
        + stats.poisson.logpmf(np.rint(4 * x[:, 1]), rate)
    )


def mixed_space() -> Block:
    return reordered(cartesian(line(121), bits(), one_hot(3), counts(4.0)), [3, 5, 4, 0, 2, 1])


MIXED = [
    {"unit": "count", "columns": [1], "scale": [4.0]},
    {"unit": "real", "columns": [3]},
    {"unit": "categorical", "columns": [4, 0, 2]},
    {"unit": "binary", "columns": [5]},
]


@dataclass(frozen=True)
class Case:
    """A likelihood, all that it can say of a row, and scipy's word on it.

    `left` is the likelihood of the columns that stay when `dropped` ones are not observed, with the numbers of
    the parameters that it takes. `means` draws a mean that the likelihood can have.
    """

    label: str
    config: dict[str, Any]
    n_columns: int
    log_prob: Callable[[Any, np.ndarray, np.ndarray], np.ndarray]
    space: Callable[[], Block]
    dropped: list[int]
    left: tuple[dict[str, Any], list[int]]
    means: Callable[[int, Generator], Tensor]
    sample_arguments: dict[str, Any] = field(default_factory=dict)

    def likelihood(self, seed: int = 0) -> Likelihood:
        """In float64, with what it learns moved off its first value."""
        likelihood = likelihood_from(self.config, self.n_columns).double()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in likelihood.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        return likelihood

    def rows(self, likelihood: Likelihood, n_rows: int = 6, draws: Sequence[int] = ()) -> tuple[Tensor, Tensor]:
        """Parameters (*draws, rows, n_parameters) and x (rows, n_columns), the latter from the likelihood itself."""
        generator = torch.Generator().manual_seed(1)
        shape = (*draws, n_rows, likelihood.n_parameters)
        parameters = torch.randn(shape, generator=generator, dtype=torch.float64)
        first = parameters.reshape(-1, *shape[-2:])[0]
        return parameters, likelihood.sample(first, generator, **self.sample_arguments)


def over_the_plane(
    label: str, log_prob: Any, kept: list[int], name: str = "", *, means: Any = reals, **options: Any
) -> Case:
    """Two real columns, of which the second is observed; `kept` are the parameters that it has."""
    config = {"name": name or label, **options}
    return Case(label, config, 2, log_prob, lambda: cartesian(line(), line()), [0], (config, kept), means)


CASES = [
    over_the_plane("gaussian", gaussian, [1]),
    over_the_plane("gaussian-learned", gaussian_learned, [1]),
    over_the_plane("gaussian-per-column", gaussian_learned, [1]),
    over_the_plane("gaussian-predicted", gaussian_predicted, [1, 3]),
    over_the_plane("mixture-density", mixture, [0, 1, 2, 4, 6, 8, 10, 12, 14], n_components=3),
    over_the_plane("isotropic", mixture, [0, 1, 3, 5, 6, 7], "mixture-density", n_components=2, covariance="isotropic"),
    over_the_plane("gaussian-unit", gaussian_unit, [1], means=rates),
    Case(
        "bernoulli",
        {"name": "bernoulli"},
        3,
        bernoulli,
        lambda: cartesian(bits(), bits(), bits()),
        dropped=[1],
        left=({"name": "bernoulli"}, [0, 2]),
        means=rates,
    ),
    Case(
        "continuous-bernoulli",
        {"name": "continuous-bernoulli"},
        2,
        continuous_bernoulli,
        lambda: cartesian(unit_interval(), unit_interval()),
        dropped=[1],
        left=({"name": "continuous-bernoulli"}, [0]),
        means=rates,
    ),
    Case(
        "one categorical",
        {"name": "categorical"},
        4,
        categorical,
        lambda: one_hot(4),
        dropped=[],
        left=({"name": "categorical"}, [0, 1, 2, 3]),
        means=shares,
    ),
    Case(
        "categoricals",  # groups of one size apart, columns out of order
        {"name": "categorical", "groups": [[6, 0], [1, 2, 4], [3, 5]]},
        7,
        categorical,
        lambda: reordered(cartesian(one_hot(2), one_hot(3), one_hot(2)), [1, 2, 3, 5, 4, 6, 0]),
        dropped=[0, 6],
        left=({"name": "categorical", "groups": [[0, 1, 3], [2, 4]]}, [1, 2, 3, 4, 5]),
        means=side_by_side((shares, [6, 0]), (shares, [1, 2, 4]), (shares, [3, 5])),
    ),
    Case(
        "multinomial",
        {"name": "multinomial"},
        4,
        multinomial,
        lambda: compositions(5, 4),
        dropped=[2],
        left=({"name": "multinomial"}, [0, 1, 3]),
        means=shares,
        sample_arguments={"total": 5},
    ),
    Case(
        "poisson",
        {"name": "poisson", "scale": [3.0, 0.5]},
        2,
        poisson,
        lambda: cartesian(counts(3.0), counts(0.5)),
        dropped=[0],
        left=({"name": "poisson", "scale": [0.5]}, [1]),
        means=mean_counts(3.0, 0.5),
    ),
    Case(
        "poisson with largest values",
        {"name": "poisson", "scale": [3.0, 0.5], "log_view": True, "largest": [2.0, 0.0]},
        2,
        bounded_poisson,
        lambda: cartesian(counts(3.0), counts(0.5)),
        dropped=[0],
        left=({"name": "poisson", "scale": [0.5], "log_view": True, "largest": [0.0]}, [1]),
        means=lambda n, generator: uniform(n, 0.01, 1.9, generator),
    ),
    Case(
        "mixed",
        {"name": "mixed", "groups": MIXED},
        6,
        mixed,
        mixed_space,
        dropped=[0, 2, 4],
        left=(
            {
                "name": "mixed",
                "groups": [
                    {"unit": "count", "columns": [0], "scale": [4.0]},
                    {"unit": "real", "columns": [1]},
                    {"unit": "binary", "columns": [2]},
                ],
            },
            [1, 3, 5],
        ),
        means=side_by_side((mean_counts(4.0), [1]), (reals, [3]), (shares, [4, 0, 2]), (rates, [5])),
    ),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)


def test_the_table_of_cases_covers_every_likelihood() -> None:
    assert {case.config["name"] for case in CASES} == set(LIKELIHOODS)


@every_case
def test_nll_agrees_with_scipy(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood, n_rows=20)
    expected = -case.log_prob(likelihood, parameters.numpy(), x.numpy())
    torch.testing.assert_close(likelihood.nll(parameters, x).detach(), torch.tensor(expected), rtol=1e-9, atol=1e-9)


@every_case
def test_the_density_sums_or_integrates_to_one(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, _ = case.rows(likelihood, n_rows=1)
    points, volume = case.space()
    density = torch.exp(-likelihood.nll(parameters.expand(len(points), -1), points).detach())
    assert float((density * volume).sum()) == pytest.approx(1, abs=1e-6)


@every_case
def test_mean_and_draws_have_the_moments_of_the_density(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, _ = case.rows(likelihood, n_rows=1)
    points, volume = case.space()
    share = torch.exp(-likelihood.nll(parameters.expand(len(points), -1), points).detach()) * volume
    mean, square = share @ points, share @ points.square()
    torch.testing.assert_close(likelihood.mean(parameters, **case.sample_arguments)[0], mean, rtol=0, atol=1e-6)

    draws = likelihood.sample(parameters.expand(20_000, -1), torch.Generator().manual_seed(0), **case.sample_arguments)
    for moment, values in ((mean, draws), (square, draws.square())):
        sampling_error = values.std(0) / len(draws) ** 0.5
        assert bool(((values.mean(0) - moment).abs() < 4.5 * sampling_error).all())


# Torch 2.13 warns of its own use of torch.jit.script when forward mode is first asked for.
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@every_case
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_of_the_nll_pass_gradcheck(case: Case, weighted: bool) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood, n_rows=3, draws=[2])
    weight = torch.ones_like(x)
    weight[0, case.dropped] = 0
    learned = dict(likelihood.named_parameters())

    def nll(parameters: Tensor, *values: Tensor) -> Tensor:
        inputs = (parameters, x, weight if weighted else None)
        return torch.func.functional_call(
            _Nll(likelihood), {f"likelihood.{name}": value for name, value in zip(learned, values, strict=True)}, inputs
        )

    arguments = (parameters.requires_grad_(), *learned.values())
    assert torch.autograd.gradcheck(nll, arguments, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(nll, arguments)


class _Nll(torch.nn.Module):
    def __init__(self, likelihood: Likelihood) -> None:
        super().__init__()
        self.likelihood = likelihood

    def forward(self, parameters: Tensor, x: Tensor, weight: Tensor | None) -> Tensor:
        return self.likelihood.nll(parameters, x, weight)


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_for_a_mean_have_that_mean(case: Case, dtype: torch.dtype) -> None:
    likelihood, generator = case.likelihood().to(dtype), torch.Generator().manual_seed(4)
    for _ in range(200):
        mean = case.means(case.n_columns, generator).to(dtype)
        parameters = likelihood.parameters_for(mean)
        assert parameters.dtype == dtype
        torch.testing.assert_close(likelihood.mean(parameters), mean, rtol=1e-4, atol=0)


@every_case
def test_draws_are_leading_axes(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood, n_rows=4, draws=[3, 2])
    weight = torch.ones_like(x)
    weight[1, case.dropped] = 0
    for w in (None, weight):
        together = likelihood.nll(parameters, x, w)
        apart = torch.stack([torch.stack([likelihood.nll(p, x, w) for p in draws]) for draws in parameters])
        assert together.shape == (3, 2, 4)
        torch.testing.assert_close(together, apart)
    assert likelihood.mean(parameters).shape == (3, 2, 4, case.n_columns)
    assert likelihood.sample(parameters, torch.Generator(), **case.sample_arguments).shape == (3, 2, 4, case.n_columns)
    assert likelihood.mean_given(parameters, x).shape == (3, 2, 4, case.n_columns)


@every_case
def test_nll_by_column_sums_to_the_nll_or_is_absent(case: Case) -> None:
    likelihood = case.likelihood()
    separates = case.config["name"] not in ("multinomial", "mixture-density")
    assert hasattr(likelihood, "nll_by_column") == separates
    if separates:
        parameters, x = case.rows(likelihood, draws=[2])
        by_column = likelihood.nll_by_column(parameters, x)
        assert by_column.shape == (2, *x.shape)
        torch.testing.assert_close(by_column.sum(-1), likelihood.nll(parameters, x))
        weight = torch.rand(x.shape, generator=torch.Generator().manual_seed(2), dtype=x.dtype)
        torch.testing.assert_close((by_column * weight).sum(-1), likelihood.nll(parameters, x, weight))


@every_case
def test_weights_of_one_change_nothing(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood)
    torch.testing.assert_close(likelihood.nll(parameters, x, torch.ones_like(x)), likelihood.nll(parameters, x))


@every_case
def test_a_column_of_weight_zero_is_as_if_dropped_whatever_it_holds(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood, draws=[2])
    kept = [column for column in range(case.n_columns) if column not in case.dropped]
    config, kept_parameters = case.left
    smaller = likelihood_from(config, len(kept)).double()
    for ours, its in zip(likelihood.parameters(), smaller.parameters(), strict=True):
        its.data = ours.data[kept] if ours.ndim else ours.data
    weight = torch.ones_like(x)
    weight[:, case.dropped] = 0
    expected = smaller.nll(parameters[..., kept_parameters], x[:, kept])
    x[:, case.dropped] = float("nan")
    parameters.requires_grad_()
    nll = likelihood.nll(parameters, x, weight)
    torch.testing.assert_close(nll, expected)
    (gradient,) = torch.autograd.grad(nll.sum(), parameters)
    assert bool(gradient.isfinite().all())


@every_case
def test_a_row_without_observed_columns_has_an_nll_of_zero(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood)
    nll = likelihood.nll(parameters, x, torch.zeros_like(x))
    torch.testing.assert_close(nll, torch.zeros_like(nll), rtol=0, atol=1e-12)


@every_case
def test_least_squares_are_claimed_exactly_where_the_nll_grows_with_the_squared_error_alone(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, x = case.rows(likelihood, n_rows=40)
    squared_error = (likelihood.mean_given(parameters, x) - x).square().sum(-1).numpy()
    order = np.argsort(squared_error)
    grows = bool((np.diff(likelihood.nll(parameters, x).detach().numpy()[order]) >= 0).all())
    assert LIKELIHOODS[case.config["name"]].has_least_squares == grows


@every_case
def test_counts_do_not_survive_scaling(case: Case) -> None:
    likelihood = case.likelihood()
    _, x = case.rows(likelihood, n_rows=40)
    scaled = bool(likelihood.in_support(0.7 * x).all())
    if LIKELIHOODS[case.config["name"]].is_count:
        assert not scaled
    elif not isinstance(likelihood, Categorical | Mixed):
        assert scaled


@every_case
def test_config_and_state_rebuild_the_likelihood(case: Case) -> None:
    likelihood = case.likelihood(seed=3)
    config = json.loads(json.dumps(likelihood.config()))
    rebuilt = likelihood_from(config, case.n_columns).double()
    rebuilt.load_state_dict(likelihood.state_dict())
    parameters, x = case.rows(likelihood)
    assert rebuilt.config() == config
    assert rebuilt.n_parameters == likelihood.n_parameters
    assert set(likelihood.state_dict()) == {name for name, _ in likelihood.named_parameters()}
    torch.testing.assert_close(rebuilt.nll(parameters, x), likelihood.nll(parameters, x), rtol=0, atol=0)
    torch.testing.assert_close(
        copy.deepcopy(likelihood).nll(parameters, x), likelihood.nll(parameters, x), rtol=0, atol=0
    )


@every_case
def test_the_same_generator_gives_the_same_draws_and_the_global_one_is_not_touched(case: Case) -> None:
    likelihood = case.likelihood()
    parameters, _ = case.rows(likelihood)
    before = torch.get_rng_state()
    first, second = (
        likelihood.sample(parameters, torch.Generator().manual_seed(5), **case.sample_arguments) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    assert not likelihood.sample(parameters.requires_grad_(), torch.Generator()).requires_grad


class Draws(TorchFunctionMode):
    """Where uniform and normal numbers are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.rand, torch.randn):
            self.devices.append(torch.device(kwargs["device"]).type)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "bernoulli", "continuous-bernoulli"])
def test_draws_are_made_where_the_generator_lives_and_brought_to_the_parameters(name: str) -> None:
    likelihood = likelihood_from({"name": name}, 3).to("meta")
    parameters = torch.zeros(4, likelihood.n_parameters, device="meta")
    with Draws() as draws:
        drawn = likelihood.sample(parameters, torch.Generator())
    assert draws.devices == ["cpu"]
    assert (drawn.shape, drawn.device.type) == ((4, 3), "meta")


@every_case
def test_its_own_draws_are_admitted(case: Case) -> None:
    likelihood = likelihood_from(case.config, case.n_columns)
    parameters = torch.randn(500, likelihood.n_parameters, generator=torch.Generator().manual_seed(0))
    likelihood.check(likelihood.sample(parameters, torch.Generator().manual_seed(1), **case.sample_arguments))


@every_case
@pytest.mark.parametrize("size", [0.0, 1e-4, 30.0, 300.0])
def test_nll_and_gradient_are_finite_in_float32_at_any_parameters(case: Case, size: float) -> None:
    likelihood = likelihood_from(case.config, case.n_columns)
    _, x = case.rows(likelihood.double())
    likelihood, x = likelihood.float(), x.float()
    signs = torch.randn(6, likelihood.n_parameters, generator=torch.Generator().manual_seed(2)).sign()
    parameters = (size * signs).requires_grad_()
    nll = likelihood.nll(parameters, x)
    (gradient,) = torch.autograd.grad(nll.sum(), parameters)
    assert bool(nll.isfinite().all())
    assert bool(gradient.isfinite().all())
    assert bool(likelihood.mean(parameters).isfinite().all())


@every_case
def test_low_precision_parameters_are_scored_in_the_precision_of_x(case: Case) -> None:
    likelihood = likelihood_from(case.config, case.n_columns).double()
    parameters, x = case.rows(likelihood)
    likelihood, x, low = likelihood.float(), x.float(), parameters.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        nll = likelihood.nll(low, x)
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, likelihood.nll(low.float(), x))
