"""Collection of the facts of a fit for the doctor, whose findings are written into the history."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputWarning
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.evaluation.doctor import diagnose
from isthmus.evaluation.facts import FitFacts, shuffled_columns
from isthmus.evaluation.residuals import is_zero_error, squared_residuals
from isthmus.evaluation.variational import variational_facts
from isthmus.learning.objectives import Objective
from isthmus.learning.rows import Rows, evenly_spaced
from isthmus.learning.trainer import mean_over_rows
from isthmus.parts.binary_inference import BinaryMap
from isthmus.parts.coder import Coder
from isthmus.parts.filter_maps import FilterDecoder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.sparse_activations import SparseActivation

MAX_DIAGNOSIS_ROWS = 1024
"""Largest number of training rows and of validation rows that errors are computed on, evenly spaced."""


ENOUGH_ROWS = 50
"""Smallest number of validation rows for R^2 by column; training rows take the place of fewer."""


@torch.no_grad()
def diagnose_fit(model: Any, objective: Objective, rows: SurveyedRows, validation_rows: Rows | None) -> None:
    """Write the doctor's findings on a fitted model into its history."""
    history, coder = model.history_, model.coder_
    some = rows.batch(evenly_spaced(len(rows), MAX_DIAGNOSIS_ROWS))
    others = (
        some
        if validation_rows is None
        else validation_rows.batch(evenly_spaced(len(validation_rows), MAX_DIAGNOSIS_ROWS))
    )
    pca_error = float(
        mean_over_rows(model.baseline_.squared_error(others.desired_output, others.observed), others.weight)
    )
    output = coder(some)
    other_output = output if others is some else coder(others)
    enough = other_output if len(others.x) >= ENOUGH_ROWS else output
    facts = FitFacts(
        epochs=history["epochs"],
        stopped=history["stopped"],
        columns=rows.statistics,
        n_rows=len(rows),
        n_columns=rows.n_columns,
        code_size=model.code_size_,
        n_parameters=sum(p.numel() for p in coder.parameters()),
        scaling=model.scaling,
        likelihood=model.likelihood_["name"],
        rectified=isinstance(getattr(coder.inference, "code_activation", None), nn.ReLU | SparseActivation),
        penalised=_is_penalised(objective),
        best_epoch=history["best_epoch"],
        nan_epoch=history["nan_epoch"],
        codes=output.code,
        train_error=_error(coder, output),
        validation_error=None if validation_rows is None else _error(coder, other_output),
        pca_error=None if some.target is not None else pca_error,
        shuffled_error=None if some.target is not None else _error(coder, coder(_shuffled(some))),
        column_names=model.preprocessing_.columns,
        user_columns=_user_columns(model.preprocessing_),
        column_r2=_column_r2(model.preprocessing_, coder, enough),
        r2_rows="training" if enough is output else "validation",
        kind=model.kind,
        arguments=frozenset(model.get_params()),
        images=model.preprocessing_.image_shape is not None,
        epochs_argument=model._epochs_argument,
        unreached=history["unreached"],
        variational=variational_facts(coder, some),
        has_bits=isinstance(coder.inference, BinaryMap),
        n_maps=coder.decoder.grid.n_maps if isinstance(coder.decoder, FilterDecoder) else None,
        cut=history["stopped"] == "time_limit" and history["n_steps"] < history["planned_steps"],
    )
    history["squared_error"] = {
        "rows": "training" if validation_rows is None else "validation",
        "n_rows": len(others.x),
        "model": facts.train_error if facts.validation_error is None else facts.validation_error,
        "pca": pca_error,
        "training": facts.train_error,
    }
    findings = diagnose(facts)
    history["findings"] = [finding.to_dict() for finding in findings]
    for finding in findings:
        if finding.name == "nan":
            warnings.warn(f"{finding.message}; {finding.advice}", InputWarning, stacklevel=4)


def _is_penalised(objective: Objective) -> bool:
    """Return whether the criterion has a corruption or a penalty."""
    return getattr(objective, "corruption", None) is not None or len(getattr(objective, "penalties", ())) > 0


def _user_columns(preprocessing: Preprocessor) -> dict[str, list[int]] | None:
    """Return the columns of the user's table by name, each with its columns of model space."""
    if not preprocessing.table:
        return None
    names = [column.name for column in preprocessing.table]
    return dict(zip(names, preprocessing.members or [], strict=True))


def _column_r2(preprocessing: Preprocessor, coder: Coder, output: ForwardPass) -> dict[str, float]:
    """Compute 1 - E[(t - r)^2] / Var[t] of each column of the user over the rows, by their weights; t = x by default.

    Columns that are constant in these rows are left out; so are all columns of images, sparse rows and texts.
    """
    if preprocessing.image_shape is not None or preprocessing.source not in ("array", "table"):
        return {}
    batch, x = output.batch, output.batch.desired_output
    r = coder.likelihood.mean_given(output.parameters, x)
    weight = torch.ones_like(x, dtype=torch.float64) if batch.observed is None else batch.observed.double()
    weight = weight if batch.weight is None else weight * batch.weight[:, None]
    total = weight.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    mean = (weight * x).sum(0) / total
    variance = (weight * (x - mean) ** 2).sum(0) / total
    error = (weight * (x - r) ** 2).sum(0) / total
    found = {}
    for name, columns in _named_columns(preprocessing).items():
        own = float(variance[columns].sum())
        if own > 0 and not is_zero_error(own, float((variance + mean**2)[columns].sum())):
            found[name] = 1 - float(error[columns].sum()) / own
    return found


def _named_columns(preprocessing: Preprocessor) -> dict[str, list[int]]:
    """Return the columns of the user by name, and the channels of series, each with its columns of model space."""
    if preprocessing.is_series:
        steps = preprocessing.row_shape[0]
        return {name: list(range(c * steps, (c + 1) * steps)) for c, name in enumerate(preprocessing.channels)}
    own = _user_columns(preprocessing)
    return {name: [i] for i, name in enumerate(preprocessing.columns)} if own is None else own


def _error(coder: Coder, output: ForwardPass) -> float:
    """Compute the mean over rows, by their weights, of ||t - r||^2, summed over observed columns; t = x by default."""
    batch = output.batch
    r = coder.likelihood.mean_given(output.parameters, batch.desired_output)
    return float(mean_over_rows(squared_residuals(batch.desired_output, r, batch.observed).sum(1), batch.weight))


def _shuffled(batch: Batch) -> Batch:
    """Shuffle each column of the rows independently, together with the mask of observed entries."""
    x, mask = (
        None if part is None else shuffled_columns(part, torch.Generator().manual_seed(0))
        for part in (batch.x, batch.mask)
    )
    assert x is not None
    return Batch(x, mask=mask, weight=batch.weight, condition=batch.condition)
