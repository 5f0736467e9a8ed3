"""Rows that are sums of known features: a tree of parents, Zipf frequencies, and correlated pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from isthmus.errors import InputError

ROWS_AT_ONCE = 4_000
"""Rows that are drawn at once: the coefficients of all rows would take gigabytes."""

NEAREST, FARTHEST = 4, 16
"""The rank of a parent is that of its child divided by a number between NEAREST and FARTHEST."""

SMALLEST, LARGEST = 0.5, 1.5
"""Range of the coefficient of an active feature."""


@dataclass(frozen=True)
class Features:
    r"""A distribution of sparse rows whose features are known.

        x = sum_i h_i d_i,   h_i = z_i u_i,   u_i ~ U(1/2, 3/2),   z_i in {0, 1}
        P(z_i = 1) = n_active / (i H),   H = sum of 1 / i,   i = 1 .. n       (Zipf, exponent 1)
        z_i <= z_parent(i)                                                    (a tree)
        corr(z_2k-1, z_2k) = correlation,   parent(2k - 1) = parent(2k)       (pairs)

    The directions d_i are uniform on the sphere. The most frequent features are roots. The parent of each further pair
    is drawn from the features that are 4 to 16 times as frequent; an active feature that can be a parent has one active
    child on average.

    Attributes:
        directions: D, rows of norm 1.
        rates: P(z_i = 1).
        parents: the parent of each feature, -1 for a root.
        both: P(z_2k-1 = z_2k = 1) of each pair.
    """

    directions: Float[np.ndarray, "features columns"]
    rates: Float[np.ndarray, " features"]
    parents: Int[np.ndarray, " features"]
    both: Float[np.ndarray, " pairs"]

    @classmethod
    def drawn(
        cls, *, n_features: int, n_columns: int, n_active: float, n_roots: int, correlation: float, seed: int
    ) -> Features:
        """Return a distribution with random directions and a random tree.

        Args:
            n_features: features, an even number.
            n_columns: columns of a row.
            n_active: mean number of active features of a row.
            n_roots: features without a parent, an even number of at least 4.
            correlation: of the two features of a pair.
            seed: of directions and tree.

        Raises:
            InputError: odd numbers, too few roots, or probabilities that are not below 1.

        Example:
            >>> found = Features.drawn(n_features=8, n_columns=3, n_active=1.5, n_roots=4, correlation=0.3, seed=0)
            >>> found.rates.round(2).tolist(), found.parents.tolist()
            ([0.55, 0.28, 0.18, 0.14, 0.11, 0.09, 0.08, 0.07], [-1, -1, -1, -1, 0, 0, 0, 0])
        """
        ranks = np.arange(1, n_features + 1)
        rates = n_active / ranks / np.sum(1.0 / ranks)
        if n_features % 2 or n_roots % 2 or n_roots < NEAREST or rates[0] >= 1.0:
            raise InputError(
                f"{n_features} features with {n_roots} roots, {n_active:g} active: give even numbers, at least "
                f"{NEAREST} roots, and fewer active features"
            )
        generator = np.random.default_rng(seed)
        directions = generator.normal(size=(n_features, n_columns))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        first = ranks[n_roots::2]
        parents = np.full(n_features, -1)
        parents[n_roots:] = np.repeat(generator.integers(-(-first // FARTHEST) - 1, first // NEAREST), 2)
        a, b = rates[::2], rates[1::2]
        both = a * b + correlation * np.sqrt(a * (1 - a) * b * (1 - b))
        return cls(directions, rates, parents, both)

    @property
    def levels(self) -> list[Int[np.ndarray, " features"]]:
        """The features of each depth of the tree, the roots first."""
        found = [np.flatnonzero(self.parents < 0)]
        while len(below := np.flatnonzero(np.isin(self.parents, found[-1]))):
            found.append(below)
        return found

    def active(self, n_rows: int, generator: np.random.Generator) -> Bool[np.ndarray, "rows features"]:
        """Return which features are active in new rows.

        One number u ~ U(0, 1) decides about both features of a pair, given their parent: the first is active for
        u < a, the second for a - c <= u < a - c + b. Here a, b and c are the probabilities of the first, of the second
        and of both, given the parent.
        """
        u = generator.random((n_rows, len(self.both)), dtype=np.float32)
        above = np.where(self.parents < 0, 1.0, self.rates[self.parents])
        given = (self.rates / above).astype(np.float32)
        a, b, both = given[::2], given[1::2], (self.both / above[::2]).astype(np.float32)
        found = np.empty((n_rows, len(self.rates)), bool)
        found[:, ::2] = u < a
        found[:, 1::2] = (u >= a - both) & (u < a - both + b)
        for level in self.levels[1:]:
            found[:, level] &= found[:, self.parents[level]]
        return found

    def rows(
        self, n_rows: int, seed: int | Sequence[int]
    ) -> tuple[Float[np.ndarray, "rows columns"], Float[np.ndarray, "rows features"]]:
        """Return rows x and their coefficients h, in float32."""
        generator = np.random.default_rng(seed)
        active = self.active(n_rows, generator)
        h = np.zeros(active.shape, np.float32)
        h[active] = generator.uniform(SMALLEST, LARGEST, np.count_nonzero(active))
        return h @ self.directions.astype(np.float32), h

    def many_rows(self, n_rows: int, seed: int) -> Float[np.ndarray, "rows columns"]:
        """Return rows alone; their coefficients are drawn in blocks."""
        x = np.empty((n_rows, self.directions.shape[1]), np.float32)
        for number, start in enumerate(range(0, n_rows, ROWS_AT_ONCE)):
            block = x[start : start + ROWS_AT_ONCE]
            block[:] = self.rows(len(block), [seed, number])[0]
        return x
