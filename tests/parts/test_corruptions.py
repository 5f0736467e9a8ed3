"""Corruptions: statistics, masks, randomness and invalid arguments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from isthmus.errors import InputError
from isthmus.parts.corruption_masks import group_of_columns, patch_groups, pixel_groups
from isthmus.parts.corruptions import (
    CopiedGaps,
    CustomCorruption,
    GaussianNoise,
    Masking,
    MissingEntries,
    SaltAndPepper,
)

GROUPS = [[0, 2, 5], [1, 3]]
N_ROWS, N_COLUMNS = 4000, 7

RATED = {
    "masking": lambda rate, groups, n_columns: Masking(rate),
    "salt-and-pepper": lambda rate, groups, n_columns: SaltAndPepper(rate, n_columns),
    "groups": Masking,
    "missing": MissingEntries,
}
"""Corruptions of random entries: (rate, groups, n_columns) -> the corruption."""

CORRUPTIONS = ("gaussian", *RATED)
by_name = pytest.mark.parametrize("name", CORRUPTIONS)
by_rated = pytest.mark.parametrize("name", RATED)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n_rows: int = N_ROWS, n_columns: int = N_COLUMNS) -> torch.Tensor:
    return torch.randn(n_rows, n_columns, generator=seeded(1), dtype=torch.float64) + 3


def named(name, *, rate=0.3, scale=0.5, groups=GROUPS, n_columns=N_COLUMNS):
    return GaussianNoise(scale) if name == "gaussian" else RATED[name](rate, groups, n_columns)


def within(share: torch.Tensor, rate: float, n: int) -> bool:
    """Return True if a frequency is within five standard deviations of a binomial proportion."""
    return bool((share - rate).abs().max() < 5 * math.sqrt(rate * (1 - rate) / n))


# Statistics


def test_gaussian_noise_is_isotropic_with_the_given_scale():
    x = rows(20000)
    noise = named("gaussian", scale=0.5)(x, seeded()).x - x
    covariance = noise.T @ noise / len(x)
    # The variance of a product of two entries is s^4, and 2 s^4 on the diagonal.
    assert (covariance - 0.25 * torch.eye(N_COLUMNS)).abs().max() < 5 * 0.25 * math.sqrt(2 / len(x))
    assert noise.mean(0).abs().max() < 5 * 0.5 / math.sqrt(len(x))


def test_a_range_of_scales_gives_each_row_a_uniform_one():
    x = torch.zeros(2000, 4000)
    found = GaussianNoise((0.1, 0.5))(x, seeded()).x.std(1).double().numpy()
    assert scipy.stats.kstest(found, "uniform", (0.1, 0.4)).pvalue > 1e-3


@by_rated
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_every_column_is_corrupted_at_the_given_rate(name, rate):
    corruption_mask = named(name, rate=rate)(rows(), seeded()).corruption_mask
    assert within(corruption_mask.mean(0), rate, N_ROWS)


@pytest.mark.parametrize("name", ["masking", "salt-and-pepper"])
def test_entries_are_corrupted_independently(name):
    corruption_mask = named(name, rate=0.3)(rows(), seeded()).corruption_mask
    both = corruption_mask.T @ corruption_mask / N_ROWS
    off = both[~torch.eye(N_COLUMNS, dtype=torch.bool)]
    assert within(off, 0.09, N_ROWS)


@pytest.mark.parametrize("name", ["groups", "missing"])
def test_columns_of_a_group_are_corrupted_together_and_groups_independently(name):
    corruption_mask = named(name, rate=0.3)(rows(), seeded()).corruption_mask
    for columns in GROUPS:
        assert (corruption_mask[:, columns] == corruption_mask[:, columns[:1]]).all()
    heads = corruption_mask[:, [0, 1, 4, 6]]
    both = (heads.T @ heads / N_ROWS)[~torch.eye(4, dtype=torch.bool)]
    assert within(both, 0.09, N_ROWS)


def test_salt_and_pepper_uses_low_and_high_with_equal_probability():
    x = rows()
    corruption = named("salt-and-pepper", rate=1.0)
    corruption.prepare([x[:1000], x[1000:]])
    out = corruption(x, seeded()).x
    low, high = x.amin(0).float().double(), x.amax(0).float().double()
    assert ((out == low) | (out == high)).all()
    assert within((out == high).double().mean(0), 0.5, N_ROWS)


def test_salt_and_pepper_in_the_unit_interval_is_zero_or_one_for_constant_columns_too():
    x = torch.rand(50, 4, generator=seeded()) * 0.8
    x[:, 0] = 0.0
    corruption = SaltAndPepper(1.0, 4)
    corruption.prepare([x])
    assert [column.unique().tolist() for column in corruption(x, seeded()).x.T] == [[0.0, 1.0]] * 4


def test_salt_and_pepper_saves_low_and_high_in_its_state():
    corruption, other = SaltAndPepper(0.5, 3), SaltAndPepper(0.5, 3)
    corruption.prepare([torch.tensor([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]])])
    other.load_state_dict(corruption.state_dict())
    assert other.low.tolist() == [1.0, -2.0, -6.0]
    assert other.high.tolist() == [4.0, 5.0, 3.0]


# Corruption masks


@by_name
def test_clean_entries_are_unchanged_and_the_input_is_not_modified(name):
    x = rows()
    before = x.clone()
    out = named(name)(x, seeded())
    assert torch.equal(x, before)
    assert out.x.dtype == x.dtype
    if out.corruption_mask is not None:
        assert torch.equal(out.x[out.corruption_mask == 0], x[out.corruption_mask == 0])


@pytest.mark.parametrize("name", ["masking", "groups", "missing"])
def test_the_corruption_mask_marks_the_changed_entries(name):
    x = rows().abs() + 1
    out = named(name)(x, seeded())
    assert torch.equal(out.corruption_mask, (out.x != x).double())
    assert (out.x[out.corruption_mask == 1] == 0).all()


def test_a_masked_zero_is_in_the_corruption_mask():
    out = named("masking")(torch.zeros(N_ROWS, N_COLUMNS), seeded())
    assert within(out.corruption_mask.mean(0), 0.3, N_ROWS)


def test_gaussian_noise_corrupts_every_entry():
    assert named("gaussian")(rows(), seeded()).corruption_mask is None


def test_only_missing_entries_returns_a_mask_of_the_clean_entries():
    for name in CORRUPTIONS:
        corruption = named(name)
        out = corruption(rows(), seeded())
        assert corruption.mask_aware == (name == "missing") == (out.mask is not None)
    assert torch.equal(out.mask, 1 - out.corruption_mask)
    assert torch.equal(out.x, rows() * out.mask)


@by_rated
def test_rate_zero_changes_nothing_and_rate_one_corrupts_every_entry(name):
    x = rows()
    none, every = named(name, rate=0.0)(x, seeded()), named(name, rate=1)(x, seeded())
    assert torch.equal(none.x, x)
    assert none.corruption_mask.sum() == 0
    assert every.corruption_mask.all()


# Randomness


@by_name
def test_the_same_seed_gives_the_same_noise_and_the_next_call_fresh_noise(name):
    corruption, x, generator = named(name), rows(), seeded()
    first, second = corruption(x, generator).x, corruption(x, generator).x
    assert torch.equal(first, named(name)(x, seeded()).x)
    assert not torch.equal(first, second)


@by_name
def test_the_global_generator_is_not_used(name):
    before = torch.random.get_rng_state()
    named(name)(rows(), seeded())
    assert torch.equal(torch.random.get_rng_state(), before)


# Callables


def test_a_callable_uses_the_generator_and_its_mask_marks_the_changes():
    def flip_some(x, generator):
        return torch.where(torch.rand(x.shape, generator=generator) < 0.2, -x, x)

    x = rows()
    corruption = CustomCorruption(flip_some)
    out = corruption(x, seeded())
    assert torch.equal(out.x, corruption(x, seeded()).x)
    assert torch.equal(out.corruption_mask, (out.x == -x).double())
    assert within(out.corruption_mask.mean(0), 0.2, N_ROWS)


def test_a_callable_that_works_in_place_does_not_change_the_rows():
    x = rows()
    before = x.clone()
    out = CustomCorruption(lambda x, generator: x.zero_())(x, seeded())
    assert torch.equal(x, before)
    assert out.corruption_mask.all()


def narrow(x, generator):
    return x[:, :3]


def leave(x, generator):
    return x.numpy()


def spoil(x, generator):
    x[1, 2] = math.nan
    return x


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (narrow, r"corruption narrow returned shape \(4000, 3\) for rows of shape \(4000, 7\); return the same shape"),
        (leave, "corruption leave returned ndarray; return a torch tensor of the rows' shape"),
    ],
)
def test_invalid_output_of_a_callable_raises(function, message):
    with pytest.raises(InputError, match=message):
        CustomCorruption(function)(rows(), seeded())
    with pytest.raises(InputError, match=message):
        CustomCorruption(function).prepare([rows()])


def test_a_callable_that_returns_other_than_finite_numbers_raises_before_training():
    CustomCorruption(lambda x, generator: x + torch.randn(x.shape, generator=generator)).prepare([rows(), rows()])
    message = "corruption spoil returned nan at row 1 of the batch, column 2; return finite numbers"
    with pytest.raises(InputError, match=message):
        CustomCorruption(spoil).prepare([rows()])
    missing = rows()
    missing[1, 2] = math.nan
    CustomCorruption(spoil).prepare([missing])


def test_a_callable_that_returns_nan_raises_before_training():
    with pytest.raises(InputError, match="corruption spoil returned nan at row 1 of the batch, column 2; return"):
        CustomCorruption(spoil).prepare([rows()])


# Invalid arguments


@by_rated
@pytest.mark.parametrize("rate", [-0.1, 1.5, math.nan, "0.3", True])
def test_rates_outside_the_unit_interval_raise(name, rate):
    with pytest.raises(InputError, match=r"corruption rate .* is outside \[0, 1\]; give a number"):
        named(name, rate=rate)


@pytest.mark.parametrize("scale", [-0.1, math.inf, math.nan, "big"])
def test_invalid_scales_raise(scale):
    with pytest.raises(InputError, match=r"corruption scale .* is not a standard deviation; give"):
        named("gaussian", scale=scale)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0, 9]], "group 0 contains column 9, but the rows have 7 columns; give columns from 0 to 6"),
        ([[0, 1], [1, 2]], "column 1 is in groups 0 and 1; leave it in one"),
        ([0, 1], "groups: group 0 is 0, not a list; give lists of column numbers"),
        ([[0], "12"], "groups: group 1 is '12', not a list"),
        ([[0], []], "groups: group 1 is empty; give lists of column numbers"),
        ([[0.5]], "groups: group 0 has 0.5, not a column number"),
        ("01", "groups='01': it is not a list of groups"),
    ],
)
def test_groups_that_do_not_fit_the_columns_raise(groups, message):
    with pytest.raises(InputError, match=message):
        named("groups", groups=groups)


def test_groups_may_be_an_array():
    outputs = [
        named("groups", groups=groups)(rows(), seeded()).x for groups in (np.array([[0, 1], [2, 3]]), [[0, 1], [2, 3]])
    ]
    assert torch.equal(*outputs)


def test_groups_without_the_number_of_columns_raise():
    with pytest.raises(InputError, match="needs the number of columns; give n_columns"):
        named("groups", n_columns=None)


# Groups


def test_unlisted_columns_are_groups_of_their_own():
    assert group_of_columns(GROUPS, N_COLUMNS).tolist() == [0, 1, 0, 1, 2, 0, 3]


@pytest.mark.parametrize("patch_size", [None, 1, 2, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 5), (2, 1, 9)])
def test_patches_partition_the_columns_and_contain_every_channel(shape, patch_size):
    groups = patch_groups(shape, patch_size)
    assert sorted(column for group in groups for column in group) == list(range(math.prod(shape)))
    pixels = shape[1] * shape[2]
    for group in groups:
        assert len({column % pixels for column in group}) * shape[0] == len(group)


def test_the_channels_of_a_pixel_are_a_group():
    x = torch.ones(100, 3 * 4 * 4)
    groups = pixel_groups((3, 4, 4))
    out = Masking(0.5, groups, 48)(x, seeded())
    images = out.x.view(100, 3, 16)
    assert torch.equal(images[:, 0], images[:, 1])
    assert torch.equal(images[:, 0], images[:, 2])
    assert 0 < images.mean() < 1


def test_a_patch_without_pixels_raises():
    with pytest.raises(InputError, match="patch_size=0: .* give 1 or more"):
        patch_groups((1, 4, 4), 0)


def test_gaps_of_other_rows_are_copied_to_a_share_of_the_rows():
    patterns = torch.tensor([[True, True, False, False], [False, False, False, True]])
    corruption = CopiedGaps(patterns, 0.6, 0.0)
    out = corruption(torch.ones(5000, 4), torch.Generator().manual_seed(0))
    hidden = out.corruption_mask.bool()
    copied = [(hidden == pattern).all(1).float().mean().item() for pattern in patterns]
    assert copied == pytest.approx([0.3, 0.3], abs=0.03)
    assert (~hidden.any(1)).float().mean().item() == pytest.approx(0.4, abs=0.03)
    assert torch.equal(out.mask, 1 - out.corruption_mask)
    assert torch.equal(out.x, out.mask)
    assert "patterns" not in corruption.state_dict()
