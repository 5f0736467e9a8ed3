"""The likelihood of a table, with one distribution per type of column."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.likelihood_base import ColumnBlocks, Likelihood, register
from isthmus.parts.likelihood_binary import Bernoulli
from isthmus.parts.likelihood_counts import Categorical, Poisson
from isthmus.parts.likelihood_gaussians import Gaussian, GaussianPerColumn

Group = Mapping[str, Any]


@register
class Mixed(Likelihood):
    """Columns of different types, independent given the code; the nll is the sum over groups of columns.

        -log p(x | .) = sum_g -log p_g(x_g | parameters_g)

    The unit of a group is "real" (Gaussian of unit variance), "binary" (Bernoulli), "categorical" (softmax over the
    one-hot columns of the group) or "count" (Poisson, with one scale per column). With `learned_variance` each real
    column has a variance, which is learned with the weights as in `GaussianPerColumn`.

    Shapes:
        parameters (*draws, batch, n_columns), one per column; x and weight (batch, n_columns); nll (*draws, batch).

    Args:
        n_columns: the width of x and of the decoder's output.
        groups: mappings with "unit", "columns" (numbers from 0) and, for counts, "scale"; each column is in exactly one
            group. Counts with "log_view" are log(1 + k) for encoders that are centred, and those with "largest", the
            largest value of each column, have means below twice these.
        learned_variance: learn the variance of each real column.

    Raises:
        InputError: a unit is unknown, a column is in no group or in two, or the number of scales is wrong.

    Source:
        Nazabal, Olmos, Ghahramani & Valera 2020, Handling incomplete heterogeneous data using VAEs.

    Example:
        >>> groups = [{"unit": "real", "columns": [0, 3]}, {"unit": "categorical", "columns": [1, 2]}]
        >>> Mixed(n_columns=4, groups=groups).mean(torch.zeros(4)).tolist()
        [0.0, 0.5, 0.5, 0.0]
    """

    name = "mixed"
    title = "Mixed"
    domain = "values that the unit of each column accepts"
    advice = "give the column another unit"
    has_log_probability = True

    def __init__(self, n_columns: int, groups: Sequence[Group], learned_variance: bool = False) -> None:
        super().__init__(n_columns, n_columns)
        self.learned_variance = bool(learned_variance)
        units = UNITS | ({"real": _with_variances} if self.learned_variance else {})
        self.groups = [_normal_form(group) for group in groups]
        # Groups of equal unit share one likelihood: 40 real columns need one Gaussian, not 40.
        present = [unit for unit in UNITS if any(group["unit"] == unit for group in self.groups)]
        of_unit = [[group for group in self.groups if group["unit"] == unit] for unit in present]
        self.blocks = ColumnBlocks([_columns(groups) for groups in of_unit], n_columns)
        self.units = nn.ModuleList()
        for unit, its_groups in zip(present, of_unit, strict=True):
            likelihood = units[unit](its_groups)
            likelihood.advice = "correct the value, or give the column another unit"
            self.units.append(likelihood)

    def config(self) -> dict[str, Any]:
        """Return the name and the groups, and that variances are learned if they are."""
        options = {"learned_variance": True} if self.learned_variance else {}
        return {"name": self.name, "groups": self.groups, **options}

    def _by_unit(self, *tensors: Tensor) -> Iterable[tuple[Any, ...]]:
        """Return each unit with its columns of every tensor."""
        return zip(self.units, *map(self.blocks.split, tensors), strict=True)

    def nll(
        self,
        parameters: Float[Tensor, "*draws batch columns"],
        x: Float[Tensor, "batch columns"],
        weight: Float[Tensor, "batch columns"] | None = None,
    ) -> Float[Tensor, "*draws batch"]:
        """Return the sum of the nll of all groups."""
        tensors = (parameters, x) if weight is None else (parameters, x, weight)
        total = torch.zeros((), dtype=x.dtype, device=x.device)
        for unit, *columns in self._by_unit(*tensors):
            total = total + unit.nll(*columns)
        return total

    def nll_by_column(
        self, parameters: Float[Tensor, "*draws batch columns"], x: Float[Tensor, "batch columns"]
    ) -> Float[Tensor, "*draws batch columns"]:
        """Return the nll of each column."""
        return self.blocks.join([unit.nll_by_column(p, v) for unit, p, v in self._by_unit(parameters, x)])

    def mean(self, parameters: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the mean of each column."""
        return self.blocks.join([unit.mean(p) for unit, p in self._by_unit(parameters)])

    @torch.no_grad()
    def sample(
        self, parameters: Float[Tensor, "*draws batch columns"], generator: torch.Generator
    ) -> Float[Tensor, "*draws batch columns"]:
        """Sample each column from the distribution of its unit."""
        return self.blocks.join([unit.sample(p, generator) for unit, p in self._by_unit(parameters)])

    def allow(self, largest: Float[Tensor, " columns"]) -> None:
        """Raise the bounds of counts."""
        for group in self.groups:
            if "largest" in group:
                new = [float(largest[column]) for column in group["columns"]]
                group["largest"] = [max(pair) for pair in zip(group["largest"], new, strict=True)]
        for unit, values in self._by_unit(largest):
            unit.allow(values)

    def encoder_view(self, x: Float[Tensor, "*draws batch columns"]) -> Float[Tensor, "*draws batch columns"]:
        """Return the columns as their units show them to an encoder."""
        if not any(getattr(unit, "log_view", False) for unit in self.units):
            return x
        return self.blocks.join([unit.encoder_view(values) for unit, values in self._by_unit(x)])

    def parameters_for(self, mean: Float[Tensor, " columns"]) -> Float[Tensor, " columns"]:
        """Return the parameters of each column for its mean."""
        return self.blocks.join([unit.parameters_for(its_mean) for unit, its_mean in self._by_unit(mean)])

    def in_support(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are in the support of their unit."""
        return self.blocks.join([unit.in_support(values) for unit, values in self._by_unit(x)])

    def far_outside(self, x: Float[Tensor, "batch columns"]) -> Bool[Tensor, "batch columns"]:
        """Return which entries are far outside the bounds of their unit."""
        return self.blocks.join([unit.far_outside(values) for unit, values in self._by_unit(x)])

    def _refuse(self, values: Float[Tensor, " columns"], row: int, column: int, names: Sequence[str | int]) -> None:
        """Raise the error of the column's unit."""
        columns = self.blocks.split(torch.arange(self.n_columns, device=values.device))
        for (unit, its_values), numbers in zip(self._by_unit(values), columns, strict=True):
            if column in numbers:
                its_names = [names[number] for number in numbers.tolist()]
                unit._refuse(its_values, row, numbers.tolist().index(column), its_names)


def _columns(groups: Sequence[Group]) -> list[int]:
    return [column for group in groups for column in group["columns"]]


def _normal_form(group: Group) -> dict[str, Any]:
    """Return the group with JSON types, and with a scale if the unit is "count"."""
    unit, columns = group.get("unit"), [int(column) for column in group.get("columns", [])]
    if unit not in UNITS:
        raise InputError(f"unknown unit {unit!r} of columns {columns}; {nearest(str(unit), UNITS)}")
    if not columns:
        raise InputError(f"a group of unit {unit!r} has no columns; remove the group")
    scale = group.get("scale")
    if unit != "count":
        if scale is not None:
            raise InputError(
                f"only unit 'count' has a scale; found one for unit {unit!r} of columns {columns}; remove it"
            )
        return {"unit": unit, "columns": columns}
    scale = [1.0] * len(columns) if scale is None else [float(value) for value in scale]
    if len(scale) != len(columns):
        raise InputError(f"a count group of {len(columns)} columns has {len(scale)} scales; give one per column")
    options: dict[str, Any] = {"log_view": True} if group.get("log_view") else {}
    if group.get("largest") is not None:
        options["largest"] = [float(value) for value in group["largest"]]
        if len(options["largest"]) != len(columns):
            raise InputError(f"a count group of {len(columns)} columns has {len(options['largest'])} largest values")
    return {"unit": unit, "columns": columns, "scale": scale, **options}


def _choices(groups: Sequence[Group]) -> Categorical:
    """Return one likelihood for all categorical groups."""
    numbers = iter(range(len(_columns(groups))))
    return Categorical(len(_columns(groups)), [[next(numbers) for _ in group["columns"]] for group in groups])


def _with_variances(groups: Sequence[Group]) -> GaussianPerColumn:
    return GaussianPerColumn(len(_columns(groups)))


def counts_of(groups: Sequence[Group]) -> Poisson:
    """Return one likelihood for all groups of counts."""
    scale = [value for group in groups for value in group["scale"]]
    are_bounded = all("largest" in group for group in groups)
    largest = [value for group in groups for value in group["largest"]] if are_bounded else None
    log_view = all(group.get("log_view", False) for group in groups)
    return Poisson(len(_columns(groups)), scale, log_view=log_view, largest=largest)


def with_largest(config: Mapping[str, Any], largest: Float[Any, " columns"]) -> dict[str, Any]:
    """Return the configuration of a likelihood with the largest values of its count columns, if it has some.

    Example:
        >>> config = {"name": "mixed", "groups": [{"unit": "count", "columns": [1], "scale": [1.0]}]}
        >>> with_largest(config, [5.0, 7.0])["groups"]
        [{'unit': 'count', 'columns': [1], 'scale': [1.0], 'largest': [7.0]}]
    """
    if config["name"] == Poisson.name:
        return {**config, "largest": [float(value) for value in largest]}
    if config["name"] != Mixed.name:
        return dict(config)
    groups = [
        {**group, "largest": [float(largest[column]) for column in group["columns"]]}
        if group["unit"] == "count" else group
        for group in config["groups"]
    ]  # fmt: skip
    return {**config, "groups": groups}


UNITS: dict[str, Callable[[Sequence[Group]], Likelihood]] = {
    "real": lambda groups: Gaussian(len(_columns(groups))),
    "binary": lambda groups: Bernoulli(len(_columns(groups))),
    "categorical": _choices,
    "count": counts_of,
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return advice on an unknown word: the nearest known word, if one is close, and all known words.

    Example:
        >>> nearest("gausian", ["bernoulli", "gaussian"])
        "did you mean 'gaussian'? Known: bernoulli, gaussian"
    """
    words = list(known)
    close = difflib.get_close_matches(word, words, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{guess}Known: {', '.join(words)}"
