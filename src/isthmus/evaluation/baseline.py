"""Principal component analysis (PCA), the best linear autoencoder of a given size: the baseline of every other kind.

The shape of the data selects one of three algorithms. Each accumulates sums over blocks of rows (`ComponentSums`), so
that it can share a pass over the rows with other statistics:

    few rows        eigenvectors of the Gram matrix X X^T, one pass
    few columns     eigenvectors of the covariance X^T X, one pass
    otherwise       a randomised Nystrom approximation of the covariance, two passes
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

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

SKETCH_FACTOR = 4
"""Number of directions of the Nystrom approximation for each component. On photographs and texts the squared error is
then within 0.2% of the exact one; see the tests."""

OVERSAMPLING = 10
"""Number of additional random directions, as Halko, Martinsson & Tropp (2011), section 4.2, advise (5 or 10)."""

SKETCH_PRECISION = 1e-6
"""Eigenvalues of the sketch below this multiple of the norm of the products are rounding errors of float32."""

SHIFT_ROWS = 1024
"""Number of rows whose mean is subtracted before sums are accumulated."""

ROWS_AT_ONCE = 4096
"""Number of rows whose residuals are in memory at the same time."""

SUGGESTED_SHARE, MAX_SUGGESTED_SIZE = 0.9, 32
"""The fraction of the variance that a suggested code size explains, and the largest such size."""

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
        total_weight: the sum of their weights.
    """

    mean: Array
    values: Array
    vectors: Array
    total: float
    n_rows: int
    total_weight: float


@torch.no_grad()
def principal_components(blocks: Blocks, n_columns: int, code_size: int) -> PrincipalComponents:
    """Compute the first principal components of rows that are read in blocks.

    The result is exact for up to `MAX_COVARIANCE_COLUMNS` columns, and for wider data of up to `MAX_GRAM_ROWS` rows
    with at most `MAX_GRAM_ENTRIES` entries. Larger data is treated by a randomised method with a fixed seed, which
    reads the rows twice. Sums are accumulated in float64 after the mean of the first rows is subtracted, so that
    columns far from zero lose no precision.

    Args:
        blocks: returns an iterator over the rows at each call, in blocks (block, columns) of any size.
        n_columns: the number of columns.
        code_size: the number of components; at most min(rows, columns) are returned.

    Returns:
        The components, their variances and the mean, as float32.

    Raises:
        InputError: there are no rows, a block has another width, or a value is not finite.

    Source: see `ComponentSums` and its subclasses.
    """
    n_gram_rows = _max_gram_rows(n_columns)
    sums = component_sums(len(_first_rows(blocks(), n_columns, n_gram_rows + 1)), n_columns, code_size)
    for block in blocks():
        sums.add(block)
    if sums.n_passes == 2:
        sums.start_second_pass()
        for block in blocks():
            sums.add(block)
    return sums.components(code_size)


def suggested_code_size(
    blocks: Blocks, n_columns: int, share: float = SUGGESTED_SHARE, largest: int = MAX_SUGGESTED_SIZE
) -> int:
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


class ComponentSums(ABC):
    """Sums over the rows from which principal components are computed, in `n_passes` passes over blocks of rows.

    Call `add` for every block of a pass, and `start_second_pass` between the passes if there are two.

    Args:
        n_columns: the number of columns.

    Raises:
        InputError: a block has another width; there are no rows, or a value is not finite (in `components`).

    Example:
        >>> sums = component_sums(n_rows=4, n_columns=2, code_size=1)
        >>> for block in torch.tensor([[[0.0, 1.0], [1.0, 1.0]], [[2.0, 1.0], [3.0, 1.0]]]):
        ...     sums.add(block)
        >>> sums.components(1).components.abs().tolist()
        [[1.0, 0.0]]
    """

    n_passes: ClassVar[int] = 1

    def __init__(self, n_columns: int) -> None:
        self.n_columns, self.n_rows, self.total_weight = n_columns, 0, 0.0

    @torch.no_grad()
    def add(self, block: Float[Tensor, "block columns"], weight: Float[Tensor, " block"] | None = None) -> None:
        """Add the rows of a block; a row of weight 2 counts as two rows."""
        block = _checked(block, self.n_columns)
        if len(block):
            self._add(block, weight)
            self.n_rows += len(block)
            self.total_weight += len(block) if weight is None else float(weight.sum(dtype=torch.float64))

    @torch.no_grad()
    def components(self, code_size: int) -> PrincipalComponents:
        """Return at most min(rows, columns, code_size) components after the last pass."""
        if self.n_rows == 0:
            raise InputError("there are no rows to find principal components of; pass at least one")
        return _components(self._spectrum(min(code_size, self.n_columns)), code_size)

    def start_second_pass(self) -> None:
        """Use the sums of the first pass, and set them to 0."""
        raise NotImplementedError(f"{type(self).__name__} needs one pass")

    @abstractmethod
    def _add(self, block: Float[Tensor, "block columns"], weight: Float[Tensor, " block"] | None) -> None: ...

    @abstractmethod
    def _spectrum(self, code_size: int) -> _Spectrum: ...


def component_sums(n_rows: int, n_columns: int, code_size: int) -> ComponentSums:
    """Return the sums whose algorithm fits the shape of the data.

    Args:
        n_rows: the number of rows of each pass.
        n_columns: the number of columns.
        code_size: the largest number of components that will be computed.
    """
    if n_rows <= _max_gram_rows(n_columns):
        return GramSums(n_columns)
    return SketchSums(n_columns, code_size) if needs_sketch(n_rows, n_columns) else CovarianceSums(n_columns)


def needs_sketch(n_rows: int, n_columns: int) -> bool:
    """Return whether the data is too large for exact components, so that their computation takes two passes."""
    return n_columns > MAX_COVARIANCE_COLUMNS and n_rows > _max_gram_rows(n_columns)


def _max_gram_rows(n_columns: int) -> int:
    """Return the largest number of rows for which the Gram matrix is used."""
    return min(n_columns, MAX_GRAM_ROWS, max(1, MAX_GRAM_ENTRIES // n_columns))


def _checked(block: Tensor, n_columns: int) -> Tensor:
    """Return the block on the CPU; raise InputError if it has another width."""
    if block.ndim != 2 or block.shape[1] != n_columns:
        raise InputError(f"a block of rows has shape {tuple(block.shape)}; blocks must be (rows, {n_columns})")
    return block.detach().cpu()


def _first_rows(blocks: Iterator[Tensor], n_columns: int, n_wanted: int) -> Tensor:
    """Return the first `n_wanted` rows, or all rows if there are fewer."""
    found, n_found = [torch.empty(0, n_columns)], 0
    for block in blocks:
        found.append(_checked(block, n_columns)[: n_wanted - n_found])
        n_found += len(found[-1])
        if n_found >= n_wanted:
            break
    return torch.cat(found)


def _centre(rows: Tensor, weight: Tensor | None = None) -> Array:
    """Compute the mean of some rows by their weights, (columns,), in float64."""
    if weight is None:
        return _finite(rows.mean(0, dtype=torch.float64).numpy())
    return _finite((weight.double() @ rows.double() / weight.sum(dtype=torch.float64)).numpy())


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


def _weighted(x: Array, weight: Tensor | None) -> Array:
    """Return sqrt(w) x, whose products are the weighted sums over rows."""
    return x if weight is None else x * weight.double().sqrt().numpy()[:, None]


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


class GramSums(ComponentSums):
    """Few rows: from X X^T = U S U^T, X^T X has the eigenvalues S and the eigenvectors X^T U.

    It keeps the rows: at most `MAX_GRAM_ROWS` of them and `MAX_GRAM_ENTRIES` entries.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self._blocks: list[Tensor] = []
        self._weights: list[Tensor] = []

    def _add(self, block: Float[Tensor, "block columns"], weight: Float[Tensor, " block"] | None) -> None:
        self._blocks.append(block)
        self._weights += [] if weight is None else [weight]

    def _spectrum(self, code_size: int) -> _Spectrum:
        rows, weight = torch.cat(self._blocks), torch.cat(self._weights) if self._weights else None
        mean = _centre(rows, weight)
        x = _weighted(_shifted(rows, mean), weight)
        gram = x @ x.T
        total = float(np.trace(gram))
        values, left = _largest(gram, code_size)
        return _Spectrum(mean, values, x.T @ left, total, len(rows), self.total_weight)


class CovarianceSums(ComponentSums):
    """Few columns: X^T X about the mean mu from sums about a shift s near it, S^T S - n (mu - s)(mu - s)^T.

    In memory are one matrix of columns x columns, at most `MAX_COVARIANCE_COLUMNS` squared entries of float64, and a
    copy of it while components are computed.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns)
        self._shift: Array | None = None
        self._total = np.zeros(n_columns)
        self._scatter = np.zeros((n_columns, n_columns), order="F")

    def _add(self, block: Float[Tensor, "block columns"], weight: Float[Tensor, " block"] | None) -> None:
        if self._shift is None:
            self._shift = _shift(block)
        parts = block.split(ROWS_AT_ONCE)
        weights = [None] * len(parts) if weight is None else weight.split(ROWS_AT_ONCE)
        for part, its in zip(parts, weights, strict=True):
            x = _shifted(part, self._shift)
            self._total += x.sum(0) if its is None else its.double().numpy() @ x
            x = _weighted(x, its)
            # A symmetric rank-k update takes half the multiplications and fills only the lower triangle.
            self._scatter = dsyrk(1.0, x.T, beta=1.0, c=self._scatter, lower=1, overwrite_c=1)

    def _spectrum(self, code_size: int) -> _Spectrum:
        assert self._shift is not None
        offset = _finite(self._total / self.total_weight)
        scatter = self._scatter.copy(order="F")
        scatter -= self.total_weight * np.outer(offset, offset)
        trace = float(np.trace(scatter))
        values, vectors = _largest(scatter, code_size)
        return _Spectrum(self._shift + offset, values, vectors, trace, self.n_rows, self.total_weight)


class SketchSums(ComponentSums):
    """Many rows and columns: the Nystrom approximation of C = X^T X on the range of C G for random directions G.

        Q = orth(C G),   Y = C Q,   C ~ Y (Q^T Y)^-1 Y^T

    The first pass computes C G, the second pass C Q. In memory are a few arrays of columns x directions, with
    `SKETCH_FACTOR` * (code_size + `OVERSAMPLING`) directions; no matrix of columns x columns. The rows of the first
    pass may differ slightly from those of the second, by the values of missing entries: only the second pass
    determines mean, variances and components, the first one only the subspace.

    Source: Halko, Martinsson & Tropp, Finding structure with randomness (2011), section 5.4; Gittens & Mahoney,
        Revisiting the Nystrom method for improved large-scale machine learning (2016).
    """

    n_passes: ClassVar[int] = 2

    def __init__(self, n_columns: int, code_size: int) -> None:
        super().__init__(n_columns)
        n_directions = min(SKETCH_FACTOR * (code_size + OVERSAMPLING), n_columns)
        # A fixed seed: the baseline must not depend on the seed of the model that is compared with it.
        generator = torch.Generator().manual_seed(0)
        self._shift: Tensor | None = None
        self._restart(torch.randn(n_columns, n_directions, generator=generator))

    def _restart(self, directions: Float[Tensor, "columns directions"]) -> None:
        """Set the sums of a pass to 0."""
        self._directions, self.n_rows, self.total_weight, self._squares = directions, 0, 0.0, 0.0
        self._total = torch.zeros(self.n_columns, dtype=torch.float64)
        self._products = torch.zeros(directions.shape, dtype=torch.float64)

    def _add(self, block: Float[Tensor, "block columns"], weight: Float[Tensor, " block"] | None) -> None:
        if self._shift is None:
            self._shift = torch.from_numpy(_shift(block)).float()
        x = block - self._shift
        self._total += (x if weight is None else x * weight[:, None]).sum(0, dtype=torch.float64)
        x = x if weight is None else x * weight.sqrt()[:, None]
        self._squares += float(x.square().sum(1).sum(dtype=torch.float64))
        self._products += x.T @ (x @ self._directions)

    def _centred_products(self) -> tuple[Float[Tensor, " columns"], Float[Tensor, "columns directions"]]:
        """Return mean - shift, and C times the directions."""
        offset = torch.from_numpy(_finite((self._total / self.total_weight).numpy()))
        return offset, self._products - self.total_weight * torch.outer(offset, offset @ self._directions.double())

    def start_second_pass(self) -> None:
        """Replace the random directions by an orthonormal basis of C G."""
        self._restart(torch.linalg.qr(self._centred_products()[1])[0].float())

    def _spectrum(self, code_size: int) -> _Spectrum:
        assert self._shift is not None
        offset, y = self._centred_products()
        core = self._directions.double().T @ y
        values, vectors = torch.linalg.eigh((core + core.T) / 2)
        scale = values.clamp(min=max(SKETCH_PRECISION * float(y.norm()), torch.finfo(torch.float64).tiny)).sqrt()
        left, singular, _ = torch.linalg.svd(y @ vectors / scale, full_matrices=False)
        trace = self._squares - self.total_weight * float(offset.square().sum())
        mean = (self._shift.double() + offset).numpy()
        values, vectors = singular.square().numpy()[:code_size], left.numpy()[:, :code_size]
        return _Spectrum(mean, values, vectors, trace, self.n_rows, self.total_weight)


def _shift(block: Float[Tensor, "block columns"]) -> Array:
    """Return the mean of the first rows, in float64."""
    return _centre(block[: min(SHIFT_ROWS, _max_gram_rows(block.shape[1]) + 1)])


def _components(spectrum: _Spectrum, code_size: int) -> PrincipalComponents:
    """Return at most min(rows, columns) orthonormal components with a unique sign each."""
    n_rows, n_columns = spectrum.n_rows, len(spectrum.mean)
    n_components = min(code_size, n_rows, n_columns, len(spectrum.values))
    # Eigenvectors of zero variance are arbitrary; the QR factorisation completes the orthonormal basis.
    vectors = np.linalg.qr(spectrum.vectors[:, :n_components])[0]
    largest = vectors[np.abs(vectors).argmax(0), np.arange(n_components)]
    vectors = vectors * np.where(largest < 0, -1.0, 1.0)
    divisor = max(spectrum.total_weight - 1, 1)
    variances = spectrum.values[:n_components] / divisor
    n_left_out = n_columns - n_components
    left_out = max(spectrum.total / divisor - float(variances.sum()), 0.0)
    return PrincipalComponents(
        mean=_float32(spectrum.mean),
        components=_float32(vectors.T),
        explained_variance=_float32(variances),
        noise_variance=left_out / n_left_out if n_left_out else 0.0,
        n_rows=n_rows,
    )


def _float32(values: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
