"""The criterion of a variational autoencoder: a bound on -log p(x), with the weight of its divergence."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.errors import InputError
from isthmus.learning.objectives import MONITOR_SEED, Reconstruction, reduce_draws
from isthmus.learning.rows import Rows, mean_row, sampled_batches
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.penalties import Penalty
from isthmus.parts.stochastic_inference import DistributionInference

MAX_STARTING_ROWS = 4096
"""Largest number of rows at which a prior starts."""


class VariationalBound(Reconstruction):
    r"""Criterion of a variational autoencoder.

        one draw, or reduction "mean":   J = E[ -log p(x | h) ] + w KL(q(h | x) || p(h))
        reduction "logmeanexp":          J = -log 1/k sum_i p(x | h_i) (p(h_i) / q(h_i | x))^w
        w = beta min(1, progress / warmup)

    The divergence has a closed form for the standard prior of an inference; for others it is estimated by the samples.
    With `free_bits` the divergence of each unit (each part of `Code.kl`), averaged over the batch, costs nothing below
    that many nats, so that units do not collapse to the prior early in training:

        w sum_j max( free_bits, mean over rows of KL_j )

    The gradient of the importance-weighted bound is doubly reparameterised: with normalised weights w_i = softmax(log
    of the i-th term), the decoder and the prior get sum_i w_i d log(term_i), and the encoder
    sum_i ((1 - w) w_i + w w_i^2) d log(term_i) / dh_i dh_i, with constant parameters of log q. Its signal does not
    vanish as k grows.

    Args:
        coder: with a `DistributionInference`; for "logmeanexp" a Gaussian one, with `path_derivative`.
        beta: weight of the divergence at the end of the warm-up; 1 is the bound itself.
        warmup: fraction of the training in which the weight rises linearly from 0; 0 starts at beta.
        free_bits: nats of each unit that cost nothing; it needs the closed form.
        options: other arguments of `Reconstruction`.

    Raises:
        InputError: penalties with "logmeanexp".

    Source: Kingma & Welling, Auto-encoding variational Bayes (2014); Higgins et al., beta-VAE (2017); Sonderby et al.,
    Ladder variational autoencoders (2016), for the warm-up; Kingma et al., Improved variational inference with inverse
    autoregressive flow (2016), for free bits; Burda, Grosse & Salakhutdinov, Importance weighted autoencoders (2016);
    Tucker et al., Doubly reparameterized gradient estimators (2019).
    """

    def __init__(
        self, coder: Coder, *, beta: float = 1.0, warmup: float = 0.0, free_bits: float = 0.0, **options: Any
    ) -> None:
        super().__init__(coder, **options)
        if self.reduction == "logmeanexp" and len(self.penalties):
            raise InputError("the importance-weighted bound weights the gradient of the code; leave the penalties out")
        self.beta, self.warmup, self.free_bits = float(beta), float(warmup), float(free_bits)

    @torch.no_grad()
    def prepare(self, rows: Rows) -> None:
        """Initialize biases from the rows, and a learned prior from some of them."""
        super().prepare(rows)
        prior = getattr(self.coder.inference, "prior", None)
        if prior is not None and prior.starts_at_rows:
            mean = mean_row(rows)
            batches = sampled_batches(rows, min(len(rows), MAX_STARTING_ROWS))
            prior.start_at(torch.cat([_complete(batch, mean) for batch in batches]))

    def without_warmup(self) -> None:
        """Keep weight and temperatures of the end of training from the first step on."""
        self.warmup = 0.0
        cast(DistributionInference, self.coder.inference).without_annealing()

    def weight_at(self, progress: float) -> float:
        """Return w, the weight of the divergence.

        Example:
            >>> bound = VariationalBound.__new__(VariationalBound)
            >>> bound.beta, bound.warmup = 2.0, 0.5
            >>> [bound.weight_at(progress) for progress in (0.0, 0.25, 0.5, 1.0)]
            [0.0, 1.0, 2.0, 2.0]
        """
        return self.beta * (min(1.0, progress / self.warmup) if self.warmup else 1.0)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the terms of the bound, (batch,) each or () with free bits, nats, and the weighted penalties.

        Without a generator the samples of the code are those of `monitor`.
        """
        generator = torch.Generator().manual_seed(MONITOR_SEED) if generator is None else generator
        output, weight = self(batch, generator, progress), self.weight_at(progress)
        outer: dict[str, Tensor] = {}
        for name, module in self.penalties.items():
            penalty = cast(Penalty, module)
            outer[name] = penalty.weight * penalty(output, self.coder, generator)
        if self.reduction == "logmeanexp":
            return {"bound": self._importance_bound(output, weight)} | reduce_draws(outer, "mean")
        terms = {"reconstruction": self.nll(output), "divergence": weight * self.divergence(output)}
        return reduce_draws(terms | outer, "mean")

    def divergence(self, output: ForwardPass) -> Tensor:
        """Return KL(q || p): (batch,), () with free bits, or its estimates of each draw, (draws, batch)."""
        if output.kl is None:
            return cast(Tensor, output.log_q) - cast(Tensor, output.log_prior)
        if not self.free_bits:
            return output.kl.sum(-1)
        weights = self.row_weights(output.batch)
        by_unit = output.kl.mean(0) if weights is None else (weights @ output.kl) / weights.sum()
        return by_unit.clamp_min(self.free_bits).sum()

    def _importance_bound(self, output: ForwardPass, weight: float) -> Float[Tensor, " batch"]:
        """Return -log 1/k sum_i exp(log w_i), with the doubly reparameterised gradient."""
        ratio = cast(Tensor, output.log_prior) - cast(Tensor, output.log_q)
        log_w = weight * ratio - self.nll(output)
        bound = math.log(len(log_w)) - torch.logsumexp(log_w, 0)
        normalised = log_w.detach().softmax(0)
        factor = (1.0 - weight + weight * normalised).unsqueeze(-1)
        if output.code.requires_grad:
            output.code.register_hook(lambda gradient: gradient * factor)
        surrogate = -(normalised * log_w).sum(0)
        return bound.detach() + surrogate - surrogate.detach()


def _complete(batch: Batch, mean: Float[Tensor, " columns"]) -> Float[Tensor, "batch inputs"]:
    """Return rows with the mean of the column at missing entries, each followed by its condition."""
    x = batch.x if batch.mask is None else torch.where(batch.mask > 0, batch.x, mean)
    return x if batch.condition is None else torch.cat([x, batch.condition], -1)
