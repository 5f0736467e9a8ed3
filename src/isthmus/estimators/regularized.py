"""What keeps a capable encoder from copying, in any combination: the knobs of the regularised kinds, and their recipe.

A sparse, a denoising and a contractive autoencoder are the same parts with other defaults, so a sparse denoising
convolutional autoencoder is three arguments and not a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from isthmus.errors import InputError
from isthmus.estimators.networks import Pair, convolutions, perceptrons
from isthmus.estimators.records import Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.corruptions import Corruption, corruption_named
from isthmus.parts.hits import patch_groups
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.networks import Normalization, check_choice

NETWORKS = ("mlp", "conv")


@dataclass(kw_only=True, eq=False, repr=False)
class Regularized:
    """The arguments that the regularised kinds share.

    Args:
        network: "mlp", perceptrons on flat rows, or "conv", convolutions on images.
        hidden_sizes: units of the encoder's hidden layers, outermost first, mirrored by the decoder; () is one
            layer from the input to the code. For "conv" the maps of each convolution, None chooses.
        dense_sizes: for "conv", units of the dense layers after the convolutions; None chooses.
        activation: of the hidden layers.
        code_activation: of the code.
        tied: the decoder uses the encoder's transposed weights ("mlp" alone).
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: rate at which hidden units are dropped while learning.
        corruption: what is done to the rows before they are encoded while learning: None, or a name of
            `isthmus.parts.corruptions.CORRUPTIONS`, or a callable (x, generator) -> x~ on tensors in model space.
        corruption_rate: share of the entries (or groups) that "masking", "salt-and-pepper", "groups" and "missing" hit.
        corruption_scale: the standard deviation of "gaussian", in model space.
        corruption_groups: lists of columns that "groups" and "missing" hit together; None takes the columns
            of a category, and the patches of an image.
        corrupted_weight, clean_weight: what the entries that were hit, and the others, count in the criterion.
    """

    network: str = "mlp"
    hidden_sizes: Sequence[int] | None = ()
    dense_sizes: Sequence[int] | None = None
    activation: str = "silu"
    code_activation: str = "sigmoid"
    tied: bool = False
    normalization: Normalization | None = None
    dropout: float = 0.0
    corruption: str | Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None
    corruption_rate: float = 0.25
    corruption_scale: float = 0.3
    corruption_groups: Sequence[Sequence[int]] | None = None
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Reconstruction:
        """Every part that the arguments ask for, around one pair of maps."""
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        corruption = self._corruption(shape)
        pair = self._pair(shape, likelihood, corruption, generator)
        self.hidden_sizes_, self.dense_sizes_ = pair.hidden_sizes, pair.dense_sizes
        return Reconstruction(
            pair.encoder, pair.decoder, likelihood, self.code_activation, corruption=corruption,
            corrupted_weight=self.corrupted_weight, clean_weight=self.clean_weight,
        )  # fmt: skip

    def _corruption(self, shape: Shape) -> Corruption | None:
        """C(x~ | x), with the groups that the data suggest where none are given."""
        if self.corruption is None:
            return None
        groups = self.corruption_groups
        if groups is None and shape.groups:
            groups = shape.groups
        if groups is None and shape.image_shape is not None and self.corruption == "groups":
            groups = patch_groups(shape.image_shape)
        return corruption_named(
            self.corruption, rate=self.corruption_rate, scale=self.corruption_scale, groups=groups,
            n_columns=shape.n_columns,
        )  # fmt: skip

    def _pair(
        self, shape: Shape, likelihood: Likelihood, corruption: Corruption | None, generator: torch.Generator
    ) -> Pair:
        """Encoder and decoder."""
        check_choice("network", self.network, NETWORKS)
        options: dict[str, Any] = {
            "activation": self.activation, "normalization": self.normalization, "dropout": self.dropout,
            "generator": generator,
        }  # fmt: skip
        told = corruption is not None and corruption.sees_mask
        if self.network == "mlp":
            return perceptrons(
                shape.n_columns * (2 if told else 1), tuple(self.hidden_sizes or ()), shape.code_size, likelihood,
                tied=self.tied, **options,
            )  # fmt: skip
        if self.tied or told:
            wish = "tied=True" if self.tied else "corruption='missing'"
            raise InputError(f"network='conv' has no {wish}; use network='mlp' with it")
        return convolutions(
            shape.image_shape or (1, 1, shape.n_columns), shape.code_size, likelihood,
            hidden_sizes=self.hidden_sizes or None, dense_sizes=self.dense_sizes, **options,
        )  # fmt: skip
