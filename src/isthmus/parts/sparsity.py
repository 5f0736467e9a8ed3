"""Penalties that belong to sparse codes: dead units, active units, and the gate of gated units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import functional_call

from isthmus.errors import InputError
from isthmus.parts.carried import carry, latest
from isthmus.parts.centred_encoder import CentredMLP
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import Constraint
from isthmus.parts.forward import ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.jacobians import eval_mode
from isthmus.parts.penalties import (
    Penalty,
    at_least_fp32,
)
from isthmus.parts.sparse_activations import JumpReLU, with_training_codes


class UnitActivity(nn.Module):
    """Running activity statistics of the units of a code.

        r_j <- r_j + m (fraction of the batch's rows with h_j != 0 - r_j),   m = max(1 / number of batches, .01)
        idle_j <- 0 if h_j != 0 in any row of the batch, else idle_j + rows

    r_j is the activation rate, and idle_j the number of rows since the unit was last active. Both are buffers, so that
    checkpoints and model files contain them.

    Args:
        code_size: units of the code.

    Example:
        >>> activity = UnitActivity(2)
        >>> activity.update(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        >>> activity.rate.tolist(), activity.idle.tolist()
        ([0.0, 0.5], [2, 0])
    """

    rate: Tensor
    idle: Tensor
    n_batches: Tensor

    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.register_buffer("rate", torch.zeros(code_size))
        self.register_buffer("idle", torch.zeros(code_size, dtype=torch.long))
        self.register_buffer("n_batches", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def update(self, code: Float[Tensor, "*draws batch code_size"]) -> None:
        """Update the statistics with the codes of a batch; leading axes count as rows."""
        on = (code != 0).flatten(0, -2)
        n_batches = latest(self.n_batches) + 1
        momentum = (1.0 / n_batches.to(self.rate.dtype)).clamp_min(0.01)
        carry(self.n_batches, n_batches)
        carry(self.rate, latest(self.rate).lerp(on.to(self.rate.dtype).mean(0), momentum))
        carry(self.idle, (latest(self.idle) + len(on)).masked_fill(on.any(0), 0))


class DeadUnits(Penalty):
    r"""Auxiliary loss that trains dead units to reconstruct the residual.

        Omega = log p_dec(x | g(h)) - log p_dec(x | g(h) + D z)
        e = x - E[x | h],   a' = encoder(x_0 + e),   x_0 = E[x | 0]
        z_j = max(a'_j - l_j, 0) for the n_revived largest a'_j - l_j of the dead units, else 0
        l_j = min(0, a'_j of the row at the quantile 100 / dead_after of the batch, from the top),   constant
        D z = g_params(z) - g_params(0)

    With the Gaussian likelihood this is 1/2 ||e - D z||^2 - 1/2 ||e||^2: minus the amount by which the dead units could
    reduce the error. A unit is dead if it was inactive for the last `dead_after` rows; without dead units the term is
    0. Only dead units receive a gradient: g(h), e and the likelihood are constant. The encoder's input is e, not x,
    since patterns that no unit represents yet are a small part of x and all of e. A unit that is negative on every row
    would have no gradient and stay dead; the shift l makes it active on the expected fraction of the rows. Encoder and
    decoder run in evaluation mode.

    The pass of the dead units almost doubles the cost of a step, so it is skipped while there are none. A step must not
    wait for the device to learn this: `refresh` reads it, and while `has_dead` is False the term is 0. The trainer
    calls `refresh` before the first step and at every 16th step, so that a unit that dies is revived at most 16 steps
    later. A buffer holds the flag too, and a state_dict restores it.

    Shapes: forward pass of (*draws, batch) rows -> (*draws, batch), nats.

    Args:
        weight: alpha of the paper, where the reconstruction term is normalised by the same factor as this one.
        code_size: units of the code.
        dead_after: number of inactive rows after which a unit is dead.
        n_revived: k_aux of the paper, at most the code size; with a decoder of `GatheredLinear`, at most its n_active.

    Attributes:
        has_dead: True if a unit was dead at the last `refresh`.

    Raises:
        InputError: a count is below 1.

    Source: after Gao et al., Scaling and evaluating sparse autoencoders (2024), appendix A.2 (AuxK). In the paper the
    dead units encode x (this left 23% of the units dead, the residual 0.4%; see
    `python -m experiments dictionary-recovery`), and there is no shift l.

    Example:
        >>> penalty = DeadUnits(1 / 32, code_size=4, dead_after=1000, n_revived=2)
        >>> penalty.activity.update(torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(1000, 4))
        >>> penalty.refresh()
        >>> penalty.dead, penalty.has_dead
        (tensor([False, False, False,  True]), True)
    """

    any_dead: Tensor

    def __init__(self, weight: float = 1 / 32, *, code_size: int, dead_after: int, n_revived: int) -> None:
        super().__init__(weight)
        if dead_after < 1 or n_revived < 1:
            raise InputError(
                f"DeadUnits: dead_after={dead_after!r} and n_revived={n_revived!r}: both must be at least 1"
            )
        self.dead_after, self.n_revived = int(dead_after), min(int(n_revived), code_size)
        self.activity = UnitActivity(code_size)
        self.register_buffer("any_dead", torch.zeros((), dtype=torch.bool))
        self.has_dead = False

    @property
    def dead(self) -> Tensor:
        """Boolean mask of the dead units, (code_size,)."""
        return latest(self.activity.idle) >= self.dead_after

    @torch.no_grad()
    def refresh(self) -> None:
        """Read from the device whether there are dead units; the term is 0 until the next call if there are none."""
        self.any_dead.copy_(self.dead.any())
        self.has_dead = bool(self.any_dead)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Restore the flag from its buffer."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.has_dead = bool(self.any_dead)

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row; in training mode the activity statistics are updated."""
        if self.training:
            self.activity.update(output.code)
        if not self.has_dead:
            return output.parameters.new_zeros(output.parameters.shape[:-1])
        # In evaluation mode, since running moments must not include residuals.
        with eval_mode(coder.encoder, coder.decoder), with_training_codes(coder.decoder):
            auxiliary_code = self.auxiliary_code(output, coder, self.dead)
            offset = coder.decoder(auxiliary_code) - coder.decoder(torch.zeros_like(auxiliary_code[..., :1, :]))
        given, x, mask = output.parameters.detach(), output.batch.desired_output, output.batch.observed

        def nll(parameters: Tensor) -> Tensor:
            return coder.likelihood.nll(parameters, x, mask)

        return frozen(lambda d: nll(given + d) - nll(given), offset, of=[coder.likelihood])

    def auxiliary_code(
        self, output: ForwardPass, coder: Coder, dead: Tensor
    ) -> Float[Tensor, "*draws batch code_size"]:
        """Return z."""
        residual_preactivation = self._residual_preactivation(output, coder)
        shifted = (
            (residual_preactivation - self._threshold_shift(residual_preactivation)).masked_fill(~dead, 0.0).relu()
        )
        largest, units = shifted.topk(self.n_revived, dim=-1, sorted=False)
        return torch.zeros_like(residual_preactivation).scatter(-1, units, largest)

    def _residual_preactivation(self, output: ForwardPass, coder: Coder) -> Float[Tensor, "*draws batch units"]:
        """Return a', the encoding of the residual; a mask-aware encoder receives a mask of ones."""
        inference, encoder, x, mask = (
            cast(EncoderMap, coder.inference),
            coder.encoder,
            output.batch.x,
            output.batch.mask,
        )
        with torch.no_grad():
            reconstruction = coder.likelihood.mean(output.parameters)
        if isinstance(encoder, CentredMLP):
            return encoder.encode_difference(x, reconstruction, mask)
        with torch.no_grad():
            residual = x - reconstruction
            residual = residual if mask is None else residual * mask
            residual = residual + coder.likelihood.mean(coder.decoder(torch.zeros_like(output.code[..., :1, :])))
        return inference.preactivation(residual, None)

    def _threshold_shift(self, residual_preactivation: Float[Tensor, "*draws batch units"]) -> Float[Tensor, " units"]:
        """Return l, the shift that makes each unit active on a fraction 100 / dead_after of the rows."""
        rows = residual_preactivation.detach().flatten(0, -2)
        n_on = min(max(1, round(100 * len(rows) / self.dead_after)), len(rows) - 1)
        return rows.topk(n_on + 1, dim=0).values[-1].clamp_max(0.0)


class ActiveUnits(Penalty):
    """L0 penalty for `JumpReLU`: the number of active units, Omega = sum_j H(a_j - theta_j).

    Its derivative by the thresholds is the straight-through one; its derivative by a is zero.

    Shapes: (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: nats per active unit; lambda / 2 for the lambda of the paper, which uses ||x - r||^2.

    Raises:
        InputError: (in `forward`) the code activation is not a `JumpReLU`.

    Source: Rajamanoharan et al., Jumping ahead (2024), eq. 9.
    """

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row."""
        activation = coder.code_activation
        if not isinstance(activation, JumpReLU):
            raise InputError(
                f"ActiveUnits needs the code activation JumpReLU; found {type(activation).__name__}; "
                "use sparsity='jumprelu'"
            )
        return activation.gate(output.preactivation).sum(-1)


class GateL1(Penalty):
    """L1 penalty on the gate's input of `Gated`: Omega = sum_j max(a_j, 0).

    Shapes: (*draws, batch, code_size) -> (*draws, batch).

    Args:
        weight: lambda / 2 for the lambda of the paper, which uses ||x - r||^2.

    Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders (2024), eq. 8.
    """

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row."""
        return at_least_fp32(output.preactivation).relu().sum(-1)


class GateReconstruction(Penalty):
    """Auxiliary reconstruction from the gate's values: Omega = -log p_dec(x | g(max(a, 0))), p_dec frozen.

    The step function of `Gated` passes no gradient to its gate; this term does. The decoder is frozen here, with
    weights that are tied to the encoder and a learned variance, so that it is trained by the magnitudes alone. It runs
    in evaluation mode, so that its running moments follow the magnitudes alone too.

    Shapes: forward pass of (*draws, batch) rows -> (*draws, batch), nats.

    Args:
        weight: 1 in the paper.

    Source: Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders (2024), eq. 8, L_aux.
    """

    def forward(self, output: ForwardPass, coder: Coder, generator: Generator | None) -> Float[Tensor, "*draws batch"]:
        """Return Omega of each row."""

        def nll(gates: Tensor) -> Tensor:
            return coder.likelihood.nll(coder.decoder(gates), output.batch.desired_output, output.batch.observed)

        with eval_mode(coder.decoder):
            return frozen(nll, output.preactivation.relu(), of=[coder.encoder, coder.decoder, coder.likelihood])


class _ModuleFunction(nn.ModuleList):
    """List of modules whose forward pass calls a function, so that `functional_call` replaces their parameters."""

    def forward(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return function(x)


def frozen(function: Callable[[Tensor], Tensor], x: Tensor, *, of: Iterable[object]) -> Tensor:
    """Return function(x) with the parameters of the modules among `of` held constant.

    The weights of a tied decoder are registered by its encoder alone: then `of` must contain both.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> frozen(layer, torch.ones(3, 2), of=[layer]).requires_grad
        False
    """
    parts = _ModuleFunction([part for part in of if isinstance(part, nn.Module)])
    constants = {name: parameter.detach() for name, parameter in parts.named_parameters()}
    return cast(Tensor, functional_call(parts, constants, (function, x)))


@dataclass(frozen=True)
class SparseParts:
    """The parts of a sparse code.

    Attributes:
        code_activation: s, by name or as a module.
        penalties: penalties by the name of their term.
        constraints: constraints on the weights.
        gather: True if the decoder is faster with `isthmus.parts.sparse_activations.with_gathered_weights`.
    """

    code_activation: str | nn.Module
    penalties: dict[str, Penalty]
    constraints: tuple[Constraint, ...] = ()
    gather: bool = False
