"""The sparse autoencoder, as its users see it: exact zeros that can be steered, units that stay alive, a dictionary."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score

import isthmus
from isthmus import (
    L1,
    MLP,
    BatchTopK,
    Gated,
    InputError,
    JumpReLU,
    KLRate,
    LogPenalty,
    SparseAutoencoder,
    StudentT,
    TopK,
)
from isthmus.estimators.regularized import median_row
from isthmus.learning.rows import evenly_spaced
from isthmus.parts.centred_encoder import CentredMLP, geometric_median
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.forward import Batch
from isthmus.parts.sparse_activations import GatheredLinear

from .fitted import criterion

X = load_digits().images / 16
TRAIN, TEST = X[:800], X[1400:]
QUICK = {
    "code_size": 128, "max_epochs": 15, "batch_size": 64, "learning_rate": 5e-3, "precision": "fp32", "random_state": 0,
}  # fmt: skip
FITTED: dict = {}


class Counting:
    """Rows in a tensor that keep the size of each batch that was asked of them."""

    def __init__(self, x):
        self.x, self.n_columns, self.sizes = x, x.shape[1], []

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        self.sizes.append(len(index))
        return Batch(self.x[index])


def fitted(**options) -> SparseAutoencoder:
    key = repr(options)
    if key not in FITTED:
        FITTED[key] = SparseAutoencoder(**{**QUICK, **options}).fit(TRAIN)
    return FITTED[key]


def zeros(model: SparseAutoencoder) -> float:
    return float((model.transform(TEST) == 0).mean())


# Zeros


@pytest.mark.parametrize("sparsity", [L1, LogPenalty, StudentT, Gated])
def test_the_share_of_exact_zeros_rises_with_the_weight(sparsity):
    light, heavy = (fitted(sparsity=sparsity(weight=weight)) for weight in (0.01, 0.3))
    assert zeros(light) < zeros(heavy) - 0.1
    assert light.reconstruction_error(TEST).mean() < heavy.reconstruction_error(TEST).mean()


def test_the_count_of_open_gates_falls_with_its_weight():
    light, heavy = (fitted(sparsity=JumpReLU(weight=weight), learning_rate=0.02) for weight in (0.0, 0.3))
    assert zeros(light) < zeros(heavy) - 0.1


def test_topk_has_k_units_on_in_a_row_at_most_and_no_two_digits_need_the_same():
    codes = fitted(sparsity=TopK(k=6)).transform(TEST)
    assert (codes != 0).sum(1).max() == 6
    assert (codes != 0).any(0).sum() > 30


def test_batch_topk_has_k_units_on_in_the_mean_when_it_is_read():
    on = (fitted(sparsity=BatchTopK(k=6)).transform(TRAIN) != 0).sum(1)
    assert on.mean() == pytest.approx(6, abs=1.5)
    assert on.min() < on.max()


def test_units_asked_for_a_rate_take_it():
    model = fitted(sparsity=KLRate(weight=3.0, rate=0.1), max_epochs=20)
    assert model.transform(TRAIN).mean() == pytest.approx(0.1, abs=0.03)
    free = fitted(sparsity=KLRate(weight=0.0), max_epochs=20)
    assert abs(free.transform(TRAIN).mean() - 0.1) > 0.1


# What the decoder is


def test_the_atoms_have_norm_one_and_the_rows_are_seen_from_the_decoders_bias():
    model = fitted(sparsity=L1(weight=0.3))
    assert model.likelihood_["name"] == "gaussian"
    coder = model.coder_
    torch.testing.assert_close(dictionary_weight(coder.decoder).norm(dim=0), torch.ones(128))
    assert isinstance(coder.encoder, CentredMLP)
    torch.testing.assert_close(coder.encoder.origin, coder.decoder.affine_maps[0].bias)
    nothing = model.inverse_transform(np.zeros((1, 128), np.float32))
    np.testing.assert_allclose(np.ravel(nothing), coder.encoder.origin.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "likelihood"),
    [
        ({"hidden_sizes": (32,)}, "gaussian-unit"),
        ({"network": MLP(tied=True)}, "gaussian-unit"),
        ({"sparsity": L1(unit_columns=False)}, "gaussian"),
    ],
)
def test_other_decoders_are_left_their_norms(options, likelihood):
    model = fitted(max_epochs=1, **options)
    assert criterion(model).constraints == ()
    assert model.likelihood_["name"] == likelihood


def test_an_explicit_likelihood_is_kept():
    assert fitted(sparsity="l1", likelihood="gaussian-unit", max_epochs=1).likelihood_["name"] == "gaussian-unit"


def test_few_units_of_many_are_gathered_and_a_saved_model_gathers_too(tmp_path):
    import isthmus

    model = fitted(sparsity=TopK(k=4), max_epochs=2)
    assert isinstance(model.coder_.decoder.affine_maps[0], GatheredLinear)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert isinstance(again.coder_.decoder.affine_maps[0], GatheredLinear)
    np.testing.assert_array_equal(again.reconstruct(TEST), model.reconstruct(TEST))


def test_the_dictionary_is_overcomplete_unless_told_and_says_so():
    model = SparseAutoencoder(max_epochs=1, random_state=0).fit(TRAIN)
    assert model.code_size_ == 256
    chosen = "code_size was not given: 256 chosen (four times the columns, at least 64 and at most 2,048)"
    assert model.history_["notes"][0] == chosen


def test_activity_matches_the_codes(monkeypatch):
    recipes, build = [], SparseAutoencoder._recipe
    monkeypatch.setattr(SparseAutoencoder, "_recipe", lambda *args: recipes.append(build(*args)) or recipes[-1])
    model = SparseAutoencoder(**QUICK, sparsity=TopK(k=6)).fit(TRAIN)
    activity = recipes[0].objective.penalties["dead_units"].activity
    rates = (model.transform(TRAIN) != 0).mean(0)
    assert np.corrcoef(activity.rate.numpy(), rates)[0, 1] > 0.8


# What cannot be meant


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sparsity": TopK(k=200)}, "k=200 active units do not fit a code of 128 units; give k from 1 to 128"),
        ({"sparsity": "sparse"}, "sparsity='sparse' is unknown"),
        ({"sparsity": "gated", "code_activation": "tanh"}, r"sparsity=Gated\(\) sets the activation of the code"),
        (
            {"hidden_sizes": (32,), "sparsity": L1(unit_columns=True)},
            "unit columns need a linear decoder.*network of 2 affine maps",
        ),
    ],
)
def test_invalid_options_are_refused(options, text):
    with pytest.raises(InputError, match=text):
        SparseAutoencoder(**{**QUICK, **options}).fit(TRAIN)


def test_a_target_rate_outside_the_unit_interval_is_refused():
    with pytest.raises(InputError, match="KLRate: rate 0.0 is not a rate between 0 and 1"):
        KLRate(rate=0.0)


@pytest.mark.parametrize(("n_columns", "n_rows"), [(10, 4096), (5000, 2**22 // 5000), (40_000, 256)])
def test_the_median_row_is_of_as_many_rows_as_fit_its_memory(n_columns, n_rows):
    x = torch.zeros(6000, 1).expand(-1, n_columns)  # one number in memory for all columns
    x = x + torch.arange(6000.0)[:, None] if n_columns == 10 else x
    rows = Counting(x)
    found = median_row(rows)
    assert sum(rows.sizes) <= n_rows + 1  # the first row tells whether entries may be missing
    assert max(rows.sizes) <= 1024
    torch.testing.assert_close(found, geometric_median(x[evenly_spaced(6000, n_rows)]))


def test_large_counts_of_a_table_are_reconstructed_near_their_values():
    random = np.random.default_rng(0)
    visits = random.poisson(np.exp(random.normal(0.5, 0.8, size=900)))
    table = pd.DataFrame({"age": random.normal(40, 12, size=900), "visits": visits})
    model = SparseAutoencoder(max_epochs=40, random_state=0).fit(table[:700])
    assert [group["unit"] for group in model.likelihood_["groups"]] == ["real", "count"]
    found = model.reconstruct(table[700:])["visits"]
    assert r2_score(table["visits"][700:], found) > 0.8
    assert found.max() < 2 * visits.max()


def test_a_model_file_keeps_the_view_of_counts_with_which_it_was_trained(tmp_path):
    random = np.random.default_rng(0)
    table = pd.DataFrame({"age": random.normal(40, 12, size=200), "visits": random.poisson(3, size=200)})
    model = SparseAutoencoder(max_epochs=2, random_state=0).fit(table)
    model.save(tmp_path / "new.isthmus")
    loaded = isthmus.load(tmp_path / "new.isthmus")
    np.testing.assert_array_equal(loaded.transform(table), model.transform(table))
    x = torch.tensor([[0.5, 2.0], [0.1, 7.0]])
    scale = model.likelihood_["groups"][1]["scale"][0]
    torch.testing.assert_close(loaded.coder_.likelihood.encoder_view(x)[:, 1], torch.log1p(scale * x[:, 1]))
    torch.testing.assert_close(loaded.coder_.likelihood.encoder_view(x)[:, 0], x[:, 0])
    for group in model.likelihood_["groups"]:
        group.pop("log_view", None)
    model.save(tmp_path / "older.isthmus")
    torch.testing.assert_close(isthmus.load(tmp_path / "older.isthmus").coder_.likelihood.encoder_view(x), x)
