"""Sparse inference: the code that best explains a row by few atoms of a dictionary, for many rows at once.

    min_h  1/2 ||x - D'h||^2 + alpha Omega(h) + l2/2 ||h||^2         ISTA, FISTA; coordinate descent for the L1 norm
    min_h  1/2 ||x - D'h||^2   with at most k non-zeros in h         orthogonal matching pursuit

Omega is a norm of `isthmus.parts.sparse_norms`: L1, groups or topographic neighbourhoods.

D (atoms, columns) has the atoms as rows. Solvers use D only through the Gram matrix G = D D' and the correlations
c = D x, so that the cost of a step does not depend on the number of columns. Filters at every position of a row have
too many atoms for G; there a step takes a convolution and its transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from isthmus.errors import InputError
from isthmus.parts.dictionaries import Atoms, Dictionary, eigenvalue_bound
from isthmus.parts.layers import check_count, check_positive, is_count
from isthmus.parts.sparse_norms import L1Norm, SparseNorm

ROWS_AT_ONCE = 1024
"""Rows that are solved together: the arrays of one step stay in the processor's cache."""

ATOMS_AT_ONCE = 32
"""Atoms of a block of coordinate descent: the correlations of other atoms are updated once a block."""

ROWS_MULTIPLE = 64
"""Rows that have stopped leave the arrays of a solver in multiples of this number."""

SMALLER_CURVATURE, ADAPTIVE_STEPS = 0.9, 200
"""Factor of the curvature that a step of FISTA assumes, from one step to the next, and the number of these steps."""

CHECK_EVERY = 8
"""Steps of ISTA and FISTA between two checks of the duality gap."""

MOST_ENTRIES = 2**22
"""Largest number of entries of the codes that are solved together; but at least `ROWS_MULTIPLE` rows are."""


@dataclass(frozen=True)
class SparseProblem:
    r"""The problems of a batch of rows, one for each row x, in Gram form.

        P(h) = 1/2 ||x||^2 - c'h + 1/2 h'G h + alpha Omega(h),   G = D D' + l2 I,   c = D x

    Several batches of rows can share `gram`.

    Attributes:
        gram: G; None where products with D take its place.
        correlations: c of each row.
        squared_norms: ||x||^2 of each row.
        alpha: weight of the norm, above 0.
        norm: Omega, by default ||h||_1; it may have the constraint h >= 0.
        l2: weight of 1/2 ||h||^2, which `gram` contains.
        dictionary: D, if rows have missing entries or there is no G; else None.
        mask: 1 for an observed entry of each row, if rows have missing entries; else None.

    Source: Tibshirani, Regression shrinkage and selection via the lasso (1996); Zou & Hastie, Regularization and
    variable selection via the elastic net (2005), lemma 1, for l2.

    Example:
        >>> problem = SparseProblem.of(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0)
        >>> problem.objective(torch.tensor([[2.0, 0.0]]))
        tensor([2.6250])
    """

    gram: Float[Tensor, "atoms atoms"] | None
    correlations: Float[Tensor, "batch atoms"]
    squared_norms: Float[Tensor, " batch"]
    alpha: float
    norm: SparseNorm = field(default_factory=L1Norm)
    l2: float = 0.0
    dictionary: Dictionary | None = None
    mask: Float[Tensor, "batch columns"] | None = None

    @classmethod
    def of(
        cls,
        x: Float[Tensor, "batch columns"],
        dictionary: Float[Tensor, "atoms columns"] | Dictionary,
        alpha: float,
        *,
        l2: float = 0.0,
        non_negative: bool = False,
        norm: SparseNorm | None = None,
        mask: Float[Tensor, "batch columns"] | None = None,
    ) -> SparseProblem:
        """Return the problems of rows and a dictionary.

        Args:
            x: rows.
            dictionary: D, with atoms as rows, or another `Dictionary`.
            alpha: weight of the norm, above 0.
            l2: weight of 1/2 ||h||^2, 0 or more; above 0, the problem with the L1 norm is the elastic net.
            non_negative: True for `L1Norm(non_negative=True)`; another norm is given as `norm` alone.
            norm: Omega; None is `L1Norm(non_negative)`.
            mask: 1 for an observed entry, 0 for a missing one, which takes no part in ||x - D'h||^2; None is all
                observed. A step then costs twice the products with D.

        Raises:
            InputError: alpha is not above 0 or l2 is negative; the dictionary has another width or precision than the
                rows; the norm does not fit the number of atoms, or is given in two ways.
        """
        alpha = check_positive("alpha", alpha)
        if l2 != 0.0:
            l2 = check_positive("l2", l2)
        dictionary = dictionary if isinstance(dictionary, Dictionary) else Atoms(dictionary)
        _check_dictionary(x, dictionary)
        if norm is None:
            norm = L1Norm(non_negative)
        elif non_negative:
            raise InputError(f"non_negative=True and norm={norm}: give one of them, such as L1Norm(non_negative=True)")
        norm.check(dictionary.n_atoms)
        gram = dictionary.gram()
        if gram is not None:
            gram.diagonal().add_(l2)
        x = x if mask is None else x * mask
        kept = dictionary if gram is None or mask is not None else None
        return cls(gram, dictionary.correlate(x), x.square().sum(1), alpha, norm, l2, kept, mask)

    def objective(self, code: Float[Tensor, "batch atoms"]) -> Float[Tensor, " batch"]:
        """Return P(h) of each row, in nats for x ~ N(D'h, I)."""
        inner = (code * (0.5 * self.image(code) - self.correlations)).sum(1)
        return 0.5 * self.squared_norms + inner + self.alpha * self.norm.value(code)

    def image(self, code: Float[Tensor, "batch atoms"]) -> Float[Tensor, "batch atoms"]:
        """Return G h of each row; with missing entries the G of the observed ones, D diag(m) D' + l2 I."""
        if self.gram is not None and self.mask is None:
            return code @ self.gram
        assert self.dictionary is not None
        decoded = self.dictionary.decode(code)
        observed = self.dictionary.correlate(decoded if self.mask is None else decoded * self.mask)
        return torch.add(observed, code, alpha=self.l2)

    def largest_eigenvalue(self) -> Float[Tensor, ""]:
        """Return an upper bound of the largest eigenvalue of G, above 0."""
        if self.gram is not None:
            bound = eigenvalue_bound(self.gram)
        else:
            assert self.dictionary is not None
            bound = self.dictionary.eigenvalue_bound() + self.l2
        return bound.clamp_min(torch.finfo(bound.dtype).tiny)

    def rows(self, index: slice | Tensor) -> SparseProblem:
        """Return the problems of some rows, by a slice, numbers or a mask."""
        mask = None if self.mask is None else self.mask[index]
        correlations, squared_norms = self.correlations[index], self.squared_norms[index]
        return replace(self, correlations=correlations, squared_norms=squared_norms, mask=mask)


class SparseCodes(NamedTuple):
    """The result of a solver.

    Attributes:
        code: h.
        gap: duality gap of each row: an upper bound of P(h) - min P.
        n_steps: steps of the row that took the most.
    """

    code: Float[Tensor, "batch atoms"]
    gap: Float[Tensor, " batch"]
    n_steps: int


def duality_gap(problem: SparseProblem, code: Float[Tensor, "batch atoms"]) -> Float[Tensor, " batch"]:
    r"""Return the duality gap of each row, an upper bound of P(h) - min P.

        gap = 1/2 (1 - s)^2 ||r||^2 + [ alpha Omega(h) + (alpha Omega)*(s g) - s h'g ],   g = D r,   r = x - D'h

    s r is a feasible point of the dual problem max_u 1/2 ||x||^2 - 1/2 ||x - u||^2 - (alpha Omega)*(D u). For a norm,
    s = min(x'r / ||r||^2, alpha / dual(g)), and the conjugate is 0; for the L1 norm dual(g) = max_j |g_j|, with h >= 0
    max_j g_j. No term is negative, so that the value is accurate in float32 too: its error is below 1e-6 ||x||^2.

    Shapes: h (batch, atoms) -> (batch,).

    Raises:
        InputError: the code has another shape than the rows and atoms; with h >= 0, a code has a negative value.

    Source: Kim et al., An interior-point method for large-scale l1-regularized least squares (2007), section III.

    Example:
        >>> problem = SparseProblem.of(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0)
        >>> duality_gap(problem, torch.tensor([[2.0, 0.0]])), duality_gap(problem, torch.tensor([[1.0, 0.0]]))
        (tensor([0.]), tensor([0.5312]))
    """
    _check_code(problem, code, "code")
    if problem.norm.non_negative and bool((code < 0.0).any()):
        raise InputError("the code has a negative value, and the problem is non-negative; give values of 0 or more")
    return _gap(problem, code, problem.image(code))


def ista(
    problem: SparseProblem,
    *,
    n_steps: int = 1000,
    gap: float | None = 1e-4,
    start: Float[Tensor, "batch atoms"] | None = None,
) -> SparseCodes:
    r"""Proximal gradient descent, which never increases the objective.

        h_k = S(h_(k-1) - (G h_(k-1) - c) / L, alpha / L)

    S is the step of the norm (`SparseNorm.shrink`), for the L1 norm soft thresholding, and L an upper bound of the
    largest eigenvalue of G. `fista` takes fewer steps to the same gap.

    Args:
        problem: the rows and the dictionary.
        n_steps: number of steps; with a gap the largest number.
        gap: a row stops when its duality gap is at most `gap` * 1/2 ||x||^2. None takes all steps for each row and does
            not wait for the device, as in training.
        start: initial code; None is 0.

    Raises:
        InputError: steps, gap or start are invalid.

    Source: Daubechies, Defrise & De Mol, An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint (2004); Beck & Teboulle (2009), section 3.

    Example:
        >>> problem = SparseProblem.of(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0)
        >>> ista(problem, gap=1e-6).code
        tensor([[2., 0.]])
    """
    _check_stop(problem, n_steps, gap, start)
    lipschitz = problem.largest_eigenvalue()

    def step(part: SparseProblem, state: _State) -> _State:
        """Return the state after one step."""
        new = _shrunk(part, state[0], state[1], lipschitz)
        return new, part.image(new)

    solver = _Solver(lambda part, h: (h, part.image(h)), step, CHECK_EVERY)
    return _solve(problem, solver, start, _Stop(n_steps, gap))


def fista(
    problem: SparseProblem,
    *,
    n_steps: int = 1000,
    gap: float | None = 1e-4,
    start: Float[Tensor, "batch atoms"] | None = None,
) -> SparseCodes:
    r"""Accelerated proximal gradient descent, with restarts and a step size for each row.

        h_k = S(y_k - (G y_k - c) / L_k, alpha / L_k),   y_(k+1) = h_k + (t_k - 1) / t_(k+1) (h_k - h_(k-1))

    S is the step of the norm (`SparseNorm.shrink`), for the L1 norm soft thresholding, and
    t_(k+1) = (1 + sqrt(1 + 4 t_k^2)) / 2. Where (y_k - h_k)'(h_k - h_(k-1)) > 0 the momentum points upwards, and t
    restarts at 1.

    Codes are sparse, so that the curvature of the criterion along a step is far below the largest eigenvalue of G. L_k
    follows it: it doubles where d'G d > L_k ||d||^2, d = h_k - y_k, up to a bound of that eigenvalue, where it starts,
    and else falls by a tenth. After 200 steps it falls no more, so that the steps converge. This halves the number of
    steps.

    Args:
        problem: the rows and the dictionary.
        n_steps: number of steps; with a gap the largest number.
        gap: a row stops when its duality gap is at most `gap` * 1/2 ||x||^2. None takes all steps for each row and does
            not wait for the device, as in training.
        start: initial code; None is 0.

    Raises:
        InputError: steps, gap or start are invalid.

    Source: Beck & Teboulle, A fast iterative shrinkage-thresholding algorithm (2009), section 4; O'Donoghue & Candes,
    Adaptive restart for accelerated gradient schemes (2015), section 3.2; Scheinberg, Goldfarb & Bai, Fast first-order
    methods for composite convex optimization with backtracking (2014), for step sizes that grow again.

    Example:
        >>> problem = SparseProblem.of(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0)
        >>> fista(problem, gap=1e-6).code.round(decimals=3)
        tensor([[2., 0.]])
    """
    _check_stop(problem, n_steps, gap, start)
    lipschitz = problem.largest_eigenvalue()

    def initial(part: SparseProblem, h: Tensor) -> _State:
        image, ones = part.image(h), h.new_ones(len(h), 1)
        return h, image, h, image, ones, lipschitz * ones, 0.0 * ones

    solver = _Solver(initial, lambda part, state: _accelerated_step(part, state, lipschitz), CHECK_EVERY)
    return _solve(problem, solver, start, _Stop(n_steps, gap))


def coordinate_descent(
    problem: SparseProblem,
    *,
    n_steps: int = 1000,
    gap: float | None = 1e-4,
    start: Float[Tensor, "batch atoms"] | None = None,
) -> SparseCodes:
    r"""Cyclic coordinate descent for the L1 norm: each unit in turn takes its best value, given the others.

        h_j = S(G_jj h_j + g_j, alpha) / G_jj,   g = c - G h

    A step is one pass over all units. Units are updated in blocks of `ATOMS_AT_ONCE`, and g of the other units once a
    block; after each pass G h is computed again, so that rounding errors do not add up. An atom of zeros has h_j = 0.

    Args:
        problem: the rows and the dictionary.
        n_steps: number of passes; with a gap the largest number.
        gap: a row stops when its duality gap is at most `gap` * 1/2 ||x||^2. None takes all passes for each row.
        start: initial code; None is 0.

    Raises:
        InputError: the norm is not `L1Norm`; steps, gap or start are invalid.

    Source: Friedman et al., Pathwise coordinate optimization (2007), section 2.

    Example:
        >>> problem = SparseProblem.of(torch.tensor([[3.0, -0.5]]), torch.eye(2), alpha=1.0)
        >>> coordinate_descent(problem, gap=1e-6).code
        tensor([[2., 0.]])
    """
    norm = problem.norm
    if not isinstance(norm, L1Norm):
        raise InputError(
            f"coordinate descent changes one unit at a time, and {type(norm).__name__} depends on several units "
            "together; use fista"
        )
    if problem.mask is not None:
        raise InputError("coordinate descent needs rows without missing entries; use fista")
    if problem.gram is None:
        raise InputError("coordinate descent needs the Gram matrix of the atoms, and filters have none; use fista")
    _check_stop(problem, n_steps, gap, start)
    gram = problem.gram
    n_atoms = len(gram)
    blocks = [slice(first, first + ATOMS_AT_ONCE) for first in range(0, n_atoms, ATOMS_AT_ONCE)]
    alpha = gram.new_full((), problem.alpha)
    diagonal = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny)

    def step(part: SparseProblem, state: _State) -> _State:
        """Return the state after one pass over all units."""
        h, image = state[0].clone(), state[1].clone()
        for block in blocks:
            units, inner = h[:, block].T.contiguous(), gram[block, block]
            before, g = units.clone(), (part.correlations[:, block] - image[:, block]).T.contiguous()
            for j, size in enumerate(diagonal[block]):
                new = norm.prox(size * units[j] + g[j], alpha) / size
                g.addr_(inner[j], new - units[j], alpha=-1.0)
                units[j] = new
            h[:, block] = units.T
            image.addmm_((units - before).T, gram[block])
        return h, h @ gram

    return _solve(problem, _Solver(lambda part, h: (h, h @ gram), step, 1), start, _Stop(n_steps, gap))


@torch.no_grad()
def matching_pursuit(
    x: Float[Tensor, "batch columns"], dictionary: Float[Tensor, "atoms columns"], k: int
) -> Float[Tensor, "batch atoms"]:
    r"""Orthogonal matching pursuit: k times, add the atom with the largest correlation and refit all chosen ones.

        j = argmax_j |d_j'r| / ||d_j||,   S <- S + {j},   h_S = argmin ||x - D_S'h_S||^2,   r = x - D_S'h_S

    The Cholesky factor of the Gram matrix of the chosen atoms grows by one row a step. A row has fewer than k atoms
    where its residual is 0, or where the next atom depends linearly on the chosen ones, up to rounding.

    Shapes: x (batch, columns), D (atoms, columns) -> h (batch, atoms).

    Args:
        x: rows.
        dictionary: D, with atoms as rows, of any norms.
        k: largest number of non-zero units of a row.

    Raises:
        InputError: k is not between 1 and the number of atoms; the dictionary has another width or precision than the
            rows.

    Source: Pati, Rezaiifar & Krishnaprasad, Orthogonal matching pursuit (1993); Rubinstein, Zibulevsky & Elad,
    Efficient implementation of the K-SVD algorithm using batch orthogonal matching pursuit (2008), section 2.

    Example:
        >>> matching_pursuit(torch.tensor([[3.0, -0.5]]), torch.eye(2), k=1)
        tensor([[3., 0.]])
    """
    _check_dictionary(x, Atoms(dictionary))
    n_atoms = len(dictionary)
    if not is_count(k) or k > n_atoms:
        raise InputError(f"k={k!r}: it must be a whole number between 1 and the number of atoms, {n_atoms}")
    norms = dictionary.norm(dim=1)
    units = dictionary / torch.where(norms > 0.0, norms, 1.0)[:, None]
    gram = units @ units.T
    parts = [_pursue(gram, rows @ units.T, k) for rows in x.split(ROWS_AT_ONCE)]
    code = torch.cat(parts) if parts else x.new_zeros(0, n_atoms)
    return code / torch.where(norms > 0.0, norms, 1.0)


def _pursue(gram: Float[Tensor, "atoms atoms"], c: Float[Tensor, "batch atoms"], k: int) -> Tensor:
    """Return the codes of orthogonal matching pursuit for atoms of norm 1.

    A row that has stopped gets a row of the identity in its factor and a right-hand side of 0, hence a value of 0.
    """
    n, n_atoms = c.shape
    tolerance = n_atoms * torch.finfo(c.dtype).eps
    smallest = tolerance * c.abs().amax(1)
    factor, chosen = c.new_zeros(n, k, k), c.new_zeros(n, k, dtype=torch.long)
    right, code, g = c.new_zeros(n, k), torch.zeros_like(c), c
    goes_on = c.new_ones(n, dtype=torch.bool)
    for i in range(k):
        best, atom = g.abs().scatter(1, chosen[:, :i], -1.0).max(1)
        before = gram[chosen[:, :i], atom[:, None]]
        row = torch.linalg.solve_triangular(factor[:, :i, :i], before[:, :, None], upper=False)[:, :, 0]
        left = gram[atom, atom] - row.square().sum(1)
        goes_on = goes_on & (best > smallest) & (left > tolerance)
        pivot = torch.where(goes_on, left, 1.0).sqrt()
        row = row * goes_on[:, None]
        factor[:, i, :i], factor[:, i, i], chosen[:, i] = row, pivot, atom
        value = c.gather(1, atom[:, None])[:, 0] - (row * right[:, :i]).sum(1)
        right[:, i] = torch.where(goes_on, value / pivot, 0.0)
        solved = torch.linalg.solve_triangular(
            factor[:, : i + 1, : i + 1].mT, right[:, : i + 1, None], upper=True
        )[:, :, 0]  # fmt: skip
        code = torch.zeros_like(c).scatter(1, chosen[:, : i + 1], solved)
        g = c - code @ gram
    return code


_State = tuple[Tensor, ...]
"""State of the rows in a solver: the code h, its image G h, and further tensors of the solver."""


class _Solver(NamedTuple):
    initial: Callable[[SparseProblem, Tensor], _State]
    step: Callable[[SparseProblem, _State], _State]
    check_every: int


class _Stop(NamedTuple):
    n_steps: int
    gap: float | None


@torch.no_grad()
def _solve(problem: SparseProblem, solver: _Solver, start: Tensor | None, stop: _Stop) -> SparseCodes:
    """Run a solver on blocks of rows."""
    code, gaps = torch.empty_like(problem.correlations), torch.empty_like(problem.squared_norms)
    most = 0
    for block in _blocks(*code.shape):
        part = problem.rows(block)
        h = torch.zeros_like(part.correlations) if start is None else start[block]
        for rows, (values, image, *_), part_of_rows, taken in _finished(part, solver, h, stop):
            code[block][rows] = values
            gaps[block][rows] = _gap(part_of_rows, values, image)
            most = max(most, taken)
    return SparseCodes(code, gaps, most)


def _finished(
    problem: SparseProblem, solver: _Solver, start: Tensor, stop: _Stop
) -> Iterator[tuple[slice | Int[Tensor, " rows"], _State, SparseProblem, int]]:
    """Yield numbers, state and problems of the rows that have finished, and the steps that they took."""
    state = solver.initial(problem, start)
    if stop.gap is None:
        for _ in range(stop.n_steps):
            state = solver.step(problem, state)
        yield slice(None), state, problem, stop.n_steps
        return
    rows = torch.arange(len(start), device=start.device)
    waiting = torch.ones_like(rows, dtype=torch.bool)
    for taken in range(stop.n_steps):
        if taken % solver.check_every == 0:
            done = waiting & (_gap(problem, *state[:2]) <= 0.5 * stop.gap * problem.squared_norms)
            if done.any():
                yield rows[done], tuple(values[done] for values in state), problem.rows(done), taken
                waiting = waiting & ~done
                n_waiting = int(waiting.sum())
                if n_waiting == 0:
                    return
                kept = _kept(waiting, n_waiting)
                if len(kept) < len(rows):
                    rows, waiting, problem = rows[kept], waiting[kept], problem.rows(kept)
                    state = tuple(values[kept] for values in state)
        state = solver.step(problem, state)
    yield rows[waiting], tuple(values[waiting] for values in state), problem.rows(waiting), stop.n_steps


def _kept(waiting: Bool[Tensor, " rows"], n_waiting: int) -> Int[Tensor, " kept"]:
    """Return the numbers of the rows that go on, and of as many others as make a multiple of `ROWS_MULTIPLE`.

    Products of matrices of these sizes have the same rounding errors in each row, so that the code of a row does not
    depend on the rows that are solved with it.
    """
    n_kept = math.ceil(n_waiting / ROWS_MULTIPLE) * ROWS_MULTIPLE
    return torch.argsort(waiting.to(torch.uint8), descending=True, stable=True)[:n_kept]


def _shrunk(problem: SparseProblem, y: Tensor, image: Tensor, curvature: Tensor) -> Tensor:
    """Return the proximal gradient step from y, given G y and the curvature, of all rows or of each row."""
    rate = curvature.reciprocal()
    return problem.norm.shrink(torch.addcmul(y, problem.correlations - image, rate), problem.alpha * rate, y)


def _accelerated_step(problem: SparseProblem, state: _State, lipschitz: Float[Tensor, ""]) -> _State:
    """Return the state after one step with momentum: the code, its image, those of y, t, L and the number of steps."""
    h, image, y, image_y, t, curvature, n_steps = state
    new = _shrunk(problem, y, image_y, curvature)
    new_image = problem.image(new)
    change, step = new - h, new - y
    restarts = torch.linalg.vecdot(step, change)[:, None] < 0.0
    t = torch.where(restarts, 1.0, t)
    new_t = 0.5 * (1.0 + (1.0 + 4.0 * t.square()).sqrt())
    momentum = (t - 1.0) / new_t
    too_small = torch.linalg.vecdot(step, new_image - image_y) > curvature[:, 0] * torch.linalg.vecdot(step, step)
    smaller = torch.where(n_steps < ADAPTIVE_STEPS, SMALLER_CURVATURE, 1.0) * curvature
    curvature = torch.where(too_small[:, None], (2.0 * curvature).minimum(lipschitz), smaller)
    y, image_y = torch.addcmul(new, momentum, change), torch.addcmul(new_image, momentum, new_image - image)
    return new, new_image, y, image_y, new_t, curvature, n_steps + 1.0


def _blocks(n_rows: int, n_atoms: int) -> Iterator[slice]:
    size = min(ROWS_AT_ONCE, max(MOST_ENTRIES // n_atoms // ROWS_MULTIPLE, 1) * ROWS_MULTIPLE)
    return (slice(first, first + size) for first in range(0, n_rows, size))


def _gap(problem: SparseProblem, h: Tensor, image: Tensor) -> Float[Tensor, " batch"]:
    """Return the duality gap, given h and G h."""
    g = problem.correlations - image
    tiny = torch.finfo(g.dtype).tiny
    inner = (h * g).sum(1)
    squared_residual = (problem.squared_norms - (h * problem.correlations).sum(1) - inner).clamp_min(0.0)
    s, difference = problem.norm.feasible(h, g, problem.alpha, 1.0 + inner / squared_residual.clamp_min(tiny))
    return 0.5 * (1.0 - s).square() * squared_residual + difference


def _check_dictionary(x: Tensor, dictionary: Dictionary) -> None:
    if x.ndim != 2:
        raise InputError(f"rows of shape {tuple(x.shape)}: give a matrix, one row for each row")
    if x.shape[1] != dictionary.n_columns:
        raise InputError(
            f"the dictionary has atoms of {dictionary.n_columns} columns, and the rows have {x.shape[1]}; give a "
            "dictionary (atoms, columns) with atoms as rows"
        )
    dtype = dictionary.values.dtype
    if x.dtype != dtype or x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"rows are {x.dtype} and the dictionary is {dtype}; give both as float32 or as float64")


def _check_code(problem: SparseProblem, code: Tensor, name: str) -> None:
    if code.shape != problem.correlations.shape or code.dtype != problem.correlations.dtype:
        raise InputError(
            f"{name} is {code.dtype} of shape {tuple(code.shape)}; it must be {problem.correlations.dtype} of shape "
            f"(rows, atoms) = {tuple(problem.correlations.shape)}"
        )


def _check_stop(problem: SparseProblem, n_steps: int, gap: float | None, start: Tensor | None) -> None:
    check_count("n_steps", n_steps)
    if gap is not None:
        check_positive("gap", gap)
    if start is not None:
        _check_code(problem, start, "start")
        if problem.norm.non_negative and bool((start < 0.0).any()):
            raise InputError("start has a negative value, and the problem is non-negative; give values of 0 or more")
