"""Removal of noise by a fitted denoising autoencoder, at the level of the noise in the rows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import Generator, Tensor

from isthmus.data.dataset import as_pandas
from isthmus.data.noise_levels import noise_level
from isthmus.data.preprocessing import Preprocessor, input_type
from isthmus.data.targets import TargetPreprocessor
from isthmus.errors import InputError
from isthmus.estimators import inputs
from isthmus.estimators.identity import given_rows, with_identity
from isthmus.estimators.reading import ReadingMixin
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.sampling import rand_like
from isthmus.values.corruptions import CORRUPTION, GaussianNoise

STEP = 0.1
"""Length of the step of the divergence, in standard deviations of the noise."""

MAX_PATCHES = 2**15
"""Patches that are in memory together, but those of one image at least."""

PATCHES_ACROSS = 4
"""Patches that cover a pixel of a larger image along each axis."""


class NoiseRemovalMixin(ReadingMixin):
    """Mixin of `DenoisingAutoencoder`: the rows without their noise."""

    corruption: Any

    def denoise(self, X: Any, noise_level: Any = None) -> Any:
        r"""Return rows without their Gaussian noise, in the units and the shape of X.

            d(x) = x + w (r(x) - x),   w = (D + sqrt(2 sum_j s_j^4)) / ||r(x) - x||^2, clipped to [0, 1]
            D = sum_j s_j^2 (1 - dr_j/dx_j)

        r is the reconstruction and s_j the level, the standard deviation of the noise in column j. D / ||r(x) - x||^2
        minimises Stein's unbiased estimate of the squared error of d(x), for each row, so that a row with less noise
        than in training is changed less:

            SURE(w) = w^2 ||r(x) - x||^2 - 2 w D + sum_j s_j^2

        The second part of w is one standard deviation of ||noise||^2. Without it w is below 1 by chance in half of the
        rows for which 1 is best, which leaves noise in rows of few columns, such as patches.

        The sum of derivatives is estimated with one probe b of random signs, the same for each row:
        sum_j s_j b_j (r_j(x + e s b) - r_j(x)) / e. Missing entries are filled with r(x).

        A model that removes noise of any level up to a highest one is trained with
        `corruption=GaussianNoise(scale=(0, highest))`. A model of small images, such as patches of 8 x 8 pixels,
        removes the noise of larger images too: it reads overlapping patches, and a pixel gets the mean of its patches.

        Args:
            X: rows; images may be larger than those of the fit.
            noise_level: the standard deviation of the noise in the units of X: a number, or one for each channel of
                images and series, or for each column of other rows. None estimates it from neighbouring pixels or
                steps (`isthmus.data.noise_levels.noise_level`), for all rows together. For other rows None is the
                scale of the Gaussian noise of training.

        Returns:
            As `reconstruct`: the type, the shape and the units of the fitted rows, with the index of X.

        Raises:
            InputError: a level that is negative, not finite or of another length; no level, and none that can be
                estimated; a model of texts, sparse rows, categories or counts, or of a target; images that are smaller
                than those of the fit.

        Source: Stein, Estimation of the mean of a multivariate normal distribution, Annals of Statistics 9 (1981),
        theorem 1; Ramani, Blu & Unser, Monte-Carlo SURE, IEEE Transactions on Image Processing 17 (2008), section II.C,
        for the probe.

        Example:
            >>> import numpy as np
            >>> from sklearn.datasets import load_digits
            >>> from isthmus import DenoisingAutoencoder, GaussianNoise
            >>> X = load_digits().images / 16
            >>> model = DenoisingAutoencoder(
            ...     corruption=GaussianNoise(scale=(0, 0.5)), max_epochs=10, random_state=0).fit(X[:1500])
            >>> noisy = X[1500:] + 0.3 * np.random.default_rng(0).normal(size=X[1500:].shape)
            >>> better = model.denoise(noisy)
            >>> bool(np.square(better - X[1500:]).mean() < 0.5 * np.square(noisy - X[1500:]).mean())
            True
        """
        check_is_fitted(self)
        _check_rows(self.preprocessing_)
        level = self.noise_level(X) if noise_level is None else _checked_level(noise_level, self.preprocessing_)
        rows = as_pandas(given_rows(X))
        if is_larger(rows, self.preprocessing_):
            return self._denoised_in_patches(rows, level)
        return with_identity(self._denoised(X, level), X)

    def noise_level(self, X: Any) -> Float[np.ndarray, " channels"]:
        """Return the level that `denoise(X)` takes, by channel of images and series, in the units of X.

        Raises:
            InputError: as `denoise` without a level.

        Example:
            >>> import numpy as np
            >>> from isthmus import DenoisingAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(50, 20, 1)).cumsum(1)
            >>> model = DenoisingAutoencoder(max_epochs=1, layout="ntc", random_state=0).fit(X)
            >>> model.noise_level(X).shape
            (1,)
        """
        check_is_fitted(self)
        known = self.preprocessing_
        _check_rows(known)
        if known.map_shape is not None:
            rows = given_rows(X)
            return noise_level(rows if hasattr(rows, "shape") else np.asarray(rows), known.layout)
        corruption = CORRUPTION.expanded(self.corruption)
        if not isinstance(corruption, GaussianNoise) or not isinstance(corruption.scale, int | float):
            raise InputError(
                f"the noise level of {known.description} cannot be estimated, since they are neither images nor "
                "series, and the model was not trained with one level of Gaussian noise; give noise_level "
                "(--noise-level)"
            )
        return corruption.scale * known.scale

    def _denoised(self, X: Any, level: Float[np.ndarray, " channels"]) -> Any:
        """Return d(x) of rows in the units of X."""
        known = self.preprocessing_
        of_columns = np.repeat(level, known.n_columns // len(level)) / known.scale
        deviations = torch.from_numpy(of_columns.astype(np.float32))
        signs = rand_like(deviations, Generator().manual_seed(0)).lt(0.5).float() * 2 - 1
        made = [
            denoised(self.coder_, batch, deviations.to(batch.x.device), signs.to(batch.x.device))[:n].cpu().numpy()
            for batch, n in self._padded(inputs.model_rows(self, X))
        ]
        return known.inverse_transform(np.concatenate(made))

    def _denoised_in_patches(self, images: np.ndarray, level: Float[np.ndarray, " channels"]) -> np.ndarray:
        """Return larger images: the mean of their overlapping patches at each pixel."""
        known = self.preprocessing_
        patches = _Patches.of(images.shape[1:], known)
        at_once, made = max(1, MAX_PATCHES // len(patches.places)), []
        for first in range(0, len(images), at_once):
            some = images[first : first + at_once]
            parts = self._denoised(patches.cut(some), level)
            means = patches.mean(parts, len(some))
            made.append((np.rint(means) if parts.dtype == np.uint8 else means).astype(parts.dtype))
        return np.concatenate(made)


@dataclass(frozen=True)
class _Patches:
    """Overlapping patches of images of one shape.

    Attributes:
        shape: of an image.
        size: of a patch.
        places: the pixels of each patch.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    places: list[tuple[slice, ...]]

    @classmethod
    def of(cls, shape: tuple[int, ...], known: Preprocessor) -> _Patches:
        """Return patches in the shape of the rows of a model."""
        size = known.row_shape
        starts = [_patch_starts(whole, part) for whole, part in zip(shape, size, strict=True)]
        places = [
            tuple(slice(at, at + part) for at, part in zip(first, size, strict=True))
            for first in itertools.product(*starts)
        ]
        return cls(shape, size, places)

    def cut(self, images: np.ndarray) -> np.ndarray:
        """Return the patches of images, the first ones of all images first."""
        return np.concatenate([images[(slice(None), *place)] for place in self.places])

    def mean(self, patches: np.ndarray, n: int) -> Float[np.ndarray, "n ..."]:
        """Return n images, the mean of their patches at each pixel."""
        total, count = np.zeros((n, *self.shape)), np.zeros(self.shape)
        for place, values in zip(self.places, patches.reshape(-1, n, *self.size), strict=True):
            total[(slice(None), *place)] += values
            count[place] += 1
        return total / count


def denoised(
    coder: Coder, batch: Batch, level: Float[Tensor, " columns"], signs: Float[Tensor, " columns"]
) -> Float[Tensor, "batch columns"]:
    """Return x + w (r(x) - x) of a batch in model space, w by Stein's unbiased risk estimate, see `denoise`.

    Args:
        coder: of the model.
        batch: rows; missing entries are those of r(x).
        level: s, the standard deviation of the noise.
        signs: b, the probe of the divergence, -1 or 1.

    Example:
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> ends = [MLP((2, 2), generator=torch.Generator()).requires_grad_(False) for _ in range(2)]
        >>> for end, size in zip(ends, (0.5, 1)):  # r = x / 2
        ...     _ = end.affine_maps[0].weight.copy_(torch.eye(2) * size)
        >>> coder = Coder(EncoderMap(ends[0]), ends[1], Gaussian(2))
        >>> denoised(coder, Batch(torch.tensor([[4.0, 0.0]])), torch.ones(2), torch.ones(2))  # w = (1 + 2) / 4
        tensor([[2.5000, 0.0000]])
    """
    x, mask = batch.x, batch.observed
    step = STEP * level * signs
    r = _reconstructed(coder, batch)
    moved = _reconstructed(coder, Batch(x + step, mask=batch.mask))
    observed = torch.ones_like(x) if mask is None else mask
    slope = (observed * level * signs * (moved - r)).sum(1) / STEP
    deviation = (2 * (observed * level.pow(4)).sum(1)).sqrt()
    excess = (observed * level.square()).sum(1) - slope + deviation
    distance = (observed * (r - x).square()).sum(1)
    weight = (excess / distance.clamp_min(torch.finfo(x.dtype).tiny)).clamp(0.0, 1.0)[:, None]
    return torch.where(observed > 0, x + weight * (r - x), r)


def _reconstructed(coder: Coder, batch: Batch) -> Float[Tensor, "batch columns"]:
    return coder.likelihood.mean_given(coder(batch).parameters, batch.x)


def _check_rows(known: Preprocessor) -> None:
    """Refuse a model of rows without Gaussian noise.

    Raises:
        InputError: texts, sparse rows, columns that are not real numbers, a target, normal scores.
    """
    if isinstance(known, TargetPreprocessor):
        raise InputError("the model decodes a target, such as clean rows of noisy ones; reconstruct(X) returns it")
    if known.source in ("text", "sparse"):
        found = "texts" if known.source == "text" else "sparse rows"
        raise InputError(f"the model was fitted on {found}; denoise is for images, series and columns of real numbers")
    if known.quantiles:
        raise InputError("denoise needs noise of one scale, which scaling='quantile' changes; fit with another scaling")
    others = [column.name for column in known.table if set(column.output_units) != {"real"}]
    if others:
        raise InputError(f"column {others[0]!r} has no real numbers; denoise is for images, series and real columns")


def _checked_level(given: Any, known: Preprocessor) -> Float[np.ndarray, " channels"]:
    """Return a given level by channel of images and series, by column of other rows.

    Raises:
        InputError: a level that is not a number, negative, not finite or of another length.
    """
    n = known.n_columns if known.map_shape is None else known.map_shape[0]
    what = "columns" if known.map_shape is None else "channels"
    try:
        level = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"noise_level={given!r} is not a number; give a standard deviation") from None
    if level.shape not in ((), (1,), (n,)):
        raise InputError(f"noise_level has the shape {level.shape}; give one number, or one for each of the {n} {what}")
    if not bool((np.isfinite(level) & (level >= 0)).all()):
        raise InputError(f"noise_level={given!r}: a standard deviation is a finite number, 0 or more")
    return np.broadcast_to(level, (n,))


def is_larger(rows: Any, known: Preprocessor) -> bool:
    """Return whether rows are images that are not smaller than those of the fit, and larger along an axis."""
    shape = tuple(getattr(rows, "shape", ()))[1:]
    if known.image_shape is None or input_type(rows) != "array" or len(shape) != len(known.row_shape):
        return False
    channels = 0 if known.layout == "nchw" else 2
    same = known.layout == "nhw" or shape[channels] == known.row_shape[channels]
    return same and shape != known.row_shape and all(a >= b for a, b in zip(shape, known.row_shape, strict=True))


def _patch_starts(whole: int, size: int) -> list[int]:
    """Return the starts of patches that cover an axis, a quarter of a patch apart; the last one ends with the axis.

    Example:
        >>> _patch_starts(21, 8)
        [0, 2, 4, 6, 8, 10, 12, 13]
    """
    return sorted({*range(0, whole - size + 1, max(1, size // PATCHES_ACROSS)), whole - size})
