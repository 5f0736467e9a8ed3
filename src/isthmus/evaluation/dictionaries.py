"""Comparison, sorting and pruning of dictionaries, the weight matrices of decoders that are linear in the code.

A dictionary is a matrix (n_atoms, n_columns). Each of its rows is an atom: the contribution of one unit of the code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from isthmus.errors import InputError

ATOMS_AT_ONCE = 1024
"""Number of true atoms whose cosines with all learned atoms are in memory at the same time."""

RECOVERY_COSINE = 0.9
"""Smallest cosine at which a true atom counts as recovered, as in Sharkey et al."""

Dictionary = ArrayLike | Float[Tensor, "atoms columns"]


@dataclass(frozen=True)
class Comparison:
    """Similarity of a learned dictionary to a true one.

    Attributes:
        mean_max_cosine: see `mean_max_cosine`: several true atoms may share one learned atom.
        mean_matched_cosine: the mean of `cosines`: each learned atom is matched to one true atom (known as MCC).
        recovered: the fraction of true atoms whose most similar learned atom has a cosine above `RECOVERY_COSINE`.
        pairs: the index of a true atom and of a learned atom, (matched, 2), in the order of the true atoms.
        cosines: the cosines of these pairs, (matched,).
    """

    mean_max_cosine: float
    mean_matched_cosine: float
    recovered: float
    pairs: Int[np.ndarray, "matched 2"]
    cosines: Float[np.ndarray, " matched"]


def mean_max_cosine(true: Dictionary, learned: Dictionary, *, signed: bool = True) -> float:
    r"""Compute the mean over the true atoms of the largest cosine with a learned atom (MMCS).

        MMCS(D, F) = 1/n sum_i max_j  <d_i, f_j> / (||d_i|| ||f_j||)

    The measure is not symmetric: with the arguments exchanged it measures which learned atoms are true atoms.

    Args:
        true: D, (n, columns); the atoms may have any norm; a zero atom has cosine 0 with every other atom.
        learned: F, (m, columns).
        signed: True if an atom and its negative are different, as they are for non-negative codes; False uses the
            absolute values of the cosines.

    Returns:
        A number in [-1, 1]; 1 if every true atom was found.

    Raises:
        InputError: a dictionary is not a matrix, is empty or is not finite; the numbers of columns differ.

    Source: Sharkey, Braun & Millidge, Taking features out of superposition with sparse autoencoders (2022).

    Example:
        >>> mean_max_cosine([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0], [1.0, 1.0]])
        1.0
    """
    return float(_nearest(*_unit_norm_atoms(true, learned), signed).mean())


def match(
    true: Dictionary, learned: Dictionary, *, signed: bool = True
) -> tuple[Int[np.ndarray, "matched 2"], Float[np.ndarray, " matched"]]:
    r"""Compute the one-to-one matching of atoms with the largest sum of cosines (Hungarian algorithm).

        max over injective p of  sum_i  <d_i, f_p(i)> / (||d_i|| ||f_p(i)||)

    All n * m cosines are in memory at the same time.

    Args:
        true: D, (n, columns).
        learned: F, (m, columns); some atoms of the larger dictionary stay unmatched.
        signed: see `mean_max_cosine`.

    Returns:
        The pairs (index of a true atom, index of a learned atom), (min(n, m), 2), in the order of the true atoms, and
        their cosines, float64; absolute values if not `signed`.

    Raises:
        InputError: see `mean_max_cosine`.

    Source: Kuhn, The Hungarian method for the assignment problem (1955); computed by scipy.

    Example:
        >>> pairs, cosines = match([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0], [1.0, 1.0]])
        >>> pairs.tolist(), cosines.tolist()
        ([[0, 1], [1, 0]], [1.0, 1.0])
    """
    found = _cosines(*_unit_norm_atoms(true, learned), signed)
    rows, columns = linear_sum_assignment(found, maximize=True)
    return np.stack([rows, columns], axis=1), found[rows, columns]


def cosines(true: Dictionary, learned: Dictionary) -> Float[np.ndarray, "true learned"]:
    """Return the cosine of each atom of one dictionary with each atom of another; 0 for an atom of zeros.

    Example:
        >>> cosines([[1.0, 0.0], [0.0, 0.0]], [[3.0, 0.0], [1.0, 1.0]]).round(2).tolist()
        [[1.0, 0.71], [0.0, 0.0]]
    """
    return _cosines(*_unit_norm_atoms(true, learned), True)


def compare_dictionaries(true: Dictionary, learned: Dictionary, *, signed: bool = True) -> Comparison:
    """Compute all measures of `Comparison` for a learned and a true dictionary.

    Arguments and errors are those of `mean_max_cosine` and `match`.

    Example:
        >>> found = compare_dictionaries([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.1, 1.0]])
        >>> found.recovered, f"{found.mean_max_cosine:.3f}", f"{found.mean_matched_cosine:.3f}"
        (0.5, '0.550', '0.550')
    """
    nearest = _nearest(*_unit_norm_atoms(true, learned), signed)
    pairs, matched = match(true, learned, signed=signed)
    recovered = float((nearest > RECOVERY_COSINE).mean())
    return Comparison(float(nearest.mean()), float(matched.mean()), recovered, pairs, matched)


def sorted_atoms(dictionary: Dictionary, use: ArrayLike) -> Int[np.ndarray, " atoms"]:
    r"""Return the indices of the atoms by their contribution to the reconstruction, the largest first.

        use_j ||d_j||^2

    Args:
        dictionary: D, (n_atoms, n_columns).
        use: one number per unit of the code. The mean of h_j^2 orders the atoms by the mean of ||h_j d_j||^2; the
            activation rate orders atoms of equal norm by that rate.

    Raises:
        InputError: the dictionary is not a matrix of finite numbers; `use` has another length.

    Example:
        >>> sorted_atoms([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]], [0.5, 0.5, 0.0]).tolist()
        [1, 0, 2]
    """
    atoms = _matrix(dictionary, "the dictionary")
    return np.argsort(-_uses(use, len(atoms)) * np.square(atoms).sum(1), kind="stable")


def used_atoms(dictionary: Dictionary, rates: ArrayLike, least: float = 0.0) -> Bool[np.ndarray, " atoms"]:
    """Return True for each non-zero atom whose unit is active in more than `least` of the rows.

    `dictionary[used_atoms(dictionary, rates)]` is the dictionary without dead atoms. If `least` is 0, the
    reconstructions do not change.

    Args:
        dictionary: D, (n_atoms, n_columns).
        rates: the fraction of rows in which each unit is active, (n_atoms,).
        least: a fraction of the rows.

    Raises:
        InputError: see `sorted_atoms`.

    Example:
        >>> used_atoms([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [0.5, 0.5, 0.0]).tolist()
        [True, False, False]
    """
    atoms = _matrix(dictionary, "the dictionary")
    return (_uses(rates, len(atoms)) > least) & (np.abs(atoms).max(1) > 0)


def _unit_norm_atoms(true: Dictionary, learned: Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """Return both dictionaries with atoms of unit norm, in float64."""
    first, second = _matrix(true, "the true dictionary"), _matrix(learned, "the learned dictionary")
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"the true dictionary has {first.shape[1]} columns and the learned one {second.shape[1]}; "
            "the numbers must be equal"
        )
    return _normalized(first), _normalized(second)


def _matrix(dictionary: Dictionary, name: str) -> Float[np.ndarray, "atoms columns"]:
    numbers = dictionary.detach().cpu().numpy() if isinstance(dictionary, Tensor) else dictionary
    atoms = np.asarray(numbers, np.float64)
    if atoms.ndim != 2 or atoms.size == 0:
        raise InputError(f"{name} has shape {atoms.shape}; pass a matrix (n_atoms, n_columns), one atom per row")
    if not np.isfinite(atoms).all():
        raise InputError(f"{name}: atom {_first_bad(atoms)} holds values that are not finite; remove or replace them")
    return atoms


def _first_bad(atoms: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(atoms).all(1))[0])


def _uses(use: ArrayLike, n_atoms: int) -> Float[np.ndarray, " atoms"]:
    uses = np.asarray(use, np.float64)
    if uses.shape != (n_atoms,):
        raise InputError(f"one number per atom is needed, shape ({n_atoms},); found shape {uses.shape}")
    return uses


def _normalized(atoms: Float[np.ndarray, "atoms columns"]) -> Float[np.ndarray, "atoms columns"]:
    # Divide by the largest entry first: the squares of very small or very large atoms would underflow or overflow.
    largest = np.abs(atoms).max(1, keepdims=True)
    scaled = atoms / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(length > 0, length, 1)


def _cosines(true: np.ndarray, learned: np.ndarray, signed: bool) -> Float[np.ndarray, "true learned"]:
    found = np.clip(true @ learned.T, -1, 1)
    return found if signed else np.abs(found)


def _nearest(true: np.ndarray, learned: np.ndarray, signed: bool) -> Float[np.ndarray, " true"]:
    """Compute the largest cosine of each true atom without storing all cosines."""
    parts = [true[start : start + ATOMS_AT_ONCE] for start in range(0, len(true), ATOMS_AT_ONCE)]
    return np.concatenate([_cosines(part, learned, signed).max(1) for part in parts])
