"""LISTA: before training it is ISTA, training brings it closer to optimal codes, and bad input."""

from __future__ import annotations

import pytest
import torch

from isthmus.errors import InputError
from isthmus.parts.lista import LISTA
from isthmus.parts.sparse_inference import SparseProblem, fista, ista

ALPHA = 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dictionary(n_atoms: int = 20, n_columns: int = 8) -> torch.Tensor:
    atoms = torch.randn(n_atoms, n_columns, generator=seeded(), dtype=torch.float64)
    return atoms / atoms.norm(dim=1, keepdim=True)


def rows(n: int = 30, seed: int = 1) -> torch.Tensor:
    return 2.0 * torch.randn(n, 8, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 50])
def test_before_training_the_code_is_that_of_as_many_steps_of_ista(n_steps, non_negative):
    encoder = LISTA(dictionary(), ALPHA, n_steps=n_steps, non_negative=non_negative)
    problem = SparseProblem.of(rows(), dictionary(), ALPHA, non_negative=non_negative)
    expected = ista(problem, n_steps=n_steps, gap=None).code
    torch.testing.assert_close(encoder(rows()), expected, rtol=1e-12, atol=1e-12)
    assert (expected == 0.0).any()


def test_a_centred_encoder_has_the_codes_of_the_differences():
    encoder, mean = LISTA(dictionary(), ALPHA, n_steps=3), rows(1, seed=2)[0]
    before = encoder(rows())
    encoder.centre(mean)
    torch.testing.assert_close(encoder(rows() + mean), before)


def test_training_on_optimal_codes_is_better_than_as_many_steps_of_fista():
    """The claim of Gregor & LeCun (2010), section 4, on new rows."""
    generator = seeded(3)

    def sparse_rows(n):
        active = torch.rand(n, 20, generator=generator, dtype=torch.float64) < 0.15
        return (torch.randn(n, 20, generator=generator, dtype=torch.float64) * active) @ dictionary()

    def optimal(x):
        return fista(SparseProblem.of(x, dictionary(), 0.1), gap=1e-6).code

    train, test = sparse_rows(2000), sparse_rows(500)
    target, expected = optimal(train), optimal(test)
    encoder = LISTA(dictionary(), 0.1, n_steps=3)
    optimiser = torch.optim.Adam(encoder.parameters(), lr=2e-2)
    for step in range(400):
        batch = slice(step * 100 % 2000, step * 100 % 2000 + 100)
        optimiser.zero_grad()
        (encoder(train[batch]) - target[batch]).square().sum(1).mean().backward()
        optimiser.step()
    error = float((encoder(test).detach() - expected).norm())
    few = fista(SparseProblem.of(test, dictionary(), 0.1), n_steps=3, gap=None).code
    assert error < 0.8 * float((few - expected).norm())


def test_every_parameter_has_a_gradient_and_leading_axes_are_kept():
    for n_steps in (1, 4):
        encoder = LISTA(dictionary(), ALPHA, n_steps=n_steps)
        encoder(rows()).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())
        torch.testing.assert_close(encoder(rows().view(3, 10, -1)).flatten(0, 1), encoder(rows()))


def test_building_leaves_the_dictionary_and_the_global_generator_unchanged():
    atoms, state = dictionary(), torch.random.get_rng_state()
    encoder = LISTA(atoms, ALPHA)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    assert torch.equal(atoms, dictionary())
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LISTA(dictionary(), 0.0), "alpha=0.0: it must be a finite number above 0"),
        (lambda: LISTA(dictionary(), 1.0, n_steps=0), "n_steps=0: it must be a whole number of at least 1"),
        (lambda: LISTA(dictionary()[0], 1.0), r"found one of shape \(8,\)"),
        (lambda: LISTA(torch.zeros(3, 2), 1.0), "values other than 0"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
