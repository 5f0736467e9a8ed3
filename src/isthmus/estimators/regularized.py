"""The arguments of the regularised kinds, which keep a capable encoder from copying, and their construction.

A sparse, a denoising and a contractive autoencoder are the same parts with other defaults, so a sparse denoising
convolutional autoencoder is three arguments and not a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float

from isthmus.data.streams import BLOCK_SIZE
from isthmus.errors import InputError
from isthmus.estimators.networks import EncoderDecoder, convolutions, non_default, own_network, perceptrons
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, mean_row, sampled_batches
from isthmus.parts.centred_encoder import CentredMLP, geometric_median, initialize_dictionary
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.corruption_masks import patch_groups
from isthmus.parts.corruptions import Corruption, build_corruption
from isthmus.parts.inference import EncoderMap
from isthmus.parts.jacobians import Contraction
from isthmus.parts.layers import check_count
from isthmus.parts.likelihoods import Likelihood, likelihood_from
from isthmus.parts.networks import MLP, Normalization
from isthmus.parts.penalties import Penalty, check_weight
from isthmus.parts.sparse_activations import BatchTopK, TopK, with_gathered_weights
from isthmus.parts.sparsity import SparseParts, sparse_parts

_NETWORK_ARGUMENTS = ("hidden_sizes", "dense_sizes", "activation", "tied", "normalization", "dropout")
"""Arguments of the built-in networks alone."""

MAX_MEDIAN_ENTRIES = 2**22
"""Entries of the rows whose geometric median is taken: 32 MiB in float64."""


@dataclass(kw_only=True, eq=False, repr=False)
class Regularization:
    """The regularisation arguments: corruption, sparsity and contraction, in any combination.

    Args:
        corruption: corruption of the rows in training, before they are encoded: None, or a name of
            `isthmus.parts.corruptions.CORRUPTIONS`, or a callable (x, generator) -> x~ on tensors in model space.
        corruption_rate: fraction of the entries (or groups) that "masking", "salt-and-pepper", "groups" and "missing"
            corrupt.
        corruption_scale: standard deviation of "gaussian", in model space.
        corruption_groups: lists of columns that "groups" and "missing" corrupt together; None takes the columns
            of a category, and the patches of an image.
        corrupted_weight, clean_weight: weights of the corrupted and of the clean entries in the criterion.
        sparsity: None, or a name of `isthmus.parts.sparsity.SPARSITIES`: a prior ("l1", "student-t", "log"), an
            activation rate ("kl"), or an activation ("topk", "batch-topk", "jumprelu", "gated").
        sparsity_weight: weight of the sparsity penalty, relative to 1/2 ||x - r||^2; "topk" and "batch-topk" have
            no penalty.
        target_rate: fraction of the rows on which a unit should be active, for "kl" and where `k` is None.
        k: active units per row, for "topk" and "batch-topk".
        unit_columns: keep the decoder's columns at norm 1; otherwise small codes and large columns avoid the penalty.
            None does so for a sparse code with an untied linear decoder.
        contraction_weight: weight of the squared Frobenius norm of the Jacobian of each row; 0 is off.
        contraction_order: 1, or 2 to penalise the Hessian too, by the change of the Jacobian near the rows.
        hessian_weight, hessian_scale: weight of the second-order term relative to the first, and standard deviation
            of the neighbours.
        contraction_of: "encoder", or "reconstruction" for the Jacobian of r(x).
        contraction_method: "closed" (one layer), "exact", "hutchinson" (random probes), or "auto".
        n_probes: probes per row of "hutchinson".
    """

    _gathers: ClassVar[bool] = False
    """True if the decoder's input in training is always the sparse code itself, as `GatheredLinear` needs."""

    corruption: str | Callable[[torch.Tensor, torch.Generator], torch.Tensor] | None = None
    corruption_rate: float = 0.25
    corruption_scale: float = 0.3
    corruption_groups: Sequence[Sequence[int]] | None = None
    corrupted_weight: float = 1.0
    clean_weight: float = 1.0
    sparsity: str | None = None
    sparsity_weight: float = 0.1
    target_rate: float = 0.05
    k: int | None = None
    unit_columns: bool | None = None
    contraction_weight: float = 0.0
    contraction_order: int = 1
    hessian_weight: float = 1.0
    hessian_scale: float = 0.1
    contraction_of: str = "encoder"
    contraction_method: str = "auto"
    n_probes: int = 1

    def _build_reconstruction(
        self,
        pair: EncoderDecoder,
        likelihood: Likelihood,
        shape: Shape,
        corruption: Corruption | None,
        code_activation: str | None,
    ) -> Reconstruction:
        """Build the criterion of an encoder and a decoder, with the regularisation that the arguments name."""
        sparse = self._sparse(shape, pair, code_activation)
        mask_aware = corruption is not None and corruption.mask_aware
        if sparse.constraints:
            pair = make_dictionary(pair, likelihood, mask_aware=mask_aware)
        activation = sparse.code_activation
        if (
            self._gathers
            and sparse.gather
            and isinstance(pair.decoder, MLP)
            and isinstance(activation, TopK | BatchTopK)
        ):
            pair = replace(pair, decoder=with_gathered_weights(pair.decoder, activation.k))
        inference = EncoderMap(pair.encoder, activation, sees_mask=mask_aware)
        return Reconstruction(
            Coder(inference, pair.decoder, likelihood), corruption=corruption,
            corrupted_weight=self.corrupted_weight, clean_weight=self.clean_weight,
            penalties=sparse.penalties | self._contraction(), constraints=sparse.constraints,
            centre=median_row if sparse.constraints else mean_row,
        )  # fmt: skip

    def _init_activation(self, code_activation: str | None) -> str:
        """Return the activation for which the weights of the code's units are initialised."""
        return code_activation or ("relu" if self.sparsity else "sigmoid")

    def _sparse(self, shape: Shape, pair: EncoderDecoder, code_activation: str | None) -> SparseParts:
        """Return the activation of the code and its sparsity penalties and constraints."""
        if self.sparsity is None:
            return SparseParts(self._init_activation(code_activation), {})
        linear = dictionary_weight(pair.decoder) is not None
        return sparse_parts(
            self.sparsity, code_size=shape.code_size, weight=self.sparsity_weight,
            target_rate=self.target_rate, k=self.k, code_activation=code_activation,
            unit_columns=linear if self.unit_columns is None else self.unit_columns,
        )  # fmt: skip

    def _contraction(self) -> dict[str, Penalty]:
        """Return the penalty on the Jacobian, if there is one."""
        check_count("n_probes", self.n_probes)
        if self.contraction_weight == 0:
            return {}
        weight = check_weight("contraction_weight", self.contraction_weight)
        contraction = Contraction(
            weight, order=self.contraction_order, hessian_weight=self.hessian_weight, hessian_scale=self.hessian_scale,
            of=self.contraction_of, method=self.contraction_method, n_probes=self.n_probes,
        )  # fmt: skip
        return {"contraction": contraction}

    def _corruption(self, shape: Shape) -> Corruption | None:
        """Return C(x~ | x); default groups are the columns of a category or the patches of an image."""
        grouped = ("groups", "missing")
        if self.corruption_groups is not None and self.corruption not in grouped:
            raise InputError(
                f"corruption_groups is for corruption='groups' or 'missing', and corruption={self.corruption!r}; take "
                "one of these, or leave the groups out"
            )
        if self.corruption is None:
            return None
        if self.corruption == "gaussian" and not self.corrupted_weight == self.clean_weight == 1.0:
            raise InputError(
                "corruption='gaussian' changes every entry, so corrupted_weight and clean_weight have no effect; leave "
                "both at 1, or take 'masking' or 'salt-and-pepper'"
            )
        groups = self.corruption_groups
        if groups is None and shape.groups:
            groups = shape.groups
        if groups is None and shape.image_shape is not None and self.corruption == "groups":
            groups = patch_groups(shape.image_shape)
        return build_corruption(
            self.corruption, rate=self.corruption_rate, scale=self.corruption_scale, groups=groups,
            n_columns=shape.n_columns,
        )  # fmt: skip


@dataclass(kw_only=True, eq=False, repr=False)
class Regularized(Regularization):
    """The arguments of the regularised kinds: the network, and those of `Regularization`.

    Args:
        network: "mlp" on flat rows; "conv", convolutions on images; or a network of your own: an object with the
            method `build` of `isthmus.parts.own_networks.Network`, or its name in `isthmus.register_network`.
        hidden_sizes: units of the encoder's hidden layers, outermost first, mirrored by the decoder; () is one
            layer from the input to the code. For "conv" the channels of each convolution, None chooses.
        dense_sizes: for "conv", units of the dense layers after the convolutions; None chooses.
        activation: activation of the hidden layers.
        code_activation: activation of the code; None takes the one of the sparsity, "sigmoid" without one.
        tied: the decoder uses the encoder's transposed weights ("mlp" alone).
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: dropout rate of hidden units in training.
    """

    _gathers: ClassVar[bool] = True

    network: Any = "mlp"
    hidden_sizes: Sequence[int] | None = ()
    dense_sizes: Sequence[int] | None = None
    activation: str = "silu"
    code_activation: str | None = None
    tied: bool = False
    normalization: Normalization | None = None
    dropout: float = 0.0

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        """Build every part that the arguments name, around one encoder and decoder."""
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        corruption = self._corruption(shape)
        pair = self._pair(shape, likelihood, corruption, generator)
        objective = self._build_reconstruction(pair, likelihood, shape, corruption, self.code_activation)
        return Recipe(objective.coder, objective, hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes)

    def _pair(
        self, shape: Shape, likelihood: Likelihood, corruption: Corruption | None, generator: torch.Generator
    ) -> EncoderDecoder:
        """Build encoder and decoder."""
        options: dict[str, Any] = {
            "activation": self.activation, "normalization": self.normalization, "dropout": self.dropout,
            "generator": generator,
        }  # fmt: skip
        mask_aware = corruption is not None and corruption.mask_aware
        if self.network == "mlp":
            return perceptrons(
                shape.n_columns * (2 if mask_aware else 1), tuple(self.hidden_sizes or ()), shape.code_size, likelihood,
                tied=self.tied, code_activation=self._init_activation(self.code_activation), **options,
            )  # fmt: skip
        if self.network != "conv":
            return own_network(
                self.network, shape.n_columns * (2 if mask_aware else 1), shape, likelihood, generator,
                non_default(self, _NETWORK_ARGUMENTS),
            )  # fmt: skip
        if self.tied:
            raise InputError("network='conv' has no transposed weights to tie; give tied=False, or network='mlp'")
        if mask_aware:
            raise InputError("network='conv' has no corruption='missing'; use network='mlp' with it")
        return convolutions(
            shape.image_shape or (1, 1, shape.n_columns), shape.code_size, likelihood,
            hidden_sizes=shape.resolved("hidden_sizes", self.hidden_sizes) or None,
            dense_sizes=shape.resolved("dense_sizes", self.dense_sizes), **options,
        )  # fmt: skip


def make_dictionary(pair: EncoderDecoder, likelihood: Likelihood, *, mask_aware: bool) -> EncoderDecoder:
    """Initialise the decoder as a dictionary with unit columns, and the encoder as its transpose.

    The encoder gets rows minus the decoder's bias; a mask-aware encoder gets them as they are.
    """
    initialize_dictionary(pair.encoder, pair.decoder)
    if mask_aware or not isinstance(pair.encoder, MLP):
        return pair
    return replace(pair, encoder=CentredMLP(pair.encoder, pair.decoder, likelihood))


def median_row(rows: Rows) -> Float[torch.Tensor, " columns"]:
    """The geometric median of some evenly spaced rows by their weights, with the column's mean at missing entries.

    It is the median of as many rows as have `MAX_MEDIAN_ENTRIES` entries together, but of `BLOCK_SIZE` rows at least
    and of `MAX_SAMPLED_ROWS` at most. In memory are these rows in float64, and one block of at most 1,024 rows.
    """
    n_rows = min(len(rows), MAX_SAMPLED_ROWS, max(MAX_MEDIAN_ENTRIES // rows.n_columns, BLOCK_SIZE))
    mean = torch.zeros(()) if rows.batch(torch.arange(1)).mask is None else mean_row(rows)
    whole, first = torch.empty(n_rows, rows.n_columns, dtype=torch.float64), 0
    weights: list[torch.Tensor] = []
    for batch in sampled_batches(rows, n_rows):
        x = batch.x if batch.mask is None else torch.where(batch.mask > 0, batch.x, mean)
        whole[first : first + len(x)] = x
        first += len(x)
        weights += [] if batch.weight is None else [batch.weight]
    return geometric_median(whole, torch.cat(weights) if weights else None).float()
