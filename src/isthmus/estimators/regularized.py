"""The criterion of an encoder and a decoder: their network and their regularisation, in any combination.

A sparse, a denoising and a contractive autoencoder are the same parts with other defaults, so a sparse denoising
convolutional autoencoder is three arguments and not a class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float

from isthmus.data.streams import BLOCK_SIZE
from isthmus.errors import InputError
from isthmus.estimators.code_sampling import FittedPriorMixin
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.value_arguments import ValueArguments
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.rows import MAX_SAMPLED_ROWS, Rows, mean_row, sampled_batches
from isthmus.parts import networks
from isthmus.parts.centred_encoder import CentredMLP, geometric_median, initialize_dictionary
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import dictionary_weight
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import ACTIVATIONS, check_choice
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.penalties import Penalty
from isthmus.parts.sparse_activations import BatchTopK, TopK, with_gathered_weights
from isthmus.parts.sparsity import SparseParts
from isthmus.values.contractions import CONTRACTION, Contraction
from isthmus.values.corruptions import (
    CORRUPTION,
    CorruptionFunction,
    CorruptionValue,
    RowShape,
    build_corruption,
    entry_weights,
)
from isthmus.values.inferences import INFERENCE
from isthmus.values.networks import BuiltInNetwork, EncoderDecoder, Ends, FeatureMaps, own_network
from isthmus.values.sparse_inferences import Recurrent
from isthmus.values.sparsities import SPARSITY, Sparsity
from isthmus.values.terms import penalties_of
from isthmus.values.value import Value

MAX_MEDIAN_ENTRIES = 2**22
"""Entries of the rows whose geometric median is taken: 32 MiB in float64."""


@dataclass(frozen=True)
class Regularization:
    """The regularisation of an autoencoder.

    Attributes:
        corruption, sparsity, contraction: the values of these arguments, or None.
        penalties: further terms of the criterion.
        competition: lateral competition after the encoder, or None.
        gathers: True if the decoder's input in training is always the sparse code itself, as `GatheredLinear` needs.
    """

    corruption: CorruptionValue | CorruptionFunction | None = None
    sparsity: Sparsity | None = None
    contraction: Contraction | None = None
    penalties: Sequence[Any] = ()
    gathers: bool = False
    competition: Recurrent | None = None

    @classmethod
    def of(cls, arguments: Any, *, gathers: bool = False) -> Regularization:
        """Return the regularisation of an object with the arguments; strings are expanded."""
        return cls(
            CORRUPTION.expanded(arguments.corruption), SPARSITY.expanded(arguments.sparsity),
            CONTRACTION.expanded(arguments.contraction), getattr(arguments, "penalties", ()), gathers,
            competition_of(arguments),
        )  # fmt: skip

    @property
    def mask_aware(self) -> bool:
        """True if the encoder gets the mask of the visible entries."""
        return bool(getattr(self.corruption, "mask_aware", False))

    def init_activation(self, code_activation: str | None) -> str:
        """Return the activation for which the weights of the code's units are initialised."""
        return code_activation or ("relu" if self.sparsity else "sigmoid")

    def objective(
        self, pair: EncoderDecoder, likelihood: Likelihood, shape: Shape, code_activation: str | None
    ) -> Reconstruction:
        """Build the criterion of an encoder and a decoder.

        Args:
            pair: encoder and decoder.
            likelihood: whose parameters the decoder returns.
            shape: of the rows and the code.
            code_activation: None takes that of the sparsity, "sigmoid" without one.
        """
        if shape.decodes_target:
            self._refuse_for_targets()
        sparse = self._sparse(shape, pair, code_activation)
        if sparse.constraints:
            n_active = getattr(sparse.code_activation, "k", None)
            pair = make_dictionary(pair, likelihood, mask_aware=self.mask_aware, n_active=n_active)
        activation = sparse.code_activation
        if (
            self.gathers
            and sparse.gather
            and isinstance(pair.decoder, networks.MLP)
            and isinstance(activation, TopK | BatchTopK)
        ):
            pair = replace(pair, decoder=with_gathered_weights(pair.decoder, activation.k))
        corrupted_weight, clean_weight = entry_weights(self.corruption)
        terms = sparse.penalties | self._contraction_term()
        if self.competition is None:
            inference = EncoderMap(pair.encoder, activation, sees_mask=self.mask_aware)
        else:
            inference = self.competition.after(pair.encoder, activation, sees_mask=self.mask_aware)
        return Reconstruction(
            Coder(inference, pair.decoder, likelihood), corruption=self._corruption(shape),
            penalties=terms | penalties_of(self.penalties, activation, terms),
            constraints=sparse.constraints, centre=median_row if sparse.constraints else mean_row,
            corrupted_weight=corrupted_weight, clean_weight=clean_weight,
        )  # fmt: skip

    def _refuse_for_targets(self) -> None:
        """Refuse what compares the output with the input, or makes the encoder the transpose of the decoder."""
        if self.sparsity is not None:
            raise InputError(
                f"sparsity={self.sparsity!r} starts the encoder as the transpose of the decoder, which decodes a "
                "target; leave sparsity out, or fit without target"
            )
        if entry_weights(self.corruption) != (1.0, 1.0):
            raise InputError(
                f"corruption={self.corruption!r} weights corrupted entries, which the target does not have; give "
                "corrupted_weight=1 and clean_weight=1"
            )

    def _sparse(self, shape: Shape, pair: EncoderDecoder, code_activation: str | None) -> SparseParts:
        """Return the activation of the code and its sparsity penalties and constraints."""
        if self.sparsity is None:
            return SparseParts(self.init_activation(code_activation), {})
        linear = dictionary_weight(pair.decoder) is not None
        return self.sparsity.parts(shape.code_size, code_activation, linear=linear)

    def _contraction_term(self) -> dict[str, Penalty]:
        """Return the penalty on the Jacobian, if there is one."""
        return {} if self.contraction is None else {"contraction": self.contraction.penalty()}

    def _corruption(self, shape: Shape) -> Any:
        """Return C(x~ | x); default groups are the columns of a category or the patches of an image."""
        return build_corruption(self.corruption, RowShape(shape.n_columns, shape.groups, shape.image_shape))


def competition_of(arguments: Any) -> Recurrent | None:
    """Return the lateral competition of an object with the argument `inference`; None without it.

    Raises:
        InputError: another inference.
    """
    given = getattr(arguments, "inference", None)
    value = INFERENCE.expanded(given)
    if value is not None and not isinstance(value, Recurrent):
        raise InputError(
            f"inference={given!r}: after an encoder units can compete, inference='recurrent' or Recurrent(n_steps=10); "
            "kind 'sparse-coding' has the solvers"
        )
    return value


@dataclass(kw_only=True, eq=False, repr=False)
class EncoderArguments(ValueArguments):
    """The argument `network` of kinds with an encoder.

    Args:
        network: "mlp" on flat rows; "conv", convolutions on images; "conv1d", along series; a value such as
            `MLP((500, 250), activation="tanh")`; or a network of your own: an object with the method `build` of
            `isthmus.parts.own_networks.Network`, or its name in `isthmus.register_network`.
    """

    network_defaults: ClassVar[Mapping[str, Any]] = {}
    """Fields of a network that are None, and what they are in this kind."""

    takes_maps: ClassVar[bool] = True
    """True for kinds whose code can be the feature maps of a network."""

    network: Any = "mlp"

    def _pair(self, ends: Ends, shape: Shape, generator: torch.Generator) -> EncoderDecoder:
        """Build encoder and decoder, in the sizes that an earlier fit resolved."""
        network = self._network
        if isinstance(network, BuiltInNetwork):
            return network.with_sizes(shape.hidden_sizes, shape.dense_sizes).build(ends, generator)
        return own_network(network, ends, generator)

    def _implied_code_size(self) -> tuple[int, str] | None:
        """Return the number of units of the code that the network has for these rows; None where it has any number."""
        network, inputs = self._network, self.preprocessing_.inputs
        size = network.code_size(inputs.map_shape, inputs.n_columns) if isinstance(network, BuiltInNetwork) else None
        return None if size is None else (size, f"the positions of all maps of {network!r}")

    def resolved_values(self) -> dict[str, Value]:
        """Return the values of the arguments, the network with the defaults of the kind."""
        values = super().resolved_values()
        return values | {"network": self._network} if isinstance(values.get("network"), BuiltInNetwork) else values

    def set_params(self, **params: Any) -> Self:
        """Set arguments, as `ValueArguments.set_params`; for NAME network__FIELD, `hidden_sizes` is expanded too."""
        own = {name: value for name, value in params.items() if name.partition("__")[0] != "network"}
        super().set_params(**own)
        if len(own) < len(params):
            sizes = getattr(self, "hidden_sizes", None)
            if sizes is not None and "network" not in params and self.network == "mlp":
                super().set_params(hidden_sizes=None, network__hidden_sizes=sizes)
            super().set_params(**{name: value for name, value in params.items() if name not in own})
        return self

    def take_values(self, values: Mapping[str, Value]) -> None:
        """Set the values that differ from what the arguments stand for; a network takes the place of its shorthand."""
        before = self.network
        super().take_values(values)
        if self.network is not before and hasattr(self, "hidden_sizes"):
            self.set_params(hidden_sizes=None)

    @property
    def _network(self) -> Any:
        """The network, with the defaults of the kind; an object of a user as it is.

        Raises:
            InputError: `hidden_sizes` together with an explicit network.
        """
        network, sizes = self.value_of("network"), getattr(self, "hidden_sizes", None)
        if sizes is not None:
            if self.network != "mlp":
                raise InputError(
                    f"hidden_sizes={sizes!r} is the shorthand of network=MLP(hidden_sizes=...), and "
                    f"network={self.network!r} is given too; give the sizes in the network"
                )
            network = replace(network, hidden_sizes=sizes)
        if isinstance(network, FeatureMaps) and not self.takes_maps:
            raise InputError(
                f"network={network!r} has a code of one number for each position, and kind {self.kind} has one of "
                "another form; use it in the kinds psd, sparse, denoising and deep"
            )
        return network.with_defaults(self.network_defaults) if isinstance(network, BuiltInNetwork) else network


@dataclass(kw_only=True, eq=False, repr=False)
class NetworkArguments(EncoderArguments):
    """The arguments of kinds that are an encoder and a decoder of any network.

    Args:
        network: as in `EncoderArguments`.
        penalties: further terms of the criterion, in a list: values such as `MMD()` or `L1(weight=0.1)`,
            functions (output, coder) -> (batch,) in nats, or their names in `isthmus.register_penalty`.
    """

    takes_target: ClassVar[bool] = True
    """True for kinds that can decode a target in place of their inputs."""

    penalties: Sequence[Any] = ()


@dataclass(kw_only=True, eq=False, repr=False)
class MapArguments(FittedPriorMixin, NetworkArguments):
    """The arguments of kinds whose encoder is a map: the network, and the activation of the code.

    Args:
        code_activation: activation of the code.
        fit_prior: None, "gaussian", or a value such as `MixturePrior(k=10)`: the distribution of codes that is fitted
            after training, so that `sample` draws rows.
        network, penalties: as in `NetworkArguments`.
    """

    code_activation: str | None = None
    fit_prior: Any = None

    def _check_values(self) -> None:
        """Refuse arguments that are no values, and unknown activations."""
        super()._check_values()
        if self.code_activation is not None:
            check_choice("code_activation", self.code_activation, tuple(ACTIVATIONS))

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        """Build every part that the arguments name, around one encoder and decoder."""
        likelihood, regularization = shape.built_likelihood, self._regularization
        ends = Ends(
            shape.n_columns, shape.code_size, likelihood, shape.image_shape,
            regularization.init_activation(self.code_activation), regularization.mask_aware,
            output_shape=shape.decoded_shape,
        )  # fmt: skip
        pair = self._pair(ends, shape, generator)
        objective = regularization.objective(pair, likelihood, shape, self.code_activation)
        return Recipe(
            objective.coder, objective, density=self._new_prior(shape.code_size), hidden_sizes=pair.hidden_sizes,
            dense_sizes=pair.dense_sizes,
        )  # fmt: skip

    def _after_training(self, rows: SurveyedRows) -> None:
        self._fit_prior(rows)

    @property
    def _regularization(self) -> Regularization:
        """The regularisation; by default only the penalties."""
        return Regularization(penalties=self.penalties)


@dataclass(kw_only=True, eq=False, repr=False)
class Regularized(MapArguments):
    """The arguments of the regularised kinds, which keep a capable encoder from copying.

    Args:
        corruption: corruption of the rows in training, before they are encoded: None, a name ("masking", "gaussian",
            "salt-and-pepper", "groups", "missing"), a value such as `Masking(rate=0.5)`, or a function
            (x, generator) -> x~ on tensors in model space.
        sparsity: None, a name ("l1", "student-t", "log", "kl", "topk", "batch-topk", "jumprelu", "gated"), or a value
            such as `TopK(k=32)`.
        contraction: None, "encoder" or "reconstruction", the map whose Jacobian is penalised, or a value such as
            `Contraction(weight=0.2, order=2)`.
        network, hidden_sizes: the networks; `hidden_sizes` is the shorthand of `MLP(hidden_sizes=...)`, by default one
            layer from the input to the code.
        code_activation: activation of the code; None takes the one of the sparsity, "sigmoid" without one.
        fit_prior: distribution of codes that is fitted after training, for `sample`; see `MapArguments`.
        penalties: further terms of the criterion, as in `NetworkArguments`.
    """

    network_defaults: ClassVar[Mapping[str, Any]] = {"hidden_sizes": ()}

    corruption: Any = None
    sparsity: Any = None
    contraction: Any = None
    hidden_sizes: Sequence[int] | None = None

    @property
    def _regularization(self) -> Regularization:
        return Regularization.of(self, gathers=True)


def make_dictionary(
    pair: EncoderDecoder, likelihood: Likelihood, *, mask_aware: bool, n_active: int | None = None
) -> EncoderDecoder:
    """Initialise the decoder as a dictionary with unit columns, and the encoder as its transpose.

    The encoder gets rows minus the decoder's bias; a mask-aware encoder gets them as they are.
    """
    initialize_dictionary(pair.encoder, pair.decoder, n_active)
    if mask_aware or not isinstance(pair.encoder, networks.MLP):
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
