"""Principal component analysis (PCA), the best linear autoencoder of a given size: the baseline of every other kind.

The shape of the data selects one of three algorithms. Each reads the rows in blocks:

    few rows        eigenvectors of the Gram matrix X X^T, one pass
    few columns     eigenvectors of the covariance X^T X, one pass
    otherwise       a block Krylov subspace of the covariance, then Rayleigh-Ritz in it: KRYLOV_POWERS + 1 passes
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
"""Largest number of columns for which the covariance is formed: 32 MiB, and its eigenvectors take one to two
seconds."""

MAX_GRAM_ROWS = 2048
"""Largest number of rows for which the Gram matrix is formed instead, if there are fewer rows than columns."""

MAX_GRAM_ENTRIES = 2**24
"""Largest number of entries of x in memory for a Gram matrix: 128 MiB in float64."""

KRYLOV_POWERS = 3
"""Number of multiplications by the covariance that span the Krylov subspace. On photographs and texts the squared error
is then within 0.1% of the exact one; see the tests."""

OVERSAMPLING = 10
"""Number of additional random directions, as Halko, Martinsson & Tropp (2011), section 4.2, advise (5 or 10)."""

SHIFT_ROWS = 1024
"""Number of rows whose mean is subtracted before sums are accumulated."""

ROWS_AT_ONCE = 4096
"""Number of rows whose residuals are in memory at the same time."""

Blocks = Callable[[], Iterator[Float[Tensor, "block columns"]]]
"""Returns a new iterator over the blocks of rows at each call."""

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class PrincipalComponents:
    r"""Principal component analysis as an autoencoder: h = W (x - mu),  r = mu + W^T h.

    No linear autoencoder with `code_size` units has a smaller squared error on the training rows.

    Attributes:
        mean: mu, (columns,), float32.
        components: W, (code_size, columns), float32: orthonormal rows in order of decreasing variance; the entry of
            largest magnitude in each row is positive.
        explained_variance: the variance along each component, (code_size,), with divisor n - 1.
        noise_variance: the mean variance of the (columns - code_size) discarded directions: sigma^2 of
            probabilistic PCA; 0 if none is discarded.
        n_rows: the number of training rows.

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
        """The number of components."""
        return len(self.components)

    @property
    def total_variance(self) -> float:
        """The variance summed over all directions, including the discarded ones."""
        n_left_out = len(self.mean) - self.code_size
        return float(self.explained_variance.double().sum()) + n_left_out * self.noise_variance

    def encode(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, "batch code_size"]:
        """Compute h = W (x - mu) in the precision of x; a missing entry (mask 0) is replaced by its column mean."""
        centred = x - self.mean.to(x)
        return (centred if mask is None else centred.masked_fill(mask == 0, 0.0)) @ self.components.to(x).T

    def decode(self, code: Float[Tensor, "batch code_size"]) -> Float[Tensor, "batch columns"]:
        """Compute r = mu + W^T h in the precision of the code."""
        return self.mean.to(code) + code @ self.components.to(code)

    def squared_error(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, " batch"]:
        """Compute ||x - r||^2 of each row, summed over its observed columns, in the units of x squared."""
        # Sum the residuals themselves: ||x - mu||^2 - ||h||^2 loses all digits if the error is small.
        parts = x.split(ROWS_AT_ONCE)
        masks = [None] * len(parts) if mask is None else mask.split(ROWS_AT_ONCE)
        residuals = (
            squared_residuals(part, self.decode(self.encode(part, its)), its)
            for part, its in zip(parts, masks, strict=True)
        )
        return torch.cat([squares.sum(1) for squares in residuals])

    def truncated(self, code_size: int) -> PrincipalComponents:
        """Return the first `code_size` components: the result of `principal_components` for that size."""
        n_components = min(code_size, self.code_size)
        dropped = float(self.explained_variance[n_components:].double().sum())
        n_left_out = len(self.mean) - n_components
        left_out = dropped + (len(self.mean) - self.code_size) * self.noise_variance
        noise = left_out / n_left_out if n_left_out else 0.0
        return PrincipalComponents(
            self.mean, self.components[:n_components], self.explained_variance[:n_components], noise, self.n_rows
        )

    def size_for(self, share: float) -> int:
        """Return the smallest number of components that explain `share` of the total variance, at most `code_size`."""
        carried = self.explained_variance.double().cumsum(0)
        # A relative tolerance of 1e-6: with share = 1, rounding must not add a component.
        enough = carried >= share * self.total_variance * (1 - 1e-6)
        return int(enough.to(torch.uint8).argmax()) + 1 if bool(enough.any()) else max(1, self.code_size)

    def to_file(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the JSON-serialisable data that `from_file` reads."""
        tensors = {name: getattr(self, name) for name in ("mean", "components", "explained_variance")}
        return tensors, {"noise_variance": self.noise_variance, "n_rows": self.n_rows}

    @classmethod
    def from_file(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> PrincipalComponents:
        """Rebuild the components from the output of `to_file`."""
        return cls(
            tensors["mean"], tensors["components"], tensors["explained_variance"],
            float(config["noise_variance"]), int(config["n_rows"]),
        )  # fmt: skip


@dataclass(frozen=True)
class _Spectrum:
    """Eigenvectors of the scatter matrix X^T X of centred rows, the result of each of the three algorithms.

    Attributes:
        mean: (columns,).
        values: the largest eigenvalues in decreasing order, (components,).
        vectors: their eigenvectors, (columns, components).
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
    """Compute the first principal components of rows that are read in blocks.

    The result is exact for up to `MAX_COVARIANCE_COLUMNS` columns, and for wider data of up to `MAX_GRAM_ROWS` rows
    with at most `MAX_GRAM_ENTRIES` entries. Larger data is treated by a randomised Krylov method with a fixed seed,
    which reads the rows `KRYLOV_POWERS` + 1 times and stores about `KRYLOV_POWERS` * (code_size + `OVERSAMPLING`)
    vectors of length n_columns. Sums are accumulated in float64 after the mean of the first rows is subtracted, so that
    columns far from zero lose no precision.

    Args:
        blocks: returns an iterator over the rows at each call, in blocks (block, columns) of any size.
        n_columns: the number of columns.
        code_size: the number of components; at most min(rows, columns) are returned.

    Returns:
        The components, their variances and the mean, as float32.

    Raises:
        InputError: there are no rows, a block has another width, or a value is not finite.

    Source: Halko, Martinsson & Tropp, Finding structure with randomness (2011), section 4.5; Musco & Musco,
        Randomized block Krylov methods for stronger and faster approximate SVD (2015), algorithm 2.
    """
    n_gram_rows = min(n_columns, MAX_GRAM_ROWS, max(1, MAX_GRAM_ENTRIES // n_columns))
    first_rows = _first_rows(blocks(), n_columns, n_gram_rows + 1)
    if len(first_rows) == 0:
        raise InputError("there are no rows to find principal components of; pass at least one")
    if len(first_rows) <= n_gram_rows:
        return _components(_from_gram(first_rows, code_size), code_size)
    shift = _centre(first_rows[:SHIFT_ROWS])
    find = _from_covariance if n_columns <= MAX_COVARIANCE_COLUMNS else _from_krylov
    return _components(find(blocks, shift, min(code_size, n_columns)), code_size)


def suggested_code_size(blocks: Blocks, n_columns: int, share: float = 0.9, largest: int = 32) -> int:
    """Return the smallest number of principal components that explain `share` of the variance.

    The result lies between 1 and min(largest, columns). If there are more than `MAX_COVARIANCE_COLUMNS` columns, only
    the first rows (at most 2,000) are used: they determine the large eigenvalues well enough, and their Gram matrix is
    cheap.

    Args:
        blocks: returns an iterator over the rows at each call, in blocks (block, columns).
        n_columns: the number of columns.
        share: the fraction of the variance to explain, in (0, 1].
        largest: the upper bound of the result.

    Raises:
        InputError: there are no rows, a block has another width, or a value is not finite.

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
    """Yield the blocks on the CPU; raise InputError for a block of another width."""
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != n_columns:
            raise InputError(f"a block of rows has shape {tuple(block.shape)}; blocks must be (rows, {n_columns})")
        yield block.detach().cpu()


def _first_rows(blocks: Iterator[Tensor], n_columns: int, n_wanted: int) -> Tensor:
    """Return the first `n_wanted` rows, or all rows if there are fewer."""
    found, n_found = [torch.empty(0, n_columns)], 0
    for block in _checked(blocks, n_columns):
        found.append(block[: n_wanted - n_found])
        n_found += len(found[-1])
        if n_found >= n_wanted:
            break
    return torch.cat(found)


def _centre(rows: Tensor) -> Array:
    """Compute the mean of some rows, (columns,), in float64."""
    return _finite(rows.mean(0, dtype=torch.float64).numpy())


def _finite(mean: Array) -> Array:
    """Return the mean, or raise InputError if it is not finite: then some row is not."""
    if not np.isfinite(mean).all():
        column = int(np.flatnonzero(~np.isfinite(mean))[0])
        raise InputError(
            f"column {column} of model space holds values that are not finite; "
            "fill in or drop missing and infinite values before the PCA"
        )
    return mean


def _shifted(block: Tensor, shift: Array) -> Array:
    """Return the rows minus `shift`, (rows, columns), in float64."""
    # NumPy uses one thread here. The threads of torch keep spinning after a copy and slow down the product that
    # follows.
    rows = block.numpy().astype(np.float64)
    rows -= shift
    return rows


def _largest(matrix: Array, n_wanted: int) -> tuple[Array, Array]:
    """Return the largest eigenvalues of a symmetric matrix, in decreasing order, and their eigenvectors.

    Only the lower triangle of the matrix is read.
    """
    n = len(matrix)
    subset = None if n_wanted >= n else (n - n_wanted, n - 1)
    # The tridiagonalisation in LAPACK is limited by memory bandwidth. More threads gain little, and on a busy machine
    # they wait for each other (measured: 20 s instead of 1.2 s). Small matrices never start threads.
    limit = threadpool_limits(1, user_api="blas") if n > 256 else nullcontext()
    with limit:
        values, vectors = eigh(matrix, lower=True, subset_by_index=subset, overwrite_a=True, check_finite=False)
    return values[::-1].clip(min=0), vectors[:, ::-1]


def _from_gram(first_rows: Tensor, code_size: int) -> _Spectrum:
    """Compute the spectrum from X X^T = U S U^T: X^T X has the eigenvalues S and the eigenvectors X^T U."""
    mean = _centre(first_rows)
    x = _shifted(first_rows, mean)
    gram = x @ x.T
    total = float(np.trace(gram))
    values, left = _largest(gram, code_size)
    return _Spectrum(mean, values, x.T @ left, total, len(first_rows))


def _from_covariance(blocks: Blocks, shift: Array, code_size: int) -> _Spectrum:
    """Compute X^T X about the mean from sums about a shift s near the mean: X^T X = S^T S - n (mu - s)(mu - s)^T."""
    n_rows, total = 0, np.zeros_like(shift)
    scatter = np.zeros((len(shift), len(shift)), order="F")
    for block in _checked(blocks(), len(shift)):
        for part in block.split(ROWS_AT_ONCE):
            x = _shifted(part, shift)
            n_rows += len(x)
            total += x.sum(0)
            # A symmetric rank-k update takes half the multiplications and fills only the lower triangle.
            scatter = dsyrk(1.0, x.T, beta=1.0, c=scatter, lower=1, overwrite_c=1)
    offset = _finite(total / n_rows)
    scatter -= n_rows * np.outer(offset, offset)
    trace = float(np.trace(scatter))
    values, vectors = _largest(scatter, code_size)
    return _Spectrum(shift + offset, values, vectors, trace, n_rows)


def _from_krylov(blocks: Blocks, shift: Array, code_size: int) -> _Spectrum:
    """Apply Rayleigh-Ritz in the span of C G, C^2 G, ..., C^q G, where C = X^T X and G is random."""
    # A fixed seed: the baseline must not depend on the seed of the model that is compared with it.
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
    """Compute mean, trace of the scatter, number of rows, and scatter times directions, in one pass."""
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
    """Return at most min(rows, columns) orthonormal components with a unique sign each."""
    n_rows, n_columns = spectrum.n_rows, len(spectrum.mean)
    n_components = min(code_size, n_rows, n_columns, len(spectrum.values))
    # Eigenvectors of zero variance are arbitrary; the QR factorisation completes the orthonormal basis.
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
