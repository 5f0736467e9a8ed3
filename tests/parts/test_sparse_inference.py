"""Sparse inference: agreement with scikit-learn, closed forms, duality gaps, rows on their own, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import ElasticNet, orthogonal_mp_gram

from isthmus.errors import InputError
from isthmus.parts import sparse_inference
from isthmus.parts.sparse_inference import (
    SparseProblem,
    coordinate_descent,
    duality_gap,
    eigenvalue_bound,
    fista,
    ista,
    matching_pursuit,
)
from isthmus.parts.sparse_norms import GroupNorm, L1Norm, SparseNorm, TopographicNorm
from tests.no_wait import NoWait

SOLVERS = pytest.mark.parametrize("solver", [fista, ista, coordinate_descent])
GRADIENT_SOLVERS = pytest.mark.parametrize("solver", [fista, ista])
SIGNS = pytest.mark.parametrize("non_negative", [False, True])


def rows_and_dictionary(seed: int, n: int = 5, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and atoms of norms between .5 and 2; every third dictionary is undercomplete, and another noisy."""
    generator = torch.Generator().manual_seed(seed)
    n_columns, n_atoms = (12, 7) if seed % 3 == 0 else (9, 40)
    dictionary = torch.randn(n_atoms, n_columns, generator=generator, dtype=dtype)
    norms = 0.5 + 1.5 * torch.rand(n_atoms, 1, generator=generator, dtype=dtype)
    dictionary *= norms / dictionary.norm(dim=1, keepdim=True)
    active = torch.rand(n, n_atoms, generator=generator, dtype=dtype) < 3 / n_atoms
    code = 2.0 * torch.randn(n, n_atoms, generator=generator, dtype=dtype) * active
    noise = torch.randn(n, n_columns, generator=generator, dtype=dtype)
    return code @ dictionary + (0.1 if seed % 3 == 1 else 1.0) * noise, dictionary


def unit_atoms(dictionary: torch.Tensor) -> torch.Tensor:
    return dictionary / dictionary.norm(dim=1, keepdim=True)


def primal(
    x: torch.Tensor, dictionary: torch.Tensor, code: torch.Tensor, alpha: float, norm: SparseNorm | None = None
) -> torch.Tensor:
    penalty = code.abs().sum(1) if norm is None else norm.value(code)
    return 0.5 * (x - code @ dictionary).square().sum(1) + alpha * penalty


def check_optimal(solver, problem: SparseProblem, x: torch.Tensor, dictionary: torch.Tensor, exact: np.ndarray):
    """Check that the objective at gap 1e-6 is that of an exact code, relative to the objective of code zero."""
    found = solver(problem, gap=1e-6, n_steps=20_000)
    best = primal(x, dictionary, torch.from_numpy(exact), problem.alpha, problem.norm)
    scale = 0.5 * x.square().sum(1)
    assert (found.gap <= 1e-6 * scale).all()
    assert ((primal(x, dictionary, found.code, problem.alpha, problem.norm) - best).abs() <= 1e-6 * scale).all()
    return found.code


@SOLVERS
def test_objectives_agree_with_lars_on_random_problems(solver):
    for seed in range(200 if solver is fista else 12):
        x, dictionary = rows_and_dictionary(seed, n=1 if solver is fista else 5)
        alpha = (0.05, 0.3, 1.0)[seed % 3]
        exact = sparse_encode(x.numpy(), dictionary.numpy(), algorithm="lasso_lars", alpha=alpha, max_iter=5000)
        check_optimal(solver, SparseProblem.of(x, dictionary, alpha), x, dictionary, exact)


def test_objectives_agree_with_those_of_skglm():
    skglm = pytest.importorskip("skglm")
    for seed in range(200):
        x, dictionary = rows_and_dictionary(seed, n=1)
        alpha = (0.05, 0.3, 1.0)[seed % 3]
        model = skglm.Lasso(alpha / x.shape[1], fit_intercept=False, tol=1e-12, max_iter=1000)
        exact = model.fit(dictionary.T.numpy(), x[0].numpy()).coef_[None]
        check_optimal(fista, SparseProblem.of(x, dictionary, alpha), x, dictionary, exact)


@SOLVERS
def test_non_negative_objectives_agree_with_the_positive_lasso(solver):
    """The positive LARS of scikit-learn stops above the minimum, so the oracle is its coordinate descent."""
    for seed in range(12):
        x, dictionary = rows_and_dictionary(seed)
        alpha = (0.05, 0.3, 1.0)[seed % 3]
        exact = sparse_encode(
            x.numpy(), dictionary.numpy(), algorithm="lasso_cd", alpha=alpha, max_iter=100_000, positive=True
        )
        problem = SparseProblem.of(x, dictionary, alpha, non_negative=True)
        assert (check_optimal(solver, problem, x, dictionary, exact) >= 0.0).all()


@SOLVERS
def test_the_elastic_net_agrees_with_scikit_learn(solver):
    for seed in range(6):
        x, dictionary = rows_and_dictionary(seed, n=1)
        n_columns, alpha, l2 = dictionary.shape[1], 0.3, 0.7
        model = ElasticNet(
            (alpha + l2) / n_columns, l1_ratio=alpha / (alpha + l2), fit_intercept=False, tol=1e-12, max_iter=100_000
        )
        exact = model.fit(dictionary.T.numpy(), x[0].numpy()).coef_
        found = solver(SparseProblem.of(x, dictionary, alpha, l2=l2), gap=1e-13, n_steps=20_000).code
        np.testing.assert_allclose(found[0].numpy(), exact, atol=1e-5)


def grouped_rows_and_dictionary(seed: int, size: int, n: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows and a dictionary whose atoms form whole groups."""
    x, dictionary = rows_and_dictionary(seed, n)
    return x, dictionary[: len(dictionary) // size * size]


@GRADIENT_SOLVERS
def test_codes_of_groups_satisfy_the_optimality_conditions(solver):
    """A group of zeros has ||g_k|| <= alpha, and another g_k = alpha h_k / ||h_k||, with g the correlations."""
    states = set()
    for seed in range(12):
        size, alpha = (1, 2, 3)[seed % 3], 0.5
        x, dictionary = grouped_rows_and_dictionary(seed // 3, size)
        problem = SparseProblem.of(x, dictionary, alpha, norm=GroupNorm(size))
        code = solver(problem, gap=1e-14, n_steps=50_000).code
        h, g = (values.unflatten(1, (-1, size)) for values in (code, (x - code @ dictionary) @ dictionary.T))
        active = h.norm(dim=2) > 0.0
        assert (g.norm(dim=2)[~active] <= alpha * (1 + 1e-5)).all()
        direction = h[active] / h[active].norm(dim=1, keepdim=True)
        torch.testing.assert_close(g[active], alpha * direction, atol=1e-4, rtol=0.0)
        states |= set(active.flatten().tolist())
    assert states == {False, True}


def test_objectives_of_groups_agree_with_those_of_skglm():
    skglm = pytest.importorskip("skglm")
    for seed in range(12):
        size, alpha = (2, 3)[seed % 2], (0.1, 0.5, 1.0)[seed % 3]
        x, dictionary = grouped_rows_and_dictionary(seed, size, n=1)
        model = skglm.GroupLasso(size, alpha / x.shape[1], fit_intercept=False, tol=1e-8, max_iter=1000)
        exact = model.fit(dictionary.T.numpy(), x[0].numpy()).coef_[None]
        check_optimal(fista, SparseProblem.of(x, dictionary, alpha, norm=GroupNorm(size)), x, dictionary, exact)


def test_groups_of_one_unit_are_the_l1_norm():
    x, dictionary = rows_and_dictionary(1)
    l1 = fista(SparseProblem.of(x, dictionary, 0.3, l2=0.2), gap=1e-6)
    groups = fista(SparseProblem.of(x, dictionary, 0.3, l2=0.2, norm=GroupNorm(1)), gap=1e-6)
    assert l1.n_steps == groups.n_steps
    torch.testing.assert_close(groups.code, l1.code)
    torch.testing.assert_close(groups.gap, l1.gap)


MAPS = pytest.mark.parametrize(
    "norm",
    [
        TopographicNorm((40,), 2, 0.1),
        TopographicNorm((5, 8), 1, 1e-3),
        TopographicNorm((5, 8), 2, 0.01),
        TopographicNorm((8, 5), 1, 1.0),
    ],
    ids=str,
)


@MAPS
def test_topographic_objectives_agree_with_quasi_newton_steps(norm):
    x, dictionary = rows_and_dictionary(1)
    for alpha, l2 in ((0.1, 0.0), (0.5, 0.3)):
        problem = SparseProblem.of(x, dictionary, alpha, l2=l2, norm=norm)
        found = fista(problem, gap=1e-9, n_steps=20_000)
        scale = 0.5 * x.square().sum(1)
        assert (found.gap <= 1e-9 * scale).all()
        for row, objective in enumerate(problem.objective(found.code)):
            part = problem.rows(slice(row, row + 1))

            def value_and_gradient(h, part=part):
                code = torch.from_numpy(h)[None].requires_grad_()
                value = part.objective(code).sum()
                value.backward()
                return value.item(), code.grad[0].numpy()

            best = minimize(
                value_and_gradient, np.zeros(40), jac=True, method="L-BFGS-B",
                options={"maxiter": 5000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-10, "maxcor": 30},
            ).fun  # fmt: skip
            assert -1e-6 * scale[row] <= best - objective.item()
            assert objective.item() - best <= found.gap[row].item() + 1e-12


@pytest.mark.parametrize("norm", [L1Norm(), L1Norm(non_negative=True), GroupNorm(4), TopographicNorm((5, 8), 1, 1e-3)])
def test_the_gap_of_any_code_bounds_the_error(norm):
    for seed in (1, 2, 4, 5):
        x, dictionary = rows_and_dictionary(seed)
        problem = SparseProblem.of(x, dictionary, 0.3, l2=0.1 * (seed % 2), norm=norm)
        best = fista(problem, gap=1e-10, n_steps=50_000).code
        for scale in (0.0, 1e-6, 1e-2, 1.0, 100.0):
            code = best + scale * torch.randn(best.shape, generator=torch.Generator().manual_seed(seed)).double()
            code = code.clamp_min(0.0) if norm.non_negative else code
            error, gap = problem.objective(code) - problem.objective(best), duality_gap(problem, code)
            assert (gap >= -1e-12 * problem.squared_norms).all()
            assert (error <= gap + 1e-9 * problem.squared_norms).all()


@pytest.mark.parametrize("norm", [L1Norm(), L1Norm(non_negative=True), GroupNorm(4), TopographicNorm((5, 8), 1, 1e-3)])
def test_ista_never_increases_the_objective(norm):
    x, dictionary = rows_and_dictionary(2, n=30)
    problem = SparseProblem.of(x, dictionary, 0.3, norm=norm)
    code = torch.randn(30, 40, generator=torch.Generator().manual_seed(0)).double().abs()
    before = problem.objective(code)
    for _ in range(50):
        code = ista(problem, n_steps=1, gap=None, start=code).code
        after = problem.objective(code)
        assert (after <= before + 1e-12 * problem.squared_norms).all()
        before = after


def test_ista_needs_more_steps_than_fista():
    x, dictionary = rows_and_dictionary(1, n=20)
    problem = SparseProblem.of(x, dictionary, 0.05)
    slow, fast = (solver(problem, gap=1e-5, n_steps=20_000) for solver in (ista, fista))
    assert slow.n_steps > 2 * fast.n_steps
    difference = problem.objective(slow.code) - problem.objective(fast.code)
    assert (difference.abs() <= 0.5e-5 * problem.squared_norms).all()


@SOLVERS
def test_orthonormal_atoms_give_soft_thresholding(solver):
    basis = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    code = solver(SparseProblem.of(x, basis, 0.5), gap=1e-12).code
    torch.testing.assert_close(code, torch.nn.functional.softshrink(x @ basis.T, 0.5))


@SIGNS
def test_the_gap_is_that_of_a_feasible_dual_point_and_bounds_the_error(non_negative):
    for seed in range(6):
        x, dictionary = rows_and_dictionary(seed)
        problem = SparseProblem.of(x, dictionary, 0.3, non_negative=non_negative)
        code = torch.randn(problem.correlations.shape, generator=torch.Generator().manual_seed(seed)).double()
        code = code.clamp_min(0.0) if non_negative else code
        residual = x - code @ dictionary
        correlations = residual @ dictionary.T
        largest = (correlations if non_negative else correlations.abs()).amax(1)
        s = torch.minimum((x * residual).sum(1) / residual.square().sum(1), 0.3 / largest).clamp_min(0.0)
        dual = 0.5 * x.square().sum(1) - 0.5 * (x - s[:, None] * residual).square().sum(1)
        gap = duality_gap(problem, code)
        torch.testing.assert_close(problem.objective(code), primal(x, dictionary, code, 0.3))
        torch.testing.assert_close(gap, problem.objective(code) - dual)
        best = problem.objective(fista(problem, gap=1e-7, n_steps=5000).code)
        assert (problem.objective(code) - best <= gap + 1e-9 * problem.squared_norms).all()


@SOLVERS
def test_single_precision_reaches_its_gap(solver):
    x, dictionary = rows_and_dictionary(1, n=50, dtype=torch.float32)
    problem = SparseProblem.of(x, dictionary, 0.3)
    found = solver(problem, gap=1e-5, n_steps=20_000)
    assert found.code.dtype == torch.float32
    assert (found.gap <= 0.5e-5 * problem.squared_norms).all()
    exact = SparseProblem.of(x.double(), dictionary.double(), 0.3)
    true_gap = duality_gap(exact, found.code.double())
    assert (true_gap <= found.gap + 1e-6 * exact.squared_norms).all()


@SOLVERS
def test_a_row_has_the_same_code_alone_and_among_others(solver, monkeypatch):
    x, dictionary = rows_and_dictionary(2, n=10)
    problem = SparseProblem.of(x, dictionary, 1.0)
    together = solver(problem, gap=1e-4)
    monkeypatch.setattr(sparse_inference, "ROWS_AT_ONCE", 4)
    in_blocks = solver(problem, gap=1e-4)
    alone = [solver(problem.rows(slice(row, row + 1)), gap=1e-4) for row in range(10)]
    assert in_blocks.n_steps == together.n_steps == max(single.n_steps for single in alone)
    torch.testing.assert_close(in_blocks.code, together.code)
    torch.testing.assert_close(torch.cat([single.code for single in alone]), together.code)
    torch.testing.assert_close(torch.cat([single.gap for single in alone]), together.gap)


@SOLVERS
def test_rows_that_stay_have_equal_bits_whatever_the_other_rows_are(solver):
    x, dictionary = rows_and_dictionary(2, n=10, dtype=torch.float32)
    codes = []
    for others in (x, x.flip(1), 0.0 * x):
        rows = torch.cat([x[:5], others[5:]])
        found = solver(SparseProblem.of(rows, dictionary, 1.0), gap=1e-4, n_steps=5000)
        assert (found.gap <= 0.5e-4 * rows.square().sum(1)).all()
        codes.append(found.code[:5])
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])
    alone = solver(SparseProblem.of(x[:5], dictionary, 1.0), gap=1e-4, n_steps=5000).code
    torch.testing.assert_close(codes[0], alone)


@SOLVERS
def test_a_warm_start_needs_fewer_steps(solver):
    x, dictionary = rows_and_dictionary(1, n=10)
    problem = SparseProblem.of(x, dictionary, 0.3)
    cold = solver(problem, gap=1e-4, n_steps=5000)
    again = solver(problem, gap=1e-4, start=cold.code)
    assert again.n_steps == 0
    assert torch.equal(again.code, cold.code)
    near = solver(SparseProblem.of(x, dictionary, 0.299), gap=1e-4, n_steps=5000, start=cold.code)
    assert near.n_steps < cold.n_steps


@GRADIENT_SOLVERS
@pytest.mark.parametrize("norm", [GroupNorm(4), TopographicNorm((5, 8), 1, 0.01)])
def test_a_fixed_number_of_steps_of_other_norms_waits_for_nothing(solver, norm):
    x, dictionary = rows_and_dictionary(1, n=30)
    problem = SparseProblem.of(x, dictionary, 0.3, norm=norm)
    with NoWait():
        found = [solver(problem, n_steps=n_steps, gap=None) for n_steps in (1, 4, 16, 64)]
    means = [float(problem.objective(result.code).mean()) for result in found]
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("norm", [GroupNorm(4), TopographicNorm((5, 8), 1, 0.01)])
def test_rows_of_other_norms_stop_on_their_own_also_in_single_precision(norm):
    x, dictionary = rows_and_dictionary(1, n=30, dtype=torch.float32)
    x[3] = 0.0
    problem = SparseProblem.of(x, dictionary, 0.3, norm=norm)
    found = fista(problem, gap=1e-4, n_steps=5000)
    assert (found.gap <= 0.5e-4 * problem.squared_norms).all()
    assert (found.code[3] == 0.0).all()
    alone = fista(problem.rows(slice(7, 8)), gap=1e-4, n_steps=5000)
    torch.testing.assert_close(alone.code, found.code[7:8], rtol=1e-4, atol=1e-4)
    exact = SparseProblem.of(x.double(), dictionary.double(), 0.3, norm=norm)
    assert (duality_gap(exact, found.code.double()) <= found.gap + 1e-6 * exact.squared_norms).all()


@SOLVERS
def test_a_fixed_number_of_steps_waits_for_nothing_and_more_steps_are_better(solver):
    x, dictionary = rows_and_dictionary(1, n=30)
    problem = SparseProblem.of(x, dictionary, 0.3)
    with NoWait():
        found = [solver(problem, n_steps=n_steps, gap=None) for n_steps in (1, 4, 16, 64)]
    assert [result.n_steps for result in found] == [1, 4, 16, 64]
    means = [float(problem.objective(result.code).mean()) for result in found]
    assert means == sorted(means, reverse=True)
    torch.testing.assert_close(found[-1].gap, duality_gap(problem, found[-1].code))


def test_coordinate_descent_never_increases_the_objective():
    x, dictionary = rows_and_dictionary(2, n=30)
    problem = SparseProblem.of(x, dictionary, 0.3)
    code, before = None, 0.5 * problem.squared_norms
    for _ in range(10):
        code = coordinate_descent(problem, n_steps=1, gap=None, start=code).code
        assert (problem.objective(code) <= before + 1e-12).all()
        before = problem.objective(code)


@SIGNS
@SOLVERS
def test_rows_without_correlation_above_alpha_have_code_zero(solver, non_negative):
    x = torch.tensor([[0.0, 0.0], [0.5, -0.9], [3.0, 0.2]])
    dictionary = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    found = solver(SparseProblem.of(x, dictionary, 1.0, non_negative=non_negative), gap=1e-5)
    torch.testing.assert_close(found.code, torch.tensor([[0.0] * 3, [0.0] * 3, [2.0, 0.0, 0.0]]))
    nothing = solver(SparseProblem.of(x[:2], dictionary, 1.0, non_negative=non_negative), gap=1e-5)
    assert nothing.n_steps == 0
    assert solver(SparseProblem.of(x, torch.zeros(2, 2), 1.0, non_negative=non_negative)).code.eq(0.0).all()


@SOLVERS
def test_no_rows_give_no_codes(solver):
    assert solver(SparseProblem.of(torch.zeros(0, 2), torch.eye(2), 1.0)).code.shape == (0, 2)
    assert matching_pursuit(torch.zeros(0, 2), torch.eye(2), 1).shape == (0, 2)


def test_matching_pursuit_agrees_with_scikit_learn():
    for seed in range(40):
        x, dictionary = rows_and_dictionary(seed, n=6)
        dictionary = unit_atoms(dictionary)
        k = 1 + seed % 6
        gram, correlations = (dictionary @ dictionary.T).numpy(), (x @ dictionary.T).numpy()
        exact = orthogonal_mp_gram(gram, correlations.T, n_nonzero_coefs=k).T.reshape(len(x), -1)
        np.testing.assert_allclose(matching_pursuit(x, dictionary, k).numpy(), exact, atol=1e-9)


def test_matching_pursuit_of_scaled_atoms_is_the_scaled_code():
    x, dictionary = rows_and_dictionary(1, n=20)
    norms = dictionary.norm(dim=1)
    torch.testing.assert_close(
        matching_pursuit(x, dictionary, 4) * norms, matching_pursuit(x, unit_atoms(dictionary), 4)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matching_pursuit_stops_at_residual_zero_and_at_dependent_atoms(dtype):
    dictionary = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 2.0, 0], [0.6, 0.8, 0], [0, 0, 0]], dtype=dtype)
    x = torch.tensor([[0.0, 0, 0], [4.0, 0, 0], [3.0, 5.0, 0], [3.0, 5.0, 1.0]], dtype=dtype)
    code = matching_pursuit(x, dictionary, 5)
    torch.testing.assert_close(code @ dictionary, x * torch.tensor([1.0, 1.0, 0.0], dtype=dtype))
    assert (code != 0.0).sum(1).tolist() == [0, 1, 2, 2]


def test_the_eigenvalue_bound_is_close_and_above():
    for seed in range(12):
        for dtype in (torch.float32, torch.float64):
            _, dictionary = rows_and_dictionary(seed, dtype=dtype)
            gram = 1e4 * dictionary @ dictionary.T
            largest = float(torch.linalg.eigvalsh(gram.double())[-1])
            bound = float(eigenvalue_bound(gram))
            assert (1 - 1e-6) * largest <= bound <= (1 + 1e-6) * len(gram) ** (1 / 64) * largest
    assert float(eigenvalue_bound(torch.zeros(3, 3))) < 1e-30


X, D = torch.ones(2, 3), torch.ones(4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: SparseProblem.of(X, D, 0.0), "alpha=0.0: it must be a finite number above 0"),
        (lambda: SparseProblem.of(X, D, 1.0, l2=-1.0), "l2=-1.0: it must be a finite number above 0"),
        (lambda: SparseProblem.of(X, D.T, 1.0), "atoms of 4 columns, and the rows have 3"),
        (lambda: SparseProblem.of(X[0], D, 1.0), r"rows of shape \(3,\)"),
        (lambda: SparseProblem.of(X, D[:0], 1.0), r"a dictionary of shape \(0, 3\)"),
        (lambda: SparseProblem.of(X, D.double(), 1.0), "rows are torch.float32 and the dictionary is torch.float64"),
        (lambda: SparseProblem.of(X.long(), D.long(), 1.0), "give both as float32 or as float64"),
        (lambda: fista(SparseProblem.of(X, D, 1.0), n_steps=0), "n_steps=0"),
        (lambda: coordinate_descent(SparseProblem.of(X, D, 1.0), gap=0.0), "gap=0.0"),
        (lambda: fista(SparseProblem.of(X, D, 1.0), start=X), r"start is torch.float32 of shape \(2, 3\)"),
        (
            lambda: fista(SparseProblem.of(X, D, 1.0, non_negative=True), start=-torch.ones(2, 4)),
            "start has a negative value",
        ),
        (
            lambda: duality_gap(SparseProblem.of(X, D, 1.0, non_negative=True), -torch.ones(2, 4)),
            "the code has a negative value",
        ),
        (lambda: duality_gap(SparseProblem.of(X, D, 1.0), X), r"shape \(rows, atoms\) = \(2, 4\)"),
        (lambda: SparseProblem.of(X, D, 1.0, norm=GroupNorm(3)), "groups of 3 units do not divide a code of 4 units"),
        (lambda: SparseProblem.of(X, D, 1.0, norm=TopographicNorm((3, 3))), r"shape \(3, 3\) has 9 units, .* has 4"),
        (lambda: SparseProblem.of(X, D, 1.0, norm=L1Norm(), non_negative=True), "non_negative=True and norm=L1Norm"),
        (lambda: coordinate_descent(SparseProblem.of(X, D, 1.0, norm=GroupNorm(2))), "GroupNorm .*; use fista"),
        (lambda: coordinate_descent(SparseProblem.of(X, D, 1.0, norm=TopographicNorm((4,)))), "use fista"),
        (lambda: matching_pursuit(X, D, 0), "k=0: it must be a whole number between 1 and the number of atoms, 4"),
        (lambda: matching_pursuit(X, D, 5), "k=5"),
        (lambda: matching_pursuit(X, D.T, 1), "atoms of 4 columns, and the rows have 3"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
