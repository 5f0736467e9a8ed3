"""The doctor's rules on codes of bits: bits that never change, bits that copy others, rows that share their code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np
from jaxtyping import Float, Int

from isthmus.errors import pluralize
from isthmus.evaluation.facts import Finding, FitFacts

COPIED_CORRELATION = 0.95
"""Correlation of two bits, of any sign, above which one of them copies the other."""

COLLIDING_SHARE, LARGE_COLLIDING_SHARE = 0.5, 0.95
"""Fractions of the rows whose code is that of another row, above which a finding says so, and above which it warns."""

MIN_ROWS = 20
"""Smallest number of rows of which bits are compared."""

MOST_LISTED = 6


def constant_bits(facts: FitFacts) -> Finding | None:
    """Detect bits that are the same for every row."""
    bits = _bits(facts)
    if bits is None:
        return None
    constant = np.flatnonzero((bits == bits[0]).all(0))
    if not len(constant):
        return None
    return Finding(
        "constant-bits",
        f"{len(constant)} of {pluralize(bits.shape[1], 'bit')} never {_verb(len(constant), 'flip')} over "
        f"{pluralize(len(bits), 'row')}: {_listed(constant.tolist())}",
        "give BitBalance() in penalties a larger weight, or use fewer bits (code_size)",
    )


def copied_bits(facts: FitFacts) -> Finding | None:
    """Detect bits that are another bit, or its negation, in nearly every row."""
    bits = _bits(facts)
    if bits is None:
        return None
    pairs = copies(bits)
    if not len(pairs):
        return None
    n_copies = len(np.unique(pairs[:, 1]))
    shown = [f"{j} of {i}" for i, j in pairs.tolist()]
    return Finding(
        "copied-bits",
        f"{n_copies} of {pluralize(bits.shape[1], 'bit')} {_verb(n_copies, 'copy')} another one (correlation above "
        f"{COPIED_CORRELATION} in magnitude): {_listed(shown)}",
        "give Decorrelation() in penalties a larger weight, or use fewer bits (code_size)",
        "note" if 2 * n_copies < bits.shape[1] else "warning",
    )


def colliding_codes(facts: FitFacts) -> Finding | None:
    """Detect that most rows have the same code as another row."""
    bits = _bits(facts)
    if bits is None:
        return None
    share = colliding_share(bits)
    if share <= COLLIDING_SHARE:
        return None
    n_codes = len(np.unique(np.packbits(bits, axis=1), axis=0))
    return Finding(
        "colliding-codes",
        f"{share:.0%} of {pluralize(len(bits), 'row')} have the code of another row; there are "
        f"{pluralize(n_codes, 'code')}",
        "use more bits (code_size) to distinguish these rows, or a smaller weight of Neighbours(); nothing is wrong if "
        "the rows are that similar",
        "warning" if share > LARGE_COLLIDING_SHARE else "note",
    )


def copies(bits: Float[np.ndarray, "rows bits"]) -> Int[np.ndarray, "pairs 2"]:
    """Return pairs i < j of bits of which j copies i, with the first such i for each j; constant bits are left out.

    Example:
        >>> copies(np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])).tolist()
        [[0, 1]]
    """
    deviation, centred = bits.std(0), bits - bits.mean(0, keepdims=True)
    scaled = centred / np.where(deviation > 0, deviation, 1.0)
    copied = np.triu(np.abs(scaled.T @ scaled) / len(bits) > COPIED_CORRELATION, 1)
    second = np.flatnonzero(copied.any(0))
    return np.stack([copied[:, second].argmax(0), second], 1)


def colliding_share(bits: Float[np.ndarray, "rows bits"]) -> float:
    """Return the fraction of the rows whose code is also that of another row.

    Example:
        >>> colliding_share(np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]))
        0.5
    """
    _, counts = np.unique(np.packbits(bits.astype(np.uint8), axis=1), axis=0, return_counts=True)
    return float(counts[counts > 1].sum() / len(bits))


def _bits(facts: FitFacts) -> np.ndarray | None:
    """Return the bits of some rows; None for a code of other units, or too few rows."""
    if not facts.has_bits or facts.codes is None or len(facts.codes) < MIN_ROWS:
        return None
    return facts.codes.cpu().numpy().astype(np.uint8)


def _verb(n: int, verb: str) -> str:
    """Return a verb for one subject or for several.

    Example:
        >>> _verb(1, "copy"), _verb(1, "flip"), _verb(2, "copy")
        ('copies', 'flips', 'copy')
    """
    if n != 1:
        return verb
    return f"{verb[:-1]}ies" if verb.endswith("y") else f"{verb}s"


def _listed(items: list[int] | list[str]) -> str:
    rest = f" and {len(items) - MOST_LISTED} more" if len(items) > MOST_LISTED else ""
    return ", ".join(map(str, islice(items, MOST_LISTED))) + rest


RULES: dict[str, Callable[[FitFacts], Finding | None]] = {
    "constant-bits": constant_bits,
    "copied-bits": copied_bits,
    "colliding-codes": colliding_codes,
}
"""The rules by the names of their findings."""
