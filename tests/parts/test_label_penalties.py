"""The loss of pairs of codes: enumeration of all codes, the bound, its gradients, weights and rows without labels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from isthmus import InputError
from isthmus.parts import label_penalties
from isthmus.parts.forward import UNLABELLED, Batch, ForwardPass
from isthmus.parts.label_penalties import MinimalLoss, loss_augmented, pairs_of_rows, repair_cost

BITS, PAIRS = 6, 12
CODES = np.array(list(itertools.product((0, 1), repeat=BITS)))


def outputs(n=PAIRS, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, BITS, generator=generator, dtype=torch.float64)


def loss_by_hand(m, same, rho, lam):
    return max(m - rho + 1, 0) if same else lam * max(rho - m + 1, 0)


def by_enumeration(a, b, same, rho, lam):
    """L and R over all pairs of codes of 6 bits."""
    scores = np.add.outer(CODES @ a, CODES @ b)
    losses = np.array([[loss_by_hand(np.sum(g != h), same, rho, lam) for h in CODES] for g in CODES])
    best = scores.max()
    return (losses + scores).max() - best, best - scores[losses == losses.min()].max()


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("rho", "lam"), [(2.0, 1.0), (3.0, 0.4), (2.5, 2.0), (0.5, 1.0), (5.0, 1.0), (20.0, 1.0)])
@pytest.mark.parametrize("scale", [0.1, 0.7, 3.0])
def test_loss_augmented_inference_equals_the_enumeration_of_all_codes(same, rho, lam, scale):
    a, b = outputs(scale=scale), outputs(seed=1, scale=scale)
    pairs = a, b, torch.full((PAIRS,), same), MinimalLoss(rho=rho, lam=lam).loss_at(BITS, torch.full((PAIRS,), same))
    found = np.stack([loss_augmented(*pairs).bound.numpy(), repair_cost(*pairs).numpy()], axis=1)
    expected = [by_enumeration(x, y, same, rho, lam) for x, y in zip(a.numpy(), b.numpy(), strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def omega_by_hand(a, labels, w, rho, lam, repair):
    """Omega as loops over pairs, by enumeration."""
    parts = {True: [], False: []}
    for i, j in itertools.combinations(range(len(a)), 2):
        if UNLABELLED in (labels[i], labels[j]):
            continue
        same = bool(labels[i] == labels[j])
        bound, cost = by_enumeration(a[i], a[j], same, rho, lam)
        parts[same].append((w[i] * w[j], bound + repair * cost))
    return sum(np.average([v for _, v in pairs], weights=[u for u, _ in pairs]) for pairs in parts.values() if pairs)


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, UNLABELLED, 1, 1], [3, 3, 3, 3, 3, 3, 3], [0, 1, 2, 3, 4, 5, 6]])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_term_is_the_sum_of_the_means_over_both_sorts_of_pairs(labels, weighted):
    a, w = outputs(7), torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 0.0, 1.0], dtype=torch.float64)
    penalty = MinimalLoss(rho=2.0, lam=0.7, margin=0.5, repair=0.3)
    found = penalty.of(a, torch.tensor(labels), w if weighted else None)
    rows = w.numpy() if weighted else np.ones(7)
    np.testing.assert_allclose(found.item(), omega_by_hand(a.numpy() / 0.5, labels, rows, 2.0, 0.7, 0.3), rtol=1e-6)


def test_the_term_is_a_bound_of_the_loss_and_equals_it_far_from_the_thresholds():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])
    first, second, counted = pairs_of_rows(8)
    a = outputs(8)
    for scale, gap in ((0.01, 1.0), (1.0, 0.0), (1e4, 0.0)):
        found = MinimalLoss(rho=2.0, repair=0.0).of(scale * a, labels)
        distance = ((a[first] > 0) != (a[second] > 0)).sum(1)
        same = labels[first] == labels[second]
        exact = sum(
            np.mean([loss_by_hand(m, s, 2.0, 1.0) for m in distance[counted & (same == s)].tolist()])
            for s in (True, False)
        )
        assert found >= exact + gap - 1e-9
    assert found.item() == pytest.approx(exact)


def test_the_repair_has_a_gradient_for_wrong_bits_that_the_bound_of_the_paper_does_not_have():
    a = torch.tensor([[2.0] * BITS, [-2.0] * BITS], requires_grad=True)
    for repair, moved in ((0.0, False), (1.0, True)):
        (gradient,) = torch.autograd.grad(MinimalLoss(rho=2.0, repair=repair).of(a, torch.tensor([4, 4])), a)
        assert bool((gradient[0] > 0).any()) == moved, "a step down the gradient lowers the bits of the first row"


def test_the_term_does_not_depend_on_the_names_of_the_classes():
    a, labels = outputs(9), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2])
    penalty = MinimalLoss(rho=2.0)
    renamed = torch.tensor([7, 0, 3])[labels]
    assert torch.equal(penalty.of(a, labels), penalty.of(a, renamed))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 8, 9])
def test_every_pair_is_counted_once(n):
    first, second, counted = pairs_of_rows(n) if n else (torch.empty(0), torch.empty(0), torch.empty(0, dtype=bool))
    found = [tuple(sorted(pair)) for pair in zip(first[counted].tolist(), second[counted].tolist(), strict=True)]
    assert sorted(found) == list(itertools.combinations(range(n), 2))


def test_of_many_rows_each_takes_part_in_equally_many_pairs(monkeypatch):
    monkeypatch.setattr(label_penalties, "MAX_PAIRS", 100)
    first, second, counted = pairs_of_rows(30)
    assert len({tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}) == 90
    assert counted.all()
    assert set(torch.bincount(torch.cat([first, second])).tolist()) == {6}
    assert int((second - first).abs().max()) > 10, "near rows alone would be of one class in sorted data"


def test_without_labels_or_pairs_the_term_is_zero():
    a = outputs(3)
    output = ForwardPass(Batch(a), Batch(a), a, a, a)
    assert MinimalLoss(rho=2.0)(output, None, None) == 0
    for labels in ([UNLABELLED] * 3, [0, UNLABELLED, UNLABELLED]):
        assert MinimalLoss(rho=2.0).of(a, torch.tensor(labels)) == 0
    assert MinimalLoss(rho=2.0).of(a[:1], torch.tensor([0])) == 0


def test_the_gradient_agrees_with_finite_differences():
    labels = torch.tensor([0, 1, 0, 1, 2])
    a = outputs(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: MinimalLoss(rho=2.0, margin=0.8).of(a, labels), a)


@pytest.mark.parametrize(
    "fields", [{"rho": 0.0}, {"rho": float("nan")}, {"lam": -1.0}, {"margin": 0}, {"repair": -1}, {"weight": -1.0}]
)
def test_wrong_fields_are_refused(fields):
    with pytest.raises(InputError, match=next(iter(fields))):
        MinimalLoss(**{"rho": 2.0, **fields})
