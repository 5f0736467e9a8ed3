"""Dictionaries, which decoders linear in the code have: compared with one another, sorted and pruned.

A dictionary is a matrix of atoms, (n_atoms, n_columns): what one unit of the code adds to a row.
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
"""True atoms whose cosines with all learned ones are held at once by `mean_max_cosine`."""

RECOVERY_COSINE = 0.9
"""The cosine from which a true atom counts as found, as Sharkey et al. count it."""

Dictionary = ArrayLike | Float[Tensor, "atoms columns"]


@dataclass(frozen=True)
class Comparison:
    """How much of a true dictionary a learned one holds.

    Attributes:
        mean_max_cosine: see `mean_max_cosine`: several true atoms may share one learned atom.
        mean_matched_cosine: the mean of `cosines`: each learned atom serves one true atom (the "MCC" of the field).
        recovered: the share of true atoms whose nearest learned atom has a cosine above `RECOVERY_COSINE`.
        pairs: numbers of a true and of a learned atom, (matched, 2), in the order of the true ones.
        cosines: of these pairs, (matched,).
    """

    mean_max_cosine: float
    mean_matched_cosine: float
    recovered: float
    pairs: Int[np.ndarray, "matched 2"]
    cosines: Float[np.ndarray, " matched"]


def mean_max_cosine(true: Dictionary, learned: Dictionary, *, signed: bool = True) -> float:
    r"""How near the nearest learned atom is to each true one, as a cosine, averaged over the true atoms.

        MMCS(D, F) = 1/n sum_i max_j  <d_i, f_j> / (||d_i|| ||f_j||)

    Not symmetric: with the arguments exchanged it says how many of the learned atoms are true ones.

    Args:
        true: D, (n, columns), of any length each; an atom of zeros has the cosine 0 with every other.
        learned: F, (m, columns).
        signed: whether an atom and its negative differ, as they do for codes that are never negative;
            False takes magnitudes of the cosines.

    Returns:
        A number in [-1, 1], 1 where every true atom was found.

    Raises:
        InputError: a dictionary that is no matrix, is empty or is not finite; another number of columns.

    Source: Sharkey, Braun & Millidge, Taking features out of superposition with sparse autoencoders (2022).

    Example:
        >>> mean_max_cosine([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0], [1.0, 1.0]])
        1.0
    """
    return float(_nearest(*_unit_norm_atoms(true, learned), signed).mean())


def match(
    true: Dictionary, learned: Dictionary, *, signed: bool = True
) -> tuple[Int[np.ndarray, "matched 2"], Float[np.ndarray, " matched"]]:
    r"""The one-to-one pairing of atoms with the largest sum of cosines (Hungarian matching).

        max over injective p of  sum_i  <d_i, f_p(i)> / (||d_i|| ||f_p(i)||)

    Holds all n * m cosines at once.

    Args:
        true: D, (n, columns).
        learned: F, (m, columns); of the larger dictionary some atoms stay without a partner.
        signed: see `mean_max_cosine`.

    Returns:
        Pairs (number of a true atom, number of a learned atom), (min(n, m), 2), in the order of the true atoms;
        and their cosines, float64; magnitudes where not `signed`.

    Raises:
        InputError: see `mean_max_cosine`.

    Source: Kuhn, The Hungarian method for the assignment problem (1955), as scipy solves it.

    Example:
        >>> pairs, cosines = match([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [2.0, 0.0], [1.0, 1.0]])
        >>> pairs.tolist(), cosines.tolist()
        ([[0, 1], [1, 0]], [1.0, 1.0])
    """
    found = _cosines(*_unit_norm_atoms(true, learned), signed)
    rows, columns = linear_sum_assignment(found, maximize=True)
    return np.stack([rows, columns], axis=1), found[rows, columns]


def compare_dictionaries(true: Dictionary, learned: Dictionary, *, signed: bool = True) -> Comparison:
    """All that is said of a learned dictionary beside the true one; see `Comparison`.

    Args and errors are those of `mean_max_cosine` and `match`.

    Example:
        >>> found = compare_dictionaries([[1.0, 0.0], [0.0, 1.0]], [[0.0, 3.0], [0.1, 1.0]])
        >>> found.recovered, f"{found.mean_max_cosine:.3f}", f"{found.mean_matched_cosine:.3f}"
        (0.5, '0.550', '0.550')
    """
    nearest = _nearest(*_unit_norm_atoms(true, learned), signed)
    pairs, cosines = match(true, learned, signed=signed)
    recovered = float((nearest > RECOVERY_COSINE).mean())
    return Comparison(float(nearest.mean()), float(cosines.mean()), recovered, pairs, cosines)


def sorted_atoms(dictionary: Dictionary, use: ArrayLike) -> Int[np.ndarray, " atoms"]:
    r"""Numbers of the atoms by how much of the reconstruction they carry, the largest first.

        use_j ||d_j||^2

    Args:
        dictionary: D, (n_atoms, n_columns).
        use: by unit of the code: the mean of h_j^2 gives the mean of ||h_j d_j||^2, the share of rows in which
            the unit is active merely counts (with atoms of one length the order is by that share).

    Raises:
        InputError: no matrix of finite numbers; another number of uses than of atoms.

    Example:
        >>> sorted_atoms([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]], [0.5, 0.5, 0.0]).tolist()
        [1, 0, 2]
    """
    atoms = _matrix(dictionary, "the dictionary")
    return np.argsort(-_uses(use, len(atoms)) * np.square(atoms).sum(1), kind="stable")


def used_atoms(dictionary: Dictionary, rates: ArrayLike, least: float = 0.0) -> Bool[np.ndarray, " atoms"]:
    """Which atoms to keep: those longer than zero whose unit is active in more than `least` of the rows.

    `dictionary[used_atoms(dictionary, rates)]` is pruned of dead atoms: no row is reconstructed any differently
    where `least` is 0.

    Args:
        dictionary: D, (n_atoms, n_columns).
        rates: the share of rows in which each unit is active, (n_atoms,).
        least: share of rows.

    Raises:
        InputError: see `sorted_atoms`.

    Example:
        >>> used_atoms([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]], [0.5, 0.5, 0.0]).tolist()
        [True, False, False]
    """
    atoms = _matrix(dictionary, "the dictionary")
    return (_uses(rates, len(atoms)) > least) & (np.abs(atoms).max(1) > 0)


def _unit_norm_atoms(true: Dictionary, learned: Dictionary) -> tuple[np.ndarray, np.ndarray]:
    """Both dictionaries as unit atoms, in float64."""
    first, second = _matrix(true, "the true dictionary"), _matrix(learned, "the learned dictionary")
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"the true dictionary has {first.shape[1]} columns and the learned one {second.shape[1]}; "
            "compare dictionaries of the same rows"
        )
    return _units(first), _units(second)


def _matrix(dictionary: Dictionary, name: str) -> Float[np.ndarray, "atoms columns"]:
    numbers = dictionary.detach().cpu().numpy() if isinstance(dictionary, Tensor) else dictionary
    atoms = np.asarray(numbers, np.float64)
    if atoms.ndim != 2 or atoms.size == 0:
        raise InputError(f"{name} has shape {atoms.shape}; give a matrix (n_atoms, n_columns) with an atom a line")
    if not np.isfinite(atoms).all():
        raise InputError(f"{name} holds values that are not finite, first in atom {_first_bad(atoms)}")
    return atoms


def _first_bad(atoms: np.ndarray) -> int:
    return int(np.flatnonzero(~np.isfinite(atoms).all(1))[0])


def _uses(use: ArrayLike, n_atoms: int) -> Float[np.ndarray, " atoms"]:
    uses = np.asarray(use, np.float64)
    if uses.shape != (n_atoms,):
        raise InputError(f"the uses have shape {uses.shape} for {n_atoms} atoms; give one number an atom")
    return uses


def _units(atoms: Float[np.ndarray, "atoms columns"]) -> Float[np.ndarray, "atoms columns"]:
    # Divided by the largest entry first: squares of very small or very large atoms would vanish or overflow.
    largest = np.abs(atoms).max(1, keepdims=True)
    scaled = atoms / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled / np.where(length > 0, length, 1)


def _cosines(true: np.ndarray, learned: np.ndarray, signed: bool) -> Float[np.ndarray, "true learned"]:
    found = np.clip(true @ learned.T, -1, 1)
    return found if signed else np.abs(found)


def _nearest(true: np.ndarray, learned: np.ndarray, signed: bool) -> Float[np.ndarray, " true"]:
    """The largest cosine of each true atom, never holding all of them."""
    parts = [true[start : start + ATOMS_AT_ONCE] for start in range(0, len(true), ATOMS_AT_ONCE)]
    return np.concatenate([_cosines(part, learned, signed).max(1) for part in parts])
