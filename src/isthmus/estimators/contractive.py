"""The contractive autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.regularized import Regularized
from isthmus.learning.rows import Rows
from isthmus.parts.jacobians import Contraction, single_affine_layer
from isthmus.parts.networks import MLP, TiedMLP


@dataclass(kw_only=True, eq=False, repr=False)
class ContractiveAutoencoder(Regularized, BaseAutoencoder):
    r"""The contractive autoencoder: its code hardly moves when the input does, but for where the rows vary.

        J = E_x [ -log p_dec(x | h) + lambda ||dh/dx||_F^2 ],   h = f(x) = s(W x + b),   r(x) = g(W^T h + c)

    The penalty alone would make the code constant, the reconstruction alone would let it copy. Together they keep
    only those directions in which rows differ from their neighbours, since nothing else is worth its price: the
    Jacobian has few large singular values, whose directions are tangents of the rows' manifold, and many that are
    nearly zero; sigmoid units stand near 0 or 1, where they are flat. The contraction is local: rows that are far
    apart keep different codes.

    It is what a denoising autoencoder with little Gaussian noise does to its whole reconstruction, here done to the
    encoder, and exactly instead of by samples. With `contraction_order=2` the Hessian is penalised too, by how much
    the Jacobian changes in a row's neighbourhood (CAE+H).

    The weights are tied by default. A decoder of its own undoes any scale: half the encoder's weights beside twice
    the decoder's pay a quarter of the penalty for the same reconstruction; so `tied=False` is noted in
    `history_["notes"]`, with `contraction_of="reconstruction"` as the other way out.

    Args:
        contraction_weight: lambda. Rifai et al. add lambda ||J||_F^2 to the cross-entropy summed over columns: with
            `likelihood="bernoulli"` theirs is ours. Beside a summed squared error without 1/2 it is half of it here.
        contraction_order: 1, or 2 for CAE+H.
        hessian_weight, hessian_scale: of the second order, beside the first; the standard deviation of "near".
        contraction_of: "encoder", or "reconstruction" for the Jacobian of r(x).
        contraction_method: "closed" (one layer), "exact", "hutchinson" (random probes), or "auto"; see
            `isthmus.parts.jacobians.Contraction`.
        n_probes: probes a row of "hutchinson".
        tied: the decoder uses the encoder's transposed weights. Convolutions cannot, nor likelihoods with more
            than one parameter a column: say `tied=False` there.
        network, hidden_sizes, dense_sizes, activation, code_activation, normalization, dropout: the maps; by default
            one layer of sigmoid units, as in the papers. In a deep encoder the whole way to the code is contracted.
        code_size: None takes twice the columns of model space, at least 64 and at most 1,024 units.

    The other arguments are those of `Regularized` (a contractive autoencoder may be denoising and sparse too) and
    those of every kind: see `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, in one line.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.7; Rifai et al., Contractive auto-encoders:
    explicit invariance during feature extraction, ICML (2011); Rifai et al., Higher order contractive auto-encoder,
    ECML (2011).

    Example:
        >>> import numpy as np
        >>> from isthmus import ContractiveAutoencoder
        >>> t = np.random.default_rng(0).uniform(0, 6, (200, 1))
        >>> X = np.hstack([np.sin(t), np.cos(t), t / 6])
        >>> model = ContractiveAutoencoder(contraction_weight=0.1, max_epochs=30, random_state=0).fit(X)
        >>> model.transform(X).shape, sorted(model.history_["epochs"][-1]["terms"])
        ((200, 64), ['contraction', 'reconstruction'])
    """

    contraction_weight: float = 0.1
    tied: bool = True

    kind: ClassVar[str] = "contractive"
    overcomplete: ClassVar[bool] = True

    def _suggest_code_size(self, rows: Rows) -> tuple[int, str]:
        return min(max(2 * rows.n_columns, 64), 1024), "twice the columns, at least 64 and at most 1,024"

    def _notes(self) -> list[str]:
        return [*super()._notes(), *self._scale()]

    def _scale(self) -> list[str]:
        """Whether the decoder is free to undo what the contraction does to the scale of the code."""
        objective = self.objective_
        of_encoder = any(isinstance(p, Contraction) and p.of == "encoder" for p in objective.penalties.values())
        if not of_encoder or objective.constraints or isinstance(objective.decoder, TiedMLP):
            return []
        encoder, decoder = single_affine_layer(objective.encoder), objective.decoder
        norms = ""
        if encoder is not None and isinstance(decoder, MLP) and len(decoder.affine_maps) == 1:
            weight_norms = (float(layer.weight.detach().norm()) for layer in (encoder, decoder.affine_maps[0]))
            norms = " (norms {:.3g} and {:.3g})".format(*weight_norms)
        return [
            f"the decoder is not tied: small weights of the encoder beside large ones of the decoder{norms} lower the "
            "contraction and change no reconstruction, so its value says little; take tied=True, or "
            "contraction_of='reconstruction'"
        ]
