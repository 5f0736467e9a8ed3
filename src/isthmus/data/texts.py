"""Vocabulary of texts: scikit-learn's vectorisers, stored as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isthmus.errors import InputError

MAX_TERMS = 2000
"""Maximum number of terms in a vocabulary; the most frequent ones are used."""


@dataclass(frozen=True)
class Vocabulary:
    """Terms with idf weights. It converts texts to sparse rows of counts or of tf-idf with unit length.

    Attributes:
        terms: the terms in column order.
        idf: ln((1 + n) / (1 + df)) + 1 of each term (scikit-learn's smoothed idf); empty for plain counts.
    """

    terms: list[str] = field(default_factory=list)
    idf: list[float] = field(default_factory=list)

    @classmethod
    def from_data(cls, texts: Sequence[str], *, counts: bool) -> Vocabulary:
        """Build the vocabulary from the `MAX_TERMS` most frequent terms that occur in at least two texts.

        Raises:
            InputError: if no term occurs in two texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        vectorizer = CountVectorizer(stop_words="english", min_df=2, max_features=MAX_TERMS)
        try:
            found = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise InputError(f"no word occurs in two of the {len(texts)} texts ({error}); use more texts") from None
        idf = [] if counts else TfidfTransformer().fit(found).idf_.tolist()
        return cls(vectorizer.get_feature_names_out().tolist(), idf)

    def rows(self, texts: Sequence[str]) -> Any:
        """Convert texts to a CSR matrix (n, terms), float32."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.preprocessing import normalize

        counts = CountVectorizer(vocabulary=self.terms).transform(texts).astype(np.float32)
        if not self.idf:
            return counts.tocsr()
        return normalize(counts.multiply(np.asarray(self.idf, np.float32)).tocsr())
