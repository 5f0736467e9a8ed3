"""The contractive autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.records import Recipe
from isthmus.estimators.regularized import Regularized
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.jacobians import Contraction, single_affine_layer
from isthmus.parts.networks import MLP, TiedMLP


@dataclass(kw_only=True, eq=False, repr=False)
class ContractiveAutoencoder(Regularized, BaseAutoencoder):
    r"""Contractive autoencoder: penalises the derivative of the code with respect to the input.

        J = E_x [ -log p_dec(x | h) + lambda ||dh/dx||_F^2 ],   h = f(x) = s(W x + b),   r(x) = g(W^T h + c)

    The penalty alone would make the code constant, the reconstruction alone would allow copying. Together they keep
    only the directions in which rows differ from their neighbours: the Jacobian has few large singular values, whose
    directions are tangents of the rows' manifold, and many that are nearly zero; sigmoid units saturate near 0 or 1.
    The contraction is local: rows that are far apart keep different codes.

    A denoising autoencoder with small Gaussian noise contracts its whole reconstruction; here the encoder is
    contracted, and exactly instead of by samples. With `Contraction(order=2)` the Hessian is penalised too, by the
    change of the Jacobian in a row's neighbourhood (CAE+H).

    The weights are tied by default. An untied decoder can undo any scale: half the encoder's weights with twice
    the decoder's give the same reconstruction at a quarter of the penalty; so untied weights are
    noted in `history_["notes"]`, and `contraction="reconstruction"` is the alternative.

    Args:
        contraction: "encoder" or "reconstruction", the map whose Jacobian is penalised; or a value with its arguments,
            `Contraction(weight=0.1, order=2)`.
        network, hidden_sizes, code_activation: the networks; by default one layer of sigmoid units, as in the papers,
            with tied weights: `MLP(tied=True)`. Likelihoods with more than one parameter per column need
            `MLP(tied=False)`. The penalty covers a deep encoder as a whole.
        code_size: None takes twice the columns of model space, at least 64 and at most 1,024 units.

    The other arguments are those of `Regularized` (a contractive autoencoder can also be denoising and sparse) and
    of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.7; Rifai et al., Contractive auto-encoders:
    explicit invariance during feature extraction, ICML (2011); Rifai et al., Higher order contractive auto-encoder,
    ECML (2011).

    Example:
        >>> import numpy as np
        >>> from isthmus import ContractiveAutoencoder
        >>> t = np.random.default_rng(0).uniform(0, 6, (200, 1))
        >>> X = np.hstack([np.sin(t), np.cos(t), t / 6])
        >>> model = ContractiveAutoencoder(contraction="encoder", max_epochs=30, random_state=0).fit(X)
        >>> model.transform(X).shape, sorted(model.history_["epochs"][-1]["terms"])
        ((200, 64), ['contraction', 'reconstruction'])
    """

    network_defaults: ClassVar[Mapping[str, Any]] = {"hidden_sizes": (), "tied": True}

    contraction: Any = "encoder"

    kind: ClassVar[str] = "contractive"
    overcomplete: ClassVar[bool] = True

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(2 * rows.n_columns, 64), 1024), "twice the columns, at least 64 and at most 1,024"

    def _notes(self, recipe: Recipe) -> list[str]:
        return [*super()._notes(recipe), *_scale_note(cast(Reconstruction, recipe.objective))]


def _scale_note(objective: Reconstruction) -> list[str]:
    """Return a note if the decoder can undo the effect of the contraction on the scale of the code."""
    coder = objective.coder
    of_encoder = any(isinstance(p, Contraction) and p.of == "encoder" for p in objective.penalties.values())
    if not of_encoder or objective.constraints or isinstance(coder.decoder, TiedMLP):
        return []
    encoder, decoder = single_affine_layer(coder.encoder), coder.decoder
    norms = ""
    if encoder is not None and isinstance(decoder, MLP) and len(decoder.affine_maps) == 1:
        weight_norms = (float(layer.weight.detach().norm()) for layer in (encoder, decoder.affine_maps[0]))
        norms = " (norms {:.3g} and {:.3g})".format(*weight_norms)
    return [
        f"the decoder is not tied: small weights of the encoder with large ones of the decoder{norms} lower the "
        "contraction without a change of the reconstruction, so its value says little; take network=MLP(tied=True), or "
        "contraction='reconstruction'"
    ]
