"""Filters of images from models of patches, from arrays, and at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import Generator

from isthmus.data.image_patches import patches
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.whitening import Whitening
from isthmus.evaluation.features import as_images
from isthmus.parts.sampling import randn_like

_ADVICE = (
    "give 'random', an array (filters, h, w) or (filters, h, w, c), or an estimator with filters(), dictionary(), "
    "components_ or cluster_centers_"
)


def random_filters(
    n_filters: int, shape: tuple[int, int, int], generator: Generator
) -> Float[np.ndarray, "filters h w c"]:
    """Return filters of independent normal weights whose mean is 0, except for those of a single weight."""
    filters = randn_like(torch.empty(n_filters, *shape), generator)
    if math.prod(shape) > 1:
        filters = filters - filters.mean((1, 2, 3), keepdim=True)
    return filters.double().numpy()


def is_estimator(filters: Any) -> bool:
    """Return whether an argument is an estimator, rather than the name of filters or an array.

    Example:
        >>> is_estimator("random"), is_estimator(np.ones((2, 3, 3))), is_estimator(Whitening())
        (False, False, True)
    """
    return hasattr(filters, "fit") and hasattr(filters, "get_params")


def fitted_to_patches(model: Any, images: np.ndarray, size: int, n_patches: int, seed: int) -> Any:
    """Return the model if it is fitted, else a clone that is fitted to patches of the images as flat rows."""
    try:
        check_is_fitted(model)
    except NotFittedError:
        rows = patches(images, size, n_patches, random_state=seed)
        return clone(model).fit(rows.reshape(len(rows), -1).astype(np.float32, copy=False))
    return model


def filters_of(model: Any) -> Float[np.ndarray, "filters ..."]:
    """Return the filters of a fitted model of patches, in the units of its rows: what it multiplies patches by.

    - an autoencoder: the weights of the first layer of its encoder, or the dictionary of a model without one, over the
      scale of the columns;
    - an estimator of scikit-learn: `components_` or `cluster_centers_`;
    - a pipeline of `Whitening` and one of these: the filters of the last step times the whitening matrix.

    Raises:
        InputError: an estimator that has none of these; a pipeline with another step before the last.

    Example:
        >>> from sklearn.decomposition import PCA
        >>> filters_of(PCA(2).fit(np.random.default_rng(0).normal(size=(20, 9)))).shape
        (2, 9)
    """
    if isinstance(model, FrozenEstimator):
        return filters_of(model.estimator)
    if isinstance(model, Pipeline):
        return _of_pipeline([step for _, step in model.steps if step not in (None, "passthrough")])
    if isinstance(model, BaseAutoencoder):
        return _of_autoencoder(model)
    for name in ("components_", "cluster_centers_"):
        if hasattr(model, name):
            return np.asarray(getattr(model, name), np.float64)
    raise InputError(f"filters={model!r}: a {type(model).__name__} has no filters; {_ADVICE}")


def _of_pipeline(steps: Sequence[Any]) -> Float[np.ndarray, "filters ..."]:
    *before, last = steps
    found = filters_of(last)
    for step in reversed(before):
        if not isinstance(step, Whitening):
            raise InputError(
                f"filters: the pipeline has the step {type(step).__name__} before the model; only Whitening can stand "
                "there"
            )
        shape = found.shape if len(step.row_shape_) == 1 else (len(found), *step.row_shape_)
        if found.shape != shape:
            raise InputError(
                f"filters: the model has filters of shape {found.shape[1:]} and was whitened as rows of shape "
                f"{step.row_shape_}; give patches (n, h, w) or (n, h, w, c)"
            )
        found = (found.reshape(len(found), -1) @ step.matrix_).reshape(shape)
    return found


def _of_autoencoder(model: BaseAutoencoder) -> Float[np.ndarray, "filters ..."]:
    """Return weights on patches in the units of the user; the offset of the columns changes responses by a constant."""
    known = model.preprocessing_.inputs

    def shaped(columns: np.ndarray) -> np.ndarray:
        return known.as_rows(columns) if known.is_series else as_images(columns, known.image_shape)

    scale = shaped(np.asarray(known.scale, np.float64)[None])[0]
    if hasattr(model, "filters"):
        weights = np.asarray(model.filters(), np.float64)
        is_kernel = weights.shape[1:] != scale.shape
        return weights / (scale.mean((0, 1)) if is_kernel else scale)
    if hasattr(model, "dictionary"):
        return shaped(np.asarray(model.dictionary(), np.float64)) / scale
    raise InputError(f"filters={model!r}: this model has neither filters() nor dictionary(); {_ADVICE}")


def shaped_filters(filters: Any, n_channels: int) -> Float[np.ndarray, "filters h w c"]:
    """Return filters with the axes (filters, h, w, c); flat ones are square.

    Args:
        filters: (filters, h, w), (filters, h, w, c) or (filters, columns).
        n_channels: channels of the images.

    Raises:
        InputError: no numbers, other axes, other channels than those of the images, flat filters that are not square.

    Example:
        >>> shaped_filters(np.ones((5, 27)), 3).shape, shaped_filters(np.ones((5, 4, 2)), 1).shape
        ((5, 3, 3, 3), (5, 4, 2, 1))
    """
    try:
        found = np.asarray(filters, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"filters={filters!r}: {_ADVICE}") from None
    if found.ndim not in (2, 3, 4) or 0 in found.shape:
        raise InputError(f"filters have the shape {found.shape}; {_ADVICE}")
    if not np.isfinite(found).all():
        raise InputError("filters hold values that are not finite; remove these filters")
    if found.ndim == 2:
        side = math.isqrt(found.shape[1] // n_channels)
        if side * side * n_channels != found.shape[1]:
            raise InputError(
                f"filters of {found.shape[1]} weights are not square patches of {n_channels} channels; give an array "
                "(filters, h, w, c)"
            )
        found = found.reshape(len(found), side, side, n_channels)
    found = found[..., None] if found.ndim == 3 else found
    if found.shape[3] != n_channels:
        raise InputError(
            f"filters read {found.shape[3]} channels and the images have {n_channels}, the last axis of "
            "(n, h, w, channels); learn the filters on patches of these images"
        )
    return found


def with_inputs(filters: Float[np.ndarray, "filters h w c"], n_inputs: int) -> Float[np.ndarray, "filters h w c"]:
    """Return filters that read only the channels where their weights are largest, `n_inputs` each; the others are 0.

    Example:
        >>> with_inputs(np.array([[[[1.0, -3.0, 2.0]]]]), 2).ravel().tolist()
        [0.0, -3.0, 2.0]
    """
    energy = np.square(filters).sum((1, 2))
    kept = np.zeros(energy.shape, bool)
    np.put_along_axis(kept, np.argsort(-energy, 1, kind="stable")[:, :n_inputs], True, 1)
    return filters * kept[:, None, None, :]
