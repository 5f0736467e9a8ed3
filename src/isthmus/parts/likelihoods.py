"""All likelihoods, the choice of one for given data, and its construction from a configuration.

The classes are in four files: for real columns (`likelihood_gaussians`), columns in [0, 1] (`likelihood_binary`),
categorical columns and counts (`likelihood_counts`), and tables (`likelihood_tables`). To add a likelihood, write a
subclass of `Likelihood` in one of them, decorate it with `register`, and add a row to the table of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import LIKELIHOODS, Likelihood
from isthmus.parts.likelihood_binary import Bernoulli, ContinuousBernoulli
from isthmus.parts.likelihood_counts import Categorical, Multinomial, Poisson
from isthmus.parts.likelihood_gaussians import (
    Gaussian,
    GaussianLearned,
    GaussianPerColumn,
    GaussianPredicted,
    GaussianUnit,
    MixtureDensity,
)
from isthmus.parts.likelihood_tables import Group, Mixed, nearest

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "ContinuousBernoulli",
    "Gaussian",
    "GaussianLearned",
    "GaussianPerColumn",
    "GaussianPredicted",
    "GaussianUnit",
    "Likelihood",
    "Mixed",
    "MixtureDensity",
    "Multinomial",
    "Poisson",
    "choose_likelihood",
    "likelihood_config",
    "likelihood_from",
]


def likelihood_from(config: Mapping[str, Any], n_columns: int) -> Likelihood:
    """Return the likelihood of a configuration, for rows of `n_columns`.

    Args:
        config: "name" and the options of the constructor, as `Likelihood.config` returns them.
        n_columns: the width of x.

    Raises:
        InputError: the name or an option is unknown, or the options do not fit the columns.

    Example:
        >>> likelihood_from({"name": "mixture-density", "n_components": 2}, n_columns=3).config()
        {'name': 'mixture-density', 'n_components': 2, 'covariance': 'diagonal'}
    """
    options = dict(config)
    name = options.pop("name", None)
    if name not in LIKELIHOODS:
        raise InputError(f"unknown likelihood {name!r}; {nearest(str(name), LIKELIHOODS)}")
    build: Callable[..., Likelihood] = LIKELIHOODS[name]
    try:
        return build(n_columns, **options)
    except (TypeError, AttributeError, KeyError) as error:
        raise InputError(f"likelihood {name!r} cannot be built from {options}: {error}") from error


def choose_likelihood(x: Float[Tensor, "batch columns"], groups: Sequence[Group] | None = None) -> dict[str, Any]:
    """Return the configuration that "auto" stands for, given the data.

    "mixed" for a table with columns that are not real; else "bernoulli" if all values are 0 or 1; else "gaussian-unit"
    if all values are in [0, 1]; else "gaussian".

    Args:
        x: rows in model space, all or a sample of them.
        groups: the units of the columns of a table, in the format of `Mixed`.

    Returns:
        A configuration for `likelihood_from`.

    Example:
        >>> import torch
        >>> choose_likelihood(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        {'name': 'bernoulli'}
        >>> choose_likelihood(torch.tensor([[0.0, 0.5]]))
        {'name': 'gaussian-unit'}
        >>> choose_likelihood(torch.tensor([[0.0, -1.5]]))
        {'name': 'gaussian'}
    """
    if groups is not None and any(group["unit"] != "real" for group in groups):
        return Mixed(x.shape[-1], groups).config()
    if bool(((x == 0) | (x == 1)).all()):
        return {"name": "bernoulli"}
    return {"name": "gaussian-unit" if bool(((x >= 0) & (x <= 1)).all()) else "gaussian"}


def likelihood_config(
    name: str | Mapping[str, Any], x: Float[Tensor, "batch columns"], groups: Sequence[Group] | None = None
) -> dict[str, Any]:
    """Return the configuration that the argument `likelihood` stands for.

    Args:
        name: "auto", a name in `LIKELIHOODS`, or a configuration (to set `n_components`, for example).
        x: rows in model space, on which the choice of "auto" depends.
        groups: the units of the columns of a table, for "mixed" and "categorical".

    Raises:
        InputError: the name is unknown; "mixed" without a table; "categorical" for a table with columns of another
            unit; or an option is unknown.

    Example:
        >>> import torch
        >>> likelihood_config("gaussian-learned", torch.zeros(1, 2))
        {'name': 'gaussian-learned'}
    """
    if name == "auto":
        return choose_likelihood(x, groups)
    config: dict[str, Any] = {"name": name} if isinstance(name, str) else dict(name)
    if "name" not in config:
        raise InputError(
            f"likelihood={config!r} is not the name of a likelihood; declare types of columns by dtypes={config!r}"
        )
    if config.get("name") not in LIKELIHOODS:
        wrong = config.get("name")
        raise InputError(f"unknown likelihood {wrong!r}; {nearest(str(wrong), ['auto', *LIKELIHOODS])}")
    if config["name"] == "mixed" and "groups" not in config:
        if groups is None:
            raise InputError(
                "likelihood='mixed' requires a table whose columns have units; found an array; "
                "use likelihood='auto', or fit on a data frame"
            )
        config["groups"] = groups
    if config["name"] == "categorical" and "groups" not in config and groups is not None:
        other = next((group for group in groups if group["unit"] != "categorical"), None)
        if other is not None:
            raise InputError(
                f"likelihood='categorical' requires one-hot columns only; found unit {other['unit']!r} for "
                f"columns {list(other['columns'])}; use likelihood='mixed'"
            )
        config["groups"] = [list(group["columns"]) for group in groups]
    return likelihood_from(config, x.shape[-1]).config()
