"""Inspection of a fitted autoencoder's units: filters, dictionary, activity, and the rows that activate them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.features import (
    Activity,
    activity,
    as_images,
    as_kernels,
    atoms,
    effects,
    first_layer_weights,
    is_linear,
    top_activating_rows,
)
from isthmus.evaluation.prefixes import CodedRows, PrefixQuality, prefix_quality
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.prefixes import prefix


def _has_filters(model: Any) -> bool:
    """Return whether the encoder's first layer is an affine map or a convolution."""
    check_is_fitted(model)
    return first_layer_weights(model.coder_.encoder) is not None


def _has_dictionary(model: Any) -> bool:
    """Return whether the decoder is linear in the code, with one parameter per column that determines its mean."""
    check_is_fitted(model)
    coder = model.coder_
    by_column = (
        coder.likelihood.n_parameters == coder.likelihood.n_columns
        or type(coder.likelihood).parameters_for is Likelihood.parameters_for
    )
    if not (by_column and is_linear(coder.decoder, model.code_size_, next(coder.parameters()))):
        raise AttributeError(
            f"this {model.kind} autoencoder has no dictionary, because its decoder is not linear in the code; "
            "unit_effects(X) gives the effect of each unit on an average row"
        )
    return True


def _has_prefixes(model: Any) -> bool:
    """Return whether the sparsity of a fitted model has prefixes."""
    check_is_fitted(model)
    return bool(_prefixes(model))


def _prefixes(model: Any) -> tuple[int, ...]:
    """Return the prefixes of the model's sparsity; empty if it has none."""
    return tuple(getattr(getattr(model, "sparsity", None), "prefixes", None) or ())


class FeatureInspectionMixin:
    """Mixin of the inspection methods; units of the code are numbered as the columns of `transform(X)`, from 0."""

    code_size_: int
    coder_: Any
    preprocessing_: Any

    @available_if(_has_filters)
    def filters(self) -> Float[np.ndarray, "units ..."]:
        r"""Return the weights of each unit of the encoder's first layer.

            a_j = <w_j, x> + b_j,   the filter of unit j is w_j

        With a one-layer encoder these are the units of the code. The code units of a deep encoder have no filter: see
        `unit_effects`, `dictionary` and `max_activating`.

        Returns:
            Weights on the columns of model space, float64: (units, columns); of images (units, h, w), or
            (units, h, w, c) for several channels; of series (units, t, c); of a convolution its kernels,
            (maps, kh, kw) or (maps, kh, kw, c), along series (maps, kt) or (maps, kt, c). The weights of a
            mask-aware encoder on the mask are left out.

        Source: Deep Learning, section 14.2.1; Olshausen & Field, Emergence of simple-cell receptive field
        properties (1996), figure 4.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 5, 4))
            >>> LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X).filters().shape
            (3, 5, 4)
        """
        found = first_layer_weights(self.coder_.encoder)
        assert found is not None
        weight, is_kernel = found
        if is_kernel:
            return as_kernels(weight)
        inputs = self.preprocessing_.inputs
        weight = weight[:, : inputs.n_columns]
        return inputs.as_rows(weight) if inputs.is_series else as_images(weight, inputs.image_shape)

    @available_if(_has_dictionary)
    def dictionary(self) -> Float[np.ndarray, "code_size columns"]:
        r"""Return the atoms of a decoder that is linear in the code: the contribution of each unit.

            parameters of p_dec = c + sum_j h_j d_j,   atom j is d_j

        The method is absent (`hasattr`) if the decoder is not linear in the code. With `FeatureMaps` the atoms are the
        filters at each position, and `components_` of `PredictiveSparseDecomposition` has the filters alone. For a
        Gaussian the parameters are the reconstruction itself, in model space; for "gaussian-unit" and "bernoulli" they
        are its logits.
        `isthmus.evaluation.dictionaries` compares, sorts and prunes dictionaries.

        Returns:
            (code_size, columns), float32.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, scaling="none", max_epochs=1, random_state=0).fit(X)
            >>> h, r = model.transform(X[:2]), model.reconstruct(X[:2])
            >>> bool(np.allclose((h[0] - h[1]) @ model.dictionary(), r[0] - r[1], atol=1e-5))
            True
        """
        parameters = atoms(self.coder_.decoder, self.code_size_, next(self.coder_.parameters()))
        return parameters[:, : self.preprocessing_.n_columns]

    def activity(self, X: Any) -> Activity:
        """Return statistics of the units of the code over rows: rates, means, ranges, dead units, exact zeros.

        Args:
            X: rows.

        Returns:
            The record `isthmus.evaluation.features.Activity`.

        Raises:
            InputError: no rows, or invalid ones.
        """
        return activity(self._codes(X))

    def activation_rates(self, X: Any) -> Float[np.ndarray, " code_size"]:
        """Return the fraction of the rows in which each unit of the code is active, that is, not exactly zero.

        1 - activation_rates(X).mean() is the fraction of exact zeros in the code; a unit with the rate 0 is dead. Units
        that are never exactly zero (linear, sigmoid) have the rate 1: `activity(X)` gives their range.
        """
        return self.activity(X).rates

    def max_activating(
        self, X: Any, unit: int, n: int = 10
    ) -> tuple[Int[np.ndarray, " strongest"], Float[np.ndarray, " strongest"]]:
        """Return the rows that activate one unit of the code the most.

        Args:
            X: rows.
            unit: number of the unit, from 0: the column of `transform(X)`.
            n: number of rows; all if there are fewer.

        Returns:
            Row numbers, the largest activation first, and the unit's values in these rows.

        Raises:
            InputError: a unit that the code does not have, or n below 1.

        Example:
            >>> from isthmus import LinearAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(40, 6))
            >>> model = LinearAutoencoder(code_size=3, max_epochs=1, random_state=0).fit(X)
            >>> rows, values = model.max_activating(X, unit=1, n=2)
            >>> bool(values[0] == model.transform(X)[:, 1].max() == model.transform(X)[rows[0], 1])
            True
        """
        check_is_fitted(self)
        self._check_unit(unit)
        if isinstance(n, bool) or not hasattr(n, "__index__") or n < 1:
            raise InputError(f"n={n!r}: it must be a whole number of at least 1")
        values = np.concatenate([code[:, unit].numpy() for code in self._codes(X)])
        rows = top_activating_rows(values, n)
        return rows, values[rows]

    def unit_effects(self, X: Any, units: Any = None) -> Float[np.ndarray, "units ..."]:
        """Return the effect of each unit of the code on the reconstruction.

        It is the change of the decoded mean code when the unit goes from its smallest to its largest value over the
        rows; for a linear decoder the unit's atom times its range.

        Args:
            X: rows.
            units: numbers of the units, from 0; None is all.

        Returns:
            Differences in model space: (units, columns), or images and series as `filters` gives them.

        Raises:
            InputError: a unit that the code does not have.
        """
        check_is_fitted(self)
        wanted = range(self.code_size_) if units is None else np.ravel(np.asarray(units)).tolist()
        for unit in wanted:
            self._check_unit(unit)
        seen, chosen = self.activity(X), np.array(wanted, np.int64)
        found = effects(self._decode, seen, chosen)  # type: ignore[attr-defined]
        known = self.preprocessing_
        return known.as_rows(found) if known.is_series else as_images(found, known.image_shape)

    @available_if(_has_prefixes)
    def prefix_quality(self, X: Any) -> list[PrefixQuality]:
        """Return the quality of the first units of a code with prefixes, such as `TopK(prefixes=(64, 256))`.

        The method is absent (`hasattr`) if the sparsity has no prefixes.

        Args:
            X: rows.

        Returns:
            A record `isthmus.evaluation.prefixes.PrefixQuality` for each prefix, and one for the whole code: the error
            of these units alone, active and dead units, and into how many later units a unit splits or is absorbed. The
            last two need a decoder that is linear in the code.

        Raises:
            InputError: no rows, or invalid ones.

        Source: Bussmann et al., Learning multi-level features with Matryoshka sparse autoencoders (2025).

        Example:
            >>> from isthmus import SparseAutoencoder, TopK
            >>> X = np.random.default_rng(0).normal(size=(200, 6))
            >>> sparsity = TopK(k=4, prefixes=(8, 16))
            >>> model = SparseAutoencoder(code_size=32, sparsity=sparsity, max_epochs=30, random_state=0).fit(X)
            >>> found = model.prefix_quality(X)
            >>> [part.n_units for part in found]
            [8, 16, 32]
            >>> found[0].squared_error_per_row > found[2].squared_error_per_row
            True
        """
        atoms_of = self.dictionary() if hasattr(self, "dictionary") else None
        return prefix_quality(self._coded(X), _prefixes(self), atoms_of)

    def _coded(self, X: Any) -> Iterator[CodedRows]:
        """Yield the rows, their codes and the reconstructions from prefixes block by block, on the CPU."""
        coder, sizes = self.coder_, (*_prefixes(self), self.code_size_)
        for batch, n in self._padded(self._rows(X)):  # type: ignore[attr-defined]
            x, code, mask = batch.desired_output, coder.encode(batch).code, batch.observed
            decoded = (coder.decode(prefix(code, size), condition=batch.condition) for size in sizes)
            reconstructions = [coder.likelihood.mean_given(one, x)[:n].cpu() for one in decoded]
            yield CodedRows(x[:n].cpu(), code[:n].cpu(), reconstructions, None if mask is None else mask[:n].cpu())

    def _check_unit(self, unit: Any) -> None:
        """Refuse a number that is not a unit of the code."""
        if isinstance(unit, bool) or not hasattr(unit, "__index__") or not 0 <= unit < self.code_size_:
            raise InputError(
                f"unit={unit!r}: the code has {self.code_size_} units; give a whole number from 0 to "
                f"{self.code_size_ - 1}"
            )

    def _codes(self, X: Any) -> Iterator[Float[Tensor, "block code_size"]]:
        """Yield the codes block by block, on the CPU."""
        for batch, n in self._padded(self._rows(X)):  # type: ignore[attr-defined]
            yield self.coder_.encode(batch).code[:n].cpu()
