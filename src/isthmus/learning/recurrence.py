"""Training objective of deep recurrent autoencoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import Stack
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.recurrence import RecurrentEncoder


class RecurrentStack(Stack):
    r"""Stack whose encoder is the mean-field recurrence of its layers, trained through the unrolled sweeps.

        J = E_x E_{x~ ~ C(.|x)} [ 1/T sum_t -log p_1(x | g(h_L(t))) ],   t = 1..T,   h_L(t) = f_t(x~)

    f_t is the top layer after t sweeps (`RecurrentEncoder`), g the layers' decoders in turn. The code and its
    reconstruction are those after the last sweep; without sweeps J is the criterion of the feed-forward stack.

    Args:
        layers: two or more layers, lowest first; the corruption and the weights of corrupted entries are those of the
            lowest.
        n_sweeps: T.

    Source: Savard (2011); Seung, Learning continuous attractors in recurrent networks (1998), for the criterion.

    Example:
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> layers = [
        ...     Reconstruction(MLP((n, m), generator=generator), MLP((m, n), generator=generator),
        ...                    likelihood_from({"name": "bernoulli"}, n), "sigmoid")
        ...     for n, m in ((6, 4), (4, 2))]
        >>> stack, batch = RecurrentStack(layers, n_sweeps=3), Batch(torch.ones(5, 6))
        >>> stack.codes_by_sweep(batch.x).shape, stack.encode(batch)[1].shape
        (torch.Size([4, 5, 2]), torch.Size([5, 2]))
    """

    encoder: RecurrentEncoder

    def __init__(self, layers: Sequence[Reconstruction], *, n_sweeps: int) -> None:
        super().__init__(layers)
        lowest = layers[0]
        self.encoder = RecurrentEncoder(
            [layer.encoder for layer in layers],
            [cast(nn.Module, layer.decoder) for layer in layers[1:]],
            [layer.code_activation for layer in layers],
            n_sweeps=n_sweeps,
        )
        self.corruption = lowest.corruption
        self.corrupted_weight, self.clean_weight = lowest.corrupted_weight, lowest.clean_weight

    def codes_by_sweep(
        self, x: Float[Tensor, "batch columns"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "sweeps batch code_size"]:
        """Return the codes at the start and after each sweep, n_sweeps + 1 in all."""
        return cast(Tensor, self.code_activation(self.encoder.all_sweeps(x, generator)))

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the reconstruction term, the mean over the sweeps, (batch,), nats."""
        corrupted = self._corrupt(batch, progress, generator)
        top_preactivations = self.encoder.all_sweeps(corrupted.x, generator)[min(1, self.encoder.n_sweeps) :]
        codes = self.code_activation(top_preactivations)
        parameters = self.decoder(codes, generator)
        output = ForwardPass(
            batch,
            corrupted.x,
            top_preactivations,
            codes,
            parameters,
            corruption_mask=corrupted.corruption_mask,
            progress=progress,
        )
        return {"reconstruction": self.nll(output).mean(0)}
