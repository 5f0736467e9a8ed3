"""Online dictionary learning: codes by optimisation, atoms in closed form from running sums over rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import Rows, evenly_spaced, mean_row, weighted_size
from isthmus.parts.carried import Carried, carry, latest
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import normalise
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.optimised_inference import LinearDecoderInference
from isthmus.parts.penalties import Penalty
from isthmus.parts.sparsity import UnitActivity

ATOMS_AT_ONCE = 32
"""Atoms of a block of the update: the gradients of other atoms are computed once a block."""

MAX_WINDOW = 65_536
"""Largest number of rows that the running sums average over."""

WINDOW_PER_UNIT = 8
"""Smallest number of rows that the running sums average over, for each atom."""

DEAD_AFTER = 2_000
"""Rows without use after which an atom is replaced."""

REPLACED_RATE = 0.05
"""Largest fraction of the atoms that a step replaces."""

INITIAL_NOISE = 0.1
"""Norm of the noise that is added to rows of norm 1, so that equal rows become different atoms."""


class OnlineDictionary(Reconstruction):
    r"""Criterion of sparse coding, whose dictionary is updated in closed form after each step.

        J = E_x min_h [ 1/2 ||x - c - D h||^2 + Omega(h) ],   ||d_j|| = 1
        A <- (1 - rho) A + rho E_batch[ h h' ],   B <- (1 - rho) B + rho E_batch[ (x - c) h' ]
        d_j <- u_j / ||u_j||,   u_j = d_j + (b_j - D a_j) / A_jj,   for each atom in turn

    The update minimises the surrogate 1/2 tr(D A D') - tr(D'B) by one pass of block coordinate descent over atoms of
    norm 1. rho is 2 / (t + 1) in step t, so that a batch counts in proportion to t, and at least the fraction of the
    rows that a batch is: the sums are those of about the last pass over the rows, and codes of early dictionaries are
    forgotten. c is the mean of the rows and stays.

    A row's missing entries are taken from its reconstruction, as in the EM algorithm.

    Atoms that no row used for long are replaced by the residuals of the rows that are reconstructed worst.

    Args:
        coder: the model, with an inference of a linear decoder.
        penalties: Omega.
        learns: False keeps the dictionary as it is: training only evaluates it.

    Source: Mairal, Bach, Ponce & Sapiro, Online dictionary learning for sparse coding (2009), algorithms 1 and 2 and
    section 3.4.

    Example:
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> from isthmus.parts.optimised_inference import OptimisedInference
        >>> decoder = MLP((5, 3), generator=torch.Generator().manual_seed(0))
        >>> objective = OnlineDictionary(Coder(OptimisedInference(decoder, alpha=0.1), decoder, Gaussian(3)))
        >>> terms, carried = objective.terms(Batch(torch.eye(3)), 0.0, torch.Generator())
        >>> objective.update(carried)
        >>> objective.inference.atoms.norm(dim=1).round(decimals=3)
        tensor([1., 1., 1., 1., 1.])
    """

    code_moments: Tensor
    cross_moments: Tensor
    worst_residuals: Tensor
    n_updates: Tensor

    def __init__(self, coder: Coder, *, penalties: Mapping[str, Penalty] | None = None, learns: bool = True) -> None:
        super().__init__(coder, penalties=penalties)
        self.learns = learns
        n_atoms, n_columns = self.inference.atoms.shape
        self.n_replaced = max(1, round(REPLACED_RATE * n_atoms))
        self.window = float(MAX_WINDOW)
        self.activity = UnitActivity(n_atoms)
        for name, shape in (
            ("code_moments", (n_atoms, n_atoms)), ("cross_moments", (n_atoms, n_columns)),
            ("worst_residuals", (self.n_replaced, n_columns)), ("n_updates", ()),
        ):  # fmt: skip
            self.register_buffer(name, torch.zeros(shape))
        for parameter in cast(torch.nn.Module, coder.decoder).parameters():
            parameter.requires_grad_(False)

    @property
    def inference(self) -> LinearDecoderInference:
        """The inference, whose atoms are those of the decoder."""
        return cast(LinearDecoderInference, self.coder.inference)

    @property
    def starts_as_dictionary(self) -> bool:
        """True: the reconstruction of the code of zeros is the mean."""
        return True

    def prepare(self, rows: Rows) -> None:
        """Take the mean of the rows as c, and rows as initial atoms, with noise."""
        self.coder.decoder.start_at(mean_row(rows))
        if self.learns:
            self._start_atoms(rows)
        super().prepare(rows)

    def prepare_statistics(self, rows: Rows) -> None:
        """Take the number of rows that the sums average over."""
        super().prepare_statistics(rows)
        at_least = WINDOW_PER_UNIT * len(self.code_moments)
        self.window = float(min(max(weighted_size(rows), at_least), MAX_WINDOW))

    @torch.no_grad()
    def _start_atoms(self, rows: Rows) -> None:
        """Set atoms to rows of norm 1 plus noise; those without a row, or of a row that equals c, stay random."""
        atoms = self.inference.atoms
        normalise(atoms.T)
        batch = rows.batch(evenly_spaced(len(rows), len(atoms))).to(atoms.device)
        centred = self.inference.centred(batch.x)
        centred = centred if batch.mask is None else centred * batch.mask
        norms = centred.norm(dim=1, keepdim=True)
        start = centred / norms.clamp_min(torch.finfo(norms.dtype).tiny) + INITIAL_NOISE * atoms[: len(centred)]
        atoms[: len(centred)] = torch.where(norms > 0.0, start, atoms[: len(centred)])
        normalise(atoms.T)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the terms; in training mode the running sums are carried."""
        output = self(batch, generator, progress)
        if self.training and self.learns:
            with torch.autocast(batch.x.device.type, enabled=False):
                self._carry_sums(output)
        return self.terms_of(output, generator)

    @torch.no_grad()
    def _carry_sums(self, output: ForwardPass) -> None:
        """Carry A, B, the use of the atoms and the worst residuals of the batch."""
        batch, h = output.batch, output.code
        x, explained = self.inference.centred(batch.x), h @ self.inference.atoms
        residual = x - explained
        if batch.mask is not None:
            residual = residual * batch.mask
            x = residual + explained
        weight = self.row_weights(batch)
        weighted = h / len(h) if weight is None else h * (weight / weight.sum())[:, None]
        n_updates = latest(self.n_updates) + 1.0
        rho = (2.0 / (n_updates + 1.0)).clamp_min(min(1.0, len(h) / self.window))
        carry(self.n_updates, n_updates)
        carry(self.code_moments, latest(self.code_moments).lerp(weighted.T @ h, rho))
        carry(self.cross_moments, latest(self.cross_moments).lerp(weighted.T @ x, rho))
        self.activity.update(h)
        worst = residual.square().sum(1).topk(min(self.n_replaced, len(h))).indices
        padded = torch.zeros_like(self.worst_residuals)
        padded[: len(worst)] = residual[worst]
        carry(self.worst_residuals, padded)

    @torch.no_grad()
    def update(self, carried: Carried, skip: Tensor | None = None) -> None:
        """Store the sums and update the dictionary."""
        super().update(carried, skip)
        if not self.learns:
            return
        before = self.inference.atoms
        skips = torch.zeros_like(before[0, 0], dtype=torch.bool) if skip is None else skip != 0
        atoms = before.clone(memory_format=torch.contiguous_format)
        update_atoms(atoms, self.code_moments, self.cross_moments)
        self._replace_dead_atoms(atoms, skips)
        before.copy_(torch.where(skips, before, atoms))

    def _replace_dead_atoms(self, atoms: Float[Tensor, "atoms columns"], skips: Bool[Tensor, ""]) -> None:
        """Replace atoms without use by the worst residuals of the last batch, and forget their sums."""
        norms = self.worst_residuals.norm(dim=1, keepdim=True)
        dead = (self.activity.idle >= DEAD_AFTER) & ~skips
        replaced, rank = ranked_dead(dead, norms[:, 0] > 0.0)
        new = (self.worst_residuals / norms.clamp_min(torch.finfo(norms.dtype).tiny))[rank]
        atoms.copy_(torch.where(replaced[:, None], new, atoms))
        self.code_moments.masked_fill_(replaced[:, None] | replaced, 0.0)
        self.cross_moments.masked_fill_(replaced[:, None], 0.0)
        self.activity.idle.masked_fill_(replaced, 0)


def ranked_dead(
    dead: Bool[Tensor, " atoms"], available: Bool[Tensor, " candidates"]
) -> tuple[Bool[Tensor, " atoms"], Tensor]:
    """Return the atoms that are replaced, and for each the number of its candidate; the first ones come first.

    Example:
        >>> ranked_dead(torch.tensor([False, True, True, True]), torch.tensor([True, True]))
        (tensor([False,  True,  True, False]), tensor([0, 0, 1, 0]))
    """
    rank = dead.long().cumsum(0) - 1
    replaced = dead & (rank < available.sum())
    return replaced, torch.where(replaced, rank, 0)


@torch.no_grad()
def update_atoms(
    atoms: Float[Tensor, "atoms columns"],
    code_moments: Float[Tensor, "atoms atoms"],
    cross_moments: Float[Tensor, "atoms columns"],
) -> None:
    r"""Update each atom in turn, in place: one pass of block coordinate descent on the surrogate of norm 1.

        d_j <- u_j / ||u_j||,   u_j = d_j + (b_j - D a_j) / A_jj

    It minimises 1/2 tr(D A D') - tr(D'B) over d_j with ||d_j|| = 1, given the other atoms. Atoms without use, A_jj = 0,
    stay.

    Args:
        atoms: D, with atoms of norm 1 as rows.
        code_moments: A, the mean of h h'.
        cross_moments: B, the mean of h (x - c)'.

    Source: Mairal et al., Online dictionary learning for sparse coding (2009), algorithm 2, with norms equal to 1.

    Example:
        >>> atoms = torch.tensor([[1.0, 0.0]])
        >>> update_atoms(atoms, torch.tensor([[2.0]]), torch.tensor([[0.0, 3.0]]))
        >>> atoms
        tensor([[0., 1.]])
    """
    diagonal = code_moments.diagonal()
    tiny = torch.finfo(atoms.dtype).eps * diagonal.amax()
    scale = torch.where(diagonal > tiny, diagonal, torch.inf).reciprocal()
    for first in range(0, len(atoms), ATOMS_AT_ONCE):
        block = slice(first, first + ATOMS_AT_ONCE)
        gradient = torch.addmm(cross_moments[block], code_moments[block], atoms, alpha=-1.0)
        inner = code_moments[block, block]
        for j, atom in enumerate(atoms[block]):
            new = torch.addcmul(atom, gradient[j], scale[first + j])
            new.div_(new.norm())
            gradient.addr_(inner[j], new - atom, alpha=-1.0)
            atom.copy_(new)
