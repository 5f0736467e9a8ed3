"""Conditions that a user gives to methods that decode codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.data.conditions import ConditionalPreprocessor
from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError

Conditions = Float[Tensor, "n n_conditions"] | None
"""Conditions of codes in model space; None of a model that takes none."""


def given_conditions(preprocessing: Preprocessor, condition: Any, n: int) -> Conditions:
    """Return the conditions of n codes in model space, as a user gives them; None for a model without conditions.

    Raises:
        InputError: conditions that are not given, or given to a model that takes none; those of
            `ConditionalPreprocessor.given`.

    Example:
        >>> given_conditions(Preprocessor.from_data(np.eye(3)), None, 2) is None
        True
    """
    if not isinstance(preprocessing, ConditionalPreprocessor):
        if condition is not None:
            raise InputError("condition: the model takes none; leave it out, or fit one with condition=['NAME']")
        return None
    if condition is None:
        names = preprocessing.condition_names
        example = ", ".join(f"{name!r}: ..." for name in names)
        option = f"--condition {names[0]}=..."
        raise InputError(f"the model decodes codes given {', '.join(names)}; give condition={{{example}}} ({option})")
    return torch.from_numpy(preprocessing.given(condition, n))


def drawn_conditions(preprocessing: Preprocessor, condition: Any, n: int, generator: torch.Generator) -> Conditions:
    """Return the conditions of n samples: those that are given, or those of random training rows."""
    if condition is None and isinstance(preprocessing, ConditionalPreprocessor):
        return torch.from_numpy(preprocessing.drawn(n, generator))
    return given_conditions(preprocessing, condition, n)


def with_condition_columns(preprocessing: Preprocessor, rows: Any, conditions: Conditions) -> Any:
    """Return decoded rows; those of a table with the columns of their conditions, as the training table has them."""
    if conditions is None or not isinstance(preprocessing, ConditionalPreprocessor):
        return rows
    return preprocessing.with_columns(rows, np.asarray(conditions))


def conditions_between(start: Conditions, end: Conditions, n: int) -> Conditions:
    """Return n conditions from each of `start` to the same of `end` in equal steps, pair by pair.

    Example:
        >>> conditions_between(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]), 3)
        tensor([[0.0000, 1.0000],
                [0.5000, 0.5000],
                [1.0000, 0.0000]])
    """
    if start is None or end is None:
        return None
    return torch.lerp(start[:, None], end[:, None], torch.linspace(0, 1, n)[:, None]).flatten(0, 1)
