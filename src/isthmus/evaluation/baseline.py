"""Principal components: the best linear autoencoder of a size, which every other kind is measured against.

Three ways to the same components, by the shape of the data; all read blocks of rows and never the whole:

    few rows        eigenvectors of the Gram matrix X X^T, one pass
    few columns     eigenvectors of the covariance X^T X, one pass
    both many       a block Krylov subspace of the covariance, then Rayleigh-Ritz in it: POWERS + 1 passes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.linalg import eigh
from scipy.linalg.blas import dsyrk
from threadpoolctl import threadpool_limits
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.residuals import squared_residuals

MAX_COVARIANCE_COLUMNS = 2048
"""Columns up to which the covariance is formed: 32 MiB, and a second or two for its eigenvectors."""

MAX_GRAM_ROWS = 2048
"""Rows up to which the Gram matrix is formed instead, where there are fewer rows than columns."""

MAX_GRAM_ENTRIES = 2**24
"""Numbers of x that may be held at once for a Gram matrix: 128 MiB in float64."""

KRYLOV_POWERS = 3
"""Multiplications by the covariance that span the Krylov subspace. On photographs and texts the squared error
is then within 0.1% of the exact one; see the tests."""

OVERSAMPLING = 10
"""Directions drawn beyond those asked for, as Halko, Martinsson & Tropp (2011), section 4.2, advise (5 or 10)."""

SHIFT_ROWS = 1024
"""Rows whose mean all sums are taken around."""

ROWS_AT_ONCE = 4096
"""Rows of which a residual is held at once."""

Blocks = Callable[[], Iterator[Float[Tensor, "block columns"]]]
"""The rows, block by block, as often as it is called."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class PrincipalComponents:
    r"""Principal component analysis as an autoencoder: h = W (x - mu),  r = mu + W^T h.

    No linear autoencoder with `code_size` units has a smaller squared error on the rows it was learned from.

    Attributes:
        mean: mu, (columns,), float32.
        components: W, (code_size, columns), float32: orthonormal rows by falling variance; in each the entry
            of largest magnitude is positive.
        explained_variance: the variance along each component, (code_size,), with divisor n - 1.
        noise_variance: the mean variance of the columns - code_size directions left out: sigma^2 of
            probabilistic PCA; 0 where none is left out.
        n_rows: how many rows they were learned from.

    Source: Baldi & Hornik, Neural networks and principal component analysis (1989); Deep Learning, section 14.1;
        Tipping & Bishop, Probabilistic principal component analysis (1999), equation 8.

    Example:
        >>> line = torch.tensor([[-1.0, -1.0, 2.0], [0.0, 0.0, 2.0], [1.0, 1.0, 2.0]])
        >>> found = principal_components(lambda: iter([line]), n_columns=3, code_size=1)
        >>> [f"{weight:.3f}" for weight in found.components[0].abs()]
        ['0.707', '0.707', '0.000']
        >>> found.squared_error(torch.tensor([[2.0, 2.0, 5.0]])).round().tolist()
        [9.0]
    """

    mean: Float[Tensor, " columns"]
    components: Float[Tensor, "code_size columns"]
    explained_variance: Float[Tensor, " code_size"]
    noise_variance: float
    n_rows: int

    @property
    def code_size(self) -> int:
        """How many components were kept."""
        return len(self.components)

    @property
    def total_variance(self) -> float:
        """The variance summed over all directions, kept and left out."""
        n_left_out = len(self.mean) - self.code_size
        return float(self.explained_variance.double().sum()) + n_left_out * self.noise_variance

    def encode(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, "batch code_size"]:
        """h = W (x - mu), in the precision of x; an entry that is missing (mask 0) stands at its mean."""
        centred = x - self.mean.to(x)
        return (centred if mask is None else centred.masked_fill(mask == 0, 0.0)) @ self.components.to(x).T

    def decode(self, code: Float[Tensor, "batch code_size"]) -> Float[Tensor, "batch columns"]:
        """r = mu + W^T h, in the precision of the code."""
        return self.mean.to(code) + code @ self.components.to(code)

    def squared_error(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, " batch"]:
        """||x - r||^2 of each row, summed over its observed columns, in the units of x squared."""
        # Of the residual itself: ||x - mu||^2 - ||h||^2 would cancel where the error is small.
        parts = x.split(ROWS_AT_ONCE)
        masks = [None] * len(parts) if mask is None else mask.split(ROWS_AT_ONCE)
        residuals = (
            squared_residuals(part, self.decode(self.encode(part, its)), its)
            for part, its in zip(parts, masks, strict=True)
        )
        return torch.cat([squares.sum(1) for squares in residuals])

    def truncated(self, code_size: int) -> PrincipalComponents:
        """The first `code_size` components alone: what `principal_components` gives for that size."""
        n_components = min(code_size, self.code_size)
        dropped = float(self.explained_variance[n_components:].double().sum())
        n_left_out = len(self.mean) - n_components
        left_out = dropped + (len(self.mean) - self.code_size) * self.noise_variance
        noise = left_out / n_left_out if n_left_out else 0.0
        return PrincipalComponents(
            self.mean, self.components[:n_components], self.explained_variance[:n_components], noise, self.n_rows
        )

    def size_for(self, share: float) -> int:
        """The fewest components that carry `share` of the total variance; all that were kept if these do not."""
        carried = self.explained_variance.double().cumsum(0)
        # A part in a million of slack: with share 1 rounding must not ask for a component more.
        enough = carried >= share * self.total_variance * (1 - 1e-6)
        return int(enough.to(torch.uint8).argmax()) + 1 if bool(enough.any()) else max(1, self.code_size)

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON-able data that `from_file` rebuilds them from."""
        tensors = {name: getattr(self, name) for name in ("mean", "components", "explained_variance")}
        return tensors, {"noise_variance": self.noise_variance, "n_rows": self.n_rows}

    @classmethod
    def from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> PrincipalComponents:
        """The components that `to_file` described."""
        return cls(
            tensors["mean"], tensors["components"], tensors["explained_variance"],
            float(config["noise_variance"]), int(config["n_rows"]),
        )  # fmt: skip


@dataclass(frozen=True)
class _Spectrum:
    """Eigenvectors of the scatter X^T X of centred rows: what each of the three ways ends in.

    Attributes:
        mean: (columns,).
        values: eigenvalues by falling size, (kept,).
        vectors: their vectors, (columns, kept).
        total: the trace, the sum of all eigenvalues.
        n_rows: the number of rows.
    """

    mean: Array
    values: Array
    vectors: Array
    total: float
    n_rows: int


@torch.no_grad()
def principal_components(blocks: Blocks, n_columns: int, code_size: int) -> PrincipalComponents:
    """The first principal components of rows that are read block by block.

    Exact for up to `MAX_COVARIANCE_COLUMNS` columns, and for wider data of up to `MAX_GRAM_ROWS` rows (fewer where
    these would be more than `MAX_GRAM_ENTRIES` numbers). Beyond that a randomised Krylov method, always with the same
    random vectors, reads the rows `KRYLOV_POWERS` + 1 times, and holds about `KRYLOV_POWERS` * (code_size +
    `OVERSAMPLING`) vectors of a row's width. Sums are taken in float64 around the mean of the first rows, so that
    columns far from zero lose nothing.

    Args:
        blocks: gives the rows anew at each call, in blocks (block, columns) of any size.
        n_columns: the width of a row.
        code_size: how many components; at most min(rows, columns) are found.

    Returns:
        The components, their variances and the mean, as float32.

    Raises:
        InputError: no rows, blocks of another width, values that are not finite.

    Source: Halko, Martinsson & Tropp, Finding structure with randomness (2011), section 4.5; Musco & Musco,
        Randomized block Krylov methods for stronger and faster approximate SVD (2015), algorithm 2.
    """
    n_gram_rows = min(n_columns, MAX_GRAM_ROWS, max(1, MAX_GRAM_ENTRIES // n_columns))
    first_rows = _first_rows(blocks(), n_columns, n_gram_rows + 1)
    if len(first_rows) == 0:
        raise InputError("there are no rows to find principal components of; give at least one")
    if len(first_rows) <= n_gram_rows:
        return _components(_from_gram(first_rows, code_size), code_size)
    shift = _centre(first_rows[:SHIFT_ROWS])
    find = _from_covariance if n_columns <= MAX_COVARIANCE_COLUMNS else _from_krylov
    return _components(find(blocks, shift, min(code_size, n_columns)), code_size)


def suggested_code_size(blocks: Blocks, n_columns: int, share: float = 0.9, largest: int = 32) -> int:
    """The fewest principal components that carry `share` of the variance, between 1 and min(largest, columns).

    Wider data than `MAX_COVARIANCE_COLUMNS` columns is judged by its first rows, at most 2,000 of them: a spectrum's
    bulk needs no more, and their Gram matrix costs one short pass.

    Args:
        blocks: gives the rows anew at each call, in blocks (block, columns).
        n_columns: the width of a row.
        share: of the variance, in (0, 1].
        largest: the answer is never larger.

    Raises:
        InputError: no rows, blocks of another width, values that are not finite.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> x = torch.randn(100, 2, generator=generator) @ torch.randn(2, 5, generator=generator)
        >>> suggested_code_size(lambda: iter([x]), n_columns=5, share=0.999)
        2
    """
    largest = min(largest, n_columns)
    if n_columns > MAX_COVARIANCE_COLUMNS:
        first = _first_rows(blocks(), n_columns, min(2000, max(1, MAX_GRAM_ENTRIES // n_columns)))
        return principal_components(lambda: iter([first]), n_columns, largest).size_for(share)
    return principal_components(blocks, n_columns, largest).size_for(share)


def _checked(blocks: Iterator[Tensor], n_columns: int) -> Iterator[Tensor]:
    """The blocks on the CPU; another width is refused."""
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != n_columns:
            raise InputError(f"a block of rows has shape {tuple(block.shape)}; blocks must be (rows, {n_columns})")
        yield block.detach().cpu()


def _first_rows(blocks: Iterator[Tensor], n_columns: int, n_wanted: int) -> Tensor:
    """The first `n_wanted` rows, or all where there are fewer."""
    found, n_found = [torch.empty(0, n_columns)], 0
    for block in _checked(blocks, n_columns):
        found.append(block[: n_wanted - n_found])
        n_found += len(found[-1])
        if n_found >= n_wanted:
            break
    return torch.cat(found)


def _centre(rows: Tensor) -> Array:
    """The mean of some rows, (columns,), in float64."""
    return _finite(rows.mean(0, dtype=torch.float64).numpy())


def _finite(mean: Array) -> Array:
    """The same mean; one that is not finite tells that some row is not."""
    if not np.isfinite(mean).all():
        column = int(np.flatnonzero(~np.isfinite(mean))[0])
        raise InputError(
            f"column {column} of model space holds values that are not finite; "
            "fill or drop missing and infinite values before principal components are taken"
        )
    return mean


def _shifted(block: Tensor, shift: Array) -> Array:
    """The rows minus `shift`, (rows, columns), in float64."""
    # By NumPy, on one thread: torch's threads spin on after a copy and keep the cores from the product.
    rows = block.numpy().astype(np.float64)
    rows -= shift
    return rows


def _largest(matrix: Array, n_wanted: int) -> tuple[Array, Array]:
    """The largest eigenvalues of a symmetric matrix by falling size, and their vectors; reads the lower triangle."""
    n = len(matrix)
    subset = None if n_wanted >= n else (n - n_wanted, n - 1)
    # LAPACK's tridiagonalisation is bound by memory: threads gain little, and where other processes hold the
    # cores they wait for each other (measured: 20 s instead of 1.2 s). Small matrices never start threads.
    limit = threadpool_limits(1, user_api="blas") if n > 256 else nullcontext()
    with limit:
        values, vectors = eigh(matrix, lower=True, subset_by_index=subset, overwrite_a=True, check_finite=False)
    return values[::-1].clip(min=0), vectors[:, ::-1]


def _from_gram(first_rows: Tensor, code_size: int) -> _Spectrum:
    """X X^T = U S U^T, so X^T X has the values S, and vectors along X^T U."""
    mean = _centre(first_rows)
    x = _shifted(first_rows, mean)
    gram = x @ x.T
    total = float(np.trace(gram))
    values, left = _largest(gram, code_size)
    return _Spectrum(mean, values, x.T @ left, total, len(first_rows))


def _from_covariance(blocks: Blocks, shift: Array, code_size: int) -> _Spectrum:
    """X^T X around the mean, by sums around a shift near the mean: X^T X = S^T S - n (mu - s)(mu - s)^T."""
    n_rows, total = 0, np.zeros_like(shift)
    scatter = np.zeros((len(shift), len(shift)), order="F")
    for block in _checked(blocks(), len(shift)):
        for part in block.split(ROWS_AT_ONCE):
            x = _shifted(part, shift)
            n_rows += len(x)
            total += x.sum(0)
            # A symmetric product takes half the multiplications; it fills the lower triangle alone.
            scatter = dsyrk(1.0, x.T, beta=1.0, c=scatter, lower=1, overwrite_c=1)
    offset = _finite(total / n_rows)
    scatter -= n_rows * np.outer(offset, offset)
    trace = float(np.trace(scatter))
    values, vectors = _largest(scatter, code_size)
    return _Spectrum(shift + offset, values, vectors, trace, n_rows)


def _from_krylov(blocks: Blocks, shift: Array, code_size: int) -> _Spectrum:
    """Rayleigh-Ritz in the span of C G, C^2 G, ..., C^q G, where C = X^T X and G is drawn."""
    # Always the same draws: the yardstick should not change with the seed of what it measures.
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(len(shift), code_size + OVERSAMPLING, generator=generator)
    krylov: list[Tensor] = []
    for _ in range(KRYLOV_POWERS):
        mean, total, n_rows, products = _times_scatter(blocks, shift, directions)
        directions = torch.linalg.qr(products)[0].float()
        krylov.append(directions)
    basis = torch.linalg.qr(torch.cat(krylov, 1).double())[0]
    scatter = np.zeros((basis.shape[1], basis.shape[1]))
    centre = torch.from_numpy(mean).float()
    for block in _checked(blocks(), len(shift)):
        coordinates = ((block - centre) @ basis.float()).double().numpy()
        scatter += coordinates.T @ coordinates
    values, vectors = _largest(scatter, min(code_size, n_rows))
    return _Spectrum(mean, values, basis.numpy() @ vectors, total, n_rows)


def _times_scatter(
    blocks: Blocks, shift: Array, directions: Float[Tensor, "columns directions"]
) -> tuple[Array, float, int, Float[Tensor, "columns directions"]]:
    """One pass: the mean, the trace of the scatter, the number of rows, and the scatter times the directions."""
    n_rows, squares = 0, 0.0
    near = torch.from_numpy(shift).float()
    total = torch.zeros(len(shift), dtype=torch.float64)
    products = torch.zeros(directions.shape, dtype=torch.float64)
    for block in _checked(blocks(), len(shift)):
        x = block - near
        n_rows += len(x)
        total += x.sum(0, dtype=torch.float64)
        squares += float(x.square().sum(1).sum(dtype=torch.float64))
        products += x.T @ (x @ directions)
    offset = torch.from_numpy(_finite((total / n_rows).numpy()))
    products -= n_rows * torch.outer(offset, offset @ directions.double())
    trace = squares - n_rows * float(offset.square().sum())
    return near.double().numpy() + offset.numpy(), trace, n_rows, products


def _components(spectrum: _Spectrum, code_size: int) -> PrincipalComponents:
    """The record: at most min(rows, columns) components, orthonormal, each with a sign of its own."""
    n_rows, n_columns = spectrum.n_rows, len(spectrum.mean)
    n_components = min(code_size, n_rows, n_columns, len(spectrum.values))
    # Directions without variance have no vector of their own: the factorisation completes the basis there.
    vectors = np.linalg.qr(spectrum.vectors[:, :n_components])[0]
    largest = vectors[np.abs(vectors).argmax(0), np.arange(n_components)]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    variances = spectrum.values[:n_components] / max(n_rows - 1, 1)
    n_left_out = n_columns - n_components
    left_out = max(spectrum.total / max(n_rows - 1, 1) - float(variances.sum()), 0.0)
    return PrincipalComponents(
        mean=_float32(spectrum.mean),
        components=_float32(vectors.T),
        explained_variance=_float32(variances),
        noise_variance=left_out / n_left_out if n_left_out else 0.0,
        n_rows=n_rows,
    )


def _float32(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
