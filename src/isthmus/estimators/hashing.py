"""Semantic hashing: codes of bits, which are addresses of similar rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import UInt8

from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import NetworkArguments
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase
from isthmus.learning.rows import Rows
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.binary_inference import BinaryMap
from isthmus.parts.coder import Coder
from isthmus.parts.count_encoder import CountEncoder
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty
from isthmus.values.binarisations import Binarisation
from isthmus.values.label_losses import MinimalLoss
from isthmus.values.networks import Ends
from isthmus.values.terms import penalties_of


@dataclass(kw_only=True, eq=False, repr=False)
class SemanticHashing(NetworkArguments, BaseAutoencoder):
    r"""Semantic hashing: a code of bits, so that rows with codes at a small Hamming distance are similar.

        h_j = 1[a_j > 0],   a = encoder(x),   J = E_x [ -log p_dec(x | h~) ] + sum_k w_k Omega_k
        h~ = sigmoid(a + sigma e),   e ~ N(0, I),   sigma grows in training, by default

    A code is an address: rows at the same address and at those that differ in a few bits are found without a search,
    and 32 bits take 4 bytes a row. In training h~ stands in for the bits, which have no gradient; everything that is
    read from a fitted model (codes, reconstructions, errors, scores) is that of the bits.

    By default three penalties make the bits useful: each is on for half of the rows, none repeats another one, and the
    code of a row also reconstructs rows near it. With `labels="minimal-loss"` and `fit(X, y)` another term lets codes
    of one class differ in few bits and those of two classes in many.

    Args:
        binarisation: "noise", "straight-through", "bernoulli", or a value such as `GrowingNoise(scale=2.0)`,
            `StraightThrough(stochastic=False)`, `RelaxedBernoulli(final_temperature=0.2)`: the placeholder of the bits.
        labels: None ignores the classes `y` of `fit`; "minimal-loss" or a value such as `MinimalLoss(rho=6)`
            learns from pairs of rows with classes. Rows whose class is missing (None, NaN) have the other terms alone.
        code_size: number of bits.
        penalties: further terms of the criterion, in a list; "bit-balance", "decorrelation" and "neighbours" by
            default, or values such as `Neighbours(k=20)`; see `Autoencoder`.
        network, hidden_sizes: the networks; `hidden_sizes` is the shorthand of `MLP(hidden_sizes=...)`, by default one
            layer each way. The encoder of counts sees log(1 + count) times the inverse document frequency of the term,
            with norm 1.
        likelihood: "auto" takes "multinomial" for texts; others as for every kind.
        scaling: "auto" takes counts for texts; others as for every kind.

    The other arguments are those of `BaseAutoencoder`.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.9; Salakhutdinov & Hinton, Semantic hashing
    (2007); Hansen et al., Unsupervised semantic hashing with pairwise reconstruction (2020); Norouzi & Fleet, Minimal
    loss hashing for compact binary codes (2011).

    Example:
        >>> from isthmus import SemanticHashing
        >>> X = np.random.default_rng(0).normal(size=(200, 6))
        >>> model = SemanticHashing(code_size=16, max_epochs=5, random_state=0).fit(X)
        >>> model.transform(X[:1]).dtype, model.transform(X[:1]).shape, model.packed(X[:1]).shape
        (dtype('uint8'), (1, 16), (1, 2))
    """

    binarisation: Any = "noise"
    labels: Any = None
    code_size: int | None = 32
    penalties: Sequence[Any] = ("bit-balance", "decorrelation", "neighbours")
    hidden_sizes: Sequence[int] | None = None

    kind: ClassVar[str] = "hash"
    takes_maps: ClassVar[bool] = False
    overcomplete: ClassVar[bool] = True
    skips_unlabelled: ClassVar[bool] = True
    network_defaults: ClassVar[Mapping[str, Any]] = {"hidden_sizes": ()}

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = shape.built_likelihood
        # Weights of linear units: those of sigmoids would saturate them before the noise grows.
        ends = Ends(shape.n_columns, shape.code_size, likelihood, shape.image_shape, output_shape=shape.decoded_shape)
        pair = self._pair(ends, shape, generator)
        reads_counts = likelihood.is_count and not shape.decodes_target and type(pair.encoder) is MLP
        encoder = CountEncoder(cast(MLP, pair.encoder)) if reads_counts else pair.encoder
        binarisation: Binarisation = self.value_of("binarisation")
        coder = Coder(BinaryMap(encoder, binarisation.build()), pair.decoder, likelihood)
        objective = Reconstruction(coder, penalties=self._penalties(shape.code_size))
        return Recipe(coder, objective, hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes)

    def _penalties(self, code_size: int) -> dict[str, Penalty]:
        """Return the terms of the criterion in addition to the reconstruction."""
        loss: MinimalLoss | None = self.value_of("labels")
        of_labels: dict[str, Penalty] = {} if loss is None else {"labels": loss.penalty(code_size)}
        return penalties_of(self.penalties, "sigmoid", of_labels) | of_labels

    def _check_parameters(self) -> None:
        super()._check_parameters()
        penalties_of(self.penalties, "sigmoid")

    @property
    def _labels_setting(self) -> str:
        return "" if self.labels is None else f"labels={self.labels!r}"

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the likelihood; "multinomial" for texts whose words are counted."""
        config = super()._choose_likelihood(rows, validation_rows)
        vocabulary = self.preprocessing_.vocabulary
        are_counts = vocabulary is not None and not vocabulary.idf
        return {"name": "multinomial"} if self.likelihood == "auto" and are_counts else config

    @property
    def _scaling_of_texts(self) -> str:
        return "none" if self.likelihood == "auto" else "auto"

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        """Return the phase of the whole, with the noise of the end of training."""
        self._without_annealing(recipe)
        return super()._further_phases(recipe, training_config, generator)

    def _whole_phase(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> Phase:
        self._without_annealing(recipe)
        return super()._whole_phase(recipe, training_config, generator)

    def _without_annealing(self, recipe: Recipe) -> None:
        """Train as at the end of training from now on."""
        cast(BinaryMap, recipe.coder.inference).without_annealing()

    # -- reading ------------------------------------------------------------------------------------

    def transform(self, X: Any) -> UInt8[np.ndarray, "n code_size"]:
        """Return the bits of each row, 0 or 1, (n, code_size), uint8."""
        return super().transform(X).astype(np.uint8)

    def packed(self, X: Any) -> UInt8[np.ndarray, "n bytes"]:
        """Return the bits of each row, eight to a byte, (n, ceil(code_size / 8)), uint8.

        The order is that of `numpy.packbits`: the first bit is the highest one of the first byte, and zeros fill the
        last byte. `numpy.unpackbits(packed, axis=1, count=code_size)` returns the bits.

        Args:
            X: rows.

        Example:
            >>> from isthmus import SemanticHashing
            >>> X = np.random.default_rng(0).normal(size=(200, 6))
            >>> model = SemanticHashing(code_size=12, max_epochs=2, random_state=0).fit(X)
            >>> bits = np.unpackbits(model.packed(X), axis=1, count=12)
            >>> bool((bits == model.transform(X)).all())
            True
        """
        return np.packbits(self.transform(X), axis=1)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
