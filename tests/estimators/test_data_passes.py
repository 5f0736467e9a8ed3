"""Passes over the rows: how many there are and what they compute; rows are on the CPU wherever the model is."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import isthmus.estimators.base
from isthmus import (
    PCD,
    Autoencoder,
    ContractiveAutoencoder,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DeepRecurrentAutoencoder,
    DenoisingAutoencoder,
    InputError,
    InputWarning,
    LinearAutoencoder,
    RecirculationAutoencoder,
    RestrictedBoltzmannMachine,
    SparseAutoencoder,
    StackedAutoencoder,
)
from isthmus.data.preprocessing import Preprocessor
from isthmus.data.streams import Affine, DenseRows, blocks
from isthmus.estimators.checkpoints import DigestedRows
from isthmus.estimators.data_passes import RangeCheckedRows, SurveyedRows, imputed
from isthmus.evaluation import baseline
from isthmus.evaluation.baseline import SketchSums, component_sums, principal_components, suggested_code_size
from isthmus.evaluation.facts import column_statistics
from isthmus.learning.rows import MAX_SAMPLED_ROWS
from isthmus.parts.likelihoods import Gaussian, choose_likelihood, likelihood_from

N = 9000
NORMAL = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
BITS = (NORMAL > 0).astype(np.float32)
INCOMPLETE = np.where(np.random.default_rng(1).random(NORMAL.shape) < 0.1, np.nan, NORMAL).astype(np.float32)
SMALL = {"max_epochs": 1, "batch_size": 500, "random_state": 0, "validation_fraction": 0.0}


class CountedRows:
    """Rows that count the reads of each of them."""

    def __init__(self, rows):
        self.rows, self.n_columns, self.reads = rows, rows.n_columns, np.zeros(len(rows), int)

    def __len__(self):
        return len(self.rows)

    def batch(self, index):
        np.add.at(self.reads, index.numpy(), 1)
        return self.rows.batch(index)


class Passes:
    """Counts the reads of each row before the first step of an optimiser, and after the last phase of training."""

    def __init__(self, monkeypatch):
        self.sets, self.before_training, self.until_its_end = [], None, None
        rows_of, run_phases = Preprocessor.rows, isthmus.estimators.base.run_phases

        def counted(preprocessing, X, *unknown):
            self.sets.append(CountedRows(rows_of(preprocessing, X, *unknown)))
            return self.sets[-1]

        def run(*arguments, **options):
            records = run_phases(*arguments, **options)
            self.until_its_end = self._reads()
            return records

        monkeypatch.setattr(Preprocessor, "rows", counted)
        monkeypatch.setattr(isthmus.estimators.base, "run_phases", run)

    def _reads(self):
        return [counted.reads.copy() for counted in self.sets]

    def fit(self, model, X, **options):
        def note(*_):
            self.before_training = self._reads() if self.before_training is None else self.before_training

        hook = register_optimizer_step_pre_hook(note)
        try:
            model.fit(X, **options)
        finally:
            hook.remove()
        return self

    def full(self, number=0):
        """The passes over all rows of a data set before and after training."""
        return int(self.before_training[number].min()), int(self._after(number).min())

    def samplings(self, number=0):
        """The other reads before and after training, in samples of `MAX_SAMPLED_ROWS` rows."""
        reads = self.before_training[number], self._after(number)
        return tuple(float((part - part.min()).sum() / MAX_SAMPLED_ROWS) for part in reads)

    def _after(self, number):
        return self.sets[number].reads - self.until_its_end[number]


@pytest.fixture
def passes(monkeypatch):
    return Passes(monkeypatch)


@pytest.fixture
def wide(monkeypatch):
    """Treat the data as wide, so that the principal components are computed from a sketch."""
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 3)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 3)


ARGUMENTS = {
    "code size given": (Autoencoder(code_size=2, **SMALL), NORMAL, 1),
    "code size suggested": (Autoencoder(**SMALL), NORMAL, 1),
    "binary rows": (Autoencoder(**SMALL), BITS, 1),
    "rows in [0, 1]": (Autoencoder(**SMALL, scaling="minmax"), NORMAL, 1),
    "likelihood given": (Autoencoder(**SMALL, likelihood="gaussian-learned"), NORMAL, 1),
    "sparse rows": (Autoencoder(**SMALL), scipy.sparse.csr_matrix(BITS), 1),
    "imputed": (Autoencoder(**SMALL, missing="mean"), INCOMPLETE, 1),
    "masked, code size given": (Autoencoder(code_size=2, **SMALL, missing="mask"), INCOMPLETE, 2),
    "masked, code size suggested": (Autoencoder(**SMALL, missing="mask"), INCOMPLETE, 2),
}


@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpoint"])
@pytest.mark.parametrize(("model", "X", "n_passes"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_there_are_at_most_two_passes_besides_those_of_training(model, X, n_passes, checkpoint, passes, tmp_path):
    passes.fit(model, X, checkpoint=tmp_path / "m" if checkpoint else None)
    assert passes.full() == (n_passes, 0)
    assert max(passes.samplings()) <= 3


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("checkpoint", [False, True], ids=["", "checkpoint"])
@pytest.mark.parametrize(("model", "X"), [row[:2] for row in ARGUMENTS.values()], ids=ARGUMENTS)
def test_there_are_two_passes_for_a_sketch_of_wide_data(model, X, checkpoint, passes, tmp_path):
    passes.fit(model, X, checkpoint=tmp_path / "m" if checkpoint else None)
    assert passes.full() == (2, 0)
    assert max(passes.samplings()) <= 3


TWO = {"code_size": 2, **SMALL}
BY_KIND = {
    "deep": Autoencoder(**TWO),
    "denoising": DenoisingAutoencoder(**TWO),
    "sparse": SparseAutoencoder(**TWO),
    "contractive": ContractiveAutoencoder(**TWO),
    "stacked": StackedAutoencoder(hidden_sizes=(3,), **TWO),
    "recirculation": RecirculationAutoencoder(**TWO),
    "recurrent": DeepRecurrentAutoencoder(hidden_sizes=(3,), **TWO),
    "rbm": RestrictedBoltzmannMachine(**TWO),
    "dbn": DeepBeliefNetwork(hidden_sizes=(3,), **TWO),
    "dbm": DeepBoltzmannMachine(hidden_sizes=(3,), method=PCD(n_chains=20), **TWO),
}


@pytest.mark.parametrize("model", BY_KIND.values(), ids=BY_KIND)
def test_every_kind_reads_the_rows_once_before_training_apart_from_samples(model, passes):
    passes.fit(model, NORMAL)
    assert passes.full() == (1, 0)
    assert max(passes.samplings()) <= 3


def test_the_density_of_the_linear_autoencoder_takes_one_more_pass(passes):
    passes.fit(LinearAutoencoder(**TWO), NORMAL)
    assert passes.full() == (1, 1)


def test_validation_rows_are_read_once_before_training(passes, tmp_path):
    passes.fit(Autoencoder(**SMALL), NORMAL, validation=NORMAL[:6000] + 1, checkpoint=tmp_path / "m")
    assert (passes.full(0), passes.full(1)) == ((1, 0), (1, 0))
    assert passes.before_training[1].max() == 1


def test_rows_that_are_held_out_are_read_once_before_training(passes, tmp_path):
    passes.fit(Autoencoder(code_size=2, **SMALL | {"validation_fraction": 0.3}), NORMAL, checkpoint=tmp_path / "m")
    assert passes.full() == (1, 0)
    assert (passes.before_training[0] == 1).sum() >= 0.3 * N


# -- the statistics of these passes -------------------------------------------------------------------


def surveyed(X, missing="refuse", **options):
    rows = Preprocessor.from_data(X, missing=missing, **options).rows(X)
    return SurveyedRows(rows, Gaussian(rows.n_columns), [f"x{i}" for i in range(rows.n_columns)])


def filled(X):
    """Rows in model space with the mean of the column at missing entries."""
    rows = Preprocessor.from_data(X, missing="mask").rows(X)
    batch = rows.batch(torch.arange(len(X)))
    observed = torch.ones_like(batch.x) if batch.mask is None else batch.mask
    mean = (batch.x * observed).double().sum(0) / observed.double().sum(0)
    return torch.where(observed != 0, batch.x, mean.float())


@pytest.mark.parametrize("X", [NORMAL, INCOMPLETE, INCOMPLETE[:4]], ids=["complete", "incomplete", "few rows"])
def test_the_baseline_is_that_of_all_rows_with_column_means_at_missing_entries(X):
    found, x = surveyed(X, "mask").baseline(2), filled(X)
    expected = principal_components(lambda: iter(x.split(1024)), 5, 2)
    torch.testing.assert_close(found.explained_variance, expected.explained_variance)
    torch.testing.assert_close(found.components, expected.components, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("wide")
@pytest.mark.parametrize("X", [NORMAL, INCOMPLETE], ids=["complete", "incomplete"])
def test_the_baseline_of_wide_rows_is_nearly_the_exact_one(X):
    found, x = surveyed(X, "mask").baseline(2), filled(X)
    exact = torch.linalg.eigvalsh(torch.cov(x.double().T))[:3].sum()
    assert float(found.squared_error(x).mean()) == pytest.approx(float(exact) * (N - 1) / N, rel=1e-3)


def test_the_suggested_code_size_is_that_of_the_principal_components():
    rows = surveyed(NORMAL @ np.diag([9.0, 5.0, 1.0, 0.1, 0.1]).astype(np.float32), scaling="none")
    x = rows.batch(torch.arange(N)).x
    assert rows.suggested_code_size() == suggested_code_size(lambda: iter(x.split(1024)), 5) == 2


@pytest.mark.parametrize("X", [NORMAL, INCOMPLETE], ids=["complete", "incomplete"])
def test_the_statistics_of_the_columns_exclude_missing_entries(X):
    rows = surveyed(X, "mask", scaling="none")
    rows.baseline(2)
    expected = column_statistics([torch.from_numpy(X)])
    for name in ("mean", "std", "minimum", "maximum"):
        np.testing.assert_allclose(getattr(rows.statistics, name), getattr(expected, name), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(rows.mean, np.nanmean(X.astype(np.float64), 0), rtol=1e-6, atol=1e-9)
    assert rows.has_missing_entries == bool(np.isnan(X).any())


@pytest.mark.parametrize("row", [0, 5000, N - 1])
@pytest.mark.parametrize(("values", "name"), [((), "bernoulli"), ((0.5,), "gaussian-unit"), ((0.5, 1.5), "gaussian"),
                                              ((-1.0,), "gaussian")])  # fmt: skip
def test_one_row_decides_on_the_likelihood_of_all(values, name, row):
    X = BITS.copy()
    for step, value in enumerate(values):
        X[row - 2000 * step, 3] = value
    rows = surveyed(X, scaling="none")
    rows.baseline(2)
    assert rows.deciding_row.shape == (1, 5)
    assert choose_likelihood(rows.deciding_row) == choose_likelihood(torch.from_numpy(X)) == {"name": name}


@pytest.mark.parametrize("row", [7, 8765])
def test_a_value_outside_the_domain_is_named_by_its_row_in_the_data(row):
    X = BITS.copy()
    X[row, 3] = 2.0
    with pytest.raises(InputError, match=rf"found 2 at row {row}, column 'x3'; use scaling='minmax'"):
        Autoencoder(likelihood="bernoulli", scaling="none").fit(X)
    with pytest.raises(InputError, match=rf"found 2 at row {row}, column 'x3'; use scaling='minmax'"):
        Autoencoder(max_epochs=1, scaling="none").fit(BITS, validation=X)


def test_a_sketch_of_wide_rows_has_no_matrix_of_columns_by_columns():
    sums = component_sums(n_rows=10**6, n_columns=10**5, code_size=2)
    assert isinstance(sums, SketchSums)
    arrays = [value for value in vars(sums).values() if isinstance(value, torch.Tensor)]
    assert max(array.numel() for array in arrays) <= 10**5 * baseline.SKETCH_FACTOR * (2 + baseline.OVERSAMPLING)


def test_rows_are_imputed_by_the_means_of_their_batch_or_by_given_ones():
    rows = Preprocessor.from_data(INCOMPLETE, scaling="none", missing="mask").rows(INCOMPLETE)
    (batch, *_), X = blocks(rows, 50), INCOMPLETE[:50]
    np.testing.assert_allclose(imputed(batch), np.where(np.isnan(X), np.nanmean(X, 0), X), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(imputed(batch, torch.arange(5.0)), np.where(np.isnan(X), np.arange(5), X))


# -- digests ------------------------------------------------------------------------------------------


def digest(X, missing="mask", order=None):
    rows = DigestedRows(Preprocessor.from_data(NORMAL, scaling="none", missing=missing).rows(X))
    if order is not None:
        rows.batch(torch.as_tensor(order))
    return rows.digest


def test_the_digest_does_not_depend_on_the_order_of_the_reads():
    assert digest(NORMAL) == digest(NORMAL, order=[3, 8000, 1]) == digest(NORMAL, order=np.arange(N)[::-1].copy())


@pytest.mark.parametrize("change", [
    lambda X: X[[1, 0, *range(2, N)]], lambda X: X[:, [1, 0, 2, 3, 4]],
    lambda X: X[:-1], lambda X: np.vstack([X, X[:1]]),
    lambda X: np.where(X[17, 2] == X, np.nextafter(X, 9, dtype=np.float32), X),
    lambda X: np.where(X[17, 2] == X, -X, X), lambda X: np.where(X[17, 2] == X, np.nan, X),
], ids=["rows swapped", "columns swapped", "a row less", "a row more", "last digit", "sign", "missing"])  # fmt: skip
def test_the_digest_depends_on_every_entry_and_on_the_order_of_the_rows(change):
    assert digest(change(NORMAL)) != digest(NORMAL)


def test_the_digest_depends_on_the_missing_entries():
    X = NORMAL.copy()
    X[5, 1] = 0.0
    incomplete = X.copy()
    incomplete[5, 1] = np.nan
    assert digest(incomplete) != digest(X)


# -- ranges -------------------------------------------------------------------------------------------

REORDERED = {
    "name": "mixed",
    "groups": [{"unit": "count", "columns": [0, 2], "scale": [2.0, 5.0]}, {"unit": "binary", "columns": [1]}],
}
CONFIGS = {
    "poisson": {"name": "poisson", "scale": [2.0, 1.0, 5.0]},
    "multinomial": {"name": "multinomial"},
    "reordered columns": REORDERED,
}


def rows_of(x):
    return DenseRows(x.numpy(), Affine(np.zeros(3), np.ones(3)))


@pytest.mark.parametrize("moved", ["before", "after"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_ranges_are_checked_on_the_cpu_wherever_the_likelihood_is(config, moved):
    likelihood = likelihood_from(config, 3)
    x = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    if moved == "before":
        likelihood.to("meta")
    rows = RangeCheckedRows(rows_of(x), likelihood, ["a", "b", "c"])
    likelihood.to("meta")
    assert torch.equal(rows.batch(torch.arange(2)).x, x)
    rows = RangeCheckedRows(rows_of(x - 7.3), likelihood, ["a", "b", "c"])
    with pytest.warns(InputWarning, match="column 'a' is -6.3 in model space, far outside the domain"):
        rows.batch(torch.arange(2))


def test_rows_of_a_table_are_read_while_its_model_is_on_another_device():
    table = pd.DataFrame({"count": [3, 0, 7, 2] * 5, "kind": list("abca") * 5, "size": [0.5, 1.5, -0.25, 3.0] * 5})
    model = Autoencoder(code_size=1, hidden_sizes=(4,), max_epochs=1, random_state=0).fit(table)
    assert model.likelihood_["name"] == "mixed"
    model.coder_.to("meta")
    batch = model._rows(table).batch(torch.arange(4))
    assert (batch.x.device.type, len(batch.x)) == ("cpu", 4)
