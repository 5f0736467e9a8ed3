"""Samples of models whose codes have a distribution: codes are drawn, decoded, and rows drawn from the likelihood."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.data.preprocessing import Preprocessor
from isthmus.data.streams import BLOCK_SIZE
from isthmus.data.tables import in_units_of_columns
from isthmus.errors import InputError
from isthmus.estimators.base import seed_of
from isthmus.estimators.conditions import Conditions, drawn_conditions, with_condition_columns
from isthmus.estimators.continuation import available_unless
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.learning.rows import evenly_spaced
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import Gaussian, Likelihood, Mixed
from isthmus.parts.priors import CodePrior, FittedMixture

MAX_PRIOR_ROWS = 20_000
"""Rows to whose codes a prior is fitted after training, evenly spaced."""


class CodeSamplingMixin:
    """Mixin of `BaseAutoencoder` with `sample`, for models whose codes have a distribution."""

    coder_: Any
    preprocessing_: Preprocessor

    @property
    def _no_samples(self) -> str:
        """The reason why there is no `sample`, and what to do; empty if there is one."""
        return ""

    def _code_prior(self) -> CodePrior:
        """The distribution of codes."""
        raise NotImplementedError

    def _draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows in model space, drawn from the likelihood with these parameters."""
        drawn: Tensor = self.coder_.likelihood.sample(parameters, generator)
        return drawn

    @available_unless(lambda estimator: estimator._no_samples)
    def sample(self, n: int, random_state: Any = None, *, mean: bool = False, condition: Any = None) -> Any:
        """Return n samples of the model, in the units of X: codes of the prior, decoded, and rows drawn from them.

        Samples of a table have the form of its rows: counts are whole numbers, and values of a real column are rounded
        to the decimals of its training values (if they have at most 6) and clipped to their range. The means of
        `mean=True` are neither rounded nor clipped.

        Args:
            n: number of samples.
            random_state: seed of the samples.
            mean: return the mean of p(x | h) of each code, without the noise of the likelihood.
            condition: the conditions of a conditional model: {name: one value, or n values}, or a data frame. None
                takes those of random training rows.

        Raises:
            InputError: fewer than one sample; conditions of another model.

        Example:
            >>> import numpy as np
            >>> from isthmus import VariationalAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = VariationalAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
            >>> bool((model.sample(3, random_state=1) == model.sample(3, random_state=1)).all())
            True
        """
        check_is_fitted(self)
        check_count("n", n)
        generator = torch.Generator().manual_seed(seed_of(random_state))
        self.coder_.to("cpu").eval()
        conditions = drawn_conditions(self.preprocessing_, condition, n, generator)
        codes = self._code_prior().to("cpu").sample(n, generator)
        return self._rows_drawn(codes, conditions, generator, mean=mean)

    def _rows_drawn(
        self,
        codes: Float[Tensor, "n code_size"],
        conditions: Conditions,
        generator: torch.Generator,
        *,
        mean: bool = False,
    ) -> Any:
        """Return rows of the likelihood of each code, or their means, in the units of X."""
        coder = self.coder_.to("cpu").eval()
        rows = np.empty((len(codes), self.preprocessing_.n_columns), np.float32)
        with torch.no_grad():
            for start in range(0, len(codes), BLOCK_SIZE):
                part = slice(start, start + BLOCK_SIZE)
                parameters = coder.decode(codes[part], condition=None if conditions is None else conditions[part])
                drawn = coder.likelihood.mean(parameters) if mean else self._draw(parameters, generator)
                rows[part] = drawn.numpy()
        samples = self.preprocessing_.inverse_transform(rows)
        samples = samples if mean else in_units_of_columns(samples, self.preprocessing_.table)
        return with_condition_columns(self.preprocessing_, samples, conditions)


class FittedPriorMixin(CodeSamplingMixin):
    """Mixin of kinds whose codes get a distribution after training, with the argument `fit_prior`."""

    fit_prior: Any
    density_: Any
    seed_: int

    @property
    def _no_samples(self) -> str:
        if self.fit_prior is not None:
            return ""
        return (
            f"{type(self).__name__} has no distribution of codes to sample from; fit it with fit_prior='gaussian' or "
            "fit_prior=MixturePrior(10), or use VariationalAutoencoder"
        )

    def _code_prior(self) -> CodePrior:
        if not hasattr(self, "density_"):
            raise InputError(f"fit_prior={self.fit_prior!r} was set after the fit; fit the model again")
        return cast(CodePrior, self.density_)

    def _draw(self, parameters: Tensor, generator: torch.Generator) -> Tensor:
        return sample_without_unit_noise(self.coder_.likelihood, parameters, generator)

    def _new_prior(self: Any, code_size: int) -> FittedMixture | None:
        """Return a prior that is fitted after training; None without one."""
        value = self.value_of("fit_prior")
        return None if value is None else FittedMixture(code_size, value.k)

    @torch.no_grad()
    def _fit_prior(self: Any, rows: SurveyedRows) -> None:
        """Fit the prior to the codes of some training rows."""
        if self.fit_prior is None:
            return
        coder = self.coder_.to("cpu").eval()
        parts: list[Tensor] = []
        weights: list[Tensor] = []
        for index in evenly_spaced(len(rows), MAX_PRIOR_ROWS).split(BLOCK_SIZE):
            batch = rows.batch(index)
            parts.append(coder.encode(batch).code)
            weights += [] if batch.weight is None else [batch.weight]
        codes = torch.cat(parts)
        if weights:
            codes = codes[systematic_sample(torch.cat(weights), MAX_PRIOR_ROWS)]
        self.density_.to("cpu").fit(codes, seed=self.seed_)


def sample_without_unit_noise(likelihood: Likelihood, parameters: Tensor, generator: torch.Generator) -> Tensor:
    """Return samples of a likelihood; those of real columns with a fixed unit variance are their means.

    The fixed variance of a Gaussian weights its squared error. It is not the variance of the column, and noise of it
    would be larger than the differences of rows.

    Example:
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> sample_without_unit_noise(Gaussian(2), torch.ones(1, 2), torch.Generator())
        tensor([[1., 1.]])
    """
    if isinstance(likelihood, Gaussian):
        return likelihood.mean(parameters)
    if isinstance(likelihood, Mixed):
        units = zip(likelihood.units, likelihood.blocks.split(parameters), strict=True)
        return likelihood.blocks.join([sample_without_unit_noise(cast(Any, unit), p, generator) for unit, p in units])
    return likelihood.sample(parameters, generator)


def systematic_sample(weights: Float[Tensor, " rows"], n: int) -> Int[Tensor, " n"]:
    """Return n row numbers, each about in proportion to its weight.

    Example:
        >>> systematic_sample(torch.tensor([1.0, 3.0]), 4).tolist()
        [0, 1, 1, 1]
    """
    cumulative = weights.double().cumsum(0)
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.searchsorted(cumulative / cumulative[-1], levels).clamp(max=len(weights) - 1)
