"""Texts: scikit-learn's vectorisers, kept as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from isthmus.errors import InputError

MAX_TERMS = 2000
"""The most frequent terms that are kept: what a code of a few dozen units can speak of."""


@dataclass(frozen=True)
class Vocabulary:
    """Terms and their weights; turns texts into sparse rows of counts, or of tf-idf of unit length.

    Attributes:
        terms: the terms, in the order of the columns.
        idf: ln((1 + n) / (1 + df)) + 1 of each term (scikit-learn's smoothed idf); empty for plain counts.
    """

    terms: list[str] = field(default_factory=list)
    idf: list[float] = field(default_factory=list)

    @classmethod
    def from_data(cls, texts: Sequence[str], *, counts: bool) -> Vocabulary:
        """The `MAX_TERMS` most frequent terms that stand in at least two texts.

        Raises:
            InputError: no term is in two texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        vectorizer = CountVectorizer(stop_words="english", min_df=2, max_features=MAX_TERMS)
        try:
            found = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise InputError(f"the {len(texts)} texts share no word that stands in two of them ({error})") from None
        idf = [] if counts else TfidfTransformer().fit(found).idf_.tolist()
        return cls(vectorizer.get_feature_names_out().tolist(), idf)

    def rows(self, texts: Sequence[str]) -> Any:
        """A CSR matrix (n, terms), float32."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.preprocessing import normalize

        counts = CountVectorizer(vocabulary=self.terms).transform(texts).astype(np.float32)
        if not self.idf:
            return counts.tocsr()
        return normalize(counts.multiply(np.asarray(self.idf, np.float32)).tocsr())
