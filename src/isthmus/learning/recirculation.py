"""Recirculation: learning without back-propagation, from what the units do on two passes around the loop."""

from __future__ import annotations

from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Decoder, Reconstruction
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Likelihood


class Recirculation(Reconstruction):
    r"""A reconstruction whose gradient is a local rule: activity before the synapse times a change of activity after.

        first pass:    h_1 = s(W x + b),      r   = mean of p_dec(. | V h_1 + c)
        second pass:   x_2 = l x + (1 - l) r,     h_3 = s(W x_2 + b)
        -dV = (x - x_2) h_1',   -dW = (h_1 - h_3) x_2',   -dc = x - x_2,   -db = h_1 - h_3

    No weight is seen by another. The error of an output unit is the change of its own activity, and what comes back to
    a hidden unit comes as a change of its input: W (x - x_2) = (1 - l) W (x - r). Where W = V', and the output units
    are those whose parameters' gradient is r - x (linear ones under the squared error, logistic ones under the
    cross-entropy, softmax and Poisson units), that is (1 - l) times what back-propagation would send, and

        (dV, dW, db, dc) / (1 - l)  ->  the gradient of -log p_dec(x | h_1)      as l -> 1.

    dV and dc are that at any l. Under other weights the rule is no gradient. Learning draws W and V' together, since
    both gather products of the same activities, but not all the way where there are many columns: on digits their
    cosine stays near .3, and the error above back-propagation's. Tied weights are alike from the start.

    Autograd is given the rule by a surrogate of detached factors, (x_2 - x) . (V h_1 + c) + (h_3 - h_1) . (W x_2 + b),
    so the one loop serves it; the value of the term is the nll of the first pass.

    Shapes: as of `Reconstruction`. A missing entry (mask 0) is the same on both passes.

    Args:
        encoder, decoder: one affine map each, or the decoder the encoder's transposed.
        likelihood: with one output a column, whose mean is the unit's activity.
        code_activation: s.
        regression: l, how much of the row stays in the second pass.

    Raises:
        InputError: a regression outside [0, 1); outputs that are no activities of columns.

    Source: Hinton & McClelland, Learning representations by recirculation (1988).

    Example:
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = Recirculation(
        ...     MLP((4, 2), generator=generator), MLP((2, 4), generator=generator), Gaussian(4), "sigmoid")
        >>> batch = Batch(torch.ones(3, 4))
        >>> bool(torch.allclose(objective.terms(batch, 0.0, None)["reconstruction"], objective.nll(objective(batch))))
        True
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: Decoder,
        likelihood: Likelihood,
        code_activation: str | nn.Module = "sigmoid",
        *,
        regression: float = 0.75,
    ) -> None:
        share = check_regression(regression)
        if likelihood.n_parameters != likelihood.n_columns or any(True for _ in likelihood.parameters()):
            raise InputError(
                f"recirculation compares what a unit of each column does on two passes, and "
                f"likelihood={likelihood.name!r} has outputs besides; take 'gaussian', 'bernoulli' or another of one "
                "number a column"
            )
        super().__init__(encoder, decoder, likelihood, code_activation)
        self.regression = share

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The nll of the first pass, (batch,), nats, with the local rule for its gradient."""
        with torch.no_grad():
            output = self(batch)
            nll, mean = self.nll(output), self.likelihood.mean_given(output.parameters, batch.x)
            change = (1.0 - self.regression) * (batch.x - mean)
            change = change if batch.mask is None else change * batch.mask
            second_input = batch.x - change
        second_preactivation = self.encoder(second_input)
        with torch.no_grad():
            hidden_change = output.code - self.code_activation(second_preactivation)
        surrogate = -_products(change, self.decoder(output.code)) - _products(hidden_change, second_preactivation)
        return {"reconstruction": nll + (surrogate - surrogate.detach())}


def check_regression(regression: float) -> float:
    """Refuse what is no share of the row.

    Raises:
        InputError: no number, or one outside [0, 1).
    """
    if isinstance(regression, bool) or not isinstance(regression, Real) or not 0.0 <= regression < 1.0:
        raise InputError(
            f"regression={regression!r}: it must be a share, at least 0 and below 1: at 1 both passes are the same"
        )
    return float(regression)


def _products(change: Float[Tensor, "batch units"], total: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
    """By row, the inner product of held changes with the inputs of the units, in full precision."""
    return (change * total.to(change.dtype)).sum(-1)
