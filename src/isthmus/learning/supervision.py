"""What is minimised where a label is known: the cross-entropy, or the squared error, of a head on a coder's code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.rows import Rows
from isthmus.parts.forward import Batch
from isthmus.parts.layers import ACTIVATIONS, Dropout
from isthmus.parts.networks import MLP

UNLABELLED = -1
"""The number of the class of a row whose class is not known; an unknown number is NaN."""

TIE_BREAK = 0.1
"""Share of the cross-entropy in what is looked at: it decides between equal errors, and is too little to stop
learning where only the certainty of rows that are wrong anyway still grows."""

_ACTIVATIONS = tuple(kind for name, kind in ACTIVATIONS.items() if name != "linear" and isinstance(kind, type))


class Loss(Protocol):
    """What an output costs, given the label, by row."""

    name: ClassVar[str]

    def known(self, label: Tensor) -> Bool[Tensor, " batch"]:
        """Which rows have a label."""
        ...

    def __call__(self, output: Float[Tensor, "batch outputs"], label: Tensor) -> Float[Tensor, " batch"]:
        """Nats by row; any finite number where there is no label."""
        ...

    def monitored(self, output: Float[Tensor, "batch outputs"], label: Tensor) -> Float[Tensor, " batch"]:
        """What early stopping looks at, by row."""
        ...


class CrossEntropy:
    """-log p(y | x) = -log softmax(o)_y, for outputs o (batch, classes) and labels y (batch,), whole numbers.

    What is looked at is [argmax o != y] + 0.1 * cross-entropy: the error, which is wanted, and of equal errors the
    one that is less surprised.

    Example:
        >>> loss = CrossEntropy()
        >>> loss(torch.zeros(1, 4), torch.tensor([2])).exp()
        tensor([4.])
    """

    name: ClassVar[str] = "classification"

    def known(self, label: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Every row but those of the class `UNLABELLED`."""
        return label != UNLABELLED

    def __call__(self, output: Float[Tensor, "batch classes"], label: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """-log softmax(o)_y, in fp32 or better."""
        return F.cross_entropy(_at_least_fp32(output), label.clamp(min=0), reduction="none")

    def monitored(
        self, output: Float[Tensor, "batch classes"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """1 where the likeliest class is another, and a tenth of the cross-entropy."""
        return (output.argmax(-1) != label).float() + TIE_BREAK * self(output, label)


class SquaredError:
    """-log N(y | o, I) = 1/2 ||y - o||^2 + d/2 log(2 pi), for outputs o and labels y, both (batch, d).

    Example:
        >>> round(float(SquaredError()(torch.zeros(1, 1), torch.tensor([[2.0]]))), 3)
        2.919
    """

    name: ClassVar[str] = "regression"

    def known(self, label: Float[Tensor, "batch outputs"]) -> Bool[Tensor, " batch"]:
        """Every row without NaN."""
        return label.isfinite().all(-1)

    def __call__(
        self, output: Float[Tensor, "batch outputs"], label: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, " batch"]:
        """Half the squared error and its constant, in fp32 or better."""
        squares = (_at_least_fp32(output) - label.nan_to_num()).square().sum(-1)
        return 0.5 * squares + 0.5 * label.shape[-1] * math.log(2 * math.pi)

    def monitored(
        self, output: Float[Tensor, "batch outputs"], label: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, " batch"]:
        """The same."""
        return self(output, label)


def _at_least_fp32(output: Tensor) -> Tensor:
    """At least fp32, whatever learning computes in."""
    return output if output.dtype == torch.float64 else output.float()


class Supervision(Objective):
    r"""A head on the code of a coder, learned from labels; the coder's own criterion stays as a term where asked.

        J = E_labelled [ -log p(y | o) ] + w J_coder,   o = V(h) + c,   h = f(x)

    f is the whole encoder with the activation of its code, fine-tuned with the head or frozen. While learning, every
    hidden unit u of encoder and head, and of the code, becomes u * m / (1 - rate) + s e with m ~ Bernoulli(1 - rate)
    and e ~ N(0, 1). The rows enter f as they are: the coder's corruption belongs to w J_coder alone. The disturbance
    enters J_coder too, as in the paper, unless it has penalties: those are of undisturbed units.

    Shapes: x (batch, columns); h (batch, code_size); o (batch, outputs). Each batch's mean is taken over its labelled
    rows, and that of J_coder by `Batch.weight` where there is one, so neither depends on how many rows of a batch
    have labels.

    Args:
        coder: whose encoder is started from; its decoder learns only where `reconstruction_weight` is above 0.
        head: h -> o, with no dropout of its own.
        loss: -log p(y | o): `CrossEntropy` or `SquaredError`.
        frozen: keep the coder as it is.
        hidden_noise: s, the standard deviation of the noise on hidden units, in their own unit.
        dropout: the rate at which hidden units are dropped.
        input_dropout: the same for the columns of x.
        reconstruction_weight: w; the criterion is in nats a row, as the loss is.

    Source: Inayoshi & Kurita, Improved generalization by adding both auto-association and hidden-layer noise to
    neural-network-based classifiers (2005); DL book, section 15.1.

    Example:
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, decoder = MLP((4, 2), generator=generator), MLP((2, 4), generator=generator)
        >>> coder = Reconstruction(encoder, decoder, likelihood_from({"name": "gaussian"}, 4), "sigmoid")
        >>> objective = Supervision(coder, MLP((2, 3), generator=generator), CrossEntropy())
        >>> batch = Batch(torch.zeros(3, 4), label=torch.tensor([0, 2, UNLABELLED]))
        >>> {name: tuple(term.shape) for name, term in objective.terms(batch, 0.0, generator).items()}
        {'classification': (3,)}
    """

    def __init__(
        self,
        coder: Reconstruction,
        head: MLP,
        loss: Loss,
        *,
        frozen: bool = False,
        hidden_noise: float = 0.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        reconstruction_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.coder, self.head, self.loss = coder, head, loss
        self.frozen, self.hidden_noise, self.reconstruction_weight = frozen, hidden_noise, reconstruction_weight
        self.dropout, self.input_dropout = Dropout(dropout), Dropout(input_dropout)
        coder.requires_grad_(not frozen)

    def prepare(self, rows: Rows) -> None:
        """Let the coder learn or not: it may be frozen in one phase and fine-tuned in the next."""
        self.coder.requires_grad_(not self.frozen)

    def train(self, mode: bool = True) -> Supervision:
        """As of every module; a frozen coder stays as it is read, its running statistics too."""
        super().train(mode)
        if self.frozen:
            self.coder.eval()
        return self

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, "batch outputs"]:
        """The outputs of the head; disturbed where a generator is given."""
        if self.input_dropout.rate > 0.0:
            batch = replace(batch, x=self.input_dropout(batch.x, generator))
        _, code = self.coder.encode(batch)
        return self.head(code)

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The loss, (batch,), and each term of the coder's criterion times w."""
        assert batch.label is not None
        with self._noise_injection(generator):
            output = self(batch, generator)
        terms = {self.loss.name: self._mask_unlabelled(self.loss(output, batch.label), batch.label)}
        if self.reconstruction_weight > 0.0:
            with self._noise_injection(None if self.coder.penalties else generator):
                coder_terms = self.coder.terms(batch, progress, generator)
            terms |= {
                name: self.reconstruction_weight * _weighted(term, batch.weight) for name, term in coder_terms.items()
            }
        return terms

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """What the loss says is to be looked at, over the labelled rows."""
        assert batch.label is not None
        return self._mask_unlabelled(self.loss.monitored(self(batch), batch.label), batch.label)

    def _mask_unlabelled(self, values: Float[Tensor, " batch"], label: Tensor) -> Float[Tensor, " batch"]:
        """Zero where there is no label, and scaled so that the mean of the batch is that of its labelled rows."""
        known = self.loss.known(label).to(values.dtype)
        return values * known / known.mean().clamp(min=1 / len(known))

    @contextmanager
    def _noise_injection(self, generator: torch.Generator | None) -> Iterator[None]:
        """Let noise and dropout into the hidden units, by hooks: so any encoder has them, whatever its layers."""
        no_noise = self.hidden_noise == 0.0 and self.dropout.rate == 0.0
        if generator is None or no_noise or not self.training:
            yield
            return
        hidden = [
            module
            for part in (self.coder.encoder, self.head)
            for module in part.modules()
            if isinstance(module, _ACTIVATIONS)
        ]
        add_noise = self._noise_hook(generator)
        hooks = [module.register_forward_hook(add_noise) for module in (*hidden, self.coder.code_activation)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _noise_hook(self, generator: torch.Generator) -> Callable[[nn.Module, object, Tensor], Tensor]:
        """u -> u m / (1 - rate) + s e, as a hook of an activation."""

        def add_noise(module: nn.Module, inputs: object, units: Tensor) -> Tensor:
            dropped = self.dropout(units, generator) if self.dropout.rate > 0.0 else units
            if self.hidden_noise == 0.0:
                return dropped
            noise = torch.randn(units.shape, generator=generator, device=generator.device)
            return dropped + self.hidden_noise * noise.to(units.device, units.dtype)

        return add_noise

    def project_gradient(self) -> None:
        """The coder's constraints hold while it is fine-tuned."""
        if not self.frozen:
            self.coder.project_gradient()

    def project(self) -> None:
        """The coder's constraints hold while it is fine-tuned."""
        if not self.frozen:
            self.coder.project()


def _weighted(term: Tensor, weight: Float[Tensor, " batch"] | None) -> Tensor:
    """A term by row with the rows' weights, whose mean is made 1; a term over the batch as it is."""
    if weight is None or term.ndim == 0:
        return term
    return term * weight / weight.mean()
