"""Inference by optimisation: the code is optimal, its gradient that of the whole criterion, and bad input."""

from __future__ import annotations

import pytest
import torch

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import OptimisedInference
from isthmus.parts.sparse_inference import duality_gap
from isthmus.parts.sparse_norms import L1Norm

N_COLUMNS, CODE_SIZE, ALPHA = 6, 10, 0.3


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def coder(**options) -> Coder:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=seeded()).double()
    decoder.start_at(torch.linspace(-1, 1, N_COLUMNS, dtype=torch.float64))
    return Coder(OptimisedInference(decoder, ALPHA, **options), decoder, Gaussian(N_COLUMNS))


def rows(n: int = 12) -> torch.Tensor:
    return 2.0 * torch.randn(n, N_COLUMNS, generator=seeded(1), dtype=torch.float64)


def criterion(model: Coder, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    return (0.5 * (x - model.decode(code)).square().sum(1) + ALPHA * code.abs().sum(1)).sum()


@pytest.mark.parametrize("non_negative", [False, True])
def test_the_code_that_is_read_is_within_the_gap_of_the_best(non_negative):
    model, x = coder(gap=1e-6, norm=L1Norm(non_negative), max_steps=5000), rows()
    problem = model.inference.problem(model.inference.centred(x))
    code = model.encode(Batch(x)).code
    assert (duality_gap(problem, code) <= 0.5e-6 * problem.squared_norms).all()
    assert (code == 0.0).any()
    assert (code < 0.0).any() != non_negative
    torch.testing.assert_close(problem.objective(code).sum(), criterion(model, x, code))


def test_more_steps_in_training_come_closer_to_the_code_that_is_read():
    x = rows()
    best = coder(gap=1e-10, max_steps=5000).encode(Batch(x)).code
    errors = [float((coder(n_steps=n)(Batch(x), seeded()).code - best).norm()) for n in (1, 20, 800)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3 * float(best.norm())


def test_the_gradient_of_the_dictionary_is_that_of_the_minimum_over_codes():
    """The envelope theorem: the gradient with constant codes against finite differences of the minimum."""
    model, x = coder(gap=1e-12, max_steps=20_000), rows()
    weight = dictionary_weight(model.decoder)
    criterion(model, x, model.encode(Batch(x)).code).backward()

    def minimum(step: float, direction: torch.Tensor) -> float:
        with torch.no_grad():
            weight.add_(direction, alpha=step)
            value = float(criterion(model, x, model.encode(Batch(x)).code))
            weight.add_(direction, alpha=-step)
        return value

    for seed in range(3):
        direction = torch.randn(weight.shape, generator=seeded(seed), dtype=torch.float64)
        difference = (minimum(1e-4, direction) - minimum(-1e-4, direction)) / 2e-4
        assert difference == pytest.approx(float((weight.grad * direction).sum()), rel=1e-3)


def test_codes_have_full_precision_under_autocast():
    model, x = coder().float(), rows().float()
    code = model(Batch(x), seeded()).code
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(Batch(x), seeded()).code, code)


def test_a_code_does_not_depend_on_the_other_rows_of_its_batch():
    model, x = coder().float(), rows().float()
    changed = torch.cat([x[:6], 5.0 * x[6:].flip(1)])
    assert torch.equal(model.encode(Batch(x)).code[:6], model.encode(Batch(changed)).code[:6])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": MLP((3, 4, 6), generator=seeded())}, "needs a linear decoder; found: network of 2 affine maps"),
        ({"alpha": 0.0}, "alpha=0.0: it must be a finite number above 0"),
        ({"gap": -1.0}, "gap=-1.0: it must be a finite number above 0"),
        ({"n_steps": 0}, "n_steps=0: it must be a whole number of at least 1"),
        ({"max_steps": 2.5}, "max_steps=2.5: it must be a whole number of at least 1"),
    ],
)
def test_bad_input_is_one_clear_line(options, message):
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=seeded())
    with pytest.raises(InputError, match=message):
        OptimisedInference(**{"decoder": decoder, "alpha": ALPHA} | options)
