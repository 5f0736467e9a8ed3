"""What learning minimises. An objective is a module with `terms` and `monitor`; the loop knows nothing else of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import ClassVar, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.rows import Rows, mean_row, sampled_batches
from isthmus.parts.constraints import Constraint
from isthmus.parts.corruptions import Corrupted, Corruption
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import ACTIVATIONS, MLP, check_choice
from isthmus.parts.penalties import Penalty

MONITOR_SEED = 0
"""Of the draws under which a criterion is looked at: the same every time."""


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

    Attributes:
        min_validation_rows: held-out rows below which the last weights are kept, and not those of the best look.
    """

    min_validation_rows: ClassVar[int] = 1

    @abstractmethod
    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The named terms, each (batch,) where it is over rows or () where it is over the batch, in nats."""

    @abstractmethod
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """What one looks at, by row: lower is better; the same every time, no gradient needed."""

    def prepare(self, rows: Rows) -> None:
        """Look at the rows before learning begins; nothing by default."""

    def finish(self, rows: Rows) -> None:
        """Look at the rows after learning has ended; nothing by default."""

    def project_gradient(self) -> None:
        """Take out of the gradient what a constraint would undo; nothing by default."""

    def project(self) -> None:
        """Bring the weights back onto their constraints, after every step; nothing by default."""


class Reconstruction(Objective):
    r"""The criterion of an autoencoder whose inference is a map.

        J = E_x E_{x~ ~ C(.|x)} [ -log p_dec(x | h) ] + sum_k w_k Omega_k,   h = f(x~) = s(a),   a = encoder(x~)

    Shapes: x (batch, columns); a and h (batch, code_size); parameters of p_dec (batch, n_parameters).
    A missing entry (mask 0) takes no part in the sum over columns.

    Args:
        encoder: x -> a, the pre-activation of the code.
        decoder: h -> parameters of p_dec.
        likelihood: what the decoder's output units mean.
        code_activation: s, by name or as a module.
        corruption: C, what is done to the input while learning; None encodes the rows as they are.
        corrupted_weight, clean_weight: of the entries that the corruption changed, and of the others, in the sum
            over columns (alpha and beta of Vincent et al. 2010, section 3.4).
        penalties: Omega_k by the name of its term; each carries its weight w_k.
        constraints: what the weights are brought back to after each step.
        centre: where the reconstruction begins, given the rows: their mean, unless said otherwise.

    Raises:
        InputError: a weight that is negative or no number; two weights of 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.1, 14.2 and 14.4.

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
        self,
        encoder: nn.Module,
        decoder: Decoder,
        likelihood: Likelihood,
        code_activation: str | nn.Module = "linear",
        *,
        corruption: Corruption | None = None,
        corrupted_weight: float = 1.0,
        clean_weight: float = 1.0,
        penalties: Mapping[str, Penalty] | None = None,
        constraints: Sequence[Constraint] = (),
        centre: Callable[[Rows], Tensor] = mean_row,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood
        if isinstance(code_activation, str):
            check_choice("code_activation", code_activation, tuple(ACTIVATIONS))
            code_activation = ACTIVATIONS[code_activation]()
        self.code_activation = code_activation
        self.corruption = corruption
        self.corrupted_weight, self.clean_weight = check_entry_weights(corrupted_weight, clean_weight)
        self.penalties = nn.ModuleDict(penalties or {})
        self.constraints = tuple(constraints)
        self.centre = centre

    def prepare(self, rows: Rows) -> None:
        """Begin where the decoder gives the centre of the rows and the encoder sees centred ones."""
        self.start_at(self.centre(rows))
        if self.corruption is not None:
            self.corruption.prepare(batch.x for batch in sampled_batches(rows))
        for constraint in self.constraints:
            constraint.check(self)
        self.project()

    @torch.no_grad()
    def start_at(self, centre: Float[Tensor, " columns"]) -> None:
        """Begin where the decoder gives `centre` and the encoder sees rows about it.

        Sigmoid codes of one layer are about a half there. Seen through weights of the size that sigmoids ask for, that
        moves each output by some nats, which the first epochs would be spent on taking back: r(centre) = centre there.
        A dictionary's codes are zero at the centre.
        """
        desired_output = self.likelihood.starting_parameters(centre)
        self.decoder.start_at(desired_output)
        if not isinstance(self.encoder, MLP):
            return
        encoder_input = self._encoder_input(Corrupted(centre[None], None), None)
        self.encoder.centre(encoder_input[0])
        if len(self.encoder.affine_maps) == 1 and not self.constraints:
            given = self.decoder(self.code_activation(self.encoder(encoder_input)))[0]
            self.decoder.start_at(2 * desired_output - given)

    def separate_encoder(self) -> None:
        """Before labels alone are learned: part the encoder from what should stay as it is; nothing by default."""

    def _corrupt(self, batch: Batch, progress: float, generator: torch.Generator | None) -> Corrupted:
        """x~, drawn from the generator; the rows as they are where there is none."""
        if self.corruption is None or generator is None:
            return Corrupted(batch.x, None)
        return self.corruption(batch.x, generator, progress)

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch inputs"]:
        """What the encoder is given: x~, and beside it which entries it may look at, where it is told that."""
        if self.corruption is None or not self.corruption.mask_aware:
            return corrupted.x
        encoder_input = torch.ones_like(corrupted.x)
        for mask in (corrupted.mask, observed):
            encoder_input = encoder_input if mask is None else encoder_input * mask
        return torch.cat([corrupted.x * encoder_input, encoder_input], -1)

    def encode(self, batch: Batch) -> tuple[Float[Tensor, "batch units"], Float[Tensor, "batch code_size"]]:
        """a and h = f(x), without corruption or any draw."""
        preactivation = self.encoder(self._encoder_input(Corrupted(batch.x, None), batch.mask))
        return preactivation, self.code_activation(preactivation)

    def forward(self, batch: Batch, progress: float = 1.0, generator: torch.Generator | None = None) -> ForwardPass:
        """One trip of the batch through the model; it is corrupted where a generator is given."""
        corrupted = self._corrupt(batch, progress, generator)
        preactivation = self.encoder(self._encoder_input(corrupted, batch.mask), generator)
        code = self.code_activation(preactivation)
        parameters = self.decoder(code, generator)
        return ForwardPass(
            batch,
            corrupted.x,
            preactivation,
            code,
            parameters,
            corruption_mask=corrupted.corruption_mask,
            progress=progress,
        )

    def nll(self, output: ForwardPass) -> Float[Tensor, "*draws batch"]:
        """-log p_dec(x | h) by row, over the observed entries."""
        return self.likelihood.nll(output.parameters, output.batch.desired_output, self._entry_weights(output))

    def _entry_weights(self, output: ForwardPass) -> Float[Tensor, "batch columns"] | None:
        """What each entry counts: nothing where it was missing, and by whether it was corrupted."""
        mask = output.batch.mask
        if output.corruption_mask is None or self.corrupted_weight == self.clean_weight == 1.0:
            return mask
        entry_weights = self.clean_weight + (self.corrupted_weight - self.clean_weight) * output.corruption_mask
        return entry_weights if mask is None else mask * entry_weights

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The reconstruction term, (batch,), nats, and each penalty times its weight."""
        output = self(batch, progress, generator)
        terms = {"reconstruction": self.nll(output)}
        for name, penalty in self.penalties.items():
            terms[name] = penalty.weight * penalty(output, self, generator)
        return terms

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """The whole criterion by row, as it stands at the end of learning, under the same draws every time."""
        terms = self.terms(batch, 1.0, torch.Generator().manual_seed(MONITOR_SEED))
        return torch.stack([term.expand(len(batch.x)) for term in terms.values()]).sum(0)

    def project_gradient(self) -> None:
        """Each constraint takes out of the gradient what it would undo."""
        for constraint in self.constraints:
            constraint.project_gradient(self)

    def project(self) -> None:
        """Bring the weights back onto each constraint."""
        for constraint in self.constraints:
            constraint.project(self)


def check_entry_weights(corrupted_weight: float, clean_weight: float) -> tuple[float, float]:
    """Refuse weights of entries that are negative or no number, and that leave nothing to learn.

    Raises:
        InputError: with what was found.

    Example:
        >>> check_entry_weights(1, 0)
        (1.0, 0.0)
    """
    for name, weight in (("corrupted_weight", corrupted_weight), ("clean_weight", clean_weight)):
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0.0 <= weight < math.inf:
            raise InputError(f"{name}={weight!r}: it must be a finite number, 0 or more")
    if corrupted_weight == clean_weight == 0:
        raise InputError(
            "corrupted_weight=0 and clean_weight=0: no entry counts, and nothing is learned; give one of them a weight "
            "above 0"
        )
    return float(corrupted_weight), float(clean_weight)
