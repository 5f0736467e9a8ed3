"""The sparse autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.regularized import Regularized
from isthmus.learning.rows import Rows


@dataclass(kw_only=True, eq=False, repr=False)
class SparseAutoencoder(Regularized, BaseAutoencoder):
    r"""Sparse autoencoder: more units than columns, few of them active per row.

        J = E_x [ -log p_dec(x | h) ] + lambda Omega(h),   h = f(x),   Omega(h) = sum_j |h_j| by default

    Each row is explained by a few of many atoms, the columns of the decoder's matrix: strokes of digits, edges of
    images, features of a language model. The penalty is a prior on the code, as in sparse coding, with one pass through
    the encoder as inference. It prevents a low error everywhere: rows that would need many active units are
    reconstructed badly, which separates the training distribution from other rows.

    ReLU codes have exact zeros; `evaluate` reports their fraction. `sparsity_weight` controls it ("l1", "student-t",
    "log", "jumprelu", "gated"), or `k` sets it ("topk", "batch-topk"). An L1 penalty also shrinks the active units; the
    other methods avoid this and give a lower error with as many active units.

    Args:
        sparsity: "l1" (Laplace prior, exponential for ReLU codes), "student-t" or "log" (heavier tails),
            "kl" (sigmoid units with activation rate `target_rate`), "topk" (the k largest of a row), "batch-topk" (k on
            average, by a threshold after training), "jumprelu" (learned thresholds, active units counted), "gated"
            (separate gate and magnitude); None leaves only the other penalties.
        sparsity_weight: lambda relative to 1/2 ||x - r||^2, in model space.
        target_rate: fraction of the rows on which a unit should be active, for "kl", and for "topk" and "batch-topk"
            where k is None.
        k: active units per row, for "topk" and "batch-topk".
        unit_columns: keep the atoms at norm 1 (None: if the decoder is linear); otherwise small codes and large
            atoms avoid the penalty.
        network, hidden_sizes, dense_sizes, activation, code_activation, tied, normalization, dropout: the networks; by
            default one layer each way, ReLU codes and a linear decoder, whose bias is subtracted from the rows and
            starts at their geometric median.
        code_size: None takes four times the columns of model space, at least 64 and at most 2,048 units.
        likelihood: "auto" infers it from the data as for every kind, but takes "gaussian" in place of "gaussian-unit"
            with a linear decoder, so that atoms are parts of rows without a sigmoid in between.

    Dead units, which have not been active for long, are trained on the residual of the rows (the term "dead_units").
    The other arguments are those of `Regularized` (a sparse autoencoder can also be denoising, contractive and
    convolutional) and of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows: k above the code size, a rate outside (0, 1),
            `unit_columns=True` with a decoder that is not linear.

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

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return "gaussian" in place of "gaussian-unit" for "auto", so that atoms are parts of rows."""
        config = super()._choose_likelihood(rows, validation_rows)
        linear = self.network == "mlp" and not self.hidden_sizes and not self.tied
        behind_sigmoid = self.likelihood == "auto" and config["name"] == "gaussian-unit"
        return {"name": "gaussian"} if linear and behind_sigmoid else config

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(4 * rows.n_columns, 64), 2048), "four times the columns, at least 64 and at most 2,048"
