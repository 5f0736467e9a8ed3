"""Validation of the estimators' inputs: arrays, tables, codes and parameters."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_array, validate_data
from torch import Tensor

from isthmus.data.dataset import Conditioned, Documents, Paired, as_pandas
from isthmus.data.declared_rows import as_declared
from isthmus.data.dtypes import checked_dtypes, refuse_unknown_columns
from isthmus.data.layouts import LAYOUTS
from isthmus.data.levels import UNKNOWN
from isthmus.data.preprocessing import MISSING, SCALINGS, Preprocessor, input_type
from isthmus.data.series import WindowedSeries
from isthmus.data.tables import contradictions, joined, name_problems
from isthmus.data.window_rows import WindowRows
from isthmus.errors import ChoiceError, InputError
from isthmus.learning.precision import PRECISIONS
from isthmus.learning.rows import Rows
from isthmus.parts.likelihoods import LIKELIHOODS

DENSE_LIMIT = 2**30
"""Bytes of the largest dense array that sparse rows are decoded to."""

TARGET_KINDS = "deep, conv, denoising, contractive and vae"
"""The kinds that can decode a target in place of their inputs."""

Fit = TypeVar("Fit", bound=Callable[..., Any])


def unchanged_on_failure(fit: Fit) -> Fit:
    """Decorate `fit`: one that raises leaves the attributes of the estimator as they were before."""

    @functools.wraps(fit)
    def guarded(estimator: Any, *arguments: Any, **options: Any) -> Any:
        before = dict(vars(estimator))
        try:
            return fit(estimator, *arguments, **options)
        except BaseException:
            vars(estimator).clear()
            vars(estimator).update(before)
            raise

    return cast(Fit, guarded)


def validate_input(estimator: Any, X: Any, *, reset: bool) -> Any:
    """Return `X` as an array, a data frame, a CSR matrix or texts; set or compare `n_features_in_` and names.

    Raises:
        InputError, ValueError: invalid rows, or another width or other names than at fit.
    """
    if hasattr(X, "X") and hasattr(X, "row_names"):
        X = X.X
    X = _texts(as_pandas(X))
    dtypes = checked_dtypes(getattr(estimator, "dtypes", None))
    if dtypes and reset:
        _check_declared(dtypes, X)
    return _validated(estimator, X, dtypes, reset=reset)


def model_rows(estimator: Any, X: Any) -> Rows:
    """Return rows of a user in the model space of a fitted estimator.

    Raises:
        InputError, ValueError: as `validate_input`; values that the columns do not have.
    """
    return cast(Rows, estimator.preprocessing_.rows(validate_input(estimator, X, reset=False), estimator.unknown))


def _check_declared(dtypes: Mapping[str, str], X: Any) -> None:
    """Refuse declared columns that the rows do not have.

    Raises:
        InputError: an unknown column; rows without any column of a name.
    """
    parts = (X.rows, X.target) if isinstance(X, Paired) else (X.conditions,) if isinstance(X, Conditioned) else (X,)
    tables = [part for part in parts if input_type(part) == "table"]
    if not tables:
        raise InputError("dtypes are those of columns of a table, and the rows are not a table; give a data frame")
    refuse_unknown_columns(dtypes, [str(name) for table in tables for name in table.columns])


def _validated(estimator: Any, X: Any, dtypes: Mapping[str, str], *, reset: bool) -> Any:
    """Return rows without the columns that are left out, checked as `validate_input` does."""
    source = input_type(X)
    if source == "conditioned":
        return Conditioned(_validated(estimator, X.rows, dtypes, reset=reset), X.conditions)
    if source == "paired":
        target = without_mask(X.target) if np.ma.isMaskedArray(X.target) else X.target
        target = as_declared(target, dtypes) if input_type(target) == "table" else target
        return Paired(_validated(estimator, X.rows, dtypes, reset=reset), target)
    if source == "table" and dtypes:
        X = as_declared(X, dtypes)
        source = input_type(X)
    if source == "text":
        return X
    if source == "table":
        _check_columns(estimator, X, reset=reset)
        return X
    if source == "sparse":
        X = check_array(X, accept_sparse="csr", ensure_all_finite=False, dtype="numeric", estimator=estimator)
    else:
        X = _array(estimator, X)
    if X.ndim == 2:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    elif reset:
        _forget_names(estimator)
        estimator.n_features_in_ = int(np.prod(X.shape[1:]))
    return X


def _check_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Set or compare the names of the columns; other names are refused together with values that do not fit.

    Raises:
        InputError, ValueError: other names than at fit.
    """
    if not reset and not hasattr(estimator, "feature_names_in_"):
        return
    try:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    except ValueError:
        columns = [] if reset or not hasattr(estimator, "preprocessing_") else estimator.preprocessing_.inputs.table
        problems = contradictions(columns, X)
        if problems:
            raise InputError(joined([*name_problems(columns, X), *problems])) from None
        raise


def _texts(X: Any) -> Any:
    """Return a list, a tuple, a series or an array of strings as `Documents`; other rows as they are."""
    if isinstance(X, list | tuple):
        return Documents(X) if X and all(isinstance(text, str) for text in X) else X
    is_line = getattr(X, "ndim", 0) == 1 and getattr(X, "dtype", None) is not None and X.dtype.kind in "OUT"
    if not is_line or not len(X) or not all(isinstance(text, str) for text in X):
        return X
    return Documents([str(text) for text in X])


def _forget_names(estimator: Any) -> None:
    if hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def _array(estimator: Any, X: Any) -> np.ndarray | WindowRows:
    """Return a numeric array of two dimensions or more; entries that are masked become NaN."""
    if isinstance(X, WindowRows):
        return X
    if np.ma.isMaskedArray(X):
        X = without_mask(X)
    try:
        array = X if isinstance(X, np.ndarray) else np.asarray(X)
    except ValueError:
        raise InputError("X holds rows of different lengths, or several arrays; give one array of equal rows") from None
    if array.dtype.kind in "US":
        raise InputError(
            f"X holds text (such as {array.ravel()[0]!r}), not numbers; give a data frame, documents as "
            "isthmus.data.Documents(X), or what isthmus.data.open(PATH) reads"
        )
    if array.ndim < 2:
        raise InputError(
            f"Expected 2D array, got {array.ndim}D array instead: give one row as X.reshape(1, -1) "
            "and one column as X.reshape(-1, 1). Reshape your data"
        )
    return check_array(array, allow_nd=True, ensure_all_finite=False, dtype="numeric", estimator=estimator)


def without_mask(X: Any) -> np.ndarray:
    """Return the values of a masked array, with NaN in place of the masked ones.

    Example:
        >>> without_mask(np.ma.masked_equal([[1, 2], [3, 9]], 9)).tolist()
        [[1.0, 2.0], [3.0, nan]]
    """
    if not np.ma.is_masked(X):
        return np.ma.getdata(X)
    return (X if X.dtype.kind == "f" else X.astype(np.float64)).filled(np.nan)


def scaling_for(scaling: str, likelihood: Any) -> str:
    """Return the scaling of the columns: "none" in place of "auto" if the given likelihood is one of counts.

    Example:
        >>> scaling_for("auto", "poisson"), scaling_for("auto", "gaussian")
        ('none', 'auto')
    """
    known = LIKELIHOODS.get(likelihood) if isinstance(likelihood, str) else None
    return "none" if scaling == "auto" and known is not None and known.is_count else scaling


def is_of_fractions(likelihood: Any) -> bool:
    """Return whether a given likelihood is one of values in [0, 1].

    Example:
        >>> is_of_fractions("bernoulli"), is_of_fractions("gaussian"), is_of_fractions("auto")
        (True, False, False)
    """
    known = LIKELIHOODS.get(likelihood) if isinstance(likelihood, str) else None
    return known is not None and (known.bounds == (0.0, 1.0) or known.name == "categorical")


def check_enough_rows(n_rows: int) -> None:
    """Refuse fewer than two rows."""
    if n_rows < 2:
        raise InputError(f"n_samples={n_rows}: training needs at least two rows")


def checked_weights(sample_weight: Any, n_rows: int) -> np.ndarray | None:
    """Return the weights of the rows, (n_rows,), float64; None where none are given.

    Raises:
        InputError: another number of weights; a weight that is not a number, not finite or negative; only zeros.

    Example:
        >>> checked_weights([2, 1], 2)
        array([2., 1.])
    """
    if sample_weight is None:
        return None
    try:
        weights = np.array(sample_weight, np.float64)
    except (TypeError, ValueError):
        raise InputError("sample_weight holds values that are not numbers; give one weight per row") from None
    if weights.shape != (n_rows,):
        raise InputError(f"X has {n_rows} rows and sample_weight the shape {weights.shape}; give one weight per row")
    invalid = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(invalid):
        row = invalid[0]
        raise InputError(f"sample_weight is {weights[row]:g} at row {row}; weights must be finite and 0 or more")
    if not weights.any():
        raise InputError("sample_weight is zero for every row; give some rows a weight above 0")
    return weights


def relative_weights(weights: np.ndarray) -> Float[Tensor, " n"]:
    """Return weights with the mean 1, float32, which every weighted mean equals.

    Example:
        >>> relative_weights(np.array([1.0, 3.0]))
        tensor([0.5000, 1.5000])
    """
    return torch.from_numpy(weights / weights.max() / (weights / weights.max()).mean()).float()


def n_validation_rows(fraction: float, n_rows: int) -> int:
    """Return the number of rows that a validation fraction holds out.

    Raises:
        InputError: fewer than two training rows are left.

    Example:
        >>> n_validation_rows(0.1, 50)
        5
    """
    n_validation = round(fraction * n_rows)
    if n_validation and n_rows - n_validation < 2:
        raise InputError(
            f"validation_fraction={fraction} of {n_rows} rows leaves {n_rows - n_validation} for training, which needs "
            "at least two; give a smaller fraction, or more rows"
        )
    return n_validation


def split_windows(estimator: Any, X: Any, others: tuple[Any, ...], validation: Any) -> tuple[Any, Any]:
    """Return windows of series and validation windows that share no row with them; other rows as they are.

    Args:
        estimator: an autoencoder, whose `validation_fraction` is held out.
        X: rows.
        others: labels, target and weights of the rows.
        validation: validation rows, which are kept if they are given.

    Raises:
        InputError: windows that would be split, with labels, a target or weights.
    """
    if not isinstance(X, WindowedSeries) or validation is not None or not estimator.validation_fraction:
        return X, validation
    if any(each is not None for each in others):
        raise InputError(
            "windows with labels, a target or weights are not split, since overlapping windows would be on both sides; "
            "give validation= (see split of isthmus.data.windows), or validation_fraction=0"
        )
    training, held_out = X.split(estimator.validation_fraction)
    return (training, held_out) if len(held_out) else (X, None)


def layout_of_windows(layout: str) -> str:
    """Return the layout of windows of series.

    Raises:
        InputError: another layout than that of series.
    """
    if layout not in ("auto", "ntc"):
        raise InputError(f"layout={layout!r}: windows are series of steps and channels; give 'ntc', or their array X")
    return "ntc"


def check_no_labels(validation: Any) -> None:
    """Refuse a pair (rows, labels) as validation set of a kind that does not use labels."""
    if not (isinstance(validation, tuple) and len(validation) == 2):
        return
    rows = validation[0]
    if hasattr(rows, "X") or (hasattr(rows, "shape") and len(rows.shape) > 1):
        raise InputError(
            "validation is a pair, as of rows and labels, and this kind does not use labels; give the rows alone, "
            "validation=rows"
        )


def target_of(estimator: Any, X: Any, y: Any, target: Any) -> Any:
    """Return the target of `fit(X, y, target=)`; None without one.

    A kind with `takes_y_as_target` takes rows that are given as y, in the shape of X, as the target. Labels are ignored
    by kinds that do not use them.

    Raises:
        InputError: rows given as y to another kind, in another shape, or together with a target.

    Example:
        >>> from isthmus import Autoencoder
        >>> target_of(Autoencoder(), np.eye(3), [0, 1, 0], None) is None
        True
        >>> target_of(Autoencoder(), np.eye(3), np.ones((3, 2)), None)
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: y holds rows, shape (3, 2), and kind deep ignores y; give them as target=
    """
    shape = () if y is None or estimator.uses_labels else _shape_of(y)
    has_target = target is not None or isinstance(X, Paired)
    if not has_target and estimator.takes_y_as_target and len(shape) >= 2 and shape == _shape_of(X):
        return y
    if len(shape) < 2 or shape[1:] == (1,):  # labels
        return target
    found = f"y holds rows, shape {shape}"
    if has_target:
        raise InputError(f"{found}, and there is a target too; give target= alone")
    if estimator.takes_y_as_target:
        raise InputError(f"{found}, and X has the shape {_shape_of(X)}; give rows of another shape as target=")
    advice = "give them as target=" if estimator.takes_target else f"target= is for the kinds {TARGET_KINDS}"
    raise InputError(f"{found}, and kind {estimator.kind} ignores y; {advice}")


def _shape_of(rows: Any) -> tuple[int, ...]:
    """Return the shape of rows or labels."""
    rows = rows.X if hasattr(rows, "X") and hasattr(rows, "row_names") else rows
    if hasattr(rows, "shape"):
        return tuple(rows.shape)
    try:
        return np.asarray(rows).shape
    except ValueError:  # lists of different lengths, which are refused or ignored as labels
        return (len(rows),)


def codes(H: ArrayLike, code_size: int) -> np.ndarray:
    """Return codes as a float32 matrix of the right width."""
    array = np.asarray(H)
    if array.ndim != 2 or array.shape[1] != code_size:
        raise InputError(f"codes of shape {array.shape}; this model's codes have shape (n, {code_size})")
    try:
        array = array.astype(np.float32)
    except (ValueError, TypeError):
        raise InputError("the codes are not all numbers") from None
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise InputError(f"the codes hold {array[row, column]} at row {row}, unit {column}; codes must be finite")
    return array


def check_dense_size(preprocessing: Preprocessor, n_rows: int, advice: str) -> None:
    """Refuse decodings of sparse rows or texts that are larger than `DENSE_LIMIT` bytes.

    Raises:
        InputError: the message ends with `advice`.
    """
    needed = 4 * n_rows * preprocessing.n_columns
    if preprocessing.source in ("sparse", "text") and needed > DENSE_LIMIT:
        raise InputError(
            f"the reconstruction of {n_rows} sparse rows would take {needed / 2**30:.1f} GiB dense; {advice}"
        )


def check_parameters(estimator: Any) -> None:
    """Refuse invalid constructor arguments by name, with their valid values.

    None is refused where it is not the default, except for "patience" (never stop early). Arguments that take values
    are checked by `ValueArguments`.
    """
    defaults = inspect.signature(type(estimator)).parameters
    checked_dtypes(getattr(estimator, "dtypes", None))
    for name, value in estimator.get_params(deep=False).items():
        if value is None and (name == "patience" or defaults[name].default is None):
            continue
        if isinstance(defaults[name].default, bool) and not isinstance(value, bool | np.bool_):
            raise InputError(f"{name}={value!r}: it must be True or False")
        if name in _CHOICES and not (isinstance(value, str) and value in _CHOICES[name]):
            raise ChoiceError(f"{name}={value!r} is not one of {', '.join(_CHOICES[name])}", _CHOICES[name])
        for names, is_meant, wanted in _RULES:
            if name in names and not is_meant(value):
                raise InputError(f"{name}={value!r}: it must be {wanted}")


def _are_sizes(value: Any) -> bool:
    listed = isinstance(value, list | tuple | np.ndarray)
    return listed and all(isinstance(size, int | np.integer) and size >= 1 for size in value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": LAYOUTS, "scaling": SCALINGS, "missing": MISSING, "unknown": UNKNOWN, "precision": PRECISIONS,
}  # fmt: skip
"""The strings of arguments that every kind has."""

_RULES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("hidden_sizes",), _are_sizes, "a list of whole numbers of at least 1, such as (512, 256)"),
    (
        ("code_size", "max_epochs", "batch_size", "patience", "n_draws"),
        lambda value: _is_whole(value, 1),
        "a whole number of at least 1",
    ),
    (
        ("max_steps",),
        lambda value: _is_whole(value, 1) or _are_sizes(value),
        "a whole number of at least 1, or one for each training phase",
    ),
    (
        ("head_epochs", "n_sweeps"),
        lambda value: _is_whole(value, 0),
        "a whole number, 0 or more",
    ),
    (
        ("learning_rate", "head_learning_rate"),
        lambda value: _is_number(value) and 0 < value < math.inf,
        "a number above 0",
    ),
    (("time_limit",), lambda value: _is_number(value) and value > 0, "a number above 0"),
    (
        ("hidden_noise", "reconstruction_weight"),
        lambda value: _is_number(value) and value >= 0,
        "a number, 0 or more",
    ),
    (
        ("validation_fraction", "dropout", "input_dropout"),
        lambda value: _is_number(value) and 0 <= value < 1,
        "a fraction, at least 0 and below 1",
    ),
)  # fmt: skip
"""Names of arguments, the test of a valid value, and its description."""
