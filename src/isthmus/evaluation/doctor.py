"""The doctor: looks at a finished fit and says in plain words what went wrong and what to do about it.

Each rule is a function of the facts that gives a finding or None; `RULES` is the table of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from isthmus.errors import pluralize
from isthmus.evaluation.facts import ColumnStatistics, Finding, FitFacts, column_statistics, shuffled_columns
from isthmus.evaluation.residuals import is_zero_error
from isthmus.parts.likelihoods import LIKELIHOODS

__all__ = ["RULES", "ColumnStatistics", "Finding", "FitFacts", "column_statistics", "diagnose", "shuffled_columns"]

LARGEST_INPUT = 10.0
"""Weights are drawn for inputs of spread one; ten spreads away a unit saturates or explodes."""

SMALLEST_INPUT = 0.1
"""Data whose every value is this small hardly moves a network, and leaves a Gaussian of variance one little to gain."""

LARGEST_SPREAD_RATIO = 100.0
"""A column of a hundredth of the spread has a ten-thousandth of the squared error: nothing will be learned of it."""

STILL_IMPROVING = 0.02
"""Share of the whole fall. A fit of the MNIST sample falls by 5% of it in the last tenth of the learning rate after
10 epochs, which 50 epochs improve by 40%; by 1.3% after 20 epochs; and by 0.4% after 50."""

LAST_TENTH = 0.1
"""Of the summed learning rate, not of the epochs: a rate that decays to zero ends every curve flat, finished or not."""

VALIDATION_LOSS_RISE = 0.02
"""Share of the whole fall by which the held-out loss may rise from its best: what noise and patience do."""

GENERALIZATION_GAP, LARGE_GENERALIZATION_GAP = 1.5, 3.0
"""Squared error of held-out rows over that of training rows. A healthy fit of the 5,000 rows of the MNIST sample ends
near 1.6, which is worth a note; of 1,000 rows at 4."""

MEMORISED, FORGOTTEN = 0.1, 0.5
"""Shares of the variance that are left over: training rows are known nearly by heart, while of others half is lost."""

PCA_EXCESS_NOTE, PCA_EXCESS_WARNING = 0.02, 0.05
"""Excess over the PCA's error. A linear fit of MNIST by gradients ends within 2.4%; from 5% something is wrong."""

PCA_EXCESS_OF_VARIANCE = 1e-3
"""Where principal components leave nearly nothing over, an excess below this share of the variance is no matter."""

COPIED_DATA, COPIED_NOISE = 0.01, 0.05
"""Shares of the variance left over of the rows, and of rows whose columns were shuffled apart: whoever rebuilds the
second, which have nothing in common with the data but their columns' values, has not learned what goes together."""

LARGE_RATE = 1e-2
"""Adam's usual rate is 1e-3; ten times that is the first suspect of a loss that diverges."""


def diagnose(facts: FitFacts) -> list[Finding]:
    """All that the rules find, warnings first, without what another finding explains.

    Example:
        >>> columns = ColumnStatistics(*(np.array(v) for v in ([0.0, 5.0], [1.0, 0.0], [-3.0, 5.0], [3.0, 5.0])))
        >>> facts = FitFacts(epochs=[], stopped="interrupted", columns=columns, n_rows=9, n_columns=2, code_size=1,
        ...                  n_parameters=9)
        >>> for finding in diagnose(facts):
        ...     print(f"{finding.name} ({finding.severity}): {finding.message}")
        constant-columns (note): 1 of 2 columns never varies: 1
        interrupted (note): learning was interrupted after 0 epochs; what was learned until then is kept
    """
    found = [finding for rule in RULES.values() if (finding := rule(facts)) is not None]
    explained = {name for finding in found for name in SUPPRESSED_BY.get(finding.name, ())}
    left = [finding for finding in found if finding.name not in explained]
    return sorted(left, key=lambda finding: finding.severity != "warning")


def unscaled_input(facts: FitFacts) -> Finding | None:
    """Columns that reach far out, differ in spread by orders of magnitude, or are all tiny."""
    largest = facts.columns.largest
    reach = float(largest.max(initial=0))
    varies = bool((facts.columns.std > 0).any())
    if varies and reach < SMALLEST_INPUT:
        message = f"no value of the input is larger than {reach:.2g}"
        return Finding("unscaled-input", message, "take scaling='minmax' (--scaling minmax)")
    # Scaling would spoil counts. Within [-1, 1] the rare pixel of an image is no fault.
    if facts.scaling != "none" or LIKELIHOODS[facts.likelihood].is_count or reach <= 1:
        return None
    messages = [_spreads(facts)]
    if reach > LARGEST_INPUT:
        messages.insert(0, f"column {_column(facts, int(largest.argmax()))} reaches {reach:.4g}")
    if not any(messages):
        return None
    return Finding(
        "unscaled-input",
        f"the input is not scaled: {'; '.join(filter(None, messages))}",
        "let scaling='auto' (--scaling auto) take the columns to a common scale, or scale them before",
    )


def _spreads(facts: FitFacts) -> str:
    """The widest and the narrowest column that varies, where they differ too much."""
    varying = np.flatnonzero(facts.columns.std > 0)
    if not len(varying):
        return ""
    std = facts.columns.std[varying]
    ratio = std.max() / std.min()
    wide, narrow = (_column(facts, int(varying[i])) for i in (std.argmax(), std.argmin()))
    if ratio <= LARGEST_SPREAD_RATIO:
        return ""
    return f"column {wide} has {ratio:,.0f} times the spread of column {narrow}"


def constant_columns(facts: FitFacts) -> Finding | None:
    """Columns that never vary: harmless, kept, and nothing can be learned from them. Images have such borders."""
    constant = np.flatnonzero(facts.columns.minimum == facts.columns.maximum)
    if not len(constant) or facts.images:
        return None
    verb = "varies" if len(constant) == 1 else "vary"
    names = _listed([_column(facts, int(i)) for i in constant])
    return Finding(
        "constant-columns",
        f"{len(constant)} of {facts.n_columns} columns never {verb}: {names}",
        "they are kept and do no harm; leave them out (--exclude) if they mean nothing",
        "note",
    )


def collapsed_code(facts: FitFacts) -> Finding | None:
    """Units that give every row the same value, and are not merely dead."""
    units = facts.units
    if units is None:
        return None
    dead = units.dead if facts.rectified else np.zeros_like(units.dead)
    collapsed = np.flatnonzero(units.collapsed & ~dead)
    if not len(collapsed):
        return None
    left = facts.code_size - int(units.collapsed.sum())
    if left == 0:
        advice = "lower learning_rate, look whether the input is scaled, and weaken what holds the code back"
    else:
        advice = f"try code_size={left}; if the error is still high, lower learning_rate or scale the input"
    n_units = f"{len(collapsed)} of {facts.code_size} units of the code"
    return Finding(
        "collapsed-code", f"{n_units} never vary over {units.n_rows:,} rows: {_listed(collapsed.tolist())}", advice
    )


def dead_units(facts: FitFacts) -> Finding | None:
    """Rectified units that are zero for every row, where no gradient reaches them any more."""
    units = facts.units
    if units is None or not facts.rectified or not units.dead.any():
        return None
    dead = np.flatnonzero(units.dead).tolist()
    return Finding(
        "dead-units",
        f"{len(dead)} of {facts.code_size} units of the code are never active over {units.n_rows:,} rows: "
        f"{_listed(dead)}",
        "weaken sparsity_weight or give more active units (k), lower learning_rate, or take a smaller code_size"
        if facts.penalised
        else "lower learning_rate, or take code_activation='linear' or 'gelu', or a smaller code_size",
    )


def still_improving(facts: FitFacts) -> Finding | None:
    """The watched loss was still falling when the epochs ran out."""
    monitored_loss, n_epochs = facts.monitored_loss, len(facts.epochs)
    if facts.stopped != "max_epochs" or n_epochs < 2 or not all(map(math.isfinite, monitored_loss)):
        return None
    rates = np.array([float(epoch["learning_rate"]) for epoch in facts.epochs])
    spent = (rates + np.concatenate([rates[:1], rates[:-1]])) / 2
    left = 1 - np.cumsum(spent) / max(spent.sum(), np.finfo(float).tiny)
    start = int(np.flatnonzero(left >= LAST_TENTH - 1e-9).max(initial=0))
    if monitored_loss[-1] > min(monitored_loss[: start + 1]):
        return None  # it was better before: what falls now comes down from a rise
    whole, fall = monitored_loss[0] - min(monitored_loss), monitored_loss[start] - monitored_loss[-1]
    # Where a short run has no epoch boundary near the last tenth, its share of a longer stretch counts.
    if whole <= 0 or fall / whole * LAST_TENTH / max(left[start], LAST_TENTH) < STILL_IMPROVING:
        return None
    longer = f"{facts.epochs_argument}={2 * n_epochs}"
    cli_option = f"--epochs {2 * n_epochs}" if facts.epochs_argument == "max_epochs" else f"--set {longer}"
    return Finding(
        "still-improving",
        f"the {facts.monitored_rows} loss was still falling: {fall / whole:.1%} of its whole way down since the first "
        f"epoch came in the last {pluralize(n_epochs - 1 - start, 'epoch')} of {n_epochs}",
        f"learn for longer: {longer} ({cli_option})",
    )


def over_fitting(facts: FitFacts) -> Finding | None:
    """Held-out rows fare much worse than training rows, or fared better before."""
    advice = f"give more rows, a {_smaller(facts)}"
    advice += ", weight_decay or dropout" if facts.has_argument("dropout") else " or more weight_decay"
    if facts.validation_error is not None and facts.train_error:
        gap = facts.validation_error / facts.train_error
        if (
            gap > GENERALIZATION_GAP
            and facts.validation_error - facts.train_error > PCA_EXCESS_OF_VARIANCE * facts.columns.variance
        ):
            message = (
                f"held-out rows have {gap:.1f} times the squared error of training rows "
                f"({facts.validation_error:.4g} against {facts.train_error:.4g}); the network has "
                f"{facts.n_parameters:,} parameters for {pluralize(facts.n_rows, 'row')}"
            )
            return Finding("over-fitting", message, advice, "warning" if gap > LARGE_GENERALIZATION_GAP else "note")
    monitored_loss = facts.monitored_loss
    if facts.monitored_rows != "held-out" or not all(map(math.isfinite, monitored_loss)):
        return None
    best = int(np.argmin(monitored_loss))
    whole, rise = monitored_loss[0] - monitored_loss[best], monitored_loss[-1] - monitored_loss[best]
    if rise <= VALIDATION_LOSS_RISE * whole or rise <= 0:
        return None
    since = f"by {rise / whole:.1%} of what it had come down" if whole > 0 else "ever since"
    kept = "" if facts.best_epoch is None else f"; the weights of epoch {facts.best_epoch + 1} were kept"
    message = f"the held-out loss was lowest after {pluralize(best + 1, 'epoch')} and rose {since}{kept}"
    return Finding("over-fitting", message, advice, "note")


def memorised_rows(facts: FitFacts) -> Finding | None:
    """A powerful decoder has learned the training rows by heart: the code only says which row it is (14.1)."""
    description = _memorised_by_error(facts) or _memorised_by_loss_curve(facts)
    if not description:
        return None
    parameters, rows = f"{facts.n_parameters:,} parameters", pluralize(facts.n_rows, "row")
    return Finding(
        "memorised-rows",
        f"{description}: the {parameters} learn the {rows} by heart",
        f"give many more rows, or a much {_smaller(facts)}"
        + (", or the linear kind" if facts.kind != "linear" else ""),
    )


def _memorised_by_error(facts: FitFacts) -> str:
    """The weights that were kept know the training rows and nothing else."""
    variance = facts.columns.variance
    if facts.validation_error is None or facts.train_error is None or variance == 0:
        return ""
    train, held_out = facts.train_error / variance, facts.validation_error / variance
    if not (train <= MEMORISED and held_out >= FORGOTTEN):
        return ""
    return f"training rows are reconstructed to {train:.1%} of their variance, held-out rows only to {held_out:.0%}"


def _memorised_by_loss_curve(facts: FitFacts) -> str:
    """Later weights did: the training loss fell on and on while the held-out loss came back to where it began."""
    monitored_loss = facts.monitored_loss
    if facts.monitored_rows != "held-out" or not all(map(math.isfinite, monitored_loss)):
        return ""
    trained = [float(epoch["train"]) for epoch in facts.epochs]
    best = int(np.argmin(monitored_loss))
    if (
        monitored_loss[-1] < monitored_loss[0]
        or trained[best] - trained[-1] <= monitored_loss[0] - monitored_loss[best]
    ):
        return ""
    return (
        f"after epoch {best + 1} the training loss fell on, from {trained[best]:.5g} to {trained[-1]:.5g} nats, while "
        f"the held-out loss rose from {monitored_loss[best]:.5g} to {monitored_loss[-1]:.5g}, no better than at the "
        "first epoch"
    )


def worse_than_pca(facts: FitFacts) -> Finding | None:
    """Principal components of the same number do better: the network, or its learning, is no use yet."""
    error = facts.train_error if facts.validation_error is None else facts.validation_error
    if error is None or facts.pca_error is None or (facts.penalised and facts.code_size >= facts.n_varying):
        return None  # as many components as columns copy, and nobody asked for that
    if is_zero_error(facts.pca_error, facts.columns.squares):
        return None
    excess = error - facts.pca_error
    if not excess > max(PCA_EXCESS_NOTE * facts.pca_error, PCA_EXCESS_OF_VARIANCE * facts.columns.variance):
        return None
    minimises = LIKELIHOODS[facts.likelihood].has_least_squares and not facts.penalised
    advice = "learn for longer (max_epochs) or with a larger learning_rate"
    if facts.kind != "linear":
        advice += ", try other hidden_sizes" if facts.has_argument("hidden_sizes") else ""
        advice += ", or take the linear kind"
    much = excess > PCA_EXCESS_WARNING * facts.pca_error
    times = error / facts.pca_error
    description = f"{times - 1:.1%} above" if times < 10 else f"{times:.0f} times" if times < 1e6 else "far above"
    return Finding(
        "worse-than-pca",
        f"the squared error per row, {error:.4g}, is {description} that of {facts.code_size} principal components, "
        f"{facts.pca_error:.4g}",
        advice if minimises else _other_objective_advice(facts),
        "warning" if much and minimises else "note",
    )


def _other_objective_advice(facts: FitFacts) -> str:
    """Why a larger squared error than PCA's may be no fault."""
    if facts.penalised:
        return "the code was asked for more than a small error: weaken the penalty or corruption if this is too much"
    return f"likelihood={facts.likelihood!r} does not minimise the squared error: compare nll_per_row, or go on"


def copies_input(facts: FitFacts) -> Finding | None:
    """A code as wide as the data that rebuilds anything at all: it copies, and has learned nothing (14.2)."""
    variance = facts.columns.variance
    n_varying = facts.n_varying
    if facts.train_error is None or facts.shuffled_error is None or variance == 0 or facts.code_size < n_varying:
        return None
    data, shuffled = facts.train_error / variance, facts.shuffled_error / variance
    if not (data <= COPIED_DATA and shuffled <= COPIED_NOISE):
        return None
    return Finding(
        "copies-input",
        f"the code ({facts.code_size} units for {pluralize(n_varying, 'varying column')}) copies its input: rows are "
        f"reconstructed to {100 * data:.2g}% of their variance, and rows with shuffled columns, which share nothing "
        f"with them, to {100 * shuffled:.2g}%",
        "strengthen what keeps it from copying: sparsity_weight, corruption_rate or contraction_weight"
        if facts.penalised
        else f"take a narrower code: code_size={max(1, n_varying // 2)} or less; or leave code_size out",
    )


def diverged(facts: FitFacts) -> Finding | None:
    """The loss became NaN or infinite."""
    if facts.stopped != "nan":
        return None
    epoch = len(facts.epochs) if facts.nan_epoch is None else facts.nan_epoch + 1
    causes = []
    if facts.columns.largest.max(initial=0) > LARGEST_INPUT:
        causes.append(f"the input is not scaled (it reaches {facts.columns.largest.max():.4g}): use scaling='auto'")
    rate = max((float(e["learning_rate"]) for e in facts.epochs), default=0.0)
    if rate > LARGE_RATE or not causes:
        causes.append("the learning rate is too large: try a tenth of it, or clip_norm=1")
    if LIKELIHOODS[facts.likelihood].has_log_probability:
        causes.append("the logarithm of zero: look for values at the border of what the likelihood admits")
    return Finding(
        "nan",
        f"the loss was no longer a finite number in epoch {epoch}; the last good weights were kept",
        "likely causes: " + "; ".join(causes),
    )


def interrupted(facts: FitFacts) -> Finding | None:
    """Somebody pressed Ctrl-C."""
    if facts.stopped != "interrupted":
        return None
    return Finding(
        "interrupted",
        f"learning was interrupted after {pluralize(len(facts.epochs), 'epoch')}; what was learned until then is kept",
        "fit again, or go on from a checkpoint with resume=True (--resume)",
        "note",
    )


def time_limit(facts: FitFacts) -> Finding | None:
    """The time was spent before the epochs were."""
    if facts.stopped != "time_limit":
        return None
    done = len(facts.epochs)
    fewer = f" ({facts.epochs_argument}={max(1, done)})" if facts.n_phases == 1 else " of its phases"
    return Finding(
        "time-limit",
        f"the time limit ended learning in epoch {done}, before the learning rate had come down",
        f"give a longer time_limit, or plan fewer epochs{fewer} so that the rate ends at zero",
        "note",
    )


RULES: dict[str, Callable[[FitFacts], Finding | None]] = {
    "nan": diverged,
    "unscaled-input": unscaled_input,
    "collapsed-code": collapsed_code,
    "dead-units": dead_units,
    "memorised-rows": memorised_rows,
    "copies-input": copies_input,
    "worse-than-pca": worse_than_pca,
    "over-fitting": over_fitting,
    "still-improving": still_improving,
    "constant-columns": constant_columns,
    "interrupted": interrupted,
    "time-limit": time_limit,
}
"""Every rule by the name of what it finds."""

SUPPRESSED_BY = {"memorised-rows": ("over-fitting",), "nan": ("memorised-rows", "worse-than-pca", "over-fitting")}
"""What need not be said besides, by the finding that explains it."""


def _smaller(facts: FitFacts) -> str:
    return "smaller network (hidden_sizes)" if facts.has_argument("hidden_sizes") else "smaller code_size"


def _column(facts: FitFacts, number: int) -> str:
    return str(number) if facts.column_names is None else repr(str(facts.column_names[number]))


def _listed(items: Sequence[Any], most: int = 8) -> str:
    """Some items, and how many there are besides."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + rest
