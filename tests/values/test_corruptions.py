"""Corruptions that are built from values, and from functions of users."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus import GaussianNoise, GroupMasking, InputError, Masking, MissingMask, SaltAndPepper
from isthmus.parts import corruptions
from isthmus.parts.corruption_masks import patch_groups
from isthmus.values.corruptions import CORRUPTION, RowShape, build_corruption, entry_weights

GROUPS = ((0, 2, 5), (1, 3))
ROW = RowShape(7)
TABLE = RowShape(7, GROUPS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows() -> torch.Tensor:
    return torch.randn(50, 7, generator=seeded(1)) + 3


def equal(a, b) -> bool:
    """Return True if two corruptions give the same rows and masks."""
    first, second = (corruption(rows(), seeded()) for corruption in (a, b))
    masks = [(x.corruption_mask, x.mask) for x in (first, second)]
    return torch.equal(first.x, second.x) and all(
        (m is None and n is None) or torch.equal(m, n) for m, n in zip(*masks, strict=True)
    )


@pytest.mark.parametrize(
    ("value", "row", "expected"),
    [
        (Masking(rate=0.4), TABLE, corruptions.Masking(0.4)),
        (GaussianNoise(scale=0.2), TABLE, corruptions.GaussianNoise(0.2)),
        (GaussianNoise(scale=[0.1, 0.2]), TABLE, corruptions.GaussianNoise((0.1, 0.2))),
        (SaltAndPepper(rate=0.4), TABLE, corruptions.SaltAndPepper(0.4, 7)),
        (GroupMasking(rate=0.4, groups=GROUPS), ROW, corruptions.Masking(0.4, GROUPS, 7)),
        (GroupMasking(rate=0.4), TABLE, corruptions.Masking(0.4, GROUPS, 7)),
        (GroupMasking(rate=0.4, groups=((0, 1),)), TABLE, corruptions.Masking(0.4, ((0, 1),), 7)),
        (MissingMask(rate=0.4), ROW, corruptions.MissingEntries(0.4)),
        (MissingMask(rate=0.4), TABLE, corruptions.MissingEntries(0.4, GROUPS, 7)),
        (MissingMask(rate=0.4, groups=((0, 1),)), TABLE, corruptions.MissingEntries(0.4, ((0, 1),), 7)),
    ],
    ids=repr,
)
def test_a_value_builds_the_corruption_of_its_fields_for_the_rows(value, row, expected):
    built = build_corruption(value, row)
    assert type(built) is type(expected)
    assert equal(built, expected)


def test_the_groups_of_images_are_patches():
    row = RowShape(3 * 4 * 4, image_shape=(3, 4, 4))
    built = build_corruption(GroupMasking(), row)
    expected = corruptions.Masking(0.25, patch_groups((3, 4, 4)), 48)
    assert torch.equal(built.corruption_masks.group, expected.corruption_masks.group)
    assert build_corruption(MissingMask(), row).corruption_masks.group is None


def test_a_value_knows_what_its_corruption_returns():
    for value in CORRUPTION.values.values():
        assert value.mask_aware == build_corruption(value, TABLE).mask_aware


def test_salt_and_pepper_has_a_low_and_a_high_for_each_column():
    assert build_corruption(SaltAndPepper(), ROW).low.shape == (7,)


def test_without_a_value_there_is_no_corruption():
    assert build_corruption(None, ROW) is None


def test_a_function_is_a_corruption():
    def halve(x, generator):
        return x / 2

    built = build_corruption(CORRUPTION.expanded(halve), ROW)
    assert isinstance(built, corruptions.CustomCorruption)
    assert torch.equal(built(rows(), seeded()).x, rows() / 2)
    assert entry_weights(halve) == (1, 1)


def test_entries_have_the_weights_of_the_value():
    assert entry_weights(Masking(corrupted_weight=1, clean_weight=0.5)) == (1, 0.5)
    assert entry_weights(GaussianNoise()) == entry_weights(None) == (1, 1)


def test_groups_may_be_an_array():
    value = GroupMasking(groups=np.array([[0, 1], [2, 3]]))
    assert value == GroupMasking(groups=[[0, 1], [2, 3]])
    assert equal(build_corruption(value, ROW), corruptions.Masking(0.25, [[0, 1], [2, 3]], 7))


def test_an_unknown_name_raises_with_the_nearest_name():
    with pytest.raises(InputError, match="corruption='mask' is unknown; did you mean 'masking'"):
        CORRUPTION.expanded("mask")


@pytest.mark.parametrize("kind", [Masking, SaltAndPepper, GroupMasking, MissingMask])
@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rate": 1.5}, r"corruption rate 1.5 is outside \[0, 1\]; give a number"),
        ({"rate": "0.3"}, r"corruption rate '0.3' is outside \[0, 1\]; give a number"),
        ({"corrupted_weight": -1.0}, "corrupted_weight=-1.0: it must be a finite number, 0 or more"),
        ({"corrupted_weight": 0, "clean_weight": 0}, "corrupted_weight=0 and clean_weight=0: no entry has a weight"),
    ],
)
def test_invalid_rates_and_weights_of_entries_raise(kind, fields, text):
    with pytest.raises(InputError, match=text):
        kind(**fields)


def test_an_invalid_scale_raises():
    with pytest.raises(InputError, match=r"corruption scale -0.1 is not a standard deviation; give"):
        GaussianNoise(scale=-0.1)
    for scale in ((0.5, 0.1), (0.1, 0.2, 0.3), (-0.1, 0.2), (0.1, "much")):
        with pytest.raises(InputError, match=r"is not a range; give two standard deviations \(low, high\)"):
            GaussianNoise(scale=scale)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, r"corruption=GroupMasking\(\) has no groups, and the rows have no categories and are no images; give"),
        ([[0, 9]], "group 0 contains column 9, but the rows have 7 columns; give columns from 0 to 6"),
        ([[0, 1], [1, 2]], "column 1 is in groups 0 and 1; leave it in one"),
        ([0, 1], "groups: group 0 is 0, not a list; give lists of column numbers"),
        ([[0], []], r"groups: group 1 is empty; give lists of column numbers"),
        ([[0.5]], "groups: group 0 has 0.5, not a column number"),
        ("01", "groups='01': it is not a list of groups"),
    ],
)
def test_groups_that_do_not_fit_the_rows_raise(groups, message):
    with pytest.raises(InputError, match=message):
        build_corruption(GroupMasking(groups=groups), ROW)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([0, 1], "group 0 is 0, not a list; give lists of column"),
        ([[0.5]], "group 0 has 0.5, not a column number; give lists"),
        (3, "groups=3: it is not a list of groups; give"),
        ([[]], "group 0 is empty"),
    ],
)
def test_groups_that_are_not_lists_of_columns_are_refused_at_once(groups, message):
    for kind in (GroupMasking, MissingMask):
        with pytest.raises(InputError, match=message):
            kind(groups=groups)
