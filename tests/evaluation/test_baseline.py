"""Principal components, compared with scikit-learn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation import baseline
from isthmus.evaluation.baseline import PrincipalComponents, component_sums, principal_components, suggested_code_size


def rows(n: int, d: int, *, seed: int = 0, decay: float = 0.8, shift: float = 3.0) -> Tensor:
    """Gaussian rows with geometrically decreasing variances along random directions."""
    rng = np.random.default_rng(seed)
    rank = min(n, d, 60)
    hidden = rng.normal(size=(n, rank)) * decay ** np.arange(rank)
    x = hidden @ np.linalg.qr(rng.normal(size=(d, rank)))[0].T + 0.01 * rng.normal(size=(n, d)) + shift
    return torch.from_numpy(x.astype(np.float32))


def blocks_of(x: Tensor, size: int = 64) -> Callable[[], Iterator[Tensor]]:
    return lambda: iter(x.split(size))


def reference(x: Tensor, k: int) -> PCA:
    return PCA(k, svd_solver="full").fit(x.double().numpy())


def reference_error(pca: PCA, x: Tensor) -> np.ndarray:
    raw = x.double().numpy()
    return np.square(raw - pca.inverse_transform(pca.transform(raw))).sum(1)


# (300, 20) and (300, 120) use the covariance; (40, 90) and (30, 3000) use the Gram matrix.
@pytest.mark.parametrize(("n", "d", "k"), [(300, 20, 5), (300, 120, 20), (40, 90, 7), (30, 3000, 4)])
def test_components_variances_and_errors_agree_with_scikit_learn(n: int, d: int, k: int) -> None:
    x = rows(n, d)
    found, expected = principal_components(blocks_of(x), d, k), reference(x, k)
    assert found.n_rows == n
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-5)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-5)
    np.testing.assert_allclose(found.components, expected.components_, atol=2e-5)
    np.testing.assert_allclose(found.squared_error(x.double()), reference_error(expected, x), rtol=1e-5)


def test_noise_variance_agrees_with_probabilistic_pca_of_scikit_learn() -> None:
    x = rows(300, 20)
    assert principal_components(blocks_of(x), 20, 5).noise_variance == pytest.approx(
        reference(x, 5).noise_variance_, rel=1e-5
    )


def test_columns_far_from_zero_lose_no_precision() -> None:
    x = rows(400, 12, shift=0.0).double() + torch.linspace(0, 1e6, 12, dtype=torch.float64)
    found, expected = principal_components(blocks_of(x), 12, 4), reference(x, 4)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-5)


def test_columns_of_very_different_scale_keep_their_small_components() -> None:
    x = rows(400, 6, decay=1.0).double() * torch.tensor([1e4, 1, 1, 1e-2, 1, 1e-2], dtype=torch.float64)
    found, expected = principal_components(blocks_of(x), 6, 6), reference(x, 6)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-5)


@pytest.mark.parametrize(("n", "d", "k"), [(300, 20, 5), (40, 90, 7), (700, 300, 12)])
def test_weights_are_those_of_repeated_rows(monkeypatch: pytest.MonkeyPatch, n: int, d: int, k: int) -> None:
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 100)  # the three shapes take the three algorithms
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 50)
    x, counts = rows(n, d), torch.arange(n) % 3
    sums = component_sums(n, d, k)
    for pass_number in range(sums.n_passes):
        if pass_number:
            sums.start_second_pass()
        for block, weight in zip(x.split(64), counts.float().split(64), strict=True):
            sums.add(block, weight)
    repeated = x.repeat_interleave(counts, 0)
    found, expected = sums.components(k), reference(repeated, k)
    rtol = 1e-2 if sums.n_passes == 2 else 1e-5
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-5)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=rtol)
    assert found.total_variance == pytest.approx(float(repeated.double().var(0).sum()), rel=1e-5)
    error = (found.squared_error(x.double()) * counts).sum() / counts.sum()
    exact = np.average(reference_error(expected, x), weights=counts.numpy())
    assert error == pytest.approx(exact, rel=1e-3)


def test_the_order_of_the_rows_changes_nothing() -> None:
    x = rows(2500, 10)
    x = x[x[:, 0].argsort()]
    found, expected = principal_components(blocks_of(x, 500), 10, 3), reference(x, 3)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-5)


def test_the_size_of_the_blocks_changes_nothing() -> None:
    x = rows(200, 15)
    one, many = principal_components(blocks_of(x, 200), 15, 4), principal_components(blocks_of(x, 7), 15, 4)
    np.testing.assert_allclose(one.components, many.components, rtol=0, atol=1e-6)


@pytest.mark.parametrize("decay", [0.9, 0.98])
def test_the_sketch_of_wide_data_gives_the_exact_error(monkeypatch: pytest.MonkeyPatch, decay: float) -> None:
    # The limits are lowered so that small data is treated as large; 0.98 is a spectrum that hardly decays.
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 100)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 50)
    x = rows(700, 300, decay=decay)
    found, expected = principal_components(blocks_of(x), 300, 12), reference(x, 12)
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-5)
    error, exact = found.squared_error(x.double()).mean(), reference_error(expected, x).mean()
    assert 1 - 1e-6 <= error / exact < 1 + 1e-3
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-2)
    assert found.noise_variance == pytest.approx(expected.noise_variance_, rel=1e-2)
    assert found.total_variance == pytest.approx(float(x.double().var(0).sum()), rel=1e-5)


def test_wide_data_gives_the_same_components_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 10)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 10)
    x = rows(60, 30)
    first, second = (principal_components(blocks_of(x), 30, 3) for _ in range(2))
    assert torch.equal(first.components, second.components)


def test_wide_data_is_read_twice_apart_from_its_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 50)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 50)
    x, read = rows(700, 80), []

    def blocks() -> Iterator[Tensor]:
        for block in x.split(100):
            read.append(len(block))
            yield block

    principal_components(blocks, 80, 3)
    assert sum(read) == 2 * 700 + 100


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_wide_rows_have_components_of_zero_variance(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 10)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 10)
    x = torch.full((60, 30), value)
    x[:, 0] = torch.arange(60) % 2
    found = principal_components(blocks_of(x), 30, 3)
    np.testing.assert_allclose(found.explained_variance, [60 / 59 / 4, 0, 0], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(found.squared_error(x).sum(), 0, atol=1e-6)


def test_wide_data_of_slowly_decreasing_variances_has_nearly_the_exact_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spectrum of texts: the variances decrease as 1/j, and no component dominates."""
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 100)
    monkeypatch.setattr(baseline, "MAX_GRAM_ROWS", 100)
    x = torch.randn(1500, 600, generator=torch.Generator().manual_seed(0)) / torch.arange(1.0, 601.0).sqrt()
    found, expected = principal_components(blocks_of(x), 600, 32), reference(x, 32)
    error, exact = found.squared_error(x.double()).mean(), reference_error(expected, x).mean()
    assert 1 - 1e-6 <= error / exact < 1 + 2e-3


def test_sums_of_any_blocks_with_the_same_rows_give_the_same_components() -> None:
    x, sums = rows(300, 20), component_sums(300, 20, 4)
    for block in x.split(300):
        sums.add(block)
    kept = sums.components(4)
    assert torch.equal(sums.components(2).components, principal_components(blocks_of(x, 300), 20, 2).components)
    assert torch.equal(sums.components(4).components, kept.components)


@pytest.mark.parametrize(("n", "d"), [(4, 10), (10, 4), (1, 3), (5, 5)])
def test_no_more_components_than_rows_and_columns_and_all_orthonormal(n: int, d: int) -> None:
    found = principal_components(blocks_of(rows(n, d)), d, 99)
    assert found.components.shape == (min(n, d), d)
    np.testing.assert_allclose(found.components @ found.components.T, np.eye(min(n, d)), atol=1e-5)
    np.testing.assert_allclose(found.squared_error(rows(n, d)), np.zeros(n), atol=1e-8)
    assert found.noise_variance == pytest.approx(0, abs=1e-6)


def test_constant_rows_have_components_of_zero_variance() -> None:
    found = principal_components(blocks_of(torch.full((20, 3), 0.1)), 3, 2)
    assert found.explained_variance.tolist() == [0.0, 0.0]
    assert found.noise_variance == 0.0
    assert float(found.squared_error(torch.full((1, 3), 0.1))) < 1e-12


def test_decoding_a_code_gives_the_nearest_point_of_the_plane() -> None:
    x = rows(100, 8).double()
    found = principal_components(blocks_of(x), 8, 3)
    again = found.decode(found.encode(x))
    np.testing.assert_allclose(found.encode(again), found.encode(x), atol=1e-5)
    np.testing.assert_allclose((x - again).square().sum(1), found.squared_error(x))


def test_truncated_components_are_those_of_the_smaller_size() -> None:
    x = rows(200, 10)
    small, cut = (principal_components(blocks_of(x), 10, 3), principal_components(blocks_of(x), 10, 8).truncated(3))
    np.testing.assert_allclose(cut.components, small.components, rtol=0, atol=1e-6)
    assert cut.noise_variance == pytest.approx(small.noise_variance, rel=1e-5)
    assert cut.truncated(99).code_size == 3


def test_components_survive_a_file() -> None:
    x = rows(50, 6)
    found = principal_components(blocks_of(x), 6, 2)
    again = PrincipalComponents.from_file(*found.to_file())
    assert torch.equal(again.squared_error(x), found.squared_error(x))
    assert (again.noise_variance, again.n_rows) == (found.noise_variance, 50)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_the_suggested_size_is_the_fewest_components_that_carry_the_share(share: float) -> None:
    x = rows(300, 20)
    carried = np.cumsum(reference(x, 20).explained_variance_ratio_)
    assert suggested_code_size(blocks_of(x), 20, share) == int(np.argmax(carried >= share)) + 1


def test_the_suggested_size_is_at_most_the_largest_and_at_least_one() -> None:
    noise = torch.randn(500, 60, generator=torch.Generator().manual_seed(0))
    assert suggested_code_size(blocks_of(noise), 60) == 32
    assert suggested_code_size(blocks_of(noise), 60, largest=5) == 5
    assert suggested_code_size(blocks_of(noise[:, :2]), 2, share=1.0) == 2
    assert suggested_code_size(blocks_of(torch.ones(10, 4)), 4) == 1
    assert suggested_code_size(blocks_of(torch.ones(1, 4)), 4) == 1


def test_the_suggested_size_of_wide_data_reads_only_its_first_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "MAX_COVARIANCE_COLUMNS", 50)
    x, read = rows(2600, 80), []

    def blocks() -> Iterator[Tensor]:
        for block in x.split(500):
            read.append(len(block))
            yield block

    carried = np.cumsum(reference(x[:2000], 60).explained_variance_ratio_)
    assert suggested_code_size(blocks, 80) == int(np.argmax(carried >= 0.9)) + 1
    assert sum(read) == 2000


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are no rows to find principal components of"):
        principal_components(lambda: iter([]), 3, 1)


def test_blocks_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"a block of rows has shape \(2, 4\); blocks must be \(rows, 3\)"):
        principal_components(lambda: iter([torch.zeros(2, 4)]), 3, 1)


@pytest.mark.parametrize(("bad", "n", "d"), [(0, 9, 4), (8, 9, 4), (2, 3, 4)])
def test_values_that_are_not_finite_are_refused_with_their_column(bad: int, n: int, d: int) -> None:
    x = rows(n, d)
    x[bad, 2] = float("nan")
    with pytest.raises(InputError, match="column 2 of model space holds values that are not finite"):
        principal_components(blocks_of(x, 2), d, 1)
