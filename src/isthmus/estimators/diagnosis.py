"""The facts of a fit, gathered for the doctor; what he finds goes into the history."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from isthmus.estimators.surveys import blocks_of_x
from isthmus.evaluation.doctor import examine
from isthmus.evaluation.facts import FitFacts, column_scales, shuffled_columns
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import Rows, spread
from isthmus.parts.passes import Batch

LOOKED_AT = 1024
"""Rows of each part that the doctor looks at, evenly spread."""


@torch.no_grad()
def examine_fit(model: Any, rows: Rows, held_out: Rows | None) -> None:
    """Write the doctor's findings on a model that was just fitted into its history."""
    history, objective = model.history_, model.objective_
    some = rows.batch(spread(len(rows), LOOKED_AT))
    others = some if held_out is None else held_out.batch(spread(len(held_out), LOOKED_AT))
    shuffled = shuffled_columns(some.x, torch.Generator().manual_seed(0))
    facts = FitFacts(
        epochs=history["epochs"],
        stopped=history["stopped"],
        columns=column_scales(blocks_of_x(rows)),
        n_rows=len(rows),
        n_columns=rows.n_columns,
        code_size=model.code_size_,
        n_parameters=sum(p.numel() for p in objective.parameters()),
        scaling=model.scaling,
        likelihood=model.likelihood_["name"],
        code_activation=getattr(model, "code_activation", "linear"),
        best_epoch=history["best_epoch"],
        nan_epoch=history["nan_epoch"],
        codes=objective(some).code,
        train_error=_error(objective, some),
        held_out_error=None if held_out is None else _error(objective, others),
        pca_error=float(model.baseline_.squared_error(others.x).mean()),
        shuffled_error=_error(objective, Batch(shuffled)),
        column_names=model.preprocessing_.columns,
        kind=model.kind,
        images=model.preprocessing_.image_shape is not None,
    )
    history["findings"] = [finding.to_dict() for finding in examine(facts)]


def _error(objective: Reconstruction, batch: Batch) -> float:
    """||x - r||^2 by row, the mean."""
    return float(_squares(objective, batch).mean())


def _squares(objective: Reconstruction, batch: Batch) -> Float[Tensor, " batch"]:
    r = objective.likelihood.mean_given(objective(batch).parameters, batch.x)
    return (batch.x - r).square().sum(1)
