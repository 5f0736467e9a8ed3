"""Recirculation: training without back-propagation, by activity differences between two passes through the model."""

from __future__ import annotations

from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch


class Recirculation(Reconstruction):
    r"""Reconstruction objective with a local learning rule: presynaptic activity times a change of activity.

        first pass:    h_1 = s(W x + b),      r   = mean of p_dec(. | V h_1 + c)
        second pass:   x_2 = l x + (1 - l) r,     h_3 = s(W x_2 + b)
        -dV = (x - x_2) h_1',   -dW = (h_1 - h_3) x_2',   -dc = x - x_2,   -db = h_1 - h_3

    The update of a weight uses no other weight. The error of an output unit is the change of its own activity, and the
    error of a hidden unit is the change of its input: W (x - x_2) = (1 - l) W (x - r). If W = V' and the gradient by
    the parameters of the output units is r - x (linear units with the squared error, logistic units with the
    cross-entropy, softmax and Poisson units), this is (1 - l) times the signal of back-propagation, and

        (dV, dW, db, dc) / (1 - l)  ->  the gradient of -log p_dec(x | h_1)      as l -> 1.

    For dV and dc this holds at any l. For other weights the rule is not a gradient. Training makes W and V' more
    similar, since both accumulate products of the same activities, but not equal if there are many columns: on MNIST
    their cosine stays near .3, and the error above that of back-propagation. Tied weights are equal from the start.

    Autograd computes the rule from a surrogate with detached factors, (x_2 - x) . (V h_1 + c) + (h_3 - h_1) .
    (W x_2 + b), so the usual trainer applies; the value of the term is the nll of the first pass.

    Shapes: as for `Reconstruction`. A missing entry (mask 0) has the same value on both passes.

    Args:
        coder: one affine map as encoder, one as decoder, which may be the transposed encoder, and a likelihood with
            one parameter per column, whose mean is the unit's activity.
        regression: l, the weight of the row in the second pass.

    Raises:
        InputError: the regression is outside [0, 1); the likelihood has other outputs than one activity per column.

    Source: Hinton & McClelland, Learning representations by recirculation (1988).

    Example:
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((4, 2), (2, 4)))
        >>> objective = Recirculation(Coder(EncoderMap(encoder, "sigmoid"), decoder, Gaussian(4)))
        >>> batch = Batch(torch.ones(3, 4))
        >>> terms, _ = objective.terms(batch, 0.0, None)
        >>> bool(torch.allclose(terms["reconstruction"], objective.nll(objective(batch))))
        True
    """

    def __init__(self, coder: Coder, *, regression: float = 0.75) -> None:
        regression, likelihood = check_regression(regression), coder.likelihood
        if likelihood.n_parameters != likelihood.n_columns or any(True for _ in likelihood.parameters()):
            raise InputError(
                f"recirculation needs a likelihood with one parameter per column; likelihood={likelihood.name!r} has "
                "more; use 'gaussian' or 'bernoulli'"
            )
        super().__init__(coder)
        self.regression = regression

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the nll of the first pass, (batch,), nats, whose gradient is the local rule."""
        coder = self.coder
        with torch.no_grad():
            output = coder(batch)
            nll, mean = coder.nll(output), coder.likelihood.mean_given(output.parameters, batch.x)
            change = (1.0 - self.regression) * (batch.x - mean)
            change = change if batch.mask is None else change * batch.mask
            second_input = batch.x - change
        second_preactivation = coder.encoder(second_input)
        with torch.no_grad():
            hidden_change = output.code - coder.code_activation(second_preactivation)
        surrogate = -_products(change, coder.decode(output.code)) - _products(hidden_change, second_preactivation)
        return {"reconstruction": nll + (surrogate - surrogate.detach())}


def check_regression(regression: float) -> float:
    """Return the regression as a float, after checking that it lies in [0, 1).

    Raises:
        InputError: the regression is not a number in [0, 1).
    """
    if isinstance(regression, bool) or not isinstance(regression, Real) or not 0.0 <= regression < 1.0:
        raise InputError(
            f"regression={regression!r}: it must be a number from 0 to below 1; at 1 both passes are the same"
        )
    return float(regression)


def _products(change: Float[Tensor, "batch units"], total: Float[Tensor, "batch units"]) -> Float[Tensor, " batch"]:
    """Return the inner product, per row, of detached changes with the inputs of the units, in full precision."""
    return (change * total.to(change.dtype)).sum(-1)
