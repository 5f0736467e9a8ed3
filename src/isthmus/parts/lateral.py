"""Lateral competition: units with similar atoms inhibit each other after any encoder."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.constraints import describe, dictionary_weight
from isthmus.parts.dictionaries import eigenvalue_bound
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, EncoderMap
from isthmus.parts.layers import check_count


class LateralCompetition(EncoderMap):
    r"""Inference by leaky integration: a unit is inhibited by the active units whose atoms are similar to its own.

        u_0 = a,   u_(t+1) = u_t + eta (a - (G - I) h_t - u_t),   h_t = s(u_t),   a = encoder(x),   G = D'D

    D is the matrix of the linear decoder r = D h + c, and eta = 1 / max(1, L), where L is an upper bound of the largest
    eigenvalue of G. The gradient flows through all steps, to the encoder and to the decoder.

    With a = D'(x - c) and soft thresholding by alpha as s, the fixed point is the sparse code of `fista`: there
    u - h = a - G h, and u - h is alpha times a subgradient of ||h||_1. This holds for atoms of any norm. With atoms of
    norm 1, G - I = G - diag(G), and no unit inhibits itself. After other encoders it is a recurrence that makes codes
    compete.

    Shapes: x (batch, columns); u and h (batch, code_size). `Code.preactivation` is u after the last step.

    Args:
        encoder: x -> a.
        code_activation: s, by name or as a module, such as `torch.nn.Softshrink(alpha)`.
        n_steps: number of steps.
        sees_mask: True if the mask of the visible entries is an input of the encoder, as for `EncoderMap`.

    Raises:
        InputError: the steps are not a whole number of at least 1; the decoder is not one affine map (from `forward`).

    Source: Rozell, Johnson, Baraniuk & Olshausen, Sparse coding via thresholding and local competition in neural
    circuits (2008), section 3.1; Goodfellow, Bengio & Courville, Deep Learning, section 13.4, for explaining away.

    Example:
        >>> from isthmus.parts.networks import MLP
        >>> decoder = MLP((2, 2), generator=torch.Generator().manual_seed(0))
        >>> _ = decoder.affine_maps[0].weight.data.copy_(torch.tensor([[1.0, 0.8], [0.0, 0.6]]))
        >>> inference = LateralCompetition(nn.Identity(), "relu", n_steps=100)
        >>> inference(Batch(torch.tensor([[1.0, 0.8]])), decoder).code.detach().round(decimals=3)
        tensor([[1., 0.]])
    """

    def __init__(
        self,
        encoder: nn.Module,
        code_activation: str | nn.Module = "relu",
        *,
        n_steps: int = 10,
        sees_mask: bool = False,
    ) -> None:
        super().__init__(encoder, code_activation, sees_mask=sees_mask)
        check_count("n_steps", n_steps)
        self.n_steps = int(n_steps)

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch; the competition has fp32 or better also under autocast."""
        weight = dictionary_weight(decoder)
        if weight is None:
            raise InputError(f"lateral competition needs a linear decoder; found: {describe(decoder)}")
        a = self.preactivation(self.visible(batch), batch.mask, generator, batch.condition).to(weight.dtype)
        with torch.autocast(weight.device.type, enabled=False):
            u, h = self._competition(a, weight[:, : a.shape[-1]], generator, progress)
        return Code(h, u)

    def _competition(
        self, a: Tensor, dictionary: Tensor, generator: Generator | None, progress: float
    ) -> tuple[Tensor, Tensor]:
        """Return u and h after the last step."""
        gram = dictionary.T @ dictionary
        with torch.no_grad():
            rate = eigenvalue_bound(gram).clamp_min(1.0).reciprocal()
        inhibition = gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        u, h = a, self.activate(a, generator, progress)
        for _ in range(self.n_steps):
            u = u + rate * (a - h @ inhibition - u)
            h = self.activate(u, generator, progress)
        return u, h
