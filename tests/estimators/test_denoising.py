"""The denoising autoencoder, as its users see it: it cleans, it fills in, it minds what was hidden."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import (
    Autoencoder,
    DenoisingAutoencoder,
    GaussianNoise,
    GroupMasking,
    InputError,
    Masking,
    SaltAndPepper,
)

from .fitted import criterion

X = load_digits().images / 16
TRAIN, TEST = X[:1400], X[1400:]
QUICK = {"max_epochs": 25, "precision": "fp32", "random_state": 0}
FILLING = {
    "hidden_sizes": (64,), "code_size": 64, "code_activation": "silu", "batch_size": 50, "learning_rate": 5e-3,
    "max_epochs": 40, "precision": "fp32", "random_state": 0,
}  # fmt: skip


def hidden(images: np.ndarray, rate: float = 0.25) -> np.ndarray:
    return np.random.default_rng(0).random(images.shape) < rate


def error(images: np.ndarray, wanted: np.ndarray, where: np.ndarray | None = None) -> float:
    squares = (np.asarray(images) - wanted) ** 2
    return float(squares.sum() / len(wanted) if where is None else squares[where].mean())


@pytest.fixture(scope="module")
def cleaner() -> DenoisingAutoencoder:
    return DenoisingAutoencoder(code_size=128, **QUICK).fit(TRAIN)


def curve(n: int, seed: int = 0) -> np.ndarray:
    """Rows of twelve columns that lie on a closed curve, with a little scatter."""
    generator = np.random.default_rng(seed)
    t = generator.uniform(0, 2 * np.pi, n)
    waves = [f(k * t + k) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    return np.stack([*waves, *waves[::-1]], 1) + 0.05 * generator.normal(size=(n, 12))


# Cleaning


def test_masked_digits_come_back_better_than_by_copying_and_than_from_a_plain_autoencoder(cleaner):
    noisy = np.where(hidden(TEST), 0.0, TEST)
    plain = Autoencoder(code_size=32, **QUICK).fit(TRAIN)
    ours = error(cleaner.reconstruct(noisy), TEST)
    assert ours < 0.6 * error(noisy, TEST)
    assert ours < 0.8 * error(plain.reconstruct(noisy), TEST)


def test_gaussian_noise_is_taken_off():
    noisy = TEST + 0.3 * np.random.default_rng(0).normal(size=TEST.shape)
    model = DenoisingAutoencoder(code_size=128, corruption="gaussian", likelihood="gaussian", **QUICK).fit(TRAIN)
    assert error(model.reconstruct(noisy), TEST) < 0.5 * error(noisy, TEST)


def test_corruption_is_off_after_training(cleaner):
    np.testing.assert_array_equal(cleaner.reconstruct(TEST), cleaner.reconstruct(TEST))
    assert error(cleaner.reconstruct(TEST), TEST) < error(cleaner.reconstruct(np.where(hidden(TEST), 0, TEST)), TEST)


def test_patches_of_an_image_are_hidden_together_where_no_groups_are_given():
    model = DenoisingAutoencoder(code_size=8, corruption="groups", max_epochs=1, random_state=0).fit(TRAIN)
    x = torch.ones(100, 64)
    corrupted = criterion(model).corruption(x, torch.Generator().manual_seed(0))
    corruption_mask = corrupted.corruption_mask.view(100, 4, 2, 4, 2)
    assert (corruption_mask == corruption_mask[:, :, :1, :, :1]).all()
    assert 0.2 < corruption_mask.mean() < 0.3


def test_the_columns_of_a_category_are_hidden_together():
    generator = np.random.default_rng(0)
    table = pd.DataFrame(
        {"size": generator.normal(size=200), "colour": generator.choice(["red", "green", "blue"], 200)}
    )
    model = DenoisingAutoencoder(code_size=8, corruption="groups", max_epochs=1, random_state=0).fit(table)
    assert criterion(model).corruption.corruption_masks.group.bincount().tolist() == [1, 3]


# Gaps


def test_missing_entries_are_filled_in_better_than_by_the_column_mean():
    rows, wanted = curve(800), curve(200, seed=1)
    gaps, holes = hidden(rows, 0.2), hidden(wanted, 0.2)
    model = DenoisingAutoencoder(corruption="missing", missing="mask", **FILLING).fit(np.where(gaps, np.nan, rows))
    filled = model.reconstruct(np.where(holes, np.nan, wanted))
    mean = np.broadcast_to(np.nanmean(np.where(gaps, np.nan, rows), 0), wanted.shape)
    assert error(filled, wanted, holes) < 0.25 * error(mean, wanted, holes)


def test_an_observed_zero_differs_from_a_missing_entry():
    model = DenoisingAutoencoder(corruption="missing", missing="mask", scaling="none", code_size=8, **QUICK)
    model.fit(np.where(hidden(curve(300), 0.1), np.nan, curve(300)))
    row = curve(1)
    measured, gap = row.copy(), row.copy()
    measured[0, 3], gap[0, 3] = 0.0, np.nan
    assert np.abs(model.transform(measured) - model.transform(gap)).max() > 1e-4


# Emphasis


def test_emphasis_on_what_was_hidden_lowers_the_error_there_and_raises_it_elsewhere():
    rows, wanted = curve(800), curve(200, seed=1)
    corruption_mask = hidden(wanted)
    learned = {
        weights: DenoisingAutoencoder(
            corruption=Masking(corrupted_weight=weights[0], clean_weight=weights[1]), scaling="none", **FILLING
        ).fit(rows).reconstruct(np.where(corruption_mask, 0.0, wanted))
        for weights in ((1.0, 0.0), (0.0, 1.0))
    }  # fmt: skip
    assert error(learned[1.0, 0.0], wanted, corruption_mask) < 0.7 * error(learned[0.0, 1.0], wanted, corruption_mask)
    assert error(learned[1.0, 0.0], wanted, ~corruption_mask) > error(learned[0.0, 1.0], wanted, ~corruption_mask)


def test_the_emphasised_criterion_is_the_weighted_sum_of_both_parts():
    kept = {"max_epochs": 1, "code_size": 16, "likelihood": "gaussian", "random_state": 0}
    models = [
        DenoisingAutoencoder(corruption=Masking(corrupted_weight=a, clean_weight=b), **kept).fit(TRAIN)
        for a, b in ((1.0, 0.0), (0.0, 1.0), (2.0, 0.5))
    ]
    batch = models[0].preprocessing_.rows(TEST).batch(torch.arange(32))
    for model in models[1:]:
        model.coder_.load_state_dict(models[0].coder_.state_dict())
    corruption_mask, clean, both = (
        criterion(model).terms(batch, 0.5, torch.Generator().manual_seed(3))[0]["reconstruction"] for model in models
    )
    torch.testing.assert_close(both, 2 * corruption_mask + 0.5 * clean)


# A corruption of one's own


def flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.where(torch.rand(x.shape, generator=generator) < 0.1, 1 - x, x)


def test_a_callable_corrupts_and_no_file_keeps_it(tmp_path):
    model = DenoisingAutoencoder(corruption=flip, code_size=64, **QUICK).fit(TRAIN)
    turned = np.where(hidden(TEST, 0.1), 1 - TEST, TEST)
    assert error(model.reconstruct(turned), TEST) < 0.5 * error(turned, TEST)
    with pytest.raises(InputError, match="corruption=<function flip .*cannot be saved in a file; give plain data"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"corruption": "maskin"}, "corruption='maskin' is unknown; did you mean 'masking'"),
        (
            {"corruption": 0.25},
            r"corruption=0.25: give one of 'masking', .*, or a function \(x, generator\) -> corrupt",
        ),
        ({"corruption": Masking}, r"corruption=Masking is a class; give corruption=Masking\(...\)"),
        ({"corruption_rate": 0.5}, r"has no argument 'corruption_rate'; give corruption=Masking\(rate=...\)"),
        ({"corruption": lambda x, generator: x[:, :5]}, "corruption <lambda> returned shape .* return the same shape"),
        ({"corruption": lambda x, generator: x / 0}, "corruption <lambda> returned .* return finite numbers"),
        ({"corruption": GroupMasking(groups=[[0, 99]])}, "contains column 99, but the rows have 64 columns"),
    ],
)
def test_corruptions_that_cannot_be_meant_are_refused_in_one_line(changed, said):
    with pytest.raises(InputError, match=said) as refusal:
        DenoisingAutoencoder(code_size=4, max_epochs=1, random_state=0, **changed).fit(TRAIN)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: Masking(rate=1.5), r"corruption.rate.*1\.5"),
        (lambda: GaussianNoise(scale=-1.0), r"corruption.scale.*-1\.0"),
        (lambda: Masking(corrupted_weight="a"), "corrupted_weight='a': it must be a finite number, 0 or more"),
        (lambda: Masking(corrupted_weight=-1.0), "corrupted_weight=-1.0: it must be a finite number, 0 or more"),
        (lambda: Masking(clean_weight=float("nan")), "clean_weight=nan: it must be a finite number, 0 or more"),
        (lambda: Masking(corrupted_weight=0.0, clean_weight=0), "no entry has a weight; give one of them"),
    ],
)
def test_a_corruption_refuses_invalid_fields_in_one_line(build, said):
    with pytest.raises(InputError, match=said) as refusal:
        build()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "changes", "said"),
    [
        ("salt-and-pepper", {"groups": [[0, 1]]}, "set corruption='groups' or corruption='missing' with it"),
        ("gaussian", {"corrupted_weight": 2.0}, "set corruption='masking' or corruption='salt-and-pepper' or"),
    ],
)
def test_a_field_that_a_corruption_lacks_is_refused_with_those_that_have_it(value, changes, said):
    model = DenoisingAutoencoder(corruption=value)
    with pytest.raises(InputError, match=f"has no argument '{next(iter(changes))}'; {said}"):
        model.set_params(**{f"corruption__{name}": given for name, given in changes.items()})


def test_groups_of_plain_columns_have_to_be_named():
    with pytest.raises(
        InputError, match=r"corruption=GroupMasking\(\) has no groups, and .*; give GroupMasking\(groups"
    ):
        DenoisingAutoencoder(corruption="groups", code_size=4, max_epochs=1).fit(curve(50))


# What it is made of


def test_the_code_is_wider_than_the_rows_unless_told_otherwise():
    model = DenoisingAutoencoder(max_epochs=1, random_state=0).fit(TRAIN)
    assert model.code_size_ == 128
    assert "twice the columns" in model.history_["notes"][0]
    assert not any("more units" in note for note in model.history_["notes"])


def test_a_saved_model_corrupts_the_same_rows_as_before(tmp_path):
    model = DenoisingAutoencoder(corruption=SaltAndPepper(rate=0.5), code_size=8, max_epochs=2, random_state=0)
    model.fit(curve(200)).save(tmp_path / "m")
    corrupted = []
    for each in (model, isthmus.load(tmp_path / "m")):
        objective = criterion(each)
        objective.prepare_statistics(each.preprocessing_.rows(curve(200)))
        corrupted.append(objective.corruption(torch.zeros(50, 12), torch.Generator().manual_seed(0)).x)
    assert torch.equal(*corrupted)
    assert len(corrupted[0].unique()) > 3, "salt and pepper are the extremes of each column"


def test_an_emphasis_where_every_entry_is_hit_is_refused():
    with pytest.raises(TypeError, match="corrupted_weight"):
        GaussianNoise(corrupted_weight=2.0)
