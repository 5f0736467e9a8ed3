"""The sparse autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.regularized import Regularized
from isthmus.learning.rows import Rows


@dataclass(kw_only=True, eq=False, repr=False)
class SparseAutoencoder(Regularized, BaseAutoencoder):
    r"""The sparse autoencoder: more units than columns, few of them on at a time.

        J = E_x [ -log p_dec(x | h) ] + lambda Omega(h),   h = f(x),   Omega(h) = sum_j |h_j| unless said otherwise

    Each row is explained by a few atoms out of many, the columns of the decoder's matrix: strokes of digits, edges of
    pictures, features of a language model. The penalty is a prior on the code, as sparse coding has it, whose
    inference is here one pass through the encoder. It keeps the error from being low everywhere: what needs many
    units is reconstructed badly, so that the rows' own region stands out.

    ReLU codes have zeros that are exactly zero; `evaluate` tells their share. It is steered by `sparsity_weight`
    ("l1", "student-t", "log", "jumprelu", "gated"), or set outright by `k` ("topk", "batch-topk"). An L1 penalty
    also shrinks what is on; the others were made to avoid this, and give less error with as many units on.

    Args:
        sparsity: "l1" (Laplace prior, for ReLU codes the exponential one), "student-t" or "log" (heavier tails),
            "kl" (sigmoid units asked for `target_rate`), "topk" (the k largest of a row), "batch-topk" (k on average,
            by a threshold when reading), "jumprelu" (learned thresholds, units counted), "gated" (gate and
            magnitude apart); None leaves only the other penalties.
        sparsity_weight: lambda beside 1/2 ||x - r||^2, in model space.
        target_rate: share of the rows on which a unit shall be on, for "kl", and for "topk" and "batch-topk" where k
            is None.
        k: units on in a row, for "topk" and "batch-topk".
        unit_columns: keep the atoms at norm 1 (None: where the decoder is linear); without it small codes and large
            atoms avoid the penalty.
        network, hidden_sizes, dense_sizes, activation, code_activation, tied, normalization, dropout: the maps; by
            default one layer each way, ReLU codes and a linear decoder, rows seen from the decoder's bias, which
            begins at their geometric median.
        code_size: None takes four times the columns of model space, at least 64 and at most 2,048 units.
        likelihood: "auto" looks at the data as for every kind, but takes "gaussian" where that would be
            "gaussian-unit" and the decoder is linear: atoms are then pieces of rows, and no sigmoid is between.

    Units that were off for long are given what is left of the rows until they return (the term "dead_units").
    The other arguments are those of `Regularized` (a sparse autoencoder may be denoising, contractive and
    convolutional too) and those of every kind: see `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used: k above the code size, a rate outside (0, 1),
            unit columns asked of a decoder that is no dictionary.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.2.1; Olshausen & Field (1997); Gao et al.,
    Scaling and evaluating sparse autoencoders (2024); Bussmann et al., BatchTopK sparse autoencoders (2024);
    Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders, and Jumping ahead (2024).

    Example:
        >>> import numpy as np
        >>> from isthmus import SparseAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(200, 6))
        >>> model = SparseAutoencoder(sparsity="topk", k=3, max_epochs=5, random_state=0).fit(X)
        >>> codes = model.transform(X)
        >>> codes.shape, int((codes != 0).sum(1).max())
        ((200, 64), 3)
    """

    sparsity: str | None = "l1"

    kind: ClassVar[str] = "sparse"
    overcomplete: ClassVar[bool] = True

    def _choose_likelihood(self, rows: Rows, validation_rows: Rows | None) -> dict[str, Any]:
        """An atom of norm 1 is a piece of a row, so "auto" has no sigmoid between it and values in [0, 1]."""
        config = super()._choose_likelihood(rows, validation_rows)
        linear = self.network == "mlp" and not self.hidden_sizes and not self.tied
        behind_sigmoid = self.likelihood == "auto" and config["name"] == "gaussian-unit"
        return {"name": "gaussian"} if linear and behind_sigmoid else config

    def _suggest_code_size(self, rows: Rows) -> tuple[int, str]:
        return min(max(4 * rows.n_columns, 64), 2048), "four times the columns, at least 64 and at most 2,048"
