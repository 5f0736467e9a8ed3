"""What a likelihood refuses, in so many words, and how a name becomes a configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from isthmus.errors import InputError
from isthmus.estimators.contrastive import default_learning_rate
from isthmus.estimators.inputs import scaling_for
from isthmus.parts.likelihood_base import ROWS_CHECKED_AT_ONCE, register
from isthmus.parts.likelihoods import LIKELIHOODS, Poisson, choose_likelihood, likelihood_config, likelihood_from
from isthmus.parts.visible_units import VISIBLE_UNITS, BinaryUnits, units_of, visible_units


def at(row: int, column: int, value: float, like: Sequence[float]) -> Tensor:
    x = torch.tensor(like).repeat(row + 2, 1)
    x[row, column] = value
    return x


REFUSALS = [
    (
        {"name": "bernoulli"},
        at(12, 1, 3.5, [0.0, 1.0]),
        "Bernoulli likelihood requires values in [0, 1]; found 3.5 at row 12, column 'age'; "
        "use scaling='minmax' or likelihood='gaussian'",
    ),
    (
        {"name": "continuous-bernoulli"},
        at(0, 0, -0.25, [0.0, 1.0]),
        "Continuous Bernoulli likelihood requires values in [0, 1]; found -0.25 at row 0, column 'height'; "
        "use scaling='minmax' or likelihood='gaussian'",
    ),
    (
        {"name": "gaussian-learned"},
        at(ROWS_CHECKED_AT_ONCE + 3, 1, float("nan"), [0.0, 1.0]),
        "Gaussian likelihood requires finite numbers; found nan at row 8195, column 'age'; "
        "fill or drop missing and infinite values first, e.g. missing='mean'",
    ),
    (
        {"name": "bernoulli"},
        at(1, 0, float("inf"), [0.0, 1.0]),
        "Bernoulli likelihood requires values in [0, 1]; found inf at row 1, column 'height'; "
        "fill or drop missing and infinite values first, e.g. missing='mean'",
    ),
    (
        {"name": "categorical"},
        at(2, 1, 0.0, [0.0, 1.0]),
        "Categorical likelihood requires probabilities in [0, 1] that sum to 1 in each group of one-hot columns; "
        "found 0 in a group that sums to 0 at row 2, column 'height'; "
        "encode the column as one-hot, or use likelihood='bernoulli' or 'gaussian'",
    ),
    (
        {"name": "categorical"},
        at(2, 1, float("nan"), [0.0, 1.0]),
        "Categorical likelihood requires probabilities in [0, 1] that sum to 1 in each group of one-hot columns; "
        "found nan at row 2, column 'age'; fill or drop missing and infinite values first, e.g. missing='mean'",
    ),
    (
        {"name": "multinomial"},
        at(4, 1, 0.5, [0.0, 7.0]),
        "Multinomial likelihood requires counts, whole numbers from 0; found 0.5 at row 4, column 'age'; "
        "use scaling='none' on counts, or likelihood='gaussian'",
    ),
    (
        {"name": "multinomial"},
        at(4, 1, -1.0, [0.0, 7.0]),
        "Multinomial likelihood requires counts, whole numbers from 0; found -1 at row 4, column 'age'; "
        "use scaling='none' on counts, or likelihood='gaussian'",
    ),
    (
        {"name": "poisson", "scale": [10.0, 10.0]},
        at(4, 0, 0.25, [0.3, 0.7]),
        "Poisson likelihood requires counts, whole numbers from 0; found 2.5 at row 4, column 'height'; "
        "use likelihood='gaussian'",
    ),
    (
        {"name": "mixture-density"},
        at(0, 0, float("-inf"), [0.3, 0.7]),
        "Mixture density likelihood requires finite numbers; found -inf at row 0, column 'height'; "
        "fill or drop missing and infinite values first, e.g. missing='mean'",
    ),
    (
        {"name": "mixed", "groups": [{"unit": "binary", "columns": [1]}, {"unit": "real", "columns": [0]}]},
        at(3, 1, 2.0, [9.0, 1.0]),
        "Bernoulli likelihood requires values in [0, 1]; found 2 at row 3, column 'age'; "
        "correct the value, or give the column another unit",
    ),
]


@pytest.mark.parametrize(("config", "x", "text"), REFUSALS, ids=lambda v: v["name"] if isinstance(v, dict) else "")
def test_values_outside_the_domain_are_refused_by_row_and_column(config: dict[str, Any], x: Tensor, text: str) -> None:
    with pytest.raises(InputError) as refusal:
        likelihood_from(config, 2).check(x, names=np.array(["height", "age"]))
    assert str(refusal.value) == text


def test_a_column_without_a_name_is_told_by_its_number_and_a_wrong_width_by_both() -> None:
    likelihood = likelihood_from({"name": "bernoulli"}, 2)
    with pytest.raises(InputError, match=r"found 2 at row 1, column 1; "):
        likelihood.check(torch.tensor([[0.0, 1.0], [0.0, 2.0]]))
    with pytest.raises(InputError, match="Bernoulli likelihood was built for 2 columns; found 3; give rows with"):
        likelihood.check(torch.zeros(1, 3))


def test_counts_survive_the_division_by_their_scale_in_float32() -> None:
    scale = [3.0, 0.7, 12345.678]
    counts = torch.randint(0, 1_000_000, (1000, 3), generator=torch.Generator().manual_seed(0))
    likelihood_from({"name": "poisson", "scale": scale}, 3).check(counts.float() / torch.tensor(scale))


def test_auto_is_mixed_for_tables_bernoulli_for_bits_and_gaussian_for_the_rest() -> None:
    bits, reals = torch.tensor([[0.0, 1.0], [1.0, 1.0]]), torch.tensor([[0.0, -0.5]])
    real = [{"unit": "real", "columns": [0, 1]}]
    table = [{"unit": "real", "columns": [1]}, {"unit": "count", "columns": [0]}]
    assert choose_likelihood(bits) == {"name": "bernoulli"}
    assert choose_likelihood(reals) == {"name": "gaussian"}
    assert choose_likelihood(reals.abs()) == {"name": "gaussian-unit"}
    assert choose_likelihood(reals, real) == {"name": "gaussian"}
    assert likelihood_config("auto", bits, real) == {"name": "bernoulli"}
    assert choose_likelihood(bits, table) == {
        "name": "mixed",
        "groups": [{"unit": "real", "columns": [1]}, {"unit": "count", "columns": [0], "scale": [1.0]}],
    }


def test_a_users_name_becomes_a_configuration() -> None:
    x, table = torch.zeros(1, 5), [{"unit": "categorical", "columns": c} for c in ([0, 1], [2, 3, 4])]
    assert likelihood_config("gaussian-per-column", x) == {"name": "gaussian-per-column"}
    assert likelihood_config("categorical", x) == {"name": "categorical", "groups": [[0, 1, 2, 3, 4]]}
    assert likelihood_config("categorical", x, table) == {"name": "categorical", "groups": [[0, 1], [2, 3, 4]]}
    assert likelihood_config("mixed", x, table)["groups"] == table
    assert likelihood_config("poisson", x) == {"name": "poisson", "scale": [1.0] * 5}
    mixture = {"name": "mixture-density", "n_components": 5, "covariance": "diagonal"}
    assert likelihood_config("mixture-density", x) == mixture
    assert likelihood_config({"name": "mixture-density", "n_components": 2}, x) == mixture | {"n_components": 2}


def test_a_new_likelihood_is_known_by_its_registration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry in (LIKELIHOODS, VISIBLE_UNITS):
        monkeypatch.setitem(registry, "visits", None)  # the entries are removed after the test

    @register
    class Visits(Poisson):
        name = "visits"

    @units_of(Visits)
    class VisitUnits(BinaryUnits):
        learning_rate = 0.02

    assert isinstance(likelihood_from(likelihood_config("visits", X), 2), Visits)
    assert isinstance(visible_units(Visits(2)), VisitUnits)
    assert default_learning_rate("visits") == 0.02
    assert scaling_for("auto", "visits") == "none"


KNOWN = ", ".join(LIKELIHOODS)
X = torch.zeros(1, 2)
REAL = {"unit": "real", "columns": [1]}
MISUSES: list[tuple[Callable[[], Any], str]] = [
    (
        lambda: likelihood_config("gausian", X),
        f"unknown likelihood 'gausian'; did you mean 'gaussian'? Known: auto, {KNOWN}",
    ),
    (lambda: likelihood_config("zzz", X), f"unknown likelihood 'zzz'; Known: auto, {KNOWN}"),
    (lambda: likelihood_from({}, 2), f"unknown likelihood None; Known: {KNOWN}"),
    (
        lambda: likelihood_config("mixed", X),
        "likelihood='mixed' requires a table whose columns have units; found an array; "
        "use likelihood='auto', or fit on a data frame",
    ),
    (
        lambda: likelihood_config("categorical", X, [REAL]),
        "likelihood='categorical' requires one-hot columns only; found unit 'real' for columns [1]; "
        "use likelihood='mixed'",
    ),
    (
        lambda: likelihood_from({"name": "gaussian", "width": 3}, 2),
        "likelihood 'gaussian' cannot be built from {'width': 3}: "
        "Gaussian.__init__() got an unexpected keyword argument 'width'",
    ),
    (
        lambda: likelihood_from({"name": "mixture-density", "n_components": 0}, 2),
        "a mixture density requires n_components of at least 1; found 0",
    ),
    (
        lambda: likelihood_from({"name": "mixture-density", "covariance": "full"}, 2),
        "a mixture density requires covariance 'diagonal' or 'isotropic'; found 'full'",
    ),
    (
        lambda: likelihood_from({"name": "mixed", "groups": [REAL, REAL, {"unit": "real", "columns": [0]}]}, 2),
        "column 1 is in 2 groups; put every column into exactly one",
    ),
    (
        lambda: likelihood_from({"name": "categorical", "groups": [[0]]}, 2),
        "column 1 is in 0 groups; put every column into exactly one",
    ),
    (
        lambda: likelihood_from({"name": "categorical", "groups": [[0, 1], []]}, 2),
        "a categorical likelihood has a group without columns; remove the group",
    ),
    (
        lambda: likelihood_from({"name": "categorical", "groups": [[0, 2]]}, 2),
        "a group names column 2 of 2; columns count from 0",
    ),
    (
        lambda: likelihood_from({"name": "mixed", "groups": [{"unit": "reel", "columns": [0, 1]}]}, 2),
        "unknown unit 'reel' of columns [0, 1]; did you mean 'real'? Known: real, binary, categorical, count",
    ),
    (
        lambda: likelihood_from({"name": "mixed", "groups": [{"unit": "real", "columns": []}]}, 2),
        "a group of unit 'real' has no columns; remove the group",
    ),
    (
        lambda: likelihood_from({"name": "mixed", "groups": [REAL | {"scale": [2.0]}]}, 2),
        "only unit 'count' has a scale; found one for unit 'real' of columns [1]; remove it",
    ),
    (
        lambda: likelihood_from({"name": "mixed", "groups": [{"unit": "count", "columns": [0, 1], "scale": [2]}]}, 2),
        "a count group of 2 columns has 1 scales; give one per column",
    ),
    (
        lambda: likelihood_from({"name": "poisson", "scale": [1.0]}, 2),
        "a Poisson likelihood of 2 columns has 1 scales; give one per column",
    ),
    (
        lambda: likelihood_from({"name": "poisson", "scale": [1.0, 0.0]}, 2),
        "the scales of a Poisson likelihood must be positive numbers; found 0.0",
    ),
]


@pytest.mark.parametrize(("misuse", "text"), MISUSES)
def test_a_misuse_gives_a_one_line_error_with_advice(misuse: Callable[[], Any], text: str) -> None:
    with pytest.raises(InputError) as refusal:
        misuse()
    assert str(refusal.value) == text
