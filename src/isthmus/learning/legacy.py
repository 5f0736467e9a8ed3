"""The criterion of kinds whose model and criterion are not separated yet."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.learning.chains import check_gibbs_steps
from isthmus.learning.energy_objective import (
    MIN_VALIDATION_ROWS,
    MONITORED_COLUMNS,
    weight_decay_term,
)
from isthmus.learning.objectives import MONITOR_SEED, Objective, check_entry_weights
from isthmus.learning.rows import Rows, mean_row, sampled_batches
from isthmus.parts.constraints import Constraint
from isthmus.parts.corruptions import Corrupted, Corruption
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import Code, Decoder
from isthmus.parts.likelihoods import Bernoulli, Likelihood
from isthmus.parts.networks import ACTIVATIONS, MLP, check_choice
from isthmus.parts.penalties import Penalty, check_weight


class LegacyReconstruction(Objective):
    r"""Criterion of an autoencoder with a deterministic encoder.

        J = E_x E_{x~ ~ C(.|x)} [ -log p_dec(x | h) ] + sum_k w_k Omega_k,   h = f(x~) = s(a),   a = encoder(x~)

    Shapes: x (batch, columns); a and h (batch, code_size); parameters of p_dec (batch, n_parameters).
    A missing entry (mask 0) takes no part in the sum over columns.

    Args:
        encoder: x -> a, the pre-activation of the code.
        decoder: h -> parameters of p_dec.
        likelihood: p_dec, the likelihood of the decoder's outputs.
        code_activation: s, by name or as a module.
        corruption: C, the corruption of the input during training; None encodes the rows unchanged.
        corrupted_weight, clean_weight: weights of the corrupted entries and of the others in the sum over columns
            (alpha and beta of Vincent et al. 2010, section 3.4).
        penalties: Omega_k by the name of its term; each has its weight w_k.
        constraints: constraints that the weights are projected onto after each step.
        centre: function of the rows that returns the initial reconstruction; their mean by default.

    Raises:
        InputError: a weight is negative or not a number; both weights are 0.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.1, 14.2 and 14.4.
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
        """Initialize the decoder's output and the encoder's origin from the rows, and check the constraints."""
        self.start_at(self.centre(rows))
        if self.corruption is not None:
            self.corruption.prepare(batch.x for batch in sampled_batches(rows))
        for constraint in self.constraints:
            constraint.check(self.coder)
        self.project()

    @torch.no_grad()
    def start_at(self, centre: Float[Tensor, " columns"]) -> None:
        """Set the initial biases: the decoder outputs `centre`, and the encoder's input is centred there.

        Sigmoid codes of one layer are about 1/2 at the centre. With the weights that sigmoid units start from, this
        shifts each output by some nats, which the first epochs would have to undo; so the decoder's bias is set such
        that r(centre) = centre. A dictionary's codes are zero at the centre.
        """
        desired_output = self.likelihood.starting_parameters(centre)
        self.decoder.start_at(desired_output)
        if not isinstance(self.encoder, MLP):
            return
        encoder_input = self._encoder_input(Corrupted(centre[None], None), None)
        self.encoder.centre(encoder_input[0])
        if len(self.encoder.affine_maps) == 1 and not self.constraints:
            initial_output = self.decoder(self.code_activation(self.encoder(encoder_input)))[0]
            self.decoder.start_at(2 * desired_output - initial_output)

    @property
    def coder(self) -> Any:
        """The objective itself: criterion and model are not separated yet."""
        return self

    @property
    def inference(self) -> Any:
        """The objective itself."""
        return self

    def separate_weights(self) -> None:
        """Detach the encoder's weights from shared ones before training on labels alone; does nothing by default."""

    def _corrupt(self, batch: Batch, progress: float, generator: torch.Generator | None) -> Corrupted:
        """Return x~, or the rows unchanged without a corruption or a generator."""
        if self.corruption is None or generator is None:
            return Corrupted(batch.x, None)
        return self.corruption(batch.x, generator, progress)

    def _encoder_input(self, corrupted: Corrupted, observed: Tensor | None) -> Float[Tensor, "batch inputs"]:
        """Return the encoder's input: x~, and for a mask-aware corruption the mask of the visible entries."""
        if self.corruption is None or not self.corruption.mask_aware:
            return corrupted.x
        encoder_input = torch.ones_like(corrupted.x)
        for mask in (corrupted.mask, observed):
            encoder_input = encoder_input if mask is None else encoder_input * mask
        return torch.cat([corrupted.x * encoder_input, encoder_input], -1)

    def encode(self, batch: Batch) -> Code:
        """Return a and h = f(x), without corruption or any other randomness."""
        preactivation = self.encoder(self._encoder_input(Corrupted(batch.x, None), batch.mask))
        return Code(self.code_activation(preactivation), preactivation)

    def forward(self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0) -> ForwardPass:
        """Run the model on a batch; the input is corrupted where a generator is given."""
        corrupted = self._corrupt(batch, progress, generator)
        preactivation = self.encoder(self._encoder_input(corrupted, batch.mask), generator)
        code = self.code_activation(preactivation)
        parameters = self.decoder(code, generator)
        return ForwardPass(
            batch,
            replace(batch, x=corrupted.x),
            preactivation,
            code,
            parameters,
            corruption_mask=corrupted.corruption_mask,
            progress=progress,
        )

    def nll(self, output: ForwardPass) -> Float[Tensor, "*draws batch"]:
        """Return -log p_dec(x | h) per row, over the observed entries."""
        return self.likelihood.nll(output.parameters, output.batch.desired_output, self._entry_weights(output))

    def _entry_weights(self, output: ForwardPass) -> Float[Tensor, "batch columns"] | None:
        """Return the weight of each entry: 0 where it is missing, else by whether it was corrupted."""
        mask = output.batch.mask
        if output.corruption_mask is None or self.corrupted_weight == self.clean_weight == 1.0:
            return mask
        entry_weights = self.clean_weight + (self.corrupted_weight - self.clean_weight) * output.corruption_mask
        return entry_weights if mask is None else mask * entry_weights

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the reconstruction term, (batch,), nats, and the weighted penalties."""
        output = self(batch, generator, progress)
        terms = {"reconstruction": self.nll(output)}
        for name, penalty in self.penalties.items():
            terms[name] = penalty.weight * penalty(output, self, generator)
        return terms

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the whole criterion per row at the end of training, with the same random numbers at every call."""
        terms, _ = self.terms(batch, 1.0, torch.Generator().manual_seed(MONITOR_SEED))
        return torch.stack([term.expand(len(batch.x)) for term in terms.values()]).sum(0)

    def project_gradient(self) -> None:
        """Project the gradient for each constraint."""
        for constraint in self.constraints:
            constraint.project_gradient(self.coder)

    def project(self) -> None:
        """Project the weights onto each constraint."""
        for constraint in self.constraints:
            constraint.project(self.coder)


class LegacyEnergyObjective(LegacyReconstruction):
    """Base class of objectives that train an energy by chains; encoder and decoder share the energy's weights.

    Args:
        encoder: x -> a, the input of the code's units.
        decoder: h -> parameters of p(v | h).
        code_activation: a -> means of the code's units.
        likelihood: p(v | h), the likelihood of the energy.
        n_steps: Gibbs steps per training step; a pair (first, last) interpolates over training.
        centred: use the centred gradient.
        weight_decay: w of the term w/2 sum ||W||^2.
        penalties: penalties on the code by name.

    Raises:
        InputError: fewer than one step, or a negative weight.
    """

    min_validation_rows: ClassVar[int] = MIN_VALIDATION_ROWS

    log_partition: Tensor
    """log Z where it is known, else infinity."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: Decoder,
        code_activation: str | nn.Module,
        likelihood: Likelihood,
        *,
        n_steps: int | Sequence[int],
        centred: bool,
        weight_decay: float,
        penalties: Mapping[str, Penalty] | None = None,
    ) -> None:
        super().__init__(encoder, decoder, likelihood, code_activation, penalties=penalties)
        del self.likelihood  # the energy registers it
        self.n_steps, self.centred = check_gibbs_steps(n_steps), centred
        self.weight_decay = check_weight("weight_decay", weight_decay)
        self.register_buffer("log_partition", torch.full((), torch.inf, dtype=torch.float64))

    @property
    @abstractmethod
    def rbm(self) -> RBMEnergy:
        """The energy as two layers, whose log Z is computed."""

    @property
    @abstractmethod
    def weights(self) -> list[Tensor]:
        """The weights that weight decay applies to."""

    @abstractmethod
    def conditional_logits(
        self, v: Float[Tensor, "batch columns"], columns: Int[Tensor, "n batch"]
    ) -> Float[Tensor, "n batch"]:
        """Return log p(v_j = 1 | the others) - log p(v_j = 0 | the others) for n binary columns j of each row."""

    def encode(self, batch: Batch) -> Code:
        """Return a and the means of the code's units."""
        a = self.encoder(self.impute(batch))
        return Code(self.code_activation(a), a)

    def forward(self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0) -> ForwardPass:
        """Return the forward pass with means in place of samples."""
        v = self.impute(batch)
        a = self.encoder(v)
        code = self.code_activation(a)
        return ForwardPass(batch, Batch(v), a, code, self.decoder(code), progress=progress)

    def finish(self, rows: Rows) -> None:
        """Compute log Z where it is enumerable."""
        rbm_energy = self.rbm
        if rbm_energy.is_enumerable:
            self.log_partition.copy_(rbm_energy.log_partition())

    def steps_at(self, progress: float) -> int:
        """Return the number of Gibbs steps at a training progress in [0, 1]."""
        first, last = self.n_steps
        return round(first + (last - first) * progress)

    def weight_decay_term(self) -> dict[str, Tensor]:
        """Return the term of weight decay by name; an empty dictionary where the weight is 0."""
        return weight_decay_term(self.weight_decay, self.weights)

    @property
    def monitor_name(self) -> str:
        """Name of the monitor: "pseudo-likelihood" for binary units, "reconstruction" for others."""
        return "pseudo-likelihood" if isinstance(self.likelihood, Bernoulli) else "reconstruction"

    @torch.no_grad()
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the negative log pseudo-likelihood per row, estimated from `MONITORED_COLUMNS` columns of each.

        The columns are the same at every call. Where the pseudo-likelihood has no closed form, the monitor is the nll
        of the mean-field reconstruction.
        """
        if self.monitor_name == "reconstruction":
            return self.nll(self(batch))
        v = self.impute(batch)
        generator = torch.Generator().manual_seed(MONITOR_SEED)
        columns = torch.randint(v.shape[1], (MONITORED_COLUMNS, len(v)), generator=generator).to(v.device)
        values = v.gather(1, columns.t()).t()
        logits = self.conditional_logits(v, columns)
        nll = F.binary_cross_entropy_with_logits(logits, values, reduction="none")
        return v.shape[1] * nll.mean(0)

    @abstractmethod
    def impute(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""

    def visible(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""
        return self.impute(batch)

    @property
    def is_normalised(self) -> bool:
        """True if log Z is known."""
        return math.isfinite(float(self.log_partition))

    def subtract_log_partition(self, log_p: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Subtract log Z from unnormalised log probabilities where it is known, in float64."""
        return log_p.double() - self.log_partition if self.is_normalised else log_p.double()
