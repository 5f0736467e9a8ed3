"""The sparse autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.regularized import Regularized
from isthmus.learning.rows import Rows
from isthmus.values.networks import MLP


@dataclass(kw_only=True, eq=False, repr=False)
class SparseAutoencoder(Regularized, BaseAutoencoder):
    r"""Sparse autoencoder: more units than columns, few of them active per row.

        J = E_x [ -log p_dec(x | h) ] + lambda Omega(h),   h = f(x),   Omega(h) = sum_j |h_j| by default

    Each row is explained by a few of many atoms, the columns of the decoder's matrix: strokes of digits, edges of
    images, features of a language model. The penalty is a prior on the code, as in sparse coding, with one pass through
    the encoder as inference. It prevents a low error everywhere: rows that would need many active units are
    reconstructed badly, which separates the training distribution from other rows.

    ReLU codes have exact zeros; `evaluate` reports their fraction. The weight of the sparsity controls it, as in
    `L1(weight=0.2)`, or `TopK(k=32)` and `BatchTopK(k=32)` set it. An L1 penalty also shrinks the active units; the
    other methods avoid this and give a lower error with as many active units.

    Args:
        sparsity: "l1" (Laplace prior, exponential for ReLU codes), "student-t" or "log" (heavier tails), "kl" (sigmoid
            units with a target rate), "topk" (the k largest of a row), "batch-topk" (k on average, by a threshold after
            training), "jumprelu" (learned thresholds, active units counted), "gated" (separate gate and magnitude); or
            a value with its arguments: `L1`, `StudentT`, `LogPenalty`, `KLRate`, `TopK`, `BatchTopK`, `JumpReLU`,
            `Gated`. None leaves only the other penalties.
        inference: None is one pass through the encoder; "recurrent" or `Recurrent(n_steps=10)` lets units compete
            afterwards, each inhibited by active units of similar atoms. It needs a linear decoder.
        network, hidden_sizes, code_activation: the networks; by default one layer each way, ReLU codes and a linear
            decoder, whose bias is subtracted from the rows and starts at their geometric median.
        code_size: None takes four times the columns of model space, at least 64 and at most 2,048 units.
        likelihood: "auto" infers it from the data as for every kind, but takes "gaussian" in place of "gaussian-unit"
            with a linear decoder, so that atoms are parts of rows without a sigmoid in between.

    Dead units, which have not been active for long, are trained on the residual of the rows (the term "dead_units").
    The other arguments are those of `Regularized` (a sparse autoencoder can also be denoising, contractive and
    convolutional) and of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows: k above the code size, a rate outside (0, 1),
            `unit_columns=True` in the sparsity with a decoder that is not linear.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.2.1; Olshausen & Field (1997); Gao et al.,
    Scaling and evaluating sparse autoencoders (2024); Bussmann et al., BatchTopK sparse autoencoders (2024);
    Rajamanoharan et al., Improving dictionary learning with gated sparse autoencoders, and Jumping ahead (2024).

    Example:
        >>> import numpy as np
        >>> from isthmus import SparseAutoencoder, TopK
        >>> X = np.random.default_rng(0).normal(size=(200, 6))
        >>> model = SparseAutoencoder(sparsity=TopK(k=3), max_epochs=5, random_state=0).fit(X)
        >>> codes = model.transform(X)
        >>> codes.shape, int((codes != 0).sum(1).max())
        ((200, 64), 3)
    """

    sparsity: Any = "l1"
    inference: Any = None

    kind: ClassVar[str] = "sparse"
    overcomplete: ClassVar[bool] = True
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {"inference": ("recurrent",)}

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return "gaussian" in place of "gaussian-unit" for "auto", so that atoms are parts of rows."""
        config = super()._choose_likelihood(rows, validation_rows)
        network = self._network
        linear = isinstance(network, MLP) and not network.hidden_sizes and not network.tied
        behind_sigmoid = self.likelihood == "auto" and config["name"] == "gaussian-unit"
        return {"name": "gaussian"} if linear and behind_sigmoid else config

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(4 * rows.n_columns, 64), 2048), "four times the columns, at least 64 and at most 2,048"
