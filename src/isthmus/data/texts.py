"""Vocabulary of texts: scikit-learn's vectorisers, stored as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from isthmus.errors import InputError


def check_terms(max_terms: int, min_texts: int, stop_words: Any, n_grams: int) -> None:
    """Check the options of `Vocabulary.from_data`.

    Raises:
        InputError: a number that is not a whole number of at least 1; stop words of another kind.
    """
    for name, value in (("max_terms", max_terms), ("min_texts", min_texts), ("n_grams", n_grams)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name}={value!r}: it must be a whole number of at least 1")
    is_list = isinstance(stop_words, tuple | list) and all(isinstance(word, str) for word in stop_words)
    if not (stop_words is None or stop_words == "english" or is_list):
        raise InputError(f"stop_words={stop_words!r}: it must be 'english', a sequence of words, or None")


@dataclass(frozen=True)
class Vocabulary:
    """Terms with idf weights. It converts texts to sparse rows of counts or of tf-idf with unit length.

    Attributes:
        terms: the terms in column order.
        idf: ln((1 + n) / (1 + df)) + 1 of each term (scikit-learn's smoothed idf); empty for plain counts.
        n_grams: largest number of words in a term.
        stop_words: words that are left out before neighbouring words are joined.
    """

    terms: list[str] = field(default_factory=list)
    idf: list[float] = field(default_factory=list)
    n_grams: int = 1
    stop_words: str | list[str] | None = None

    @classmethod
    def from_data(
        cls,
        texts: Sequence[str],
        *,
        counts: bool,
        max_terms: int = 2000,
        min_texts: int = 2,
        stop_words: str | Sequence[str] | None = "english",
        n_grams: int = 1,
    ) -> Vocabulary:
        """Build the vocabulary from the most frequent terms.

        Args:
            texts: the training texts.
            counts: True for rows of counts, False for tf-idf.
            max_terms: maximum number of terms.
            min_texts: smallest number of texts in which a term occurs.
            stop_words: words to leave out: "english", a sequence of words, or None.
            n_grams: largest number of neighbouring words in a term.

        Raises:
            InputError: if no term occurs in enough texts.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        words = stop_words if stop_words is None or isinstance(stop_words, str) else list(stop_words)
        vectorizer = CountVectorizer(
            stop_words=words, min_df=min_texts, max_features=max_terms, ngram_range=(1, n_grams)
        )
        try:
            found = vectorizer.fit_transform(texts)
        except ValueError as error:
            raise InputError(
                f"no word occurs in {min_texts} of the {len(texts)} texts ({error}); use more texts"
            ) from None
        idf = [] if counts else TfidfTransformer().fit(found).idf_.tolist()
        terms = vectorizer.get_feature_names_out().tolist()
        return cls(terms, idf, n_grams, words) if n_grams > 1 else cls(terms, idf)

    def to_config(self) -> dict[str, Any]:
        """Return the attributes as JSON types, those that differ from their defaults."""
        return {"terms": self.terms, "idf": self.idf} | {
            name: value for name, value in asdict(self).items() if value != getattr(Vocabulary(), name)
        }

    def rows(self, texts: Sequence[str]) -> Any:
        """Convert texts to a CSR matrix (n, terms), float32."""
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.preprocessing import normalize

        vectorizer = CountVectorizer(vocabulary=self.terms, ngram_range=(1, self.n_grams), stop_words=self.stop_words)
        counts = vectorizer.transform(texts).astype(np.float32)
        if not self.idf:
            return counts.tocsr()
        return normalize(counts.multiply(np.asarray(self.idf, np.float32)).tocsr())
