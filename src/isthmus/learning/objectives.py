"""Objectives: modules with `terms` to minimise and a `monitor` for validation, the interface that the trainer uses."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import ClassVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.rows import Rows, mean_row, mean_target, sampled_batches, weighted_size
from isthmus.parts.carried import Carried, collected
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import Constraint
from isthmus.parts.corruptions import Corrupted, Corruption
from isthmus.parts.count_encoder import CountEncoder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import CentringEncoder
from isthmus.parts.layers import check_choice
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty

MONITOR_SEED = 0
"""Seed of the random numbers of a monitor, which are the same at every call."""

REDUCTIONS = ("mean", "logmeanexp")
"""Reductions of the inner terms over draws of the code."""


class Objective(nn.Module, ABC):
    """Base class of training criteria: a sum of named terms, and a monitor with one number per row.

    The trainer minimises the sum of the means of the terms; a row counts by its weight (`Batch.weight`). Early
    stopping, the selection of the best weights and the doctor use `monitor` and never the loss, which starts near zero
    for a contrast and has no meaning for a surrogate.

    Attributes:
        min_validation_rows: number of validation rows below which training ends with the last weights, and not with
            those of the best epoch.
    """

    min_validation_rows: ClassVar[int] = 1

    coder: Coder
    """The model, where the objective is that of one."""

    def terms(
        self, batch: Batch, progress: float, generator: torch.Generator | None
    ) -> tuple[dict[str, Tensor], Carried]:
        """Return the named terms in nats, each (batch,) per row or () for the batch, and what the step carries.

        The call changes nothing: new values of chains, counters and running statistics are in the second result, which
        `update` stores after the step.
        """
        with collected() as carried:
            terms = self.criterion(batch, progress, generator)
        return terms, carried

    @abstractmethod
    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the named terms; new values of buffers are passed to `isthmus.parts.carried.carry`."""

    @abstractmethod
    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the monitored value of each row: lower is better, deterministic, without gradient."""

    def update(self, carried: Carried, skip: Tensor | None = None) -> None:
        """Store what `terms` carried, unless the scalar `skip` is not zero; closed-form updates belong here too."""
        carried.store(skip)

    def row_weights(self, batch: Batch) -> Float[Tensor, " batch"] | None:
        """Return the weights of the rows in the means of terms and monitor; None is equal weights."""
        return batch.weight

    def prepare(self, rows: Rows) -> None:
        """Initialize parameters from the rows before training; does nothing by default."""

    def prepare_statistics(self, rows: Rows) -> None:
        """Estimate from the rows what is not a part of the model, which stays as it is; does nothing by default."""

    def project_gradient(self) -> None:
        """Remove the part of the gradient that a constraint would undo; does nothing by default."""

    def project(self) -> None:
        """Project the weights onto their constraints after each step; does nothing by default."""


class Reconstruction(Objective):
    r"""Criterion of an autoencoder: the expected reconstruction error, or a bound on -log p(x), plus penalties.

        J = E_x E_{x~ ~ C(.|x)} [ R_{h ~ p_enc(h|x~)} [ -log p_dec(x | h) + log q(h | x~) - log p(h) + inner Omega ] ]
            + sum_k w_k Omega_k

    R is the reduction over draws of the code: "mean", or "logmeanexp", R[t] = -log mean exp(-t). For a map there is one
    code, and log q and log p are 0. Inner penalties (`Penalty.inner`) stand inside R, the others are added after it.

    Shapes: x (batch, columns); h (*draws, batch, code_size); parameters of p_dec (*draws, batch, n_parameters).
    A missing entry (mask 0) takes no part in the sum over columns.

    Args:
        coder: the model, trained in place.
        corruption: C, the corruption of the input during training; None encodes the rows unchanged.
        corrupted_weight, clean_weight: weights of the corrupted entries and of the others in the sum over columns
            (alpha and beta of Vincent et al. 2010, section 3.4).
        penalties: Omega_k by the name of its term; each has its weight w_k.
        constraints: constraints that the weights are projected onto after each step.
        centre: function of the rows that returns the initial reconstruction; their mean by default.
        reduction: R, a name in `REDUCTIONS`.

    Raises:
        InputError: a weight is negative or not a number; both weights are 0; an unknown reduction.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.1, 14.2 and 14.4; Burda, Grosse & Salakhutdinov,
    Importance weighted autoencoders (2016), for "logmeanexp".

    Example:
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> generator = torch.Generator().manual_seed(0)
        >>> encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((4, 2), (2, 4)))
        >>> objective = Reconstruction(Coder(EncoderMap(encoder), decoder, Gaussian(4)))
        >>> terms, carried = objective.terms(Batch(torch.zeros(3, 4)), 0.0, None)
        >>> {name: tuple(term.shape) for name, term in terms.items()}, len(carried)
        ({'reconstruction': (3,)}, 0)
    """

    def __init__(
        self,
        coder: Coder,
        *,
        corruption: Corruption | None = None,
        corrupted_weight: float = 1.0,
        clean_weight: float = 1.0,
        penalties: Mapping[str, Penalty] | None = None,
        constraints: Sequence[Constraint] = (),
        centre: Callable[[Rows], Tensor] = mean_row,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        check_choice("reduction", reduction, REDUCTIONS)
        self.coder, self.corruption = coder, corruption
        self.corrupted_weight, self.clean_weight = check_entry_weights(corrupted_weight, clean_weight)
        self.penalties = nn.ModuleDict(penalties or {})
        self.constraints = tuple(constraints)
        self.centre, self.reduction = centre, reduction

    # -- before training ------------------------------------------------------------------------------

    @property
    def starts_as_dictionary(self) -> bool:
        """True if the code of the centre is 0, so that the decoder's bias is the initial reconstruction."""
        return bool(self.constraints)

    def prepare(self, rows: Rows) -> None:
        """Initialize the decoder's output and the encoder's origin from the rows, and check the constraints."""
        encoder = getattr(self.coder.inference, "encoder", None)
        if isinstance(encoder, CountEncoder):
            encoder.learn(lambda: (batch.x for batch in sampled_batches(rows)))
        self.start_at(self.centre(rows), mean_target(rows))
        self.prepare_statistics(rows)
        for constraint in self.constraints:
            constraint.check(self.coder)
        self.project()

    def prepare_statistics(self, rows: Rows) -> None:
        """Estimate the statistics that the corruption and the penalties need."""
        if self.corruption is not None:
            self.corruption.prepare(batch.x for batch in sampled_batches(rows))
        for module in self.penalties.values():
            penalty = cast(Penalty, module)
            if penalty.counts_rows:
                penalty.prepare(weighted_size(rows))

    @torch.no_grad()
    def start_at(
        self, centre: Float[Tensor, " columns"], output_centre: Float[Tensor, " targets"] | None = None
    ) -> None:
        """Set the initial biases: the encoder's input is centred at `centre`, and the decoder outputs `output_centre`.

        Without target the decoder outputs `centre`.

        Sigmoid codes of one layer are about 1/2 at the centre. With the weights that sigmoid units start from, this
        shifts each output by some nats, which the first epochs would have to undo; so the decoder's bias is set such
        that r(centre) = centre. A dictionary's codes are zero at the centre.
        """
        coder, inference = self.coder, self.coder.inference
        desired_output = coder.likelihood.starting_parameters(centre if output_centre is None else output_centre)
        coder.decoder.start_at(desired_output)
        encoder = getattr(inference, "encoder", None)
        if not isinstance(encoder, CentringEncoder):
            return
        encoder.centre(inference.encoder_input(centre[None], None)[0])
        if isinstance(encoder, MLP) and len(encoder.affine_maps) == 1 and not self.starts_as_dictionary:
            initial_output = coder(Batch(centre[None])).parameters[0]
            coder.decoder.start_at(2 * desired_output - initial_output)

    # -- the criterion --------------------------------------------------------------------------------

    def forward(self, batch: Batch, generator: torch.Generator | None = None, progress: float = 1.0) -> ForwardPass:
        """Run the model on a batch; the input is corrupted where a generator is given."""
        if self.corruption is None or generator is None:
            return cast(ForwardPass, self.coder(batch, generator, progress))
        corrupted: Corrupted = self.corruption(batch.x, generator, progress)
        mask = batch.mask
        if corrupted.mask is not None:
            mask = corrupted.mask if mask is None else corrupted.mask * mask
        output: ForwardPass = self.coder(replace(batch, x=corrupted.x, mask=mask), generator, progress)
        return replace(output, batch=batch, corruption_mask=corrupted.corruption_mask)

    def nll(self, output: ForwardPass) -> Float[Tensor, "*draws batch"]:
        """Return -log p_dec(x | h) per row, over the observed entries, each with its weight."""
        mask = output.batch.observed
        if output.corruption_mask is None or self.corrupted_weight == self.clean_weight == 1.0:
            return self.coder.nll(output)
        entry_weights = self.clean_weight + (self.corrupted_weight - self.clean_weight) * output.corruption_mask
        return self.coder.nll(output, entry_weights if mask is None else mask * entry_weights)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the reconstruction term, (batch,), nats, or the bound, and the weighted penalties."""
        return self.terms_of(self(batch, generator, progress), generator)

    def terms_of(self, output: ForwardPass, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the terms of a forward pass."""
        inner = {"reconstruction": self.nll(output)}
        if output.log_q is not None and output.log_prior is not None:
            inner["divergence"] = output.log_q - output.log_prior
        elif output.kl is not None:  # relaxed draws of a discrete code have no log q
            inner["divergence"] = output.kl.sum(-1)
        outer: dict[str, Tensor] = {}
        for name, module in self.penalties.items():
            penalty = cast(Penalty, module)
            (inner if penalty.inner else outer)[name] = penalty.weight * penalty(output, self.coder, generator)
        return reduce_draws(inner, self.reduction) | reduce_draws(outer, "mean")

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


def reduce_draws(terms: Mapping[str, Tensor], reduction: str) -> dict[str, Tensor]:
    """Reduce the terms of samples of the code, (*draws, batch), to one number per row, (batch,).

        mean         1/k sum_i t_i                              for each term
        logmeanexp   -log( 1/k sum_i exp(-sum over terms t_i) ) for all terms together, under the name "bound"

    Terms without these axes are returned as they are.

    Example:
        >>> terms = {"reconstruction": torch.tensor([[0.0], [2.0]]), "divergence": torch.tensor([[1.0], [1.0]])}
        >>> {name: round(float(term), 3) for name, term in reduce_draws(terms, "mean").items()}
        {'reconstruction': 1.0, 'divergence': 1.0}
        >>> {name: round(float(term), 3) for name, term in reduce_draws(terms, "logmeanexp").items()}
        {'bound': 1.566}
    """
    if not any(term.ndim > 1 for term in terms.values()):
        return dict(terms)
    if reduction == "mean":
        return {name: term.flatten(0, -2).mean(0) if term.ndim > 1 else term for name, term in terms.items()}
    total = torch.stack(torch.broadcast_tensors(*terms.values())).sum(0).flatten(0, -2)
    return {"bound": math.log(len(total)) - torch.logsumexp(-total, 0)}


def check_entry_weights(corrupted_weight: float, clean_weight: float) -> tuple[float, float]:
    """Return the weights of entries as floats, after checking that they are valid and not both 0.

    Raises:
        InputError: a weight is negative or not a finite number; both are 0.

    Example:
        >>> check_entry_weights(1, 0)
        (1.0, 0.0)
    """
    for name, weight in (("corrupted_weight", corrupted_weight), ("clean_weight", clean_weight)):
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0.0 <= weight < math.inf:
            raise InputError(f"{name}={weight!r}: it must be a finite number, 0 or more")
    if corrupted_weight == clean_weight == 0:
        raise InputError(
            "corrupted_weight=0 and clean_weight=0: no entry has a weight; give one of them a number above 0"
        )
    return float(corrupted_weight), float(clean_weight)
