"""Each rule of the doctor, with facts that trigger it and facts that do not."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from isthmus import Autoencoder
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
    # The learning rate at the end of each epoch, for a cosine schedule that decays to zero.
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
    arguments=frozenset({"hidden_sizes", "network", "network__dropout"}),
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


def test_a_fit_without_epochs_has_no_findings() -> None:
    bare = FitFacts([], "max_epochs", scales([1.0, 1.0]), 3, 2, 1, 5)
    assert diagnose(bare) == []


def test_findings_are_json_with_warnings_first() -> None:
    found = diagnose(replace(HEALTHY, columns=scales([1.0] * 49 + [0.0]), pca_error=1.0))
    assert [(f.name, f.severity) for f in found] == [("worse-than-pca", "warning"), ("constant-columns", "note")]
    assert set(json.loads(json.dumps(found[0].to_dict()))) == {"name", "message", "advice", "severity"}


# -- the input


def test_an_unscaled_column_with_large_values_is_found() -> None:
    far = replace(HEALTHY, scaling="none", columns=scales([1.0, 1.0], reach=5000.0))
    assert "column 'x0' has values up to 5000 | use scaling='auto'" in say("unscaled-input", far)
    assert silent("unscaled-input", replace(far, scaling="auto"))
    assert silent("unscaled-input", replace(far, likelihood="multinomial"))
    assert silent("unscaled-input", replace(far, columns=scales([1.0, 1.0], reach=9.0)))


def test_unscaled_columns_with_very_different_standard_deviations_are_found() -> None:
    uneven = replace(HEALTHY, scaling="none", columns=scales([2.0, 0.001, 0.0], reach=5.0))
    assert "the standard deviation of column 'x0' is 2,000 times that of column 'x1'" in say("unscaled-input", uneven)
    assert silent("unscaled-input", replace(uneven, columns=scales([2.0, 0.1, 0.0], reach=5.0)))


def test_pixels_that_rarely_vary_do_not_count_as_unscaled() -> None:
    assert silent("unscaled-input", replace(HEALTHY, scaling="none", columns=scales([0.4, 0.0001], reach=1.0)))


def test_an_input_of_small_values_is_found_for_every_scaling() -> None:
    tiny = replace(HEALTHY, columns=scales([0.01] * 3, reach=0.06))
    assert say("unscaled-input", tiny).startswith(
        "all values of the input are at most 0.06 in magnitude | use scaling="
    )
    assert silent("unscaled-input", replace(tiny, columns=scales([0.0] * 3)))


def test_constant_columns_are_counted_and_named() -> None:
    one = replace(HEALTHY, columns=scales([1.0] * 49 + [0.0]))
    assert say("constant-columns", one).startswith("1 of 50 columns is constant: 'x49' |")
    many = replace(HEALTHY, columns=scales([0.0] * 10 + [1.0] * 40), column_names=None)
    assert "10 of 50 columns are constant: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more |" in say("constant-columns", many)
    assert silent("constant-columns", replace(many, images=True))


def test_constant_columns_are_those_of_the_users_table() -> None:
    # Four model inputs of three columns: a number, a category of which one level does not occur, a constant number.
    table = {"size": [0], "colour": [1, 2], "batch": [3]}
    facts = replace(HEALTHY, n_columns=4, columns=scales([1.0, 1.0, 0.0, 0.0]), user_columns=table)
    assert say("constant-columns", facts).startswith("1 of 3 columns is constant: 'batch' |")
    assert silent("constant-columns", replace(facts, columns=scales([1.0, 1.0, 0.0, 1.0])))


def test_a_fit_passes_the_columns_of_the_users_table_to_the_doctor() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"size": rng.normal(size=60), "colour": rng.choice(["red", "green", "blue"], 60), "batch": 1.0}
    )
    model = Autoencoder(code_size=2, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(table)
    messages = {finding["name"]: finding["message"] for finding in model.history_["findings"]}
    assert messages["constant-columns"] == "1 of 3 columns is constant: 'batch'"


# -- the code


def with_codes(columns: dict[int, float], activation: str = "linear") -> FitFacts:
    assert HEALTHY.codes is not None
    codes = HEALTHY.codes.abs()
    for unit, value in columns.items():
        codes[:, unit] = value
    return replace(HEALTHY, codes=codes, rectified=activation == "relu")


def test_constant_units_are_counted_and_listed() -> None:
    found = say("collapsed-code", with_codes({1: 3.0, 2: 0.0}))
    assert found.startswith("2 of 4 units of the code are constant over 500 rows: 1, 2 | try code_size=2;")


def test_a_code_whose_units_are_all_constant_gets_other_advice() -> None:
    assert "| lower learning_rate" in say("collapsed-code", with_codes(dict.fromkeys(range(4), 0.3)))


def test_dead_rectified_units_are_not_counted_as_collapsed() -> None:
    dead = with_codes({3: 0.0}, "relu")
    assert say("dead-units", dead).startswith("1 of 4 units of the code is dead (zero in all 500 rows): 3 | lower")
    assert silent("collapsed-code", dead)
    assert silent("dead-units", with_codes({3: 0.0}, "linear"))
    assert silent("dead-units", with_codes({3: 0.1}, "relu"))


def test_of_feature_maps_those_are_found_that_are_constant_at_every_position() -> None:
    borders = replace(with_codes({1: 3.0, 2: 0.0}, "relu"), n_maps=2)
    assert silent("constant-maps", borders)
    assert silent("collapsed-code", borders)
    assert silent("dead-units", borders)
    one = replace(with_codes({2: 3.0, 3: 0.0}), n_maps=2)
    assert say("constant-maps", one).startswith("1 of 2 feature maps is constant over 500 rows: 1 | give the sparsity")


def test_codes_that_are_not_finite_give_no_finding_on_units() -> None:
    lost = with_codes({0: math.nan})
    assert silent("collapsed-code", lost)
    assert silent("dead-units", replace(lost, rectified=True))


# -- the loss curve


def test_a_loss_that_decreases_to_the_end_is_found_with_its_amount() -> None:
    falling = replace(HEALTHY, epochs=epochs([100.0 - 10 * i for i in range(10)]))
    found = say("still-improving", falling)
    assert "from 50 to 10 nats per row in the last 4 epochs of 10, 44.4% of its total decrease" in found
    assert found.endswith("| train longer: max_epochs=20 (--epochs 20)")
    tuned = say("still-improving", replace(falling, epochs_argument="fine_tuning__epochs"))
    assert "train longer: fine_tuning__epochs=20 (--set fine_tuning.epochs=20)" in tuned


@pytest.mark.parametrize("peak", [10.5, 100.0, 1e6])
def test_after_a_rise_the_decrease_is_not_given_as_a_share_of_a_smaller_one(peak: float) -> None:
    losses = [10.0, peak, *np.linspace(0.9 * peak, 9.0, 8)]
    found = say("still-improving", replace(HEALTHY, epochs=epochs(losses)))
    assert f"from {losses[5]:.5g} to 9 nats per row in the last 4 epochs of 10 |" in found
    assert "%" not in found


def test_a_flat_end_under_a_decaying_learning_rate_is_still_found() -> None:
    # The validation curve of a fit of the MNIST sample that 40 more epochs improved by 40%.
    short = [739.325, 733.0, 730.54, 729.0, 728.34, 727.76, 727.435, 727.25, 727.165, 727.153]
    assert not silent("still-improving", replace(HEALTHY, epochs=epochs(short)))


def test_with_a_constant_rate_the_last_tenth_of_the_epochs_counts() -> None:
    linear = [100.0 - i for i in range(50)]
    found = say("still-improving", replace(HEALTHY, epochs=epochs(linear, rates=[1e-3] * 50)))
    assert "in the last 5 epochs of 50, 10.2% of its total decrease" in found
    settled = [100.0 - min(i, 40) for i in range(50)]
    assert silent("still-improving", replace(HEALTHY, epochs=epochs(settled, rates=[1e-3] * 50)))


def test_a_loss_that_was_lower_before_a_rise_is_not_called_improving() -> None:
    course = epochs([20.0, 10.0, 30.0, 28.0, 26.0, 24.0, 22.0, 20.0], rates=[1e-3] * 8)
    assert silent("still-improving", replace(HEALTHY, epochs=course))


def test_without_validation_rows_the_training_loss_is_monitored() -> None:
    course = epochs([None] * 10, train=[100.0 - 10 * i for i in range(10)])
    assert "the training loss was still decreasing" in say("still-improving", replace(HEALTHY, epochs=course))


def test_training_that_was_stopped_early_is_not_called_unfinished() -> None:
    falling = replace(HEALTHY, epochs=epochs([100.0 - 10 * i for i in range(10)]))
    for reason in ("patience", "time_limit", "interrupted", "nan"):
        assert silent("still-improving", replace(falling, stopped=reason))
    assert silent("still-improving", replace(falling, epochs=falling.epochs[:1]))
    assert not silent("still-improving", replace(falling, epochs=falling.epochs[:2]))


def test_a_gap_between_validation_and_training_error_is_a_note_and_a_large_one_a_warning() -> None:
    gap = replace(HEALTHY, validation_error=8.0)
    assert say("over-fitting", gap).startswith(
        "the squared error of validation rows is 1.6 times that of training rows (8 and 5); "
        "the network has 10,000 parameters for 5,000 rows | use more rows"
    )
    assert [f.severity for f in diagnose(gap)] == ["note"]
    assert [f.severity for f in diagnose(replace(gap, validation_error=16.0, pca_error=20.0))] == ["warning"]
    assert silent("over-fitting", replace(gap, validation_error=7.4))


def test_a_gap_between_two_tiny_errors_is_ignored() -> None:
    assert silent("over-fitting", replace(HEALTHY, train_error=1e-6, validation_error=1e-4))


def test_a_validation_loss_that_rises_from_its_minimum_is_noted_with_the_epoch_of_the_weights() -> None:
    rising = replace(HEALTHY, epochs=epochs([20.0, 12.0, 10.0, 10.5, 11.0]), best_epoch=2, stopped="patience")
    assert say("over-fitting", rising).startswith(
        "the validation loss was lowest after 3 epochs (10 nats per row) and rose to 11 by the last epoch; "
        "the weights of epoch 3 were kept | use more rows"
    )
    assert silent("over-fitting", replace(rising, epochs=epochs([20.0, 12.0, 10.0, 10.1])))


def test_memorised_rows_are_found_instead_of_over_fitting() -> None:
    memorised = replace(HEALTHY, n_rows=60, train_error=0.1, validation_error=65.0, pca_error=70.0)
    assert say("memorised-rows", memorised).startswith(
        "the squared error is 0.2% of the variance for training rows and 130% for validation rows: "
        "the model memorises the 60 rows with its 10,000 parameters | use many more rows"
    )
    assert [f.name for f in diagnose(memorised)] == ["memorised-rows"]
    assert silent("memorised-rows", replace(memorised, validation_error=20.0))
    assert silent("memorised-rows", replace(memorised, train_error=10.0))


def test_rows_memorised_after_the_best_epoch_are_found() -> None:
    course = epochs([750.3, 746.5, 749.0, 752.2], train=[749.0, 742.0, 730.0, 722.0])
    found = say("memorised-rows", replace(HEALTHY, epochs=course, n_rows=80))
    assert found.startswith("after epoch 2 the training loss decreased from 742 to 722 nats per row, while")
    assert "rose from 746.5 to 752.2" in found
    still = epochs([750.3, 746.5, 749.0, 752.2], train=[749.0, 742.0, 741.0, 740.0])
    assert silent("memorised-rows", replace(HEALTHY, epochs=still))


# -- against principal components, and copying


def test_a_model_worse_than_pca_is_found_with_the_excess() -> None:
    worse = replace(HEALTHY, validation_error=6.6, pca_error=6.0)
    assert say("worse-than-pca", worse).startswith(
        "the squared error per validation row, 6.6, is 10.0% above that of a PCA with 4 components, 6 | train longer"
    )
    assert [f.severity for f in diagnose(worse)] == ["warning"]
    assert [f.severity for f in diagnose(replace(worse, validation_error=6.2))] == ["note"]
    assert "use PCA itself" in say("worse-than-pca", worse)
    assert "use PCA itself" not in say("worse-than-pca", replace(worse, kind="linear"))
    assert silent("worse-than-pca", replace(worse, validation_error=6.1))
    assert silent("worse-than-pca", replace(worse, pca_error=None))


@pytest.mark.parametrize("kind", KINDS)
def test_only_arguments_that_the_kind_takes_are_advised(kind: str) -> None:
    taken = KINDS[kind]().get_params()
    facts = replace(HEALTHY, kind=kind, arguments=taken, validation_error=16.0, pca_error=6.0)
    memorised = replace(facts, n_rows=60, train_error=0.1, validation_error=65.0)
    advised = [
        say("worse-than-pca", facts), say("over-fitting", facts), say("memorised-rows", memorised),
        say("over-fitting", replace(facts, validation_error=None, epochs=epochs([20.0, 12.0, 10.0, 10.5, 11.0]))),
    ]  # fmt: skip
    for argument, name in (("hidden_sizes", "hidden_sizes"), ("dropout", "network__dropout")):
        assert any(argument in text for text in advised) == (name in taken)


def test_a_penalised_code_worse_than_pca_only_gets_a_note() -> None:
    facts = replace(HEALTHY, validation_error=6.6, pca_error=6.0, penalised=True)
    assert [f.severity for f in diagnose(facts)] == ["note"]
    assert "a penalty or corruption increases the error" in say("worse-than-pca", facts)


def test_copies_input_is_silent_for_an_overcomplete_penalised_code() -> None:
    facts = replace(HEALTHY, validation_error=6.6, pca_error=2.0, code_size=50)
    assert not silent("worse-than-pca", facts)
    assert silent("worse-than-pca", replace(facts, penalised=True))
    copy = replace(facts, train_error=0.01, validation_error=0.01, shuffled_error=0.05, penalised=True)
    assert "increase the weight of the sparsity" in say("copies-input", copy)


def test_dead_units_of_a_sparse_code_get_their_own_advice() -> None:
    codes = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 1.0, 0.0])
    facts = replace(HEALTHY, codes=codes, rectified=True)
    assert "code_activation='linear'" in say("dead-units", facts)
    assert "give the sparsity a smaller weight" in say("dead-units", replace(facts, penalised=True))


def test_without_validation_rows_training_rows_are_compared_with_pca() -> None:
    assert not silent("worse-than-pca", replace(HEALTHY, validation_error=None, train_error=9.0, pca_error=6.0))


def test_another_likelihood_than_the_squared_error_only_gets_a_note() -> None:
    found = diagnose(replace(HEALTHY, validation_error=6.6, pca_error=6.0, likelihood="mixed"))
    assert [(f.name, f.severity) for f in found] == [("worse-than-pca", "note")]
    assert "likelihood='mixed' minimises the negative log-likelihood" in found[0].advice


def test_worse_than_pca_ignores_a_tiny_excess() -> None:
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=0.01, pca_error=1e-6))
    assert not silent("worse-than-pca", replace(HEALTHY, validation_error=1.0, pca_error=1e-6))


def test_worse_than_pca_is_silent_where_pca_is_exact() -> None:
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=30.0, pca_error=2.5e-13, code_size=64))
    assert silent("worse-than-pca", replace(HEALTHY, validation_error=30.0, pca_error=0.0))


def test_a_wide_code_that_reconstructs_shuffled_rows_copies_its_input() -> None:
    copy = replace(HEALTHY, code_size=60, train_error=0.01, validation_error=0.01, pca_error=0.0, shuffled_error=0.05)
    assert say("copies-input", copy).startswith(
        "the code (60 units for 50 varying columns) copies its input: the squared error is 0.02% of the variance, "
    )
    assert "| use a smaller code: code_size=25 or less" in say("copies-input", copy)
    table = {f"c{i}": [i] for i in range(48)} | {"level": [48, 49]}
    assert "60 units for 50 varying model inputs" in say("copies-input", replace(copy, user_columns=table))
    assert silent("copies-input", replace(copy, code_size=49))
    assert silent("copies-input", replace(copy, shuffled_error=30.0))
    assert silent("copies-input", replace(copy, train_error=5.0))
    assert silent("copies-input", replace(copy, shuffled_error=None))


# -- the end of training


def test_a_nan_loss_reports_epoch_and_likely_cause() -> None:
    lost = replace(HEALTHY, stopped="nan", nan_epoch=2, epochs=epochs([700.0, 600.0]))
    found = say("nan", lost)
    assert found.startswith("the loss became NaN or infinite in epoch 3;")
    assert found.endswith(
        "likely causes: the learning rate is too large: divide it by ten, or use optimizer=AdamW(clip_norm=1)"
    )
    unscaled = say("nan", replace(lost, columns=scales([1.0], reach=5e4)))
    assert unscaled.endswith("likely causes: the input is not scaled (values up to 5e+04): use scaling='auto'")
    assert "the logarithm of zero" in say("nan", replace(lost, likelihood="bernoulli"))
    both = replace(lost, columns=scales([1.0], reach=5e4), epochs=epochs([1.0, 1.0], rates=[0.5, 0.5]))
    assert say("nan", both).count(";") == 2
    assert [f.name for f in diagnose(replace(lost, validation_error=70.0))] == ["nan"]


def test_a_nan_loss_triggers_no_other_rule() -> None:
    lost = replace(
        HEALTHY, stopped="nan", nan_epoch=1, epochs=epochs([700.0, math.nan]), train_error=math.nan,
        validation_error=math.nan, shuffled_error=math.nan, codes=torch.full((5, 4), math.nan),
    )  # fmt: skip
    assert [f.name for f in diagnose(lost)] == ["nan"]


def test_an_interrupt_and_a_time_limit_are_noted() -> None:
    stopped = replace(HEALTHY, stopped="interrupted", epochs=HEALTHY.epochs[:7])
    assert say("interrupted", stopped).startswith("training was interrupted after 7 epochs;")
    spent = replace(stopped, stopped="time_limit")
    assert say("time-limit", spent).startswith("the time limit allowed 7 epochs,")
    assert say("time-limit", replace(spent, cut=True)).startswith("the time limit ended training in epoch 7,")
    assert [f.severity for f in diagnose(stopped) + diagnose(spent)] == ["note", "note"]


def test_phases_that_were_not_reached_are_named_and_the_quality_of_the_model_is_not_judged() -> None:
    cut = replace(HEALTHY, stopped="interrupted", pca_error=1e-3, unreached=("layer 2 of 2", "fine-tuning"))
    assert "worse-than-pca" in [f.name for f in diagnose(replace(cut, unreached=()))]
    assert [f.name for f in diagnose(cut)] == ["interrupted"]
    assert "not trained: layer 2 of 2, fine-tuning" in say("interrupted", cut)


# -- the measurements


def test_column_statistics_exclude_missing_entries() -> None:
    x = np.random.default_rng(0).normal(5, 2, size=(90, 4)).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.4] = np.nan
    x[:40, 1], x[:, 3] = np.nan, np.nan
    found = column_statistics(torch.from_numpy(x).split(20))
    seen = x[:, :3].astype(np.float64)
    for name, of in (("mean", np.nanmean), ("std", np.nanstd), ("minimum", np.nanmin), ("maximum", np.nanmax)):
        np.testing.assert_allclose(getattr(found, name)[:3], of(seen, axis=0), rtol=1e-12)
        assert getattr(found, name)[3] == 0


def test_column_statistics_agree_with_numpy_far_from_zero_too() -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)) * [1, 10, 0.1, 0] + [0, 5, 1e6, 0.1]
    found = column_statistics(torch.from_numpy(x).split(33))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, [*x[:, :3].std(0), 0.0], rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, x.min(0))
    np.testing.assert_array_equal(found.maximum, x.max(0))
    assert found.variance == pytest.approx(x[:, :3].var(0).sum())


def test_column_statistics_of_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are no rows to compute column statistics from"):
        column_statistics([torch.zeros(0, 3)])


def test_shuffled_columns_keep_their_values_and_lose_their_correlation() -> None:
    t = torch.linspace(0, 1, 500)
    x = torch.stack([t, 2 * t, -t], 1)
    mixed = shuffled_columns(x, torch.Generator().manual_seed(0))
    assert torch.equal(mixed.sort(0).values, x.sort(0).values)
    assert float(torch.corrcoef(mixed.T).fill_diagonal_(0).abs().max()) < 0.15
