"""Predictive sparse decomposition: an encoder that predicts the code which optimisation would find."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import Code, Decoder
from isthmus.parts.layers import check_positive
from isthmus.parts.optimised_inference import LinearDecoder, LinearDecoderInference, OptimisedInference
from isthmus.parts.penalties import Penalty, at_least_fp32
from isthmus.parts.sparse_inference import SparseProblem


class GainTanh(nn.Module):
    r"""Activation h_j = g_j tanh(a_j), with a learned gain g_j for each unit.

    Args:
        code_size: units of the code.

    Source: Kavukcuoglu, Ranzato & LeCun, Fast inference in sparse coding algorithms (2008), equation 4.

    Example:
        >>> GainTanh(1)(torch.tensor([[100.0]])).detach()
        tensor([[1.]])
    """

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(code_size))

    def forward(self, preactivation: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return h."""
        return self.gain * preactivation.tanh()


class SoftShrinkage(nn.Module):
    r"""Activation h_j = sign(a_j) max(|a_j| - theta_j, 0), with a learned threshold theta_j >= 0 for each unit.

    Units are exactly 0 where the pre-activation is small, as in optimal codes. The parameter is log theta.

    Args:
        code_size: units of the code.
        threshold: the initial thresholds.
        non_negative: True for h_j = max(a_j - theta_j, 0).

    Source: Kavukcuoglu et al., Learning convolutional feature hierarchies for visual recognition (2010), section 2.2.

    Example:
        >>> SoftShrinkage(2, 1.0)(torch.tensor([[3.0, -0.5]])).detach()
        tensor([[2., 0.]])
    """

    def __init__(self, code_size: int, threshold: float = 0.1, *, non_negative: bool = False) -> None:
        super().__init__()
        check_positive("threshold", threshold)
        self.non_negative = non_negative
        self.log_threshold = nn.Parameter(torch.full((code_size,), threshold).log())

    def forward(self, preactivation: Float[Tensor, "*draws units"]) -> Float[Tensor, "*draws units"]:
        """Return h."""
        threshold = self.log_threshold.exp()
        positive = (preactivation - threshold).relu()
        return positive if self.non_negative else positive - (-preactivation - threshold).relu()


class PredictiveInference(LinearDecoderInference):
    r"""Inference with a prediction: an encoder f predicts the code, and in training the code is optimised near it.

        training:  h = argmin_h 1/2 ||m (x - c - D h)||^2 + alpha Omega(h) + l2/2 ||h||^2 + gamma/2 ||h - f(x)||^2
        reading:   h = f(x),   or with `optimal` the minimum

    In training the minimisation takes `n_steps` steps from f(x). No gradient flows through h, and the pre-activation of
    the code is f(x), which does have one.

    Shapes: x (batch, columns); h and f(x) (batch, code_size).

    Args:
        encoder: x -> a.
        activation: a -> f(x).
        decoder: the linear decoder.
        alpha: weight of Omega(h) relative to 1/2 ||x - r||^2.
        prediction_weight: gamma, above 0.
        optimal: True to find the minimum when rows are read.
        options: further arguments of `OptimisedInference`.

    Raises:
        InputError: see `OptimisedInference`; gamma is not above 0.

    Source: Kavukcuoglu, Ranzato & LeCun, Fast inference in sparse coding algorithms with applications to object
    recognition (2008); Goodfellow, Bengio & Courville, Deep Learning, section 14.8, equation 14.19.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> from isthmus.parts.networks import MLP
        >>> encoder, decoder = MLP((3, 5), generator=generator), MLP((5, 3), generator=generator)
        >>> inference = PredictiveInference(encoder, SoftShrinkage(5), decoder, alpha=0.1, prediction_weight=1.0)
        >>> code = inference(Batch(torch.ones(1, 3)), decoder)
        >>> bool((code.code == code.preactivation).all())
        True
    """

    encoder: nn.Module

    def __init__(
        self,
        encoder: nn.Module,
        activation: nn.Module,
        decoder: LinearDecoder,
        alpha: float,
        *,
        prediction_weight: float,
        optimal: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(decoder)
        self.optimum = OptimisedInference(decoder, alpha, **options)
        self.encoder, self.code_activation = encoder, activation
        self.prediction_weight, self.optimal = check_positive("prediction_weight", prediction_weight), optimal

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch, with f(x) as the pre-activation."""
        predicted = self.predict(batch, generator)
        if generator is None and not self.optimal:
            return Code(predicted, predicted)
        with torch.no_grad(), torch.autocast(batch.x.device.type, enabled=False):
            problem = self.problem_near(batch, predicted.float())
            start = predicted.float().clamp_min(0.0) if problem.norm.non_negative else predicted.float()
            code = self.optimum.minimum(problem, trains=generator is not None, start=start)
        return Code(code, predicted)

    def predict(self, batch: Batch, generator: Generator | None = None) -> Float[Tensor, "batch code_size"]:
        """Return f(x)."""
        predicted: Tensor = self.code_activation(self.preactivation(self.visible(batch), batch.mask, generator))
        return predicted

    def problem_near(self, batch: Batch, predicted: Float[Tensor, "batch code_size"]) -> SparseProblem:
        """Return the problems of a batch with the term gamma/2 ||h - f(x)||^2."""
        gamma = self.prediction_weight
        problem = self.optimum.problem(self.centred(batch.x), batch.mask, l2=self.optimum.l2 + gamma)
        return replace(
            problem, correlations=problem.correlations.add(predicted, alpha=gamma),
            squared_norms=problem.squared_norms + gamma * predicted.square().sum(1),
        )  # fmt: skip


class PredictionError(Penalty):
    r"""Error of the predicted code: Omega = 1/2 ||h - f(x)||^2, where h is constant.

    Shapes: forward pass of (batch, code_size) -> (batch,).

    Args:
        weight: gamma.

    Source: Goodfellow, Bengio & Courville, Deep Learning, equation 14.19.
    """

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, " batch"]:
        """Return Omega of each row."""
        difference = at_least_fp32(output.preactivation) - output.code.detach()
        return 0.5 * difference.square().sum(-1)
