"""Supervised training of a head on a code: cross-entropy for classes, squared error for numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from isthmus.learning.objectives import Objective
from isthmus.parts.carried import collected
from isthmus.parts.forward import UNLABELLED, Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import ACTIVATIONS, Dropout
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import at_least_fp32

TIE_BREAK = 0.1
"""Weight of the cross-entropy in the monitor.

It decides between equal error rates, and is too small to stop training where only the confidence of misclassified rows
still grows.
"""

_ACTIVATIONS = tuple(kind for name, kind in ACTIVATIONS.items() if name != "linear" and isinstance(kind, type))


class Loss(Protocol):
    """A loss of outputs, given labels, per row."""

    name: ClassVar[str]

    def known(self, label: Tensor) -> Bool[Tensor, " batch"]:
        """Return a boolean mask of the rows with a label."""
        ...

    def __call__(self, output: Float[Tensor, "batch outputs"], label: Tensor) -> Float[Tensor, " batch"]:
        """Return the loss per row, nats; any finite number where there is no label."""
        ...

    def monitored(self, output: Float[Tensor, "batch outputs"], label: Tensor) -> Float[Tensor, " batch"]:
        """Return the value per row that early stopping monitors."""
        ...


class CrossEntropy:
    """Cross-entropy -log p(y | x) = -log softmax(o)_y of outputs o (batch, classes) and class numbers y (batch,).

    The monitored value is [argmax o != y] + 0.1 * cross-entropy: the error rate, and for equal error rates the
    cross-entropy.

    Example:
        >>> loss = CrossEntropy()
        >>> loss(torch.zeros(1, 4), torch.tensor([2])).exp()
        tensor([4.])
    """

    name: ClassVar[str] = "classification"

    def known(self, label: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
        """Return True for every row but those of class `UNLABELLED`."""
        return label != UNLABELLED

    def __call__(self, output: Float[Tensor, "batch classes"], label: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return -log softmax(o)_y, in fp32 or better."""
        return F.cross_entropy(at_least_fp32(output), label.clamp(min=0), reduction="none")

    def monitored(
        self, output: Float[Tensor, "batch classes"], label: Int[Tensor, " batch"]
    ) -> Float[Tensor, " batch"]:
        """Return 1 where the predicted class is wrong, else 0, plus a tenth of the cross-entropy."""
        return (output.argmax(-1) != label).float() + TIE_BREAK * self(output, label)


class SquaredError:
    """Squared error as -log N(y | o, I) = 1/2 ||y - o||^2 + d/2 log(2 pi), for o and y of shape (batch, d).

    Example:
        >>> round(float(SquaredError()(torch.zeros(1, 1), torch.tensor([[2.0]]))), 3)
        2.919
    """

    name: ClassVar[str] = "regression"

    def known(self, label: Float[Tensor, "batch outputs"]) -> Bool[Tensor, " batch"]:
        """Return True for every row without NaN."""
        return label.isfinite().all(-1)

    def __call__(
        self, output: Float[Tensor, "batch outputs"], label: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, " batch"]:
        """Return half the squared error plus the constant, in fp32 or better."""
        squares = (at_least_fp32(output) - label.nan_to_num()).square().sum(-1)
        return 0.5 * squares + 0.5 * label.shape[-1] * math.log(2 * math.pi)

    def monitored(
        self, output: Float[Tensor, "batch outputs"], label: Float[Tensor, "batch outputs"]
    ) -> Float[Tensor, " batch"]:
        """Return the loss itself."""
        return self(output, label)


class Supervision(Objective):
    r"""Objective that trains a head on the code of an autoencoder from labels.

        J = E_labelled [ -log p(y | o) ] + w J_coder,   o = V(h) + c,   h = f(x)

    f is the whole encoder with the activation of its code, fine-tuned with the head or frozen. During training, every
    hidden unit u of encoder and head, and of the code of a map, is replaced by u * m / (1 - rate) + s e with
    m ~ Bernoulli(1 - rate) and e ~ N(0, 1). The input of f is not corrupted: the autoencoder's corruption applies in
    J_coder alone. The noise applies in J_coder too, as in the paper, unless there are penalties, which are defined for
    units without noise.

    Shapes: x (batch, columns); h (batch, code_size); o (batch, outputs). The mean over a batch is the mean over its
    labelled rows, and for J_coder over all rows; so neither depends on how many rows of a batch have labels. Rows count
    by `Batch.weight`, if given, in both.

    Args:
        coder: the autoencoder with the initial encoder; its decoder is trained only if `reconstruction_weight` > 0.
        head: h -> o, without dropout.
        loss: -log p(y | o): `CrossEntropy` or `SquaredError`.
        frozen: True to keep the autoencoder unchanged.
        hidden_noise: s, the standard deviation of the noise on hidden units, in the units of their values.
        dropout: the rate at which hidden units are dropped.
        input_dropout: the rate at which columns of x are dropped.
        reconstruction_weight: w; the criterion is in nats per row, as the loss is.

    Source: Inayoshi & Kurita, Improved generalization by adding both auto-association and hidden-layer noise to
    neural-network-based classifiers (2005); DL book, section 15.1.

    Example:
        >>> from isthmus.learning.objectives import Reconstruction
        >>> from isthmus.parts.coder import Coder
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, decoder, head = (MLP(sizes, generator=generator) for sizes in ((4, 2), (2, 4), (2, 3)))
        >>> autoencoder = Reconstruction(Coder(EncoderMap(encoder, "sigmoid"), decoder, Gaussian(4)))
        >>> objective = Supervision(autoencoder, head, CrossEntropy())
        >>> batch = Batch(torch.zeros(3, 4), label=torch.tensor([0, 2, UNLABELLED]))
        >>> terms, _ = objective.terms(batch, 0.0, generator)
        >>> {name: tuple(term.shape) for name, term in terms.items()}
        {'classification': (3,)}
    """

    def __init__(
        self,
        unsupervised: Objective,
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
        self.unsupervised, self.head, self.loss = unsupervised, head, loss
        object.__setattr__(self, "coder", unsupervised.coder)  # its criterion registers it
        self.frozen, self.hidden_noise, self.reconstruction_weight = frozen, hidden_noise, reconstruction_weight
        self.dropout, self.input_dropout = Dropout(dropout), Dropout(input_dropout)

    def row_weights(self, batch: Batch) -> None:
        """Return None: the terms have the weights of the rows already, as the loss is a mean over labelled rows."""

    def train(self, mode: bool = True) -> Supervision:
        """Set the training mode; a frozen autoencoder stays in evaluation mode, with fixed running statistics."""
        super().train(mode)
        if self.frozen:
            self.unsupervised.eval()
        return self

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of the head; with noise where a generator is given."""
        if self.input_dropout.rate > 0.0:
            batch = replace(batch, x=self.input_dropout(batch.x, generator))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            code = self.coder.encode(batch).code
        return self.head(code)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the loss, (batch,), and each term of the autoencoder's criterion times w."""
        assert batch.label is not None
        with self._noise_injection(generator):
            output = self(batch, generator)
        terms = {self.loss.name: self._mask_unlabelled(self.loss(output, batch.label), batch)}
        if self.reconstruction_weight > 0.0:
            coder_terms = weighted(self._coder_terms(batch, progress, generator), batch.weight)
            terms |= {name: self.reconstruction_weight * term for name, term in coder_terms.items()}
        return terms

    def _coder_terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the terms of the autoencoder's criterion; constants that change no buffer if it is frozen."""
        with self._noise_injection(None if getattr(self.unsupervised, "penalties", None) else generator):
            if not self.frozen:
                return self.unsupervised.criterion(batch, progress, generator)
            with collected():
                terms = self.unsupervised.criterion(batch, progress, generator)
        return {name: term.detach() for name, term in terms.items()}

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the loss's monitored value of the labelled rows; rows count by their weights within the batch."""
        assert batch.label is not None
        with collected():
            output = self(batch)
        return self._mask_unlabelled(self.loss.monitored(output, batch.label), batch)

    def _mask_unlabelled(self, values: Float[Tensor, " batch"], batch: Batch) -> Float[Tensor, " batch"]:
        """Scale the rows such that their mean is the weighted mean of the labelled rows; others become 0."""
        assert batch.label is not None
        counts = self.loss.known(batch.label).to(values.dtype)
        counts = counts if batch.weight is None else counts * batch.weight
        mean = counts.mean()
        return values * counts / torch.where(mean > 0, mean, 1.0)

    @contextmanager
    def _noise_injection(self, generator: torch.Generator | None) -> Iterator[None]:
        """Context manager that adds noise and dropout to the hidden units, by forward hooks on any encoder."""
        no_noise = self.hidden_noise == 0.0 and self.dropout.rate == 0.0
        if generator is None or no_noise or not self.training:
            yield
            return
        noisy = [
            module
            for part in (self.coder.encoder, self.head)
            for module in part.modules()
            if isinstance(module, _ACTIVATIONS)
        ]
        if isinstance(self.coder.inference, EncoderMap):
            noisy.append(self.coder.code_activation)
        add_noise = self._noise_hook(generator)
        hooks = [module.register_forward_hook(add_noise) for module in noisy]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _noise_hook(self, generator: torch.Generator) -> Callable[[nn.Module, object, Tensor], Tensor]:
        """Return a forward hook of an activation: u -> u m / (1 - rate) + s e."""

        def add_noise(module: nn.Module, inputs: object, units: Tensor) -> Tensor:
            dropped = self.dropout(units, generator) if self.dropout.rate > 0.0 else units
            if self.hidden_noise == 0.0:
                return dropped
            noise = torch.randn(units.shape, generator=generator, device=generator.device)
            return dropped + self.hidden_noise * noise.to(units.device, units.dtype)

        return add_noise

    def project_gradient(self) -> None:
        """Project the gradient for the autoencoder's constraints, unless it is frozen."""
        if not self.frozen:
            self.unsupervised.project_gradient()

    def project(self) -> None:
        """Project the weights onto the autoencoder's constraints, unless it is frozen."""
        if not self.frozen:
            self.unsupervised.project()


def weighted(terms: Mapping[str, Tensor], weight: Float[Tensor, " batch"] | None) -> dict[str, Tensor]:
    """Multiply the terms per row by the rows' weights, normalised to mean 1; leave terms of the batch unchanged.

    Example:
        >>> weighted({"loss": torch.tensor([1.0, 3.0])}, torch.tensor([1.0, 3.0]))
        {'loss': tensor([0.5000, 4.5000])}
    """
    if weight is None:
        return dict(terms)
    return {name: term if term.ndim == 0 else term * weight / weight.mean() for name, term in terms.items()}
