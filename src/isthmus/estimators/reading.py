"""The methods of a fitted autoencoder that read rows: codes, decodings, reconstructions and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from isthmus.data.preprocessing import Preprocessor, n_rows_of
from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.data.tables import in_nullable_types
from isthmus.data.targets import TargetPreprocessor, check_paired, paired
from isthmus.estimators import inputs
from isthmus.estimators.conditions import Conditions, given_conditions, with_condition_columns
from isthmus.estimators.data_passes import RangeCheckedRows, padded
from isthmus.estimators.identity import given_rows, with_identity, with_index
from isthmus.estimators.records import ModelOutput
from isthmus.estimators.row_errors import reconstruction_error
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import Rows
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch


class ReadingMixin(TransformerMixin):
    """Mixin of `BaseAutoencoder`: what a fitted model returns for rows and codes.

    Rows are read in blocks of one size, without gradient and in fp32, so that the code of a row does not depend on the
    other rows.
    """

    code_size_: int
    coder_: Coder
    preprocessing_: Preprocessor
    device: str

    @property
    def _parts(self) -> nn.ModuleDict:
        """The parts that are kept, by name."""
        raise NotImplementedError

    def read(self, X: Any) -> Iterator[ModelOutput]:
        """Yield the rows of `X` with codes, parameters and reconstructions, block by block, in model space.

        Of a model with a target, x is the target of `Paired` rows.
        """
        rows = self._rows(X)

        def output_of(batch: Batch) -> ModelOutput:
            output, x = self.coder_(batch), batch.desired_output
            mean = self.coder_.likelihood.mean_given(output.parameters, x)
            nll = self.coder_.nll(output)
            return ModelOutput(x, output.preactivation, output.code, output.parameters, mean, nll, batch.observed)

        for batch, n in self._padded(rows):
            if isinstance(self.preprocessing_, TargetPreprocessor):
                check_paired(batch)
            yield output_of(batch).first(n)

    def transform(self, X: Any) -> Float[np.ndarray, "n code_size"]:
        """Return the codes h = f(x), (n, code_size), float32."""
        rows = self._rows(X)
        codes = np.empty((len(rows), self.code_size_), np.float32)
        start = 0
        for batch, n in self._padded(rows):
            codes[start : start + n] = self.coder_.encode(batch).code[:n].cpu().numpy()
            start += n
        return codes

    def inverse_transform(self, H: ArrayLike, condition: Any = None) -> Any:
        """Decode codes to the mean of p_dec(x | h), in the units of X.

        Args:
            H: codes, (n, code_size).
            condition: the conditions of a conditional model: {name: one value, or n values}, or a data frame.

        Returns:
            The type that was fitted: a data frame, images in their own shape and range, or an array (n, d). A data
            frame has the index of the codes if they are one.

        Raises:
            InputError: codes of another width; a conditional model without its conditions.
        """
        check_is_fitted(self)
        codes = inputs.codes(H, self.code_size_)
        return with_index(self._decoded(codes, given_conditions(self.preprocessing_, condition, len(codes))), H)

    def _decoded(self, codes: np.ndarray, conditions: Conditions) -> Any:
        """Decode codes to rows in the units of X, given conditions in model space."""
        mean = np.empty((len(codes), self.preprocessing_.n_columns), np.float32)
        for start in range(0, len(codes), BLOCK_SIZE):
            part = slice(start, start + BLOCK_SIZE)
            mean[part] = self._decode(codes[part], None if conditions is None else conditions[part])
        return with_condition_columns(self.preprocessing_, self.preprocessing_.inverse_transform(mean), conditions)

    @torch.no_grad()
    def _decode(self, codes: np.ndarray, conditions: Conditions = None) -> np.ndarray:
        """Decode one block of codes to model space."""
        device = resolve_device(self.device)
        block = padded(Batch(torch.from_numpy(codes), condition=conditions)).to(device)
        self.coder_.to(device).eval()
        parameters = self.coder_.decode(block.x, condition=block.condition)
        return self.coder_.likelihood.mean(parameters)[: len(codes)].cpu().numpy()

    def reconstruct(self, X: Any) -> Any:
        """Encode and decode `X`; return the reconstruction in the units and the shape of X, or of the target.

        A data frame has the index of X, so that `X - model.reconstruct(X)` and `X.fillna(model.reconstruct(X))` compare
        and fill row by row; columns of nullable integers hold whole numbers.

        Raises:
            InputError: sparse rows whose dense reconstruction would be larger than 1 GiB (`inputs.DENSE_LIMIT`).

        Example:
            >>> import pandas as pd
            >>> from isthmus import LinearAutoencoder
            >>> X = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [2.0, 4.0, 8.0]}, index=["x", "z", "y"])
            >>> model = LinearAutoencoder(code_size=1, max_epochs=1, random_state=0).fit(X)
            >>> (X - model.reconstruct(X)).index.tolist()
            ['x', 'z', 'y']
        """
        check_is_fitted(self)
        advice = "reconstruct fewer rows at a time, or use read(X), which goes block by block"
        inputs.check_dense_size(self.preprocessing_, n_rows_of(given_rows(X)), advice)
        found = in_nullable_types(self._reconstructed(X), self.preprocessing_.user_table)
        return with_identity(found, X)

    def _reconstructed(self, X: Any) -> Any:
        """Return the reconstruction of `X` in the units of X, or of the target."""
        if isinstance(self.preprocessing_, TargetPreprocessor):
            return self._decoded(np.concatenate([code.numpy() for code in self._codes(X)]), None)
        mean = np.concatenate([output.reconstruction.numpy() for output in self.read(X)])
        rows = self.preprocessing_.inverse_transform(mean)
        return with_condition_columns(self.preprocessing_, rows, self._conditions(X))

    def _conditions(self, X: Any) -> Conditions:
        """Return the conditions of rows in model space; None for a model without conditions."""
        if not self.preprocessing_.n_conditions:
            return None
        return self.preprocessing_.conditions(inputs.validate_input(self, X, reset=False))

    def reconstruction_error(self, X: Any, by: str = "row") -> Any:
        """Return squared errors of the reconstruction, in model space (see `scaling`).

            by="row":    ||x - r||^2 of each row, summed over its columns, (n,)
            by="column": (x - r)^2 of each column of X, averaged over the rows, (columns,)
            by="cell":   (x - r)^2 of each entry, (n, columns)

        Columns are those of X: the entries of a categorical column in model space are summed, and images keep their
        shape. The cells of a row add up to its error. Missing entries under `missing="mask"` are NaN in cells and are
        left out of sums and means; imputed ones count as values.

        Args:
            X: rows; `isthmus.data.Paired(X, target)` of a model with a target, whose columns are then those meant.
            by: "row", "column" or "cell".

        Returns:
            Arrays; of a data frame a series or a data frame, with the index and the column names of X.

        Raises:
            InputError: another `by`; cells of sparse rows or texts above 1 GiB (`inputs.DENSE_LIMIT`).

        Example:
            >>> import pandas as pd
            >>> from isthmus import LinearAutoencoder
            >>> X = pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [2.0, 4.0, 9.0]}, index=["x", "z", "y"])
            >>> model = LinearAutoencoder(code_size=1, max_epochs=1, random_state=0).fit(X)
            >>> model.reconstruction_error(X).index.tolist(), model.reconstruction_error(X, by="column").index.tolist()
            (['x', 'z', 'y'], ['a', 'b'])
        """
        return reconstruction_error(self, X, by)

    def nll(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return -log p_dec(x | f(x)) of each row, in nats, in model space."""
        return np.concatenate([output.nll.numpy() for output in self.read(X)])

    def score(self, X: Any, y: Any = None) -> float:
        """Return minus the mean of `nll(X)`: larger is better, as scikit-learn's searches require.

        It scores the reconstruction, which every kind has; `score_samples` scores rows under a density. A model with a
        target that `fit` took as y compares with the y given here.
        """
        if isinstance(getattr(self, "preprocessing_", None), TargetPreprocessor):
            X = paired(X, inputs.target_of(self, X, y, None), None)[0]
        return -float(self.nll(X).mean(dtype=np.float64))

    def _rows(self, X: Any) -> Rows:
        """Return `X` in model space; values of another scale give a warning."""
        check_is_fitted(self)
        rows = inputs.model_rows(self, X)
        if isinstance(self.preprocessing_, TargetPreprocessor):
            return rows
        return RangeCheckedRows(rows, self.coder_.likelihood, self.preprocessing_.columns)

    def _padded(self, rows: Rows) -> Iterator[tuple[Batch, int]]:
        """Yield blocks of exactly `BLOCK_SIZE` rows, the last one padded with zeros, and their number of real rows.

        Without gradient and in fp32: the code of a row does not depend on its neighbours.
        """
        device = resolve_device(self.device)
        self._parts.to(device).eval()
        with torch.no_grad():
            for batch in blocks(rows):
                yield padded(batch).to(device), len(batch.x)
