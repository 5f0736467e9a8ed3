"""The filter bank: a stage of convolutional features of images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Generator, Tensor

from isthmus.data.image_patches import check_window
from isthmus.errors import InputError
from isthmus.estimators import filter_sources, inputs, model_files
from isthmus.estimators.base import seed_of
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.value_arguments import ValueArguments
from isthmus.learning.precision import resolve_device
from isthmus.parts.filter_stages import FilterStage, squared_responses

MAX_ENTRIES = 2**22
"""Entries of the largest maps of a block of images: 16 MiB, of which about five copies are in memory."""

MAX_IMAGES = 64
"""Largest number of images in a block."""

IMAGES_OF_SCALE = 1000
"""Number of images, evenly spaced, of which the scale of the responses is learned."""

_FITTED = ("seed_", "n_features_in_", "image_shape_", "output_shape_", "history_")
"""Fitted attributes that are plain data."""

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "activation": ("tanh", "linear"),
    "rectification": ("abs", None),
    "normalization": ("local-contrast", None),
    "pooling": ("mean", "max", None),
}
"""Names that arguments take."""

_SIZES = ("n_filters", "filter_size", "n_input_maps", "n_tiles", "pool_size", "pool_stride", "n_patches")
"""Arguments that are whole numbers of at least 1."""


def _is_flat(bank: Any) -> bool:
    """Return whether the maps of an image are one row."""
    return bool(bank.flatten)


@dataclass(eq=False, repr=False)
class FilterBank(TransformerMixin, SavedEstimator, ValueArguments):
    r"""Stage of convolutional features: filters, rectification, local contrast normalisation and pooling of images.

        a_m = (x * w_m) / s_m,   y = pool(N(|g_m tanh(a_m)|)),   N(v)_m = (v_m - mean v) / max(s, mean of s)

    w_m are filters that a model of patches has learned, or random ones; nothing is trained by labels. s_m is the root
    of the mean squared response over the images of `fit`, so that filters of any norm use the same part of tanh. The
    means of N are those over all maps and a Gaussian window (`isthmus.data.local_contrast`). Two stages are two filter
    banks in a pipeline: the second one learns filters on patches of the maps of the first. Filters have no biases, so
    bring images to local contrast first (`isthmus.data.local_contrast`), or choose filters whose weights add up to 0.

    Args:
        filters: "random": normal weights with the mean 0; an array (filters, h, w), (filters, h, w, c) or, of square
            filters, (filters, columns); or a model of patches: a kind of autoencoder (the first weights of its
            encoder, or its dictionary), an estimator of scikit-learn with `components_` or `cluster_centers_`, or a
            pipeline of `Whitening` and one of these. A fitted model is used as it is; an unfitted one is cloned and
            fitted to patches of the images as flat rows. scikit-learn's `clone`, as in a grid search, removes the fit
            of a model; `sklearn.frozen.FrozenEstimator(model)` keeps it.
        n_filters: number of maps of random filters.
        filter_size: side of random filters, and of the patches of an unfitted model.
        n_input_maps: number of channels that each filter reads: those with its largest weights, which are random for
            random filters. None is all.
        n_tiles: untied weights: `n_tiles` ^ 2 sets of filters, one for each position modulo `n_tiles` along height and
            width. Filters are divided into sets in their order, so their number is a multiple of `n_tiles` ^ 2.
        activation: "tanh", or "linear" for none.
        gain: g, a number or one for each map.
        rectification: "abs" or None.
        normalization: "local-contrast" or None.
        normalization_size: side of its window, odd.
        pooling: "mean", "max" or None.
        pool_size: side of the pooling windows. Only windows inside the maps are used.
        pool_stride: distance of neighbouring windows; None is `pool_size`, windows without overlap.
        n_patches: number of patches to which an unfitted model is fitted.
        image_shape: (h, w) or (h, w, c) of images that are given as flat rows.
        flatten: return one row for each image, as scikit-learn's classifiers need, in place of maps.
        random_state: seed of random filters and of the places of patches; None draws one and stores it in `seed_`.
        device: "auto", "cpu" or "cuda".

    Attributes:
        filters_: w, (filters, h, w, c), float32.
        scale_: s, (filters,).
        image_shape_, output_shape_: (h, w, c) of the images, and of their maps.
        model_: the fitted model of patches, where `filters` is one that was not fitted.

    Raises:
        InputError: at `fit`, rows that are not images; filters larger than the images or of other channels; a number of
            filters that the tiles do not divide; maps smaller than a pooling window.

    Source: Jarrett, Kavukcuoglu, Ranzato & LeCun, What is the best multi-stage architecture for object recognition?
    (2009), section 2; Le, Ngiam, Chen, Chia, Koh & Ng, Tiled convolutional neural networks (2010), for the tiles.

    Example:
        >>> import numpy as np
        >>> from isthmus import FilterBank
        >>> X = np.random.default_rng(0).random((20, 16, 16))
        >>> bank = FilterBank(n_filters=8, filter_size=5, pool_size=4, random_state=0).fit(X)
        >>> bank.transform(X).shape, bank.set_params(flatten=True).transform(X).shape
        ((20, 3, 3, 8), (20, 72))
    """

    filters: Any = "random"
    _: KW_ONLY
    n_filters: int = 64
    filter_size: int = 7
    n_input_maps: int | None = None
    n_tiles: int = 1
    activation: str = "tanh"
    gain: float | Sequence[float] = 1.0
    rectification: str | None = "abs"
    normalization: str | None = "local-contrast"
    normalization_size: int = 9
    pooling: str | None = "mean"
    pool_size: int = 5
    pool_stride: int | None = None
    n_patches: int = 10_000
    image_shape: Sequence[int] | None = None
    flatten: bool = False
    random_state: Any = None
    device: str = "auto"

    kind: ClassVar[str] = "filter-bank"

    # -- fitting ------------------------------------------------------------------------------------

    @inputs.unchanged_on_failure
    def fit(self, X: Any, y: Any = None) -> FilterBank:
        """Learn or sample the filters, and the scale of their responses. A fit that fails changes nothing.

        Args:
            X: images (n, h, w) or (n, h, w, c), or maps of another filter bank; flat rows with `image_shape`.
            y: ignored; present for scikit-learn's pipelines.

        Raises:
            InputError: see the class.
        """
        self._check_parameters()
        images = self._images(X, reset=True)
        self.image_shape_ = tuple(int(size) for size in images.shape[1:])
        self.seed_ = seed_of(self.random_state)
        filters = self._found_filters(images)
        if self.n_input_maps is not None:
            filters = filter_sources.with_inputs(filters, self.n_input_maps)
        self.filters_ = filters.astype(np.float32)
        self.output_shape_ = self._checked_output_shape()
        self.scale_ = self._learned_scale(images)
        self.history_ = {"stopped": "completed", "notes": []}
        return self

    def _check_parameters(self) -> None:
        """Refuse invalid constructor arguments."""
        for name in _SIZES:
            value, default = getattr(self, name), getattr(type(self), name)
            is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
            if not is_whole and not (value is None and default is None):
                raise InputError(f"{name}={value!r}: it must be a whole number of at least 1")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)) or value not in choices:
                raise InputError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")
        if not isinstance(self.flatten, bool | np.bool_):
            raise InputError(f"flatten={self.flatten!r}: it must be True or False")
        if isinstance(self.filters, str) and self.filters != "random":
            raise InputError(f"filters={self.filters!r}: the only name of filters is 'random'")
        check_window(self.normalization_size, "normalization_size")
        self._checked_image_shape()
        resolve_device(self.device)

    def _checked_image_shape(self) -> tuple[int, ...] | None:
        """Return the shape of images that are given as flat rows."""
        if self.image_shape is None:
            return None
        shape = tuple(self.image_shape) if hasattr(self.image_shape, "__len__") else ()
        if len(shape) not in (2, 3) or not all(isinstance(n, int | np.integer) and n >= 1 for n in shape):
            raise InputError(f"image_shape={self.image_shape!r}: give (height, width) or (height, width, channels)")
        return shape

    def _images(self, X: Any, *, reset: bool) -> Float[np.ndarray, "n h w c"]:
        """Return images with an axis of channels.

        Raises:
            InputError, ValueError: rows that are not images; values that are missing or infinite; another shape of
                images than at fit.
        """
        found = check_array(inputs.validate_input(self, X, reset=reset), allow_nd=True, dtype="numeric", estimator=self)
        if found.ndim == 2:
            found = found.reshape(len(found), *self._shape_of_flat_rows(found.shape[1]))
        if found.ndim not in (3, 4):
            raise InputError(
                f"a filter bank takes images (n, h, w) or (n, h, w, c); found rows of shape {found.shape[1:]}"
            )
        found = found[..., None] if found.ndim == 3 else found
        if not reset and found.shape[1:] != tuple(self.image_shape_):
            raise InputError(
                f"X has images of shape {found.shape[1:]} (h, w, c); the filter bank was fitted to {self.image_shape_}"
            )
        return found

    def _shape_of_flat_rows(self, n_columns: int) -> tuple[int, ...]:
        """Return the shape of images that are given as rows of that many columns."""
        shape = self._checked_image_shape()
        if shape is None:
            raise InputError(
                f"X has rows of {n_columns} columns, not images; give (n, h, w) or (n, h, w, c), or the shape as "
                "image_shape=(h, w)"
            )
        if math.prod(shape) != n_columns:
            raise InputError(f"X has rows of {n_columns} columns, which are not images of image_shape={shape}")
        return shape

    def _found_filters(self, images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, "filters h w c"]:
        """Return the filters: random ones, those of an array, or those of a model."""
        channels, given = images.shape[3], self.filters
        self.__dict__.pop("model_", None)
        if isinstance(given, str):
            self._check_fits(self.filter_size, self.filter_size)
            shape = (self.filter_size, self.filter_size, channels)
            generator = Generator().manual_seed(self.seed_)
            return filter_sources.random_filters(self.n_filters * self.n_tiles**2, shape, generator)
        if not filter_sources.is_estimator(given):
            return filter_sources.shaped_filters(given, channels)
        model = filter_sources.fitted_to_patches(given, images, self.filter_size, self.n_patches, self.seed_)
        if model is not given:
            self.model_ = model
        return filter_sources.shaped_filters(filter_sources.filters_of(model), channels)

    def _check_fits(self, height: int, width: int) -> None:
        """Refuse filters that are larger than the images."""
        if height > self.image_shape_[0] or width > self.image_shape_[1]:
            raise InputError(
                f"filters of {height} x {width} pixels do not fit into images of {self.image_shape_[0]} x "
                f"{self.image_shape_[1]}; give a smaller filter_size, or other filters"
            )

    def _checked_output_shape(self) -> tuple[int, int, int]:
        """Return the shape of the maps of an image.

        Raises:
            InputError: filters or pooling windows that do not fit, tiles that do not divide the filters, a number of
                channels or of gains that does not fit.
        """
        n_filters, height, width, channels = self.filters_.shape
        self._check_fits(height, width)
        if n_filters % self.n_tiles**2:
            raise InputError(
                f"{n_filters} filters cannot be divided into the {self.n_tiles**2} sets of n_tiles={self.n_tiles}; "
                "give a multiple"
            )
        if self.n_input_maps is not None and self.n_input_maps > channels:
            raise InputError(f"n_input_maps={self.n_input_maps}: the images have {channels} channels")
        n_maps = n_filters // self.n_tiles**2
        if not _are_gains(self.gain, n_maps):
            raise InputError(f"gain={self.gain!r}: it must be a number other than 0, or one for each of {n_maps} maps")
        down, across = self.image_shape_[0] - height + 1, self.image_shape_[1] - width + 1
        if self.pooling is None:
            return down, across, n_maps
        if self.pool_size > min(down, across):
            raise InputError(
                f"pool_size={self.pool_size} is larger than the maps of {down} x {across}; give a smaller one, or "
                "pooling=None"
            )
        stride = self.pool_stride or self.pool_size
        return (down - self.pool_size) // stride + 1, (across - self.pool_size) // stride + 1, n_maps

    @torch.no_grad()
    def _learned_scale(self, images: Float[np.ndarray, "n h w c"]) -> Float[np.ndarray, " filters"]:
        """Return the root of the mean squared response of each filter, 1 for one that never responds."""
        n_some = min(len(images), IMAGES_OF_SCALE)
        some = images[np.linspace(0, len(images) - 1, n_some).astype(np.int64)]
        device = resolve_device(self.device)
        filters = _first_channels(self.filters_).to(device)
        total = torch.zeros(2, len(filters), dtype=torch.float64)
        for block, n in self._blocks(some):
            total += squared_responses(block[:n].to(device), filters, self.n_tiles).cpu()
        mean = torch.where(total[1] > 0, total[0] / total[1].clamp(min=1), 0.0)
        return torch.where(mean > 0, mean.sqrt(), 1.0).float().numpy()

    # -- features -----------------------------------------------------------------------------------

    @torch.no_grad()
    def transform(self, X: Any) -> Float[np.ndarray, "n ..."]:
        """Return the maps of the images, (n, h', w', maps), or as rows (n, h' w' maps) with `flatten`; float32.

        Images are read in blocks whose largest maps have at most 4 million entries, so that memory is that of the
        result and about 100 MiB.

        Args:
            X: images of the shape of `fit`.

        Raises:
            InputError: images of another shape; values that are missing or infinite.
        """
        check_is_fitted(self)
        images = self._images(X, reset=False)
        device = resolve_device(self.device)
        stage = self._stage().to(device)
        found = np.empty((len(images), *self.output_shape_), np.float32)
        start = 0
        for block, n in self._blocks(images):
            maps = stage(block.to(device))[:n].cpu()
            found[start : start + n] = maps.movedim(1, -1).numpy()
            start += n
        return found.reshape(len(found), -1) if self.flatten else found

    @available_if(_is_flat)
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns of `transform`: the position in the maps, and the map; with `flatten` only.

        Args:
            input_features: ignored; present for scikit-learn's pipelines.
        """
        check_is_fitted(self)
        down, across, n_maps = self.output_shape_
        names = [f"y{i}_x{j}_map{m}" for i in range(down) for j in range(across) for m in range(n_maps)]
        return np.asarray(names, dtype=object)

    def _stage(self) -> FilterStage:
        """Return the module that computes maps."""
        n_maps = self.output_shape_[2]
        gain = torch.as_tensor(np.broadcast_to(np.asarray(self.gain, np.float32), (n_maps,)).copy())
        return FilterStage(
            _first_channels(self.filters_), torch.from_numpy(self.scale_), gain,
            n_tiles=self.n_tiles, activation=self.activation, rectification=self.rectification,
            normalization_size=None if self.normalization is None else self.normalization_size,
            pooling=self.pooling, pool_size=self.pool_size, pool_stride=self.pool_stride or self.pool_size,
        )  # fmt: skip

    def _blocks(self, images: Float[np.ndarray, "n h w c"]) -> Iterator[tuple[Float[Tensor, "block c h w"], int]]:
        """Yield blocks of images, channels first, and their number without the zeros that fill the last block.

        All blocks have one size, because the rounding of a convolution may depend on the number of images.
        """
        height, width, channels = self.image_shape_
        n_filters, kernel_height, kernel_width, _ = self.filters_.shape
        n_maps = n_filters // self.n_tiles**2
        largest = max(channels * height * width, n_maps * (height - kernel_height + 1) * (width - kernel_width + 1))
        size = min(MAX_IMAGES, max(1, MAX_ENTRIES // largest))
        for start in range(0, len(images), size):
            some = np.asarray(images[start : start + size], np.float32)
            block = torch.zeros(size, channels, height, width)
            block[: len(some)] = torch.from_numpy(some).movedim(-1, 1)
            yield block, len(some)

    # -- files --------------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        tensors = {"filters": torch.from_numpy(self.filters_), "scale": torch.from_numpy(self.scale_)}
        is_random = isinstance(self.filters, str)
        header = model_files.header_of(self, _FITTED, without=() if is_random else ("filters",))
        return tensors, header

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        filters = tensors["filters"].numpy()
        given = {} if "filters" in header["parameters"] else {"filters": filters}
        model = model_files.constructed(cls, header, **given)
        model_files.set_fitted(model, header)
        model.filters_, model.scale_ = filters, tensors["scale"].numpy()
        return model

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.image_shape is not None
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def _first_channels(filters: Float[np.ndarray, "filters h w c"]) -> Float[Tensor, "filters c h w"]:
    """Return filters with the axis of channels before those of pixels."""
    return torch.from_numpy(filters).movedim(-1, 1).contiguous()


def _are_gains(gain: Any, n_maps: int) -> bool:
    """Return whether an argument is one gain or one for each map.

    Example:
        >>> _are_gains(2, 5), _are_gains((1.0, 0.5), 2), _are_gains((1.0, 0.5), 3), _are_gains("2", 1)
        (True, True, False, False)
    """
    try:
        values = np.asarray(gain)
    except ValueError:
        return False
    fits = values.shape in ((), (n_maps,))
    return fits and values.dtype.kind in "fi" and bool(np.isfinite(values).all()) and bool((values != 0).any())
