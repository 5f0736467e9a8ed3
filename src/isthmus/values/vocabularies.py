"""Values of `vocabulary`: the terms of texts that become columns."""

from __future__ import annotations

from dataclasses import dataclass

from isthmus.data.texts import check_terms
from isthmus.values.value import Value, value_argument


@dataclass(frozen=True, repr=False)
class Words(Value):
    """The most frequent words of the training texts, and sequences of neighbouring words.

    Args:
        max_terms: maximum number of terms.
        min_texts: smallest number of texts in which a term occurs.
        stop_words: words to leave out: "english" for those of scikit-learn, a sequence of words, or None for none.
        n_grams: largest number of neighbouring words in a term; 1 takes single words.

    Raises:
        InputError: a number below 1; stop words of another kind.

    Example:
        >>> from isthmus import Autoencoder
        >>> texts = ["the red fox", "the red fox", "a grey owl", "a grey owl"] * 5
        >>> model = Autoencoder(vocabulary=Words(n_grams=2), code_size=1, max_epochs=1).fit(texts)
        >>> model.preprocessing_.names
        ['fox', 'grey', 'grey owl', 'owl', 'red', 'red fox']
    """

    max_terms: int = 2000
    min_texts: int = 2
    stop_words: str | tuple[str, ...] | None = "english"
    n_grams: int = 1

    def check(self) -> None:
        """Refuse numbers below 1, and stop words that are neither "english" nor a sequence of words."""
        check_terms(self.max_terms, self.min_texts, self.stop_words, self.n_grams)


value_argument("vocabulary", {"words": Words()}, required=True)
