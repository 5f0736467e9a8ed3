"""Each rule of the doctor: what triggers it, and a healthy fit that does not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from isthmus.errors import InputError
from isthmus.estimators.registry import KINDS
from isthmus.evaluation.doctor import RULES, ColumnStatistics, FitFacts, column_statistics, diagnose, shuffled_columns


def scales(std: Sequence[float], reach: float = 1.0) -> ColumnStatistics:
    spread = np.asarray(std, float)
    bound = np.where(spread > 0, reach, 0.0)
    return ColumnStatistics(np.zeros_like(spread), spread, -bound, bound)


def epochs(
    held_out: Sequence[float | None], train: Sequence[float] | None = None, rates: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    train = [h or 0.0 for h in held_out] if train is None else train
    # The rate at the end of each epoch of a cosine to zero, as the loop writes it.
    cosine = [5e-4 * (1 + math.cos(math.pi * (i + 1) / len(held_out))) for i in range(len(held_out))]
    rows = zip(held_out, train, cosine if rates is None else rates, strict=True)
    return [
        {"epoch": i, "held_out": h, "train": t, "learning_rate": r, "terms": {"reconstruction": t}}
        for i, (h, t, r) in enumerate(rows)
    ]


HEALTHY = FitFacts(
    epochs=epochs([740.0 + 20 * 0.8**i for i in range(50)]),
    stopped="max_epochs",
    columns=scales([1.0] * 50),
    n_rows=5000,
    n_columns=50,
    code_size=4,
    n_parameters=10_000,
    best_epoch=49,
    codes=torch.randn(500, 4, generator=torch.Generator().manual_seed(0)),
    train_error=5.0,
    validation_error=6.0,
    pca_error=13.0,
    shuffled_error=60.0,
    column_names=[f"x{i}" for i in range(50)],
)


def say(name: str, facts: FitFacts) -> str:
    """The message and the advice of one rule."""
    finding = RULES[name](facts)
    assert finding is not None
    assert finding.name == name
    return f"{finding.message} | {finding.advice}"


def silent(name: str, facts: FitFacts) -> bool:
    return RULES[name](facts) is None


def test_a_healthy_fit_has_no_findings() -> None:
    assert diagnose(HEALTHY) == []
    assert all(silent(name, HEALTHY) for name in RULES)


def test_a_fit_that_never_began_is_examined_without_trouble() -> None:
    bare = FitFacts([], "max_epochs", scales([1.0, 1.0]), 3, 2, 1, 5)
    assert diagnose(bare) == []


def test_findings_are_json_with_warnings_first() -> None:
    found = diagnose(replace(HEALTHY, columns=scales([1.0] * 49 + [0.0]), pca_error=1.0))
    assert [(f.name, f.severity) for f in found] == [("worse-than-pca", "warning"), ("constant-columns", "note")]
    assert set(json.loads(json.dumps(found[0].to_dict()))) == {"name", "message", "advice", "severity"}


# -- the input


def test_a_column_that_reaches_far_out_is_told_where_nothing_was_scaled() -> None:
    far = replace(HEALTHY, scaling="none", columns=scales([1.0, 1.0], reach=5000.0))
    assert "column 'x0' reaches 5000 | let scaling='auto'" in say("unscaled-input", far)
    assert silent("unscaled-input", replace(far, scaling="auto"))
    assert silent("unscaled-input", replace(far, likelihood="multinomial"))
    assert silent("unscaled-input", replace(far, columns=scales([1.0, 1.0], reach=9.0)))


def test_columns_of_very_different_spread_are_told_where_nothing_was_scaled() -> None:
    uneven = replace(HEALTHY, scaling="none", columns=scales([2.0, 0.001, 0.0], reach=5.0))
    assert "column 'x0' has 2,000 times the spread of column 'x1'" in say("unscaled-input", uneven)
    assert silent("unscaled-input", replace(uneven, columns=scales([2.0, 0.1, 0.0], reach=5.0)))


def test_pixels_that_are_rarely_lit_are_no_fault_of_the_scale() -> None:
    assert silent("unscaled-input", replace(HEALTHY, scaling="none", columns=scales([0.4, 0.0001], reach=1.0)))


def test_an_input_that_is_tiny_everywhere_is_told_whatever_the_scaling() -> None:
    tiny = replace(HEALTHY, columns=scales([0.01] * 3, reach=0.06))
    assert say("unscaled-input", tiny).startswith("no value of the input is larger than 0.06 | take scaling='minmax'")
    assert silent("unscaled-input", replace(tiny, columns=scales([0.0] * 3)))


def test_constant_columns_are_counted_and_named() -> None:
    one = replace(HEALTHY, columns=scales([1.0] * 49 + [0.0]))
    assert say("constant-columns", one).startswith("1 of 50 columns never varies: 'x49' |")
    many = replace(HEALTHY, columns=scales([0.0] * 10 + [1.0] * 40), column_names=None)
    assert "10 of 50 columns never vary: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more |" in say("constant-columns", many)
    assert silent("constant-columns", replace(many, images=True))


# -- the code


def with_codes(columns: dict[int, float], activation: str = "linear") -> FitFacts:
    assert HEALTHY.codes is not None
    codes = HEALTHY.codes.abs()
    for unit, value in columns.items():
        codes[:, unit] = value
    return replace(HEALTHY, codes=codes, rectified=activation == "relu")


def test_units_that_never_vary_are_counted_and_numbered() -> None:
    found = say("collapsed-code", with_codes({1: 3.0, 2: 0.0}))
    assert found.startswith("2 of 4 units of the code never vary over 500 rows: 1, 2 | try code_size=2;")


def test_a_code_that_collapsed_whole_gets_other_advice() -> None:
    assert "| lower learning_rate" in say("collapsed-code", with_codes(dict.fromkeys(range(4), 0.3)))


def test_rectified_units_that_are_never_active_are_dead_and_not_counted_as_collapsed_too() -> None:
    dead = with_codes({3: 0.0}, "relu")
    assert say("dead-units", dead).startswith("1 of 4 units of the code are never active over 500 rows: 3 | lower")
    assert silent("collapsed-code", dead)
    assert silent("dead-units", with_codes({3: 0.0}, "linear"))
    assert silent("dead-units", with_codes({3: 0.1}, "relu"))


def test_codes_that_are_not_finite_are_left_to_the_rule_that_knows_why() -> None:
    lost = with_codes({0: math.nan})
    assert silent("collapsed-code", lost)
    assert silent("dead-units", replace(lost, rectified=True))


# -- the course of learning


def test_a_loss_that_falls_to_the_end_is_told_with_how_much() -> None:
    falling = replace(HEALTHY, epochs=epochs([100.0 - 10 * i for i in range(10)]))
    found = say("still-improving", falling)
    assert found.startswith("the held-out loss was still falling: 44.4% of its whole way down since the first epoch")
    assert "in the last 4 epochs of 10 | learn for longer: max_epochs=20 (--epochs 20)" in found
    tuned = say("still-improving", replace(falling, epochs_argument="fine_tuning_epochs"))
    assert "learn for longer: fine_tuning_epochs=20 (--set fine_tuning_epochs=20)" in tuned


def test_a_flat_end_under_a_rate_that_decays_to_zero_does_not_hide_what_was_left_to_learn() -> None:
    # The held-out curve of a fit of the MNIST sample that 40 more epochs improved by 40%.
    short = [739.325, 733.0, 730.54, 729.0, 728.34, 727.76, 727.435, 727.25, 727.165, 727.153]
    assert not silent("still-improving", replace(HEALTHY, epochs=epochs(short)))


def test_with_a_constant_rate_the_last_tenth_of_the_epochs_counts() -> None:
    linear = [100.0 - i for i in range(50)]
    found = say("still-improving", replace(HEALTHY, epochs=epochs(linear, rates=[1e-3] * 50)))
    assert "10.2% of its whole way down since the first epoch came in the last 5 epochs of 50" in found
    settled = [100.0 - min(i, 40) for i in range(50)]
    assert silent("still-improving", replace(HEALTHY, epochs=epochs(settled, rates=[1e-3] * 50)))


def test_a_loss_that_comes_down_from_a_rise_but_was_better_before_is_not_called_improving() -> None:
    course = epochs([20.0, 10.0, 30.0, 28.0, 26.0, 24.0, 22.0, 20.0], rates=[1e-3] * 8)
    assert silent("still-improving", replace(HEALTHY, epochs=course))


def test_without_validation_rows_the_training_loss_is_monitored() -> None:
    course = epochs([None] * 10, train=[100.0 - 10 * i for i in range(10)])
    assert "the training loss was still falling" in say("still-improving", replace(HEALTHY, epochs=course))


def test_learning_that_was_stopped_on_purpose_is_not_called_unfinished() -> None:
    falling = replace(HEALTHY, epochs=epochs([100.0 - 10 * i for i in range(10)]))
    for reason in ("patience", "time_limit", "interrupted", "nan"):
        assert silent("still-improving", replace(falling, stopped=reason))
    assert silent("still-improving", replace(falling, epochs=falling.epochs[:1]))
    assert not silent("still-improving", replace(falling, epochs=falling.epochs[:2]))


def test_a_gap_between_held_out_and_training_rows_is_a_note_and_a_large_one_a_warning() -> None:
    gap = replace(HEALTHY, validation_error=8.0)
    assert say("over-fitting", gap).startswith(
        "held-out rows have 1.6 times the squared error of training rows (8 against 5); "
        "the network has 10,000 parameters for 5,000 rows | give more rows"
    )
    assert [f.severity for f in diagnose(gap)] == ["note"]
    assert [f.severity for f in diagnose(replace(gap, validation_error=16.0, pca_error=20.0))] == ["warning"]
    assert silent("over-fitting", replace(gap, validation_error=7.4))


def test_a_gap_of_nearly_nothing_is_none() -> None:
    assert silent("over-fitting", replace(HEALTHY, train_error=1e-6, validation_error=1e-4))


def test_a_held_out_loss_that_rises_from_its_best_is_noted_with_the_epoch_that_was_kept() -> None:
    rising = replace(HEALTHY, epochs=epochs([20.0, 12.0, 10.0, 10.5, 11.0]), best_epoch=2, stopped="patience")
    assert say("over-fitting", rising).startswith(
        "the held-out loss was lowest after 3 epochs and rose by 10.0% of what it had come down; "
        "the weights of epoch 3 were kept | give more rows"
    )
    assert silent("over-fitting", replace(rising, epochs=epochs([20.0, 12.0, 10.0, 10.1])))


def test_rows_learned_by_heart_are_named_and_over_fitting_goes_without_saying() -> None:
    by_heart = replace(HEALTHY, n_rows=60, train_error=0.1, validation_error=65.0, pca_error=70.0)
    assert say("memorised-rows", by_heart).startswith(
        "training rows are reconstructed to 0.2% of their variance, held-out rows only to 130%: "
        "the 10,000 parameters learn the 60 rows by heart | give many more rows"
    )
    assert [f.name for f in diagnose(by_heart)] == ["memorised-rows"]
    assert silent("memorised-rows", replace(by_heart, validation_error=20.0))
    assert silent("memorised-rows", replace(by_heart, train_error=10.0))


def test_rows_learned_by_heart_after_the_best_epoch_are_named_too() -> None:
    course = epochs([750.3, 746.5, 749.0, 752.2], train=[749.0, 742.0, 730.0, 722.0])
    found = say("memorised-rows", replace(HEALTHY, epochs=course, n_rows=80))
    assert found.startswith(
        "after epoch 2 the training loss fell on, from 742 to 722 nats, while the held-out loss rose from 746.5 to "
        "752.2, no better than at the first epoch: the 10,000 parameters learn the 80 rows by heart"
    )
    still = epochs([750.3, 746.5, 749.0, 752.2], train=[749.0, 742.0, 741.0, 740.0])
    assert silent("memorised-rows", replace(HEALTHY, epochs=still))


# -- against principal components, and copying


def test_a_model_worse_than_pca_is_told_by_how_much() -> None:
    worse = replace(HEALTHY, validation_error=6.6, pca_error=6.0)
    assert say("worse-than-pca", worse).startswith(
        "the squared error per row, 6.6, is 10.0% above that of 4 principal components, 6 | learn for longer"
    )
    assert [f.severity for f in diagnose(worse)] == ["warning"]
    assert [f.severity for f in diagnose(replace(worse, validation_error=6.2))] == ["note"]
    assert "linear kind" in say("worse-than-pca", worse)
    assert "linear kind" not in say("worse-than-pca", replace(worse, kind="linear"))
    assert silent("worse-than-pca", replace(worse, validation_error=6.1))
    assert silent("worse-than-pca", replace(worse, pca_error=None))


@pytest.mark.parametrize("kind", KINDS)
def test_only_arguments_that_the_kind_takes_are_advised(kind: str) -> None:
    taken = KINDS[kind]().get_params(deep=False)
    facts = replace(HEALTHY, kind=kind, validation_error=16.0, pca_error=6.0)
    by_heart = replace(facts, n_rows=60, train_error=0.1, validation_error=65.0)
    advised = [
        say("worse-than-pca", facts), say("over-fitting", facts), say("memorised-rows", by_heart),
        say("over-fitting", replace(facts, validation_error=None, epochs=epochs([20.0, 12.0, 10.0, 10.5, 11.0]))),
    ]  # fmt: skip
    for argument in ("hidden_sizes", "dropout"):
        assert any(argument in text for text in advised) == (argument in taken)


def test_a_code_that_was_asked_for_more_than_a_small_error_only_gets_a_note() -> None:
    facts = replace(HEALTHY, validation_error=6.6, pca_error=6.0, penalised=True)
    assert [f.severity for f in diagnose(facts)] == ["note"]
    assert "weaken the penalty or corruption" in say("worse-than-pca", facts)


def test_copies_input_is_silent_for_an_overcomplete_penalised_code() -> None:
    facts = replace(HEALTHY, validation_error=6.6, pca_error=2.0, code_size=50)
    assert not silent("worse-than-pca", facts)
    assert silent("worse-than-pca", replace(facts, penalised=True))
    copy = replace(facts, train_error=0.01, validation_error=0.01, shuffled_error=0.05, penalised=True)
    assert "strengthen what keeps it from copying" in say("copies-input", copy)


def test_dead_units_of_a_sparse_code_are_told_what_helps() -> None:
    codes = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 1.0, 0.0])
    facts = replace(HEALTHY, codes=codes, rectified=True)
    assert "code_activation='linear'" in say("dead-units", facts)
    assert "weaken sparsity_weight or give more active units (k)" in say("dead-units", replace(facts, penalised=True))


def test_without_held_out_rows_training_rows_are_compared_with_pca() -> None:
    assert not silent("worse-than-pca", replace(HEALTHY, validation_error=None, train_error=9.0, pca_error=6.0))


def test_another_likelihood_than_the_squared_error_only_gets_a_note() -> None:
    found = diagnose(replace(HEALTHY, validation_error=6.6, pca_error=6.0, likelihood="mixed"))
    assert [(f.name, f.severity) for f in found] == [("worse-than-pca", "note")]
    assert "likelihood='mixed' does not minimise the squared error" in found[0].advice


def test_worse_than_pca_ignores_a_tiny_excess() -> None:
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=0.01, pca_error=1e-6))
    assert not silent("worse-than-pca", replace(HEALTHY, validation_error=1.0, pca_error=1e-6))


def test_worse_than_pca_is_silent_where_pca_is_exact() -> None:
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=30.0, pca_error=2.5e-13, code_size=64))
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=30.0, pca_error=0.0))


def test_a_wide_code_that_rebuilds_shuffled_rows_as_well_as_data_copies() -> None:
    copy = replace(HEALTHY, code_size=60, train_error=0.01, validation_error=0.01, pca_error=0.0, shuffled_error=0.05)
    assert say("copies-input", copy).startswith(
        "the code (60 units for 50 varying columns) copies its input: rows are reconstructed to 0.02% of their "
        "variance, and rows with shuffled columns, which share nothing with them, to 0.1% | take a narrower code: "
        "code_size=25 or less"
    )
    assert silent("copies-input", replace(copy, code_size=49))
    assert silent("copies-input", replace(copy, shuffled_error=30.0))
    assert silent("copies-input", replace(copy, train_error=5.0))
    assert silent("copies-input", replace(copy, shuffled_error=None))


# -- how it ended


def test_a_nan_loss_reports_epoch_and_likely_cause() -> None:
    lost = replace(HEALTHY, stopped="nan", nan_epoch=2, epochs=epochs([700.0, 600.0]))
    found = say("nan", lost)
    assert found.startswith("the loss was no longer a finite number in epoch 3; the last good weights were kept | ")
    assert found.endswith("likely causes: the learning rate is too large: try a tenth of it, or clip_norm=1")
    unscaled = say("nan", replace(lost, columns=scales([1.0], reach=5e4)))
    assert unscaled.endswith("likely causes: the input is not scaled (it reaches 5e+04): use scaling='auto'")
    assert "the logarithm of zero" in say("nan", replace(lost, likelihood="bernoulli"))
    both = replace(lost, columns=scales([1.0], reach=5e4), epochs=epochs([1.0, 1.0], rates=[0.5, 0.5]))
    assert say("nan", both).count(";") == 2
    assert [f.name for f in diagnose(replace(lost, validation_error=70.0))] == ["nan"]


def test_a_loss_that_is_nan_troubles_no_other_rule() -> None:
    lost = replace(
        HEALTHY, stopped="nan", nan_epoch=1, epochs=epochs([700.0, math.nan]), train_error=math.nan,
        validation_error=math.nan, shuffled_error=math.nan, codes=torch.full((5, 4), math.nan),
    )  # fmt: skip
    assert [f.name for f in diagnose(lost)] == ["nan"]


def test_an_interrupted_fit_and_a_spent_time_limit_are_noted() -> None:
    stopped = replace(HEALTHY, stopped="interrupted", epochs=HEALTHY.epochs[:7])
    assert say("interrupted", stopped).startswith("learning was interrupted after 7 epochs; what was learned")
    spent = replace(stopped, stopped="time_limit")
    assert say("time-limit", spent).startswith("the time limit ended learning in epoch 7, before the learning rate")
    assert "plan fewer epochs (max_epochs=7) so that" in say("time-limit", spent)
    assert "plan fewer epochs of its phases so that" in say("time-limit", replace(spent, n_phases=3))
    assert [f.severity for f in diagnose(stopped) + diagnose(spent)] == ["note", "note"]


# -- the measurements


def test_column_scales_leave_out_what_is_missing() -> None:
    x = np.random.default_rng(0).normal(5, 2, size=(90, 4)).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.4] = np.nan
    x[:40, 1], x[:, 3] = np.nan, np.nan
    found = column_statistics(torch.from_numpy(x).split(20))
    seen = x[:, :3].astype(np.float64)
    for name, of in (("mean", np.nanmean), ("std", np.nanstd), ("minimum", np.nanmin), ("maximum", np.nanmax)):
        np.testing.assert_allclose(getattr(found, name)[:3], of(seen, axis=0), rtol=1e-12)
        assert getattr(found, name)[3] == 0


def test_column_scales_agree_with_numpy_and_lose_nothing_far_from_zero() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)) * [1, 10, 0.1, 0] + [0, 5, 1e6, 0.1]
    found = column_statistics(torch.from_numpy(x).split(33))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, [*x[:, :3].std(0), 0.0], rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, x.min(0))
    np.testing.assert_array_equal(found.maximum, x.max(0))
    assert found.variance == pytest.approx(x[:, :3].var(0).sum())


def test_scales_of_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are no rows to take the scales of columns from; give at least one"):
        column_statistics([torch.zeros(0, 3)])


def test_shuffled_columns_keep_the_values_of_each_column_and_break_what_goes_together() -> None:
    t = torch.linspace(0, 1, 500)
    x = torch.stack([t, 2 * t, -t], 1)
    mixed = shuffled_columns(x, torch.Generator().manual_seed(0))
    assert torch.equal(mixed.sort(0).values, x.sort(0).values)
    assert float(torch.corrcoef(mixed.T).fill_diagonal_(0).abs().max()) < 0.15
