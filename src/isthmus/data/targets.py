"""Targets: rows of another kind that a model decodes in place of its inputs, such as colour images from grey ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor

from isthmus.data.conditions import conditional_from_file, learn_preprocessing
from isthmus.data.dataset import Paired
from isthmus.data.preprocessing import Preprocessor, input_type
from isthmus.errors import InputError
from isthmus.learning.rows import Rows
from isthmus.parts.forward import Batch


@dataclass(frozen=True)
class TargetPreprocessor(Preprocessor):
    """Preprocessing of inputs and targets: its own attributes are those of the targets, which the model decodes.

    Attributes:
        of_inputs: preprocessing of the inputs.
    """

    of_inputs: Preprocessor = field(kw_only=True)

    @property
    def inputs(self) -> Preprocessor:
        """The preprocessing of the rows that are encoded."""
        return self.of_inputs

    def rows(self, X: Any, unknown: str = "missing") -> Rows:
        """Return the rows of `X` in model space; of `Paired` rows each batch has the target too.

        Raises:
            InputError: as `Preprocessor.rows`, for inputs or targets.
        """
        if not isinstance(X, Paired):
            return self.of_inputs.rows(X, unknown)
        return TargetRows(self.of_inputs.rows(X.rows, unknown), self.of_rows.rows(X.target, unknown))

    def compared(self, X: Any) -> Any:
        """Return the targets of `Paired` rows."""
        return super().compared(X.target if isinstance(X, Paired) else X)

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and JSON-serialisable data for `preprocessor_from_file`."""
        tensors, config = super().to_file()
        own, own_config = self.of_inputs.to_file()
        return tensors | {f"inputs.{name}": tensor for name, tensor in own.items()}, config | {"inputs": own_config}


class TargetRows:
    """Rows with targets.

    Args:
        rows: the inputs.
        targets: as many rows, which the model decodes.
    """

    def __init__(self, rows: Rows, targets: Rows) -> None:
        self.rows, self.targets, self.n_columns = rows, targets, rows.n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index` with their targets."""
        target = self.targets.batch(index)
        return replace(self.rows.batch(index), target=target.x, target_mask=target.mask)


class DecodedRows:
    """View of rows in which x is what the model decodes: the target where there is one.

    Args:
        rows: the rows.
        n_columns: width of what is decoded.
    """

    def __init__(self, rows: Rows, n_columns: int) -> None:
        self.rows, self.n_columns = rows, n_columns

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the rows `index`, with the target and its mask as x and mask."""
        batch = self.rows.batch(index)
        return replace(batch, x=batch.desired_output, mask=batch.observed, target=None, target_mask=None)


def learn_target_preprocessing(X: Paired, **options: Any) -> TargetPreprocessor:
    """Learn the preprocessing of inputs and of targets.

    Args:
        X: rows with targets.
        options: of `Preprocessor.from_data`. `dtypes` declares columns of both.

    Raises:
        InputError: as `Preprocessor.from_data`.

    Example:
        >>> import numpy as np
        >>> learned = learn_target_preprocessing(Paired(np.eye(4), np.arange(4.0)[:, None]))
        >>> learned.inputs.n_columns, learned.n_columns
        (4, 1)
    """
    dtypes = options.pop("dtypes", None) or {}
    inputs = learn_preprocessing(X.rows, **options, dtypes=_among(X.rows, dtypes))
    options["layout"] = _layout_of_target(inputs, X.target)
    try:
        targets = Preprocessor.from_data(X.target, **options, dtypes=_among(X.target, dtypes))
    except InputError as error:
        raise InputError(f"target: {error}") from None
    return TargetPreprocessor(**targets.arguments, of_inputs=inputs)


def _layout_of_target(inputs: Preprocessor, target: Any) -> str:
    """Return the layout of the inputs for a target of as many axes, else "auto"."""
    has_axes = input_type(target) == "array" and inputs.source == "array" and np.ndim(target) > 2
    return inputs.layout if has_axes and np.ndim(target) == 1 + len(inputs.row_shape) else "auto"


def preprocessor_from_file(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Preprocessor:
    """Build a preprocessor, with or without conditions or a target, from the result of `to_file`."""
    if "inputs" not in config:
        return conditional_from_file(tensors, config)
    start = "inputs."
    own = {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(start)}
    targets = Preprocessor.from_file(rest, {name: value for name, value in config.items() if name != "inputs"})
    return TargetPreprocessor(**targets.arguments, of_inputs=Preprocessor.from_file(own, config["inputs"]))


def paired(X: Any, target: Any, validation: Any) -> tuple[Any, Any]:
    """Return rows with their target, and a validation set (rows, target) as `Paired` too; without target as they are.

    Raises:
        InputError: a validation set without targets.
    """
    if target is None:
        return X, validation
    if isinstance(validation, tuple) and len(validation) == 2:
        validation = Paired(*validation)
    if validation is not None and not isinstance(validation, Paired):
        raise InputError("validation holds rows without targets; give (rows, target)")
    return Paired(X, target), validation


def _among(X: Any, dtypes: Mapping[str, str]) -> dict[str, str]:
    """Return the types of those columns that a table has."""
    columns = {str(name) for name in X.columns} if input_type(X) == "table" else set()
    return {name: dtype for name, dtype in dtypes.items() if name in columns}


def check_paired(batch: Batch) -> None:
    """Refuse to compare decodings with targets that are not given."""
    if batch.target is None:
        raise InputError(
            "the model decodes a target, and the rows have none to compare with; give isthmus.data.Paired(X, target) "
            "(--target DATA)"
        )
