"""The doctor: rules that detect common problems of a fit and advise what to do.

Each rule is a function of `FitFacts` that returns a `Finding` or None; `RULES` is the table of rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np

from isthmus.errors import pluralize
from isthmus.evaluation import bits, variational
from isthmus.evaluation.facts import ColumnStatistics, Finding, FitFacts, column_statistics, shuffled_columns
from isthmus.evaluation.residuals import is_zero_error
from isthmus.parts.likelihoods import LIKELIHOODS

__all__ = ["RULES", "ColumnStatistics", "Finding", "FitFacts", "column_statistics", "diagnose", "shuffled_columns"]

LARGEST_INPUT = 10.0
"""Initial weights assume inputs of unit variance; units saturate or diverge at ten standard deviations."""

SMALLEST_INPUT = 0.1
"""Inputs below this magnitude train slowly, and a Gaussian likelihood of unit variance gains little from them."""

LARGEST_SPREAD_RATIO = 100.0
"""A column with a hundredth of the standard deviation has a ten-thousandth of the squared error and is ignored."""

STILL_IMPROVING = 0.02
"""Fraction of the total decrease of the loss. On the MNIST sample, the last tenth of the learning rate contributes 5%
in a fit of 10 epochs, which 50 epochs improve by 40%; 1.3% in 20 epochs and 0.4% in 50 epochs."""

LAST_TENTH = 0.1
"""Fraction of the summed learning rate, not of the epochs: if the rate decays to zero, every loss curve ends flat."""

VALIDATION_LOSS_RISE = 0.02
"""Fraction of its total decrease by which the validation loss may rise from its minimum: noise and patience do so."""

GENERALIZATION_GAP, LARGE_GENERALIZATION_GAP = 1.5, 3.0
"""Ratio of the squared errors of validation and training rows. A good fit of the 5,000 rows of the MNIST sample has
1.6, which is a note; a fit of 1,000 rows has 4."""

MEMORISED, FORGOTTEN = 0.1, 0.5
"""Squared error relative to the variance: at most the first for training rows, at least the second for validation
rows."""

PCA_EXCESS_NOTE, PCA_EXCESS_WARNING = 0.02, 0.05
"""Relative excess over the PCA error. A linear fit of MNIST by gradient descent ends within 2.4%."""

PCA_EXCESS_OF_VARIANCE, PCA_WARNING_OF_VARIANCE = 1e-3, 1e-2
"""An excess below the first fraction of the variance is ignored, and below the second it is a note and no warning: if
the PCA error is nearly zero, a multiple of it is small too."""

COPIED_DATA, COPIED_NOISE = 0.01, 0.05
"""Squared error relative to the variance, for rows and for rows with shuffled columns. A model that reconstructs the
latter has not learned the dependence between columns."""

LARGEST_WRONG_R2, WARNED_R2 = -0.01, -0.1
"""R^2 of a column at which it is reported, and below which that is a warning: a column of noise has slightly less than
0 on validation rows."""

LARGE_RATE = 1e-2
"""The usual rate of Adam is 1e-3; ten times that is the most likely cause of a loss that diverges."""


def diagnose(facts: FitFacts) -> list[Finding]:
    """Return the findings of all rules, warnings first, without those that another finding explains.

    Example:
        >>> columns = ColumnStatistics(*(np.array(v) for v in ([0.0, 5.0], [1.0, 0.0], [-3.0, 5.0], [3.0, 5.0])))
        >>> facts = FitFacts(epochs=[], stopped="interrupted", columns=columns, n_rows=9, n_columns=2, code_size=1,
        ...                  n_parameters=9)
        >>> for finding in diagnose(facts):
        ...     print(f"{finding.name} ({finding.severity}): {finding.message}")
        constant-columns (note): 1 of 2 columns is constant: 1
        interrupted (note): training was interrupted after 0 epochs; the weights learned so far were kept
    """
    found = [finding for rule in RULES.values() if (finding := rule(facts)) is not None]
    explained = {name for finding in found for name in SUPPRESSED_BY.get(finding.name, ())}
    explained |= set(OF_A_WHOLE_TRAINING if facts.unreached else ())
    left = [finding for finding in found if finding.name not in explained]
    return sorted(left, key=lambda finding: finding.severity != "warning")


def unscaled_input(facts: FitFacts) -> Finding | None:
    """Detect columns with large values, with very different standard deviations, or with small values only."""
    largest = facts.columns.largest
    reach = float(largest.max(initial=0))
    varies = bool((facts.columns.std > 0).any())
    if varies and reach < SMALLEST_INPUT:
        message = f"all values of the input are at most {reach:.2g} in magnitude"
        return Finding("unscaled-input", message, "use scaling='minmax' (--scaling minmax)")
    # Counts must not be scaled. Values within [-1, 1] are fine: pixels of images may rarely vary.
    if facts.scaling != "none" or LIKELIHOODS[facts.likelihood].is_count or reach <= 1:
        return None
    messages = [_unequal_scales(facts)]
    if reach > LARGEST_INPUT:
        messages.insert(0, f"column {_column(facts, int(largest.argmax()))} has values up to {reach:.4g}")
    if not any(messages):
        return None
    return Finding(
        "unscaled-input",
        f"the input is not scaled: {'; '.join(filter(None, messages))}",
        "use scaling='auto' (--scaling auto), or scale the columns before fit",
    )


def _unequal_scales(facts: FitFacts) -> str:
    """Describe the columns with the largest and the smallest standard deviation if they differ too much."""
    varying = np.flatnonzero(facts.columns.std > 0)
    if not len(varying):
        return ""
    std = facts.columns.std[varying]
    ratio = std.max() / std.min()
    wide, narrow = (_column(facts, int(varying[i])) for i in (std.argmax(), std.argmin()))
    if ratio <= LARGEST_SPREAD_RATIO:
        return ""
    return f"the standard deviation of column {wide} is {ratio:,.0f} times that of column {narrow}"


def constant_columns(facts: FitFacts) -> Finding | None:
    """Detect constant columns, except in images, whose borders are often constant."""
    is_constant = facts.columns.minimum == facts.columns.maximum
    if facts.user_columns is None:
        constant, n_columns = [_column(facts, int(i)) for i in np.flatnonzero(is_constant)], facts.n_columns
    else:
        by_column = facts.user_columns.items()
        constant = [repr(name) for name, inputs in by_column if is_constant[list(inputs)].all()]
        n_columns = len(facts.user_columns)
    if not constant or facts.images:
        return None
    return Finding(
        "constant-columns",
        f"{len(constant)} of {pluralize(n_columns, 'column')} {_are(constant)} constant: {_listed(constant)}",
        "constant columns do no harm; exclude them (--exclude) if they carry no information",
        "note",
    )


def collapsed_code(facts: FitFacts) -> Finding | None:
    """Detect units of the code that are constant over the rows, except for dead units."""
    units = facts.units
    if units is None or facts.n_maps is not None:
        return None
    dead = units.dead if facts.rectified else np.zeros_like(units.dead)
    collapsed = np.flatnonzero(units.collapsed & ~dead)
    if not len(collapsed):
        return None
    left = facts.code_size - int(units.collapsed.sum())
    if left == 0:
        advice = "lower learning_rate, check the scaling of the input, and weaken penalties on the code"
    else:
        advice = f"try code_size={left}; if the error is still high, lower learning_rate or scale the input"
    message = (
        f"{len(collapsed)} of {pluralize(facts.code_size, 'unit')} of the code {_are(collapsed)} constant over "
        f"{pluralize(units.n_rows, 'row')}: {_listed(collapsed.tolist())}"
    )
    return Finding("collapsed-code", message, advice)


def constant_maps(facts: FitFacts) -> Finding | None:
    """Detect feature maps that are constant at every position; at some positions, such as borders, many are."""
    units = facts.units
    if units is None or facts.n_maps is None:
        return None
    constant = np.flatnonzero(units.collapsed.reshape(facts.n_maps, -1).all(1)).tolist()
    if not constant:
        return None
    return Finding(
        "constant-maps",
        f"{len(constant)} of {pluralize(facts.n_maps, 'feature map')} {_are(constant)} constant over "
        f"{pluralize(units.n_rows, 'row')}: {_listed(constant)}",
        "give the sparsity a smaller weight, or fewer filters (n_maps)",
    )


def dead_units(facts: FitFacts) -> Finding | None:
    """Detect rectified units that are zero for every row and therefore have no gradient."""
    units = facts.units
    if facts.n_maps is not None:
        return None
    if units is None or not facts.rectified or not units.dead.any():
        return None
    dead = np.flatnonzero(units.dead).tolist()
    return Finding(
        "dead-units",
        f"{len(dead)} of {pluralize(facts.code_size, 'unit')} of the code {_are(dead)} dead (zero in all "
        f"{pluralize(units.n_rows, 'row')}): {_listed(dead)}",
        "give the sparsity a smaller weight or more active units (k), lower learning_rate, or use a smaller code_size"
        if facts.penalised
        else "lower learning_rate, use code_activation='linear' or 'gelu', or use a smaller code_size",
    )


def still_improving(facts: FitFacts) -> Finding | None:
    """Detect a monitored loss that was still decreasing in the last epoch."""
    monitored_loss, n_epochs = facts.monitored_loss, len(facts.epochs)
    if facts.stopped != "max_epochs" or n_epochs < 2 or not all(map(math.isfinite, monitored_loss)):
        return None
    rates = np.array([float(epoch["learning_rate"]) for epoch in facts.epochs])
    spent = (rates + np.concatenate([rates[:1], rates[:-1]])) / 2
    left = 1 - np.cumsum(spent) / max(spent.sum(), np.finfo(float).tiny)
    start = int(np.flatnonzero(left >= LAST_TENTH - 1e-9).max(initial=0))
    if monitored_loss[-1] > min(monitored_loss[: start + 1]):
        return None  # the loss was lower before: the last decrease follows an increase
    whole, fall = monitored_loss[0] - min(monitored_loss), monitored_loss[start] - monitored_loss[-1]
    if f"{monitored_loss[start]:.5g}" == f"{monitored_loss[-1]:.5g}":
        return None  # a decrease below the printed digits
    # A short run may have no epoch boundary near the last tenth; then the fraction of a longer interval is scaled down.
    if whole <= 0 or fall / whole * LAST_TENTH / max(left[start], LAST_TENTH) < STILL_IMPROVING:
        return None
    # A fraction of the decrease since the first epoch exceeds 100% if the loss rose above its first value in between.
    is_part = monitored_loss[0] == max(monitored_loss) and start > 0
    share = f", {fall / whole:.1%} of its total decrease" if is_part else ""
    longer = f"{facts.epochs_argument}={2 * n_epochs}"
    dotted = longer.replace("__", ".")
    cli_option = f"--epochs {2 * n_epochs}" if facts.epochs_argument == "max_epochs" else f"--set {dotted}"
    return Finding(
        "still-improving",
        f"the {facts.monitored_rows} loss was still decreasing: from {monitored_loss[start]:.5g} to "
        f"{monitored_loss[-1]:.5g} nats per row in the last {_epochs(n_epochs - 1 - start)} of {n_epochs}{share}",
        f"train longer: {longer} ({cli_option})",
    )


def over_fitting(facts: FitFacts) -> Finding | None:
    """Detect a validation error much larger than the training error, or a validation loss that rises again."""
    advice = f"use more rows, a {_smaller(facts)}"
    has_dropout = bool({"dropout", "network__dropout"} & set(facts.arguments))
    advice += ", weight decay or dropout" if has_dropout else " or more weight decay"
    if facts.validation_error is not None and facts.train_error:
        gap = facts.validation_error / facts.train_error
        if (
            gap > GENERALIZATION_GAP
            and facts.validation_error - facts.train_error > PCA_EXCESS_OF_VARIANCE * facts.columns.variance
        ):
            message = (
                f"the squared error of validation rows is {gap:.1f} times that of training rows "
                f"({facts.validation_error:.4g} and {facts.train_error:.4g}); the network has "
                f"{facts.n_parameters:,} parameters for {pluralize(facts.n_rows, 'row')}"
            )
            return Finding("over-fitting", message, advice, "warning" if gap > LARGE_GENERALIZATION_GAP else "note")
    monitored_loss = facts.monitored_loss
    if facts.monitored_rows != "validation" or not all(map(math.isfinite, monitored_loss)):
        return None
    best = int(np.argmin(monitored_loss))
    whole, rise = monitored_loss[0] - monitored_loss[best], monitored_loss[-1] - monitored_loss[best]
    if rise <= VALIDATION_LOSS_RISE * whole or rise <= 0:
        return None
    kept = "" if facts.best_epoch is None else f"; the weights of epoch {facts.best_epoch + 1} were kept"
    message = (
        f"the validation loss was lowest after {pluralize(best + 1, 'epoch')} ({monitored_loss[best]:.5g} nats per "
        f"row) and rose to {monitored_loss[-1]:.5g} by the last epoch{kept}"
    )
    return Finding("over-fitting", message, advice, "note")


def memorised_rows(facts: FitFacts) -> Finding | None:
    """Detect a model that has memorised the training rows (Deep Learning, section 14.1)."""
    description = _memorised_by_error(facts) or _memorised_by_loss_curve(facts)
    if not description:
        return None
    parameters, rows = f"{facts.n_parameters:,} parameters", pluralize(facts.n_rows, "row")
    return Finding(
        "memorised-rows",
        f"{description}: the model memorises the {rows} with its {parameters}",
        f"use many more rows, or a much {_smaller(facts)}" + (", or the linear kind" if facts.kind != "linear" else ""),
    )


def _memorised_by_error(facts: FitFacts) -> str:
    """Describe a small training error and a large validation error of the final weights."""
    variance = facts.columns.variance
    if facts.validation_error is None or facts.train_error is None or variance == 0:
        return ""
    train, held_out = facts.train_error / variance, facts.validation_error / variance
    if not (train <= MEMORISED and held_out >= FORGOTTEN):
        return ""
    return f"the squared error is {train:.1%} of the variance for training rows and {held_out:.0%} for validation rows"


def _memorised_by_loss_curve(facts: FitFacts) -> str:
    """Describe a training loss that decreased while the validation loss returned to its first value."""
    monitored_loss = facts.monitored_loss
    if facts.monitored_rows != "validation" or not all(map(math.isfinite, monitored_loss)):
        return ""
    trained = [float(epoch["train"]) for epoch in facts.epochs]
    best = int(np.argmin(monitored_loss))
    if (
        monitored_loss[-1] < monitored_loss[0]
        or trained[best] - trained[-1] <= monitored_loss[0] - monitored_loss[best]
        or 2 * (monitored_loss[-1] - trained[-1]) < monitored_loss[-1] - monitored_loss[best]  # training diverged
    ):
        return ""
    return (
        f"after epoch {best + 1} the training loss decreased from {trained[best]:.5g} to {trained[-1]:.5g} nats per "
        f"row, while the validation loss rose from {monitored_loss[best]:.5g} to {monitored_loss[-1]:.5g}, which is no "
        "better than after the first epoch"
    )


def _epochs(n: int) -> str:
    """Return "epoch", or the number of epochs."""
    return "epoch" if n == 1 else f"{n} epochs"


def worse_than_pca(facts: FitFacts) -> Finding | None:
    """Detect a squared error above that of a PCA of the same size."""
    error = facts.train_error if facts.validation_error is None else facts.validation_error
    if error is None or facts.pca_error is None or (facts.penalised and facts.code_size >= facts.n_varying):
        return None  # a PCA with as many components as columns copies the rows, which is not the aim here
    if facts.variational is not None or facts.has_bits:
        return None  # a bound is not an error; and a bit holds less than a component, which is a real number
    if is_zero_error(facts.pca_error, facts.columns.squares):
        return None
    excess = error - facts.pca_error
    if not excess > max(PCA_EXCESS_NOTE * facts.pca_error, PCA_EXCESS_OF_VARIANCE * facts.columns.variance):
        return None
    minimises = LIKELIHOODS[facts.likelihood].has_least_squares and not facts.penalised
    advice = "train longer (max_epochs) or with a larger learning_rate"
    if facts.kind != "linear":
        has_sizes = bool({"hidden_sizes", "network"} & set(facts.arguments))
        advice += ", try other sizes of the hidden layers" if has_sizes else ""
        advice += ", or use PCA itself"
    much = excess > max(PCA_EXCESS_WARNING * facts.pca_error, PCA_WARNING_OF_VARIANCE * facts.columns.variance)
    rows = "training" if facts.validation_error is None else "validation"
    times = error / facts.pca_error
    description = f"{times - 1:.1%} above" if times < 10 else f"{times:.0f} times" if times < 1e6 else "far above"
    return Finding(
        "worse-than-pca",
        f"the squared error per {rows} row, {error:.4g}, is {description} that of a PCA with "
        f"{pluralize(facts.code_size, 'component')}, {facts.pca_error:.4g}",
        advice if minimises else _other_objective_advice(facts),
        "warning" if much and minimises else "note",
    )


def _other_objective_advice(facts: FitFacts) -> str:
    """Explain why a squared error above that of PCA may be expected."""
    if facts.penalised:
        return "a penalty or corruption increases the error; weaken it if the error is too large"
    return (
        f"likelihood={facts.likelihood!r} minimises the negative log-likelihood and not the squared error, so that the "
        "comparison says little; compare models by score(X), minus their negative log-likelihood"
    )


def worse_than_mean(facts: FitFacts) -> Finding | None:
    """Detect columns of which the mean is a better reconstruction than that of the model: their R^2 is below 0."""
    wrong = sorted((r2, name) for name, r2 in facts.column_r2.items() if r2 <= LARGEST_WRONG_R2)
    if not wrong:
        return None
    listed = _listed([f"{name} ({r2:.2g})" for r2, name in wrong])
    n, scale = len(facts.column_r2), "scaling='standard' (--scaling standard), "
    return Finding(
        "worse-than-mean",
        f"{len(wrong)} of {pluralize(n, 'column')} {_are(wrong)} reconstructed worse than by the mean on "
        f"{facts.r2_rows} rows; R2: {listed}",
        f"use {scale if facts.scaling in ('none', 'minmax') else ''}a larger code_size, or more training; columns of "
        "noise have no better reconstruction than their mean",
        "warning" if wrong[0][0] < WARNED_R2 else "note",
    )


def copies_input(facts: FitFacts) -> Finding | None:
    """Detect a code as wide as the data that reconstructs any input (Deep Learning, section 14.2)."""
    variance = facts.columns.variance
    n_varying = facts.n_varying
    if facts.train_error is None or facts.shuffled_error is None or variance == 0 or facts.code_size < n_varying:
        return None
    data, shuffled = facts.train_error / variance, facts.shuffled_error / variance
    if not (data <= COPIED_DATA and shuffled <= COPIED_NOISE):
        return None
    return Finding(
        "copies-input",
        f"the code ({pluralize(facts.code_size, 'unit')} for {pluralize(n_varying, f'varying {facts.column_noun}')}) "
        f"copies its input: the squared error is {100 * data:.2g}% of the variance, and {100 * shuffled:.2g}% for rows "
        "with shuffled columns",
        "increase the weight of the sparsity or contraction, or the rate of the corruption"
        if facts.penalised
        else f"use a smaller code: code_size={max(1, n_varying // 2)} or less, or leave code_size out",
    )


def diverged(facts: FitFacts) -> Finding | None:
    """Report a loss that became NaN or infinite, with likely causes."""
    if facts.stopped != "nan":
        return None
    epoch = len(facts.epochs) if facts.nan_epoch is None else facts.nan_epoch + 1
    causes = []
    if facts.columns.largest.max(initial=0) > LARGEST_INPUT:
        causes.append(f"the input is not scaled (values up to {facts.columns.largest.max():.4g}): use scaling='auto'")
    rate = max((float(e["learning_rate"]) for e in facts.epochs), default=0.0)
    if rate > LARGE_RATE or not causes:
        causes.append("the learning rate is too large: divide it by ten, or use optimizer=AdamW(clip_norm=1)")
    if LIKELIHOODS[facts.likelihood].has_log_probability:
        causes.append("the logarithm of zero: check for values at the limits of the likelihood's range")
    return Finding(
        "nan",
        f"the loss became NaN or infinite in epoch {epoch}; the last finite weights were kept",
        "likely causes: " + "; ".join(causes),
    )


def interrupted(facts: FitFacts) -> Finding | None:
    """Report an interrupt (Ctrl-C)."""
    if facts.stopped != "interrupted":
        return None
    untrained = f"; not trained: {_listed(facts.unreached)}" if facts.unreached else ""
    done = pluralize(len(facts.epochs), "epoch") + (" of a phase" if untrained else "")
    return Finding(
        "interrupted",
        f"training was interrupted after {done}; the weights learned so far were kept{untrained}",
        "fit again; or continue with resume=True (--resume) if a checkpoint was written (--checkpoint-every)",
        "note",
    )


def time_limit(facts: FitFacts) -> Finding | None:
    """Report a time limit that allowed fewer steps than the epochs have, or that ended training before its plan."""
    if facts.stopped != "time_limit":
        return None
    done = len(facts.epochs)
    if not facts.cut:
        return Finding(
            "time-limit",
            f"the time limit allowed {pluralize(done, 'epoch')}, the last of which may be incomplete",
            "use a longer time_limit for a lower error; the learning rate decayed to zero within this one",
            "note",
        )
    return Finding(
        "time-limit",
        f"the time limit ended training in epoch {done}, before the learning rate had decayed: the steps were slower "
        "than measured before training",
        "fit again while the machine has less other load, or set max_steps to fewer steps than planned_steps_",
        "note",
    )


RULES: dict[str, Callable[[FitFacts], Finding | None]] = {
    "nan": diverged,
    "unscaled-input": unscaled_input,
    "collapsed-code": collapsed_code,
    "constant-maps": constant_maps,
    "dead-units": dead_units,
    **variational.RULES,
    **bits.RULES,
    "memorised-rows": memorised_rows,
    "copies-input": copies_input,
    "worse-than-pca": worse_than_pca,
    "worse-than-mean": worse_than_mean,
    "over-fitting": over_fitting,
    "still-improving": still_improving,
    "constant-columns": constant_columns,
    "interrupted": interrupted,
    "time-limit": time_limit,
}
"""The rules by the names of their findings."""

SUPPRESSED_BY = {
    "posterior-collapse": ("collapsed-code",),
    "constant-bits": ("collapsed-code",),
    "memorised-rows": ("over-fitting", "worse-than-mean"),
    "nan": ("memorised-rows", "worse-than-pca", "worse-than-mean", "over-fitting"),
}
"""The findings that another finding makes redundant, by the name of the latter."""


OF_A_WHOLE_TRAINING = (
    "collapsed-code", "constant-maps", "dead-units", *variational.RULES, *bits.RULES, "memorised-rows", "copies-input",
    "worse-than-pca", "worse-than-mean", "over-fitting", "still-improving",
)  # fmt: skip
"""The findings that say nothing of a model some phases of which were not trained."""


def _smaller(facts: FitFacts) -> str:
    if "hidden_sizes" in facts.arguments:
        return "smaller network (hidden_sizes)"
    return "smaller network" if "network" in facts.arguments else "smaller code_size"


def _are(items: Sized) -> str:
    return "is" if len(items) == 1 else "are"


def _column(facts: FitFacts, number: int) -> str:
    return str(number) if facts.column_names is None else repr(str(facts.column_names[number]))


def _listed(items: Sequence[Any], most: int = 8) -> str:
    """List at most `most` items and the number of further ones."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest
