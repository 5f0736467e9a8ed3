"""Model files: their content, and `load`, which finds the class that a file names.

Classes are registered by `isthmus.estimators.registry`; this module imports none of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from isthmus.errors import InputError
from isthmus.estimators import checkpoints
from isthmus.files import read_tensors, write_tensors
from isthmus.learning.precision import resolve_device
from isthmus.parts.likelihoods import nearest
from isthmus.parts.own_networks import Network, check_storable, network_entry, network_named
from isthmus.parts.own_penalties import penalty_name, penalty_named
from isthmus.values.value import Value, value_class

Packed = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name, and a header of plain data."""


class SavedEstimator:
    """An estimator that is written to one file and read back from it."""

    kind: ClassVar[str]
    history_: dict[str, Any]

    @property
    def _condition_names(self) -> tuple[str, ...]:
        """The names of the inputs that are no columns of the rows; none by default."""
        return ()

    def _pack(self) -> Packed:
        """Return the tensors of the fitted estimator and all else as plain data."""
        raise NotImplementedError

    @property
    def nested_models(self) -> list[Any]:
        """The fitted models that this one holds; by default none."""
        return []

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        """Return the estimator of what `_pack` returned."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one file that `isthmus.load` reads: numbers and plain data, nothing to execute.

        The checkpoint of a completed run (`path` + ".checkpoint") is removed. It is kept after Ctrl-C, and after a run
        with `checkpoint=` that the time limit ended (`history_["resumable"]`): `fit` can continue both.

        Raises:
            InputError: the folder cannot be written to; no partial file is left.
        """
        check_is_fitted(self)
        write_tensors(path, *self._pack())
        if self.history_["stopped"] != "interrupted" and not self.history_.get("resumable"):
            checkpoints.remove(path)


_REGISTERED: dict[str, type[SavedEstimator]] = {}

Registered = TypeVar("Registered", bound=type[SavedEstimator])


def register(estimator: Registered) -> Registered:
    """Make a class loadable by the name of its kind; usable as a decorator."""
    _REGISTERED[estimator.kind] = estimator
    return estimator


def load(path: str | os.PathLike[str], *, device: str = "auto") -> Any:
    """Read the fitted model in a file that `save` wrote. Nothing in the file is executed.

    Args:
        path: the file.
        device: where the model runs: "auto", "cpu" or "cuda". The file does not hold the device of training.

    Returns:
        An estimator that gives the same codes, or predictions, as the one that was saved.

    Raises:
        InputError: no such file; a truncated, edited or foreign file; one of a newer isthmus; a device that is not
            available.

    Example:
        >>> import isthmus, numpy, pathlib, tempfile
        >>> X = numpy.random.default_rng(0).normal(size=(50, 4))
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.isthmus"
        >>> model = isthmus.LinearAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
        >>> model.save(path)
        >>> bool((isthmus.load(path).transform(X) == model.transform(X)).all())
        True
    """
    resolve_device(device)
    tensors, header = read_tensors(path)
    if "kind" not in header:
        raise InputError(f"{path} is not a model but the checkpoint of an unfinished run; continue it with --resume")
    model = unpack(tensors, header)
    if hasattr(model, "device"):
        model.set_params(device=device)
    for part in model.nested_models:
        part.set_params(device=device)
    return model


def unpack(tensors: dict[str, Tensor], header: dict[str, Any]) -> Any:
    """Return the estimator of a packed model.

    Raises:
        InputError: an unknown kind, with the nearest name.
    """
    return named(_REGISTERED, header["kind"])._unpack(tensors, header)


Named = TypeVar("Named")

Estimator = TypeVar("Estimator", bound=Any)


def named(kinds: Mapping[str, Named], name: str) -> Named:
    """Return the entry of a kind.

    Raises:
        InputError: an unknown name, with the nearest one.

    Example:
        >>> named({"deep": 1}, "deap")
        Traceback (most recent call last):
        ...
        isthmus.errors.InputError: unknown kind 'deap'; did you mean 'deep'? Known: deep
    """
    if name not in kinds:
        raise InputError(f"unknown kind {name!r}; {nearest(name, kinds)}")
    return kinds[name]


def header_of(model: Any, fitted: tuple[str, ...], *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what every header holds: kind, version, constructor arguments, plain fitted attributes, column names.

    The arguments are held as they were given, and in addition their values without any shorthand, so that a file does
    not depend on the defaults of values. The device is not held, so that a model trained on a GPU opens on a computer
    without one.

    Args:
        model: a fitted estimator.
        fitted: names of fitted attributes that are plain data; those that it lacks are left out.
        without: arguments that are not plain data and are packed elsewhere.
    """
    arguments = {k: v for k, v in model.get_params(deep=False).items() if k not in (*without, "device")}
    return {
        "kind": model.kind,
        "version": version("isthmus"),
        "parameters": {k: plain(k, v) for k, v in arguments.items()},
        "values": {k: plain(k, v) for k, v in model.resolved_values().items()},
        "fitted": {name: plain(name, getattr(model, name)) for name in fitted if hasattr(model, name)},
        "columns": list(map(str, model.feature_names_in_)) if hasattr(model, "feature_names_in_") else None,
    }


def constructed(cls: type[Estimator], header: dict[str, Any], **others: Any) -> Estimator:
    """Return an unfitted estimator with the arguments of a header; JSON has lists where they have tuples.

    Args:
        cls: class of the estimator.
        header: as `header_of` returns it.
        others: arguments that the header does not hold.

    Raises:
        InputError: a network or a penalty that is not registered; an argument that this version does not know.
    """
    parameters = _with_dtypes(header["parameters"])
    arguments = {k: v if k == "dtypes" else _argument(v) for k, v in parameters.items()}
    unknown = sorted(set(arguments) - set(cls._get_param_names()))
    if unknown:
        raise InputError(
            f"the file holds the argument {unknown[0]!r}, which kind {cls.kind!r} does not have in isthmus "
            f"{version('isthmus')}; it was written by isthmus {header['version']}, so read it with that version"
        )
    model = cls(**others, **arguments)
    model.take_values({k: _argument(v) for k, v in header.get("values", {}).items()})
    return model


def _with_dtypes(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments in a header with declared types in the place of what files held before `dtypes`.

    These were `categories`, one name or several, and units of columns as `likelihood`.

    Example:
        >>> _with_dtypes({"categories": ["zip"], "likelihood": {"age": "count"}})
        {'likelihood': 'auto', 'dtypes': {'age': 'count', 'zip': 'category'}}
    """
    if "categories" not in parameters:
        return dict(parameters)
    found = {name: value for name, value in parameters.items() if name != "categories"}
    units, named = found.get("likelihood"), parameters["categories"] or []
    dtypes: dict[str, str] = {}
    if isinstance(units, dict) and all(unit in _OLD_UNITS for unit in units.values()):
        found["likelihood"] = "auto"
        dtypes = {name: _OLD_UNITS[unit] for name, unit in units.items()}
    dtypes |= dict.fromkeys([named] if isinstance(named, str) else named, "category")
    return found | {"dtypes": dtypes or None}


_OLD_UNITS = {"real": "real", "binary": "binary", "categorical": "category", "count": "count"}
"""Types of columns by the units that files of earlier versions hold."""


def _argument(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"registered", "arguments"}:
        return network_named(value["registered"], {k: _argument(v) for k, v in value["arguments"].items()})
    if isinstance(value, dict) and set(value) == {"value", "arguments"}:
        return value_class(value["value"])(**{k: _argument(v) for k, v in value["arguments"].items()})
    if isinstance(value, dict) and set(value) == {"penalty"}:
        return penalty_named(value["penalty"])
    return tuple(_argument(v) for v in value) if isinstance(value, list) else value


def set_fitted(model: Any, header: dict[str, Any]) -> None:
    """Set the fitted attributes that are plain data, and the column names."""
    for name, value in header["fitted"].items():
        setattr(model, name, tuple(value) if isinstance(value, list) else value)
    if header["columns"] is not None:
        model.feature_names_in_ = np.asarray(header["columns"], dtype=object)


def plain(name: str, value: Any) -> Any:
    """Return a value as JSON has it.

    Raises:
        InputError: the value is not plain data, by name.
    """
    if name == "random_state" and not isinstance(value, int | type(None)):
        return int(value) if isinstance(value, np.integer) else None  # the drawn seed is kept as `seed_`
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(k): plain(name, v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(name, v) for v in value]
    if isinstance(value, Value):
        arguments = value.get_params(deep=False)
        return {"value": type(value).__name__, "arguments": {k: plain(f"{name}__{k}", v) for k, v in arguments.items()}}
    entry = network_entry(value)
    if entry is not None:
        check_storable(value)
        return plain(name, entry)
    if penalty_name(value) is not None:
        return {"penalty": penalty_name(value)}
    if isinstance(value, Network):
        raise InputError(
            f"{name}={value!r} cannot be saved in a file: its class is not registered; decorate it with "
            "@isthmus.register_network('a-name')"
        )
    if name == "penalties" and callable(value):
        title = getattr(value, "__qualname__", type(value).__name__)
        raise InputError(
            f"penalties holds the function {title}, which cannot be saved in a file; decorate it with "
            "@isthmus.register_penalty('a-name')"
        )
    raise InputError(f"{name}={value!r} cannot be saved in a file; give plain data, or a name that isthmus registers")
