"""The denoising autoencoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.noise_removal import NoiseRemovalMixin
from isthmus.estimators.regularized import Regularized


@dataclass(kw_only=True, eq=False, repr=False)
class DenoisingAutoencoder(NoiseRemovalMixin, Regularized, BaseAutoencoder):
    r"""Denoising autoencoder: reconstructs clean rows from corrupted ones.

        J = E_x E_{x~ ~ C(.|x)} [ -log p_dec(x | h) ],   h = f(x~)

    Copying does not minimise this criterion, so the code may have more units than the data has columns: to undo the
    corruption C, the model has to learn which rows are likely. With Gaussian noise of small scale s the reconstruction
    estimates the score of the data, (r(x) - x) / s^2 = d log p(x) / dx (`isthmus.geometry.scores`), and its fixed
    points lie on the manifold of the rows.

    Rows are corrupted anew at every training step and never after training: `reconstruct(X)` encodes X as it is, and
    removes noise from noisy rows; `denoise(X)` does so at the level of their noise. With `corruption="missing"` the
    encoder gets the mask of the observed entries; fitted with `missing="mask"`, the model accepts rows with missing
    values, and `reconstruct` imputes them. Pairs of noisy and clean rows are given as `fit(noisy, target=clean)`, or
    `fit(noisy, clean)`.

    Args:
        corruption: C: "masking" (entries become 0, for standardised columns their mean), "gaussian", "salt-and-pepper",
            "groups" (the columns of a category, the patches of an image, or given groups become 0 together),
            "missing"; or a value with its arguments: `Masking`, `GaussianNoise`, `SaltAndPepper`, `GroupMasking`,
            `MissingMask`; or a function (x, generator) -> x~ on tensors in model space, which cannot be saved. The
            function generates random numbers on `generator.device`, which may differ from that of x.
        network, hidden_sizes, code_activation: the networks; by default one layer of sigmoid units, as in the papers.
        code_size: None takes twice the columns of model space, at least 64 and at most 1,024 units.

    The other arguments are those of `Regularized` (a denoising autoencoder can also be sparse, contractive and
    convolutional) and of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows, and for a callable that returns another shape or values
            that are not finite; at `save`, for a callable.

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

    corruption: Any = "masking"

    kind: ClassVar[str] = "denoising"
    overcomplete: ClassVar[bool] = True
    takes_y_as_target: ClassVar[bool] = True

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(2 * rows.n_columns, 64), 1024), "twice the columns, at least 64 and at most 1,024"
