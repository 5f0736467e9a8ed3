"""The denoising autoencoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.regularized import Regularized
from isthmus.learning.rows import Rows


@dataclass(kw_only=True, eq=False, repr=False)
class DenoisingAutoencoder(Regularized, BaseAutoencoder):
    r"""The denoising autoencoder: it is shown rows that were spoilt and asked for the rows as they were.

        J = E_x E_{x~ ~ C(.|x)} [ -log p_dec(x | h) ],   h = f(x~)

    Copying is of no use to it, so the code may have more units than the data has columns: to undo the corruption C
    it has to learn which rows are likely. With little Gaussian noise of scale s the move that it makes tells where the
    density of the rows rises: (r(x) - x) / s^2 estimates d log p(x) / dx (`isthmus.geometry.scores`), and the rows'
    manifold is where the moves end.

    Rows are corrupted anew at every step and never when the model is read: `reconstruct(X)` takes X as it is, and
    cleans it where it is noisy. With `corruption="missing"` the encoder is told which entries it may look at; fitted
    with `missing="mask"`, the model reads rows with gaps, and `reconstruct` fills them in.

    Args:
        corruption: C: "masking" (entries become 0, for standardised columns their mean), "gaussian",
            "salt-and-pepper", "groups" (the columns of a category, the patches of an image, or `corruption_groups`,
            become 0 together), "missing", or a callable (x, generator) -> x~ on tensors in model space, which no
            file can keep.
        corruption_rate: share of the entries or groups that is hit; "gaussian" and callables do not read it.
        corruption_scale: s, the standard deviation of "gaussian", in model space.
        corruption_groups: lists of columns that "groups" and "missing" hit together.
        corrupted_weight, clean_weight: what entries that were hit, and the others, count in the criterion: alpha and
            beta of the emphasised denoising autoencoder. With 1 and 0 only what was hidden counts.
        network, hidden_sizes, dense_sizes, activation, code_activation, tied, normalization, dropout: the maps; by
            default one layer of sigmoid units, as in the papers.
        code_size: None takes twice the columns of model space, at least 64 and at most 1,024 units.

    The other arguments are those of `Regularized` (a denoising autoencoder may be sparse, contractive and
    convolutional too) and those of every kind: see `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, and for a callable that returns another shape
            or what is not finite; at `save`, for a callable.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.5; Vincent et al. (2008) and, with emphasis and
    other noises, Stacked denoising autoencoders, JMLR 11 (2010), sections 3.3 and 3.4; Alain & Bengio, What
    regularized auto-encoders learn from the data-generating distribution (2013).

    Example:
        >>> import numpy as np
        >>> from isthmus import DenoisingAutoencoder
        >>> t = np.random.default_rng(0).uniform(0, 6, (200, 1))
        >>> X = np.hstack([np.sin(t), np.cos(t), t / 6])
        >>> model = DenoisingAutoencoder(corruption="gaussian", max_epochs=30, random_state=0).fit(X)
        >>> model.transform(X).shape, model.reconstruct(X).shape
        ((200, 64), (200, 3))
    """

    corruption: str | Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = "masking"

    kind: ClassVar[str] = "denoising"
    overcomplete: ClassVar[bool] = True

    def _suggest_code_size(self, rows: Rows) -> tuple[int, str]:
        return min(max(2 * rows.n_columns, 64), 1024), "twice the columns, at least 64 and at most 1,024"
