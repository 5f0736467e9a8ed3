"""Arguments of estimators that take values: nested parameters, and the successors of arguments that were removed."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator, clone

from isthmus.errors import InputError
from isthmus.values.value import ARGUMENTS, Value, argument_named, fully_expanded, nested_params, split_nested

_MOVED = {
    "optimizer=AdamW({}=...)": ("weight_decay", "clip_norm", "averaging"),
    "optimizer=SGD({}=...)": ("momentum",),
    "network=MLP({}=...)": ("activation", "tied", "normalization", "dropout"),
    "network=Convolutional({}=...)": ("dense_sizes", "kernel_size"),
    "corruption=Masking({}=...)": ("corrupted_weight", "clean_weight"),
    "sparsity=L1({}=...)": ("unit_columns",),
    "sparsity=TopK({}=...)": ("k",),
    "contraction=Contraction({}=...)": ("hessian_weight", "hessian_scale", "n_probes"),
    "method=PCD({}=...)": ("n_steps", "n_chains", "centred"),
    "method=DenoisingScoreMatching({}=...)": ("noise_scale",),
}

SUCCESSORS = {name: successor.format(name) for successor, names in _MOVED.items() for name in names} | {
    "corruption_rate": "corruption=Masking(rate=...)",
    "corruption_scale": "corruption=GaussianNoise(scale=...)",
    "corruption_groups": "corruption=GroupMasking(groups=...)",
    "sparsity_weight": "sparsity=L1(weight=...)",
    "target_rate": "sparsity=KLRate(rate=...) or TopK(rate=...)",
    "contraction_weight": "contraction=Contraction(weight=...)",
    "contraction_order": "contraction=Contraction(order=...)",
    "contraction_of": "contraction=Contraction(of=...)",
    "contraction_method": "contraction=Contraction(method=...)",
    "categories": "dtypes={COLUMN: 'category'}",
    "training": "pretraining='joint'",
    "pretraining_epochs": "pretraining=Pretraining(epochs=...)",
    "pretraining_learning_rate": "pretraining=Pretraining(learning_rate=...)",
    "fine_tuning_epochs": "fine_tuning=FineTuning(epochs=...)",
    "fine_tuning_learning_rate": "fine_tuning=FineTuning(learning_rate=...)",
    "reconstruction_weight": "pretraining=Pretraining('supervised', reconstruction_weight=...)",
}
"""Arguments that a value took the place of, and how they are written now."""


class ValueArguments(BaseEstimator):
    """Base class of estimators whose arguments take values (`isthmus.values`).

    A string is the shorthand of a default value. `get_params` and `set_params` reach the fields of a value as
    NAME__FIELD, and replace the value, which is frozen.
    """

    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Strings of arguments that stand for values which the kind takes, where it does not take all."""
    successors: ClassVar[Mapping[str, str]] = {}
    """Successors of arguments that differ from those of `SUCCESSORS`."""

    def __new__(cls, *args: Any, **arguments: Any) -> Self:  # noqa: D102
        cls._check_removed(arguments)
        return super().__new__(cls)

    @classmethod
    def successor_of(cls, name: str) -> str | None:
        """Return how a removed argument is written now; None for any other name, or if the kind has no such part."""
        own, successor = cls._get_param_names(), {**SUCCESSORS, **cls.successors}.get(name)
        if name in own or successor is None or successor.partition("=")[0] not in own:
            return None
        return successor

    @classmethod
    def _check_removed(cls, names: Iterable[str]) -> None:
        """Refuse arguments that were removed, and name their successors."""
        for name in names:
            successor = cls.successor_of(name)
            if successor is not None:
                raise InputError(f"{cls.__name__} has no argument {name!r}; give {successor}")

    def value_of(self, name: str) -> Any:
        """Return the value of an argument; a string is expanded.

        Raises:
            InputError: a string that stands for no value; an object that is none; None where a value is required.
        """
        argument, given = argument_named(name), getattr(self, name)
        if given is None and argument.required and getattr(type(self), name) is not None:
            raise argument.refusal(None)
        return argument.expanded(given)

    def resolved_values(self) -> dict[str, Value]:
        """Return the values of the arguments without any shorthand, as model files hold them."""
        names = [name for name in self._get_param_names() if name in ARGUMENTS]
        found = {name: fully_expanded(name, getattr(self, name)) for name in names}
        return {name: value for name, value in found.items() if isinstance(value, Value)}

    def take_values(self, values: Mapping[str, Value]) -> None:
        """Set the values that differ from what the arguments stand for, as after a default has changed."""
        now = self.resolved_values()
        for name, value in values.items():
            if now.get(name) != value:
                setattr(self, name, value)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments by name.

        Args:
            deep: include the fields of values as NAME__FIELD, those of a shorthand too.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        return params | (nested_params(params) if deep else {})

    def set_params(self, **params: Any) -> Self:
        """Set arguments; NAME__FIELD replaces the value NAME by one with another field, a shorthand is expanded first.

        Raises:
            InputError: an argument that was removed, or a field that the value does not have.

        Example:
            >>> from isthmus import SparseAutoencoder
            >>> SparseAutoencoder(sparsity="topk").set_params(sparsity__k=16)
            SparseAutoencoder(sparsity=TopK(k=16))
        """
        plain, nested = split_nested(params)
        self._check_removed(plain)
        own = {name: nested.pop(name) for name in list(nested) if name in ARGUMENTS and hasattr(self, name)}
        others = {f"{name}__{field}": value for name, inner in nested.items() for field, value in inner.items()}
        super().set_params(**plain, **others)
        for name, changes in own.items():
            accepted = self.accepted_strings.get(name)
            setattr(self, name, ARGUMENTS[name].changed(getattr(self, name), changes, accepted))
        return self

    def _check_values(self) -> None:
        """Refuse arguments that are no values."""
        for name in self._get_param_names():
            if name in ARGUMENTS:
                self.value_of(name)


def clone_with_fitted(estimator: Any, name: str) -> Any:
    """Return an unfitted copy of an estimator with a copy of the fitted model that is its argument `name`.

    `sklearn.clone` would make the model unfitted. An argument that is not a fitted model is cloned as the others.
    """
    arguments = estimator.get_params(deep=False)
    given = arguments.pop(name)
    kept = copy.deepcopy(given) if hasattr(given, "coder_") else clone(given, safe=False)
    return type(estimator)(**{name: kept}, **{key: clone(value, safe=False) for key, value in arguments.items()})
