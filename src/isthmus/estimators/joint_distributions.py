"""Distributions of a model of codes and rows: p(h), q(h | x) of given rows, and p(x | h) of given codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Generator

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.code_sampling import CodeSamplingMixin
from isthmus.estimators.conditions import Conditions, given_conditions
from isthmus.estimators.data_passes import padded
from isthmus.parts.code_distributions import CodeDistribution
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.priors import CodePrior


class DistributionOfCodes:
    """Distribution p_enc(h | x) of the codes of given rows, as `VariationalAutoencoder.p_enc` returns it.

    Args:
        distribution: q(h | x) of the rows, on the CPU.
    """

    def __init__(self, distribution: CodeDistribution) -> None:
        self._distribution = distribution

    @property
    def mean(self) -> Float[np.ndarray, "n code_size"]:
        """The mean of the code of each row; of a discrete code, the probabilities of its states."""
        return self._distribution.mean.numpy()

    def sample(self, n_draws: int = 1, random_state: Any = None) -> Float[np.ndarray, "n_draws n code_size"]:
        """Return codes of each row, float32; discrete codes are 0 and 1.

        Args:
            n_draws: number of codes of each row.
            random_state: seed.

        Raises:
            InputError: fewer than one draw.
        """
        check_count("n_draws", n_draws)
        generator = Generator().manual_seed(seed_of(random_state))
        return self._distribution.sample(n_draws, generator).numpy()

    def log_prob(self, H: ArrayLike) -> Float[np.ndarray, "*n_draws n"]:
        """Return log p_enc(h | x), nats: a density, or the log-probability of a discrete code.

        Args:
            H: a code of each row, (n, code_size), or several, (n_draws, n, code_size).

        Raises:
            InputError: codes of another shape, or not finite.
        """
        mean = self._distribution.mean
        codes = _checked_codes(H, mean.shape[1], len(mean))
        return self._distribution.log_prob(codes).numpy()


class DistributionOfRows:
    """Distribution p_dec(x | h) of the rows of given codes, as `VariationalAutoencoder.p_dec` returns it.

    Args:
        model: a fitted autoencoder.
        codes: (n, code_size) or (n_draws, n, code_size).
        condition: the conditions of the n rows of a conditional model, as `inverse_transform` takes them.

    Raises:
        InputError: codes of another shape, or not finite; a conditional model without its conditions.
    """

    def __init__(self, model: BaseAutoencoder, codes: ArrayLike, condition: Any = None) -> None:
        self._model: Any = model
        self._codes = _checked_codes(codes, model.code_size_)
        self._conditions = given_conditions(model.preprocessing_, condition, self._codes.shape[-2])

    @property
    def _flat(self) -> tuple[Float[torch.Tensor, "all_draws code_size"], Conditions]:
        """The codes of all draws, one after another, and their conditions."""
        codes = self._codes.flatten(0, -2)
        if self._conditions is None:
            return codes, None
        return codes, self._conditions.repeat(len(codes) // len(self._conditions), 1)

    @property
    def mean(self) -> Any:
        """The mean of the row of each code, in the units of X; codes of several draws follow one another."""
        codes, conditions = self._flat
        return self._model._decoded(codes.numpy(), conditions)

    def sample(self, random_state: Any = None) -> Any:
        """Return a row of each code, in the units of X; rows of several draws follow one another.

        Args:
            random_state: seed.
        """
        generator = Generator().manual_seed(seed_of(random_state))
        return self._model._rows_drawn(*self._flat, generator)

    def log_prob(self, X: Any) -> Float[np.ndarray, "*n_draws n"]:
        """Return log p_dec(x | h) of each row, nats, in model space, over its observed columns.

        Args:
            X: the row of each code, n rows.

        Raises:
            InputError: another number of rows than of codes.
        """
        rows = self._model._rows(X)
        *draws, n, size = self._codes.shape
        if len(rows) != n:
            raise InputError(f"{len(rows)} rows for {n} codes; give the row of each code")
        codes = self._codes.reshape(-1, n, size)
        found = np.empty((len(codes), n), np.float32)
        start, coder = 0, self._model.coder_
        for batch, n_rows in self._model._padded(rows):
            stop = start + n_rows
            conditions = None if self._conditions is None else self._conditions[start:stop]
            for i, part in enumerate(codes[:, start:stop]):
                block = padded(Batch(part, condition=conditions)).to(batch.x.device)
                parameters = coder.decode(block.x, condition=block.condition)
                nll = coder.likelihood.nll(parameters, batch.desired_output, batch.observed)
                found[i, start:stop] = -nll[:n_rows].cpu().numpy()
            start = stop
        return found.reshape(*draws, n)


class DistributionOfAllCodes:
    """Prior p(h) of codes, as `VariationalAutoencoder.p_code` returns it.

    Args:
        model: a fitted autoencoder whose codes have a prior.
    """

    def __init__(self, model: CodeSamplingMixin) -> None:
        self._model = model

    @property
    def _prior(self) -> CodePrior:
        """The prior, on the CPU together with the coder, which it may use."""
        self._model.coder_.to("cpu").eval()
        return self._model._code_prior().to("cpu")

    @torch.no_grad()
    def sample(self, n: int, random_state: Any = None) -> Float[np.ndarray, "n code_size"]:
        """Return n codes, float32.

        Args:
            n: number of codes.
            random_state: seed.

        Raises:
            InputError: fewer than one code.
        """
        check_count("n", n)
        return self._prior.sample(n, Generator().manual_seed(seed_of(random_state))).numpy()

    @torch.no_grad()
    def log_prob(self, H: ArrayLike) -> Float[np.ndarray, "*n_draws n"]:
        """Return log p(h), nats: a density, or the log-probability of a discrete code.

        Args:
            H: codes, (n, code_size) or (n_draws, n, code_size).

        Raises:
            InputError: codes of another width, or not finite.
        """
        prior = self._prior
        return prior.log_prob(_checked_codes(H, prior.code_size)).numpy()


def distribution_of_codes(model: BaseAutoencoder, X: Any) -> DistributionOfCodes:
    """Return p_enc(h | x) of the rows of X, in blocks, from a fitted model whose inference is a distribution."""
    rows, found = model._rows(X), []
    inference: Any = model.coder_.inference
    for batch, n in model._padded(rows):
        found.append(inference(batch, model.coder_.decoder).preactivation[:n].cpu())
    return DistributionOfCodes(inference.distribution(torch.cat(found)))


def _checked_codes(H: ArrayLike, code_size: int, n: int | None = None) -> Float[torch.Tensor, "*n_draws n code_size"]:
    """Return codes as float32 after checking their shape and values."""
    try:
        codes = np.asarray(H).astype(np.float32)
    except (TypeError, ValueError):
        raise InputError("the codes are not all numbers") from None
    rows = "n" if n is None else n
    if codes.ndim not in (2, 3) or codes.shape[-1] != code_size or (n is not None and codes.shape[-2] != n):
        raise InputError(f"codes of shape {codes.shape}; give ({rows}, {code_size}), or (draws, {rows}, {code_size})")
    if not np.isfinite(codes).all():
        raise InputError(f"the code at {tuple(map(int, np.argwhere(~np.isfinite(codes))[0]))} is not finite")
    return torch.from_numpy(codes)
