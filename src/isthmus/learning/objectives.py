"""What learning minimises. An objective is a module with `terms` and `monitor`; the loop knows nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import ACTIVATIONS, MLP, check_choice
from isthmus.parts.passes import Batch, Pass


class Decoder(Protocol):
    """What the criterion asks of a decoder besides being called: to begin at an output."""

    def __call__(self, code: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The parameters of p_dec, given codes."""
        ...

    def start_at(self, output: Tensor) -> None:
        """Give about `output`, whatever the code, before learning."""
        ...


class Objective(nn.Module, ABC):
    """A criterion by named terms, and the one number a row that is looked at while learning.

    The loop sums the means of the terms, follows their gradient, and reads `monitor` for early
    stopping, for the last good weights and for the doctor: never the loss, which for a contrast
    starts near zero and for a surrogate means nothing.
    """

    @abstractmethod
    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The named terms, each (batch,) where it is over rows or () where it is over the batch, in nats."""

    @abstractmethod
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """What one looks at, by row: lower is better; no randomness, no gradient needed."""


class Reconstruction(Objective):
    r"""The mean reconstruction criterion of an autoencoder whose inference is a map.

        J = E_x [ -log p_dec(x | h) ],   h = f(x) = s(a),   a = encoder(x)

    Shapes: x (batch, columns); a and h (batch, code_size); parameters of p_dec (batch, n_parameters).
    A missing entry (mask 0) takes no part in the sum over columns.

    Args:
        encoder: x -> a, the pre-activation of the code.
        decoder: h -> parameters of p_dec.
        likelihood: what the decoder's output units mean.
        code_activation: s, by name.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.1 and 14.4.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> generator = torch.Generator().manual_seed(0)
        >>> objective = Reconstruction(
        ...     MLP((4, 2), generator=generator), MLP((2, 4), generator=generator),
        ...     likelihood_from({"name": "gaussian"}, 4))
        >>> {k: tuple(v.shape) for k, v in objective.terms(Batch(torch.zeros(3, 4)), 0.0, None).items()}
        {'reconstruction': (3,)}
    """

    decoder: Decoder

    def __init__(
        self, encoder: nn.Module, decoder: Decoder, likelihood: Likelihood, code_activation: str = "linear"
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        check_choice("code_activation", code_activation, tuple(ACTIVATIONS))
        self.code_activation = ACTIVATIONS[code_activation]()

    def start_at(self, mean: Float[Tensor, " columns"]) -> None:
        """Begin where the decoder gives the mean of the rows and the encoder sees centred ones."""
        self.decoder.start_at(self.likelihood.parameters_for(mean))
        if isinstance(self.encoder, MLP):
            self.encoder.centre(mean)

    def forward(self, batch: Batch, progress: float = 1.0, generator: torch.Generator | None = None) -> Pass:
        """One trip of the batch through the model."""
        preactivation = self.encoder(batch.x, generator)
        code = self.code_activation(preactivation)
        parameters = self.decoder(code, generator)
        return Pass(batch, batch.x, preactivation, code, parameters, progress=progress)

    def nll(self, trip: Pass) -> Float[Tensor, "*draws batch"]:
        """-log p_dec(x | h) by row, over the observed entries."""
        return self.likelihood.nll(trip.parameters, trip.batch.wanted, trip.batch.mask)

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The reconstruction term, (batch,), nats."""
        return {"reconstruction": self.nll(self(batch, progress, generator))}

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """-log p_dec(x | f(x)) by row."""
        return self.nll(self(batch))
