"""Codes whose first units are a code of their own: the reconstruction from prefixes of the code."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.forward import ForwardPass
from isthmus.parts.jacobians import eval_mode
from isthmus.parts.layers import is_count
from isthmus.parts.penalties import Penalty
from isthmus.parts.sparse_activations import with_training_codes


def check_prefixes(prefixes: Sequence[int], code_size: int | None = None) -> tuple[int, ...]:
    """Return the sizes of prefixes as integers, after checking them.

    Args:
        prefixes: number of units of each prefix, increasing.
        code_size: units of the code; None if it is not known yet.

    Raises:
        InputError: there are none; one is not a whole number from 1 to code_size - 1; they do not increase strictly.

    Example:
        >>> check_prefixes([2, 8], 32)
        (2, 8)
        >>> check_prefixes([8, 32], 32)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: prefixes=[8, 32]: 32 is not a whole number from 1 to 31; ...
    """
    if isinstance(prefixes, str) or not hasattr(prefixes, "__iter__") or not len(prefixes):
        raise InputError(f"prefixes={prefixes!r}: give a list of at least one number of units, such as [1]")
    wrong: list[Any] = [size for size in prefixes if not is_count(size)]
    if wrong and code_size is None:
        raise InputError(f"prefixes={prefixes!r}: {wrong[0]!r} is not a whole number of at least 1")
    if code_size is not None:
        wrong += [size for size in prefixes if is_count(size) and int(size) >= code_size]
    if wrong and code_size is not None:
        raise InputError(
            f"prefixes={prefixes!r}: {wrong[0]!r} is not a whole number from 1 to {code_size - 1}; a prefix has fewer "
            f"units than the code, which has {code_size}"
        )
    sizes = tuple(int(size) for size in prefixes)
    if any(first >= second for first, second in pairwise(sizes)):
        raise InputError(
            f"prefixes={prefixes!r} do not increase; give each number once, in order: {sorted(set(sizes))}"
        )
    return sizes


def prefix(code: Float[Tensor, "*draws batch code_size"], n_units: int) -> Float[Tensor, "*draws batch code_size"]:
    """Return the code with zeros in place of all units after the first `n_units`.

    Example:
        >>> prefix(torch.tensor([[3.0, 1.0, 2.0]]), 2)
        tensor([[3., 1., 0.]])
    """
    return code.masked_fill(torch.arange(code.shape[-1], device=code.device) >= n_units, 0.0)


class PrefixReconstruction(Penalty):
    r"""Reconstruction from prefixes of the code (Matryoshka autoencoder).

        Omega = sum over p in prefixes of -log p_dec(x | g(h 1[j < p])),   j = 0 .. code_size - 1

    The first p units reconstruct the rows as well as p units can, so that they hold what explains most, and later units
    add detail. A linear code with the prefixes 1, 2, ... has the principal components as units, in their order. Of a
    sparse code the first units are frequent and general features, which later units cannot take over.

    The encoder runs once, and the decoder once more for each prefix. Nothing is held constant. In these passes the
    decoder is in evaluation mode, without dropout and with its running moments, as when a prefix is decoded later; the
    moments follow the whole code alone.

    Shapes: forward pass of (*draws, batch) rows -> (*draws, batch), nats. A missing entry takes no part.

    Args:
        weight: with 1, each prefix counts as much as the reconstruction from the whole code, as in Bussmann et al.
            Nested dropout draws one prefix at random for each row instead, so that a prefix has its probability as
            weight.
        prefixes: number of units of each prefix, increasing.
        code_size: units of the code.

    Raises:
        InputError: prefixes that `check_prefixes` refuses; a negative weight.

    Source: Bussmann, Nabeshima, Karvonen & Nanda, Learning multi-level features with Matryoshka sparse autoencoders
    (2025); Rippel, Gelbart & Adams, Learning ordered representations with nested dropout (2014).

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> coder = Coder(EncoderMap(MLP((4, 3), generator=generator)), MLP((3, 4), generator=generator), Gaussian(4))
        >>> output = coder(Batch(torch.ones(5, 4)))
        >>> penalty = PrefixReconstruction(prefixes=[1], code_size=3)
        >>> expected = coder.likelihood.nll(coder.decode(prefix(output.code, 1)), torch.ones(5, 4))
        >>> penalty, torch.equal(penalty(output, coder, None), expected)
        (PrefixReconstruction(weight=1, prefixes=(1,)), True)
    """

    def __init__(self, weight: float = 1.0, *, prefixes: Sequence[int], code_size: int) -> None:
        super().__init__(weight)
        self.prefixes = check_prefixes(prefixes, code_size)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row."""
        decoder = coder.decoder
        # A prefix has no more units than the code, so that gathered weights have the same limit as in training.
        is_training = isinstance(decoder, nn.Module) and decoder.training
        with eval_mode(decoder), with_training_codes(decoder) if is_training else nullcontext():
            terms = [self._nll(output, coder, n_units) for n_units in self.prefixes]
        return torch.stack(terms).sum(0)

    def _nll(self, output: ForwardPass, coder: Coder, n_units: int) -> Float[Tensor, "*draws batch"]:
        """Return -log p_dec(x | g(h)) for the first units of h."""
        code = prefix(output.code, n_units)
        return coder.nll(replace(output, code=code, parameters=coder.decode(code)))

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"{super().extra_repr()}, prefixes={self.prefixes}"
