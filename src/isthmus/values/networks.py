"""Values of `network`: the encoder and the decoder of an autoencoder, and their construction."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

from torch import Generator, nn

from isthmus.errors import InputError
from isthmus.parts import lista, networks
from isthmus.parts.constraints import normalise
from isthmus.parts.convolutions import check_kernel_size, is_series, resolve_sizes
from isthmus.parts.dictionaries import FilterGrid, filter_grid
from isthmus.parts.filter_maps import FilterDecoder, FilterEncoder, unit_filters
from isthmus.parts.inference import Decoder
from isthmus.parts.layers import INIT_SCHEMES, Normalization, check_count, check_options, check_positive, check_sizes
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import ConvolutionalDecoder, ConvolutionalEncoder, TiedMLP, default_hidden_sizes
from isthmus.parts.own_networks import Network, build_pair, network_named
from isthmus.values.value import ARGUMENTS, Value, ValueArgument, check_flag

SINGLE_LAYER_INIT_SCALE = {"sigmoid": 0.5}
"""Scale of the initial weights of a layer that is trained alone, relative to those of a layer among many.

At full scale sigmoid units saturate before training. At half, the contractive code of MNIST reconstructs better, and
its features separate digits better (`python -m experiments contraction` and `few-labels`).
"""


DEFAULT_THRESHOLD = 0.1
"""Weight of the L1 norm in the initial steps of `LISTA`."""


INITIAL_RESPONSE = 0.5
"""Norm of the initial filters of the encoder of `FeatureMaps`, relative to those of the decoder.

At .1 no response is above its threshold, and the encoder of predictive sparse decomposition does not learn.
"""


@dataclass(frozen=True)
class EncoderDecoder:
    """An encoder, its decoder, and the sizes of their hidden layers."""

    encoder: nn.Module
    decoder: Decoder
    hidden_sizes: tuple[int, ...]
    dense_sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Ends:
    """The properties of the data and of the code between which a network is built.

    Attributes:
        n_columns: the width of model space.
        code_size: units of the code.
        likelihood: the likelihood whose parameters the decoder returns.
        image_shape: (channels, height, width) of images, (channels, 1, steps) of series, None for other rows.
        code_activation: activation of the code, for which the encoder's last layer is initialised.
        sees_mask: True if the mask of the visible entries is an input of the encoder, too.
        n_conditions: further inputs of the encoder.
        output_shape: (channels, height, width) of the images that are decoded, or as above.
    """

    n_columns: int
    code_size: int
    likelihood: Likelihood
    image_shape: tuple[int, int, int] | None = None
    code_activation: str = "linear"
    sees_mask: bool = False
    n_conditions: int = 0
    output_shape: tuple[int, int, int] | None = None

    @property
    def n_inputs(self) -> int:
        """Inputs of the encoder."""
        return self.n_columns * (2 if self.sees_mask else 1) + self.n_conditions


class BuiltInNetwork(Value):
    """Base class of the networks of the package.

    Attributes:
        activation: activation of the hidden layers.
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: dropout rate of hidden units in training.
        takes_mask: True if the mask of the visible entries, and conditions, can be inputs of the encoder.
    """

    takes_mask: ClassVar[bool] = True
    activation: str
    normalization: Normalization | None
    dropout: float

    def check(self) -> None:
        """Refuse an unknown name, and a rate outside [0, 1)."""
        check_options(self.activation, self.normalization, self.dropout)

    @abstractmethod
    def with_sizes(self, hidden_sizes: tuple[int, ...] | None, dense_sizes: tuple[int, ...] | None) -> Self:
        """Return a copy with the sizes that an earlier fit resolved; None leaves a size as it is."""

    def with_defaults(self, defaults: Mapping[str, Any]) -> Self:
        """Return a copy in which fields that are None have the defaults of a kind; other names are left out."""
        known = self.get_params(deep=False)
        return replace(self, **{name: default for name, default in defaults.items() if known.get(name, 0) is None})  # type: ignore[type-var]

    def code_size(self, image_shape: tuple[int, int, int] | None, n_columns: int) -> int | None:
        """Return the units of a code, if they follow from the network and the rows; else None."""
        return None

    @abstractmethod
    def build(self, ends: Ends, generator: Generator) -> EncoderDecoder:
        """Return encoder and decoder, with weights sampled with `generator`."""

    @property
    def layer_options(self) -> dict[str, Any]:
        """Return the options of the hidden layers."""
        return {"activation": self.activation, "normalization": self.normalization, "dropout": self.dropout}


@dataclass(frozen=True, repr=False)
class MLP(BuiltInNetwork):
    """Multilayer perceptron on flat rows, mirrored by the decoder.

    Args:
        hidden_sizes: units of the encoder's hidden layers, outermost first; () is one layer from the input to the code.
            None takes the default of the kind: two layers by the width of the data in `Autoencoder`, else one layer.
        activation: activation of the hidden layers: "relu", "gelu", "silu", "tanh", "sigmoid", "softplus" or "linear".
        tied: the decoder uses the encoder's transposed weights. None does so in `ContractiveAutoencoder` alone.
        normalization: "batch" or "layer" in the hidden layers, or None.
        dropout: dropout rate of hidden units in training.

    Raises:
        InputError: a size below 1, an unknown name, a rate outside [0, 1); at `fit`, tied weights with a likelihood of
            more than one parameter per column, or with the mask as an input.

    Source: Goodfellow, Bengio & Courville, Deep Learning, chapter 6.

    Example:
        >>> from isthmus import MLP
        >>> MLP((500, 250), activation="tanh")
        MLP(hidden_sizes=(500, 250), activation='tanh')
    """

    hidden_sizes: Sequence[int] | None = None
    activation: str = "silu"
    tied: bool | None = None
    normalization: Normalization | None = None
    dropout: float = 0.0

    def check(self) -> None:
        """Refuse a size below 1, an unknown name, and a rate outside [0, 1)."""
        super().check()
        check_flag("tied", self.tied)
        if self.hidden_sizes is not None:
            check_sizes("hidden_sizes", self.hidden_sizes)

    def with_sizes(self, hidden_sizes: tuple[int, ...] | None, dense_sizes: tuple[int, ...] | None) -> Self:
        """Return a copy with these hidden sizes; None leaves them as they are."""
        return self if hidden_sizes is None else replace(self, hidden_sizes=hidden_sizes)

    def build(self, ends: Ends, generator: Generator) -> EncoderDecoder:
        """Return encoder and decoder; sizes of None are chosen by the width of the data."""
        default = default_hidden_sizes(ends.n_columns, ends.code_size)
        return perceptrons(
            ends.n_inputs, default if self.hidden_sizes is None else tuple(self.hidden_sizes), ends.code_size,
            ends.likelihood, tied=bool(self.tied), code_activation=ends.code_activation, generator=generator,
            **self.layer_options,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Convolutional(BuiltInNetwork):
    """Convolutions of stride two, then dense layers; the decoder mirrors them with transposed convolutions.

    Each convolution halves height and width. Series are convolved along their steps, as by `Convolutional1d`. Other
    rows are read as a series of one channel, with kernels along the row: suitable for signals, not for tables.

    Args:
        channels: channels of each convolution, outermost first. None takes 16, 32, 64, ... channels, with as many
            layers as bring the longer side of the image to 8 pixels.
        dense_sizes: units of the dense hidden layers between convolutions and code; None is (512, 128), at least as
            wide as the code; () is none. A narrow code needs them.
        activation: activation of the hidden layers: "relu", "gelu", "silu", "tanh", "sigmoid", "softplus" or "linear".
        kernel_size: height and width of the kernels, odd. None is 3, and 5 steps of series.
        normalization: "batch" (by map or unit) or "layer" (over all maps or units of an image), or None.
        dropout: dropout rate of whole channels in training.

    Raises:
        InputError: a size below 1, an even kernel, an unknown name, a rate outside [0, 1); at `fit`, the mask as an
            input, or a likelihood with parameters of the whole row.

    Source: Goodfellow, Bengio & Courville, Deep Learning, chapter 9; Masci et al., Stacked convolutional auto-encoders
    for hierarchical feature extraction (2011).

    Example:
        >>> from isthmus import Convolutional
        >>> Convolutional((8, 16), kernel_size=5)
        Convolutional(channels=(8, 16), kernel_size=5)
    """

    channels: Sequence[int] | None = None
    dense_sizes: Sequence[int] | None = None
    activation: str = "relu"
    kernel_size: int | None = None
    normalization: Normalization | None = None
    dropout: float = 0.0

    takes_mask: ClassVar[bool] = False

    def check(self) -> None:
        """Refuse a size below 1, an even kernel, an unknown name, and a rate outside [0, 1)."""
        super().check()
        if self.kernel_size is not None:
            check_kernel_size(self.kernel_size)
        for name, sizes in (("channels", self.channels), ("dense_sizes", self.dense_sizes)):
            if sizes is not None:
                check_sizes(name, sizes)

    def with_sizes(self, hidden_sizes: tuple[int, ...] | None, dense_sizes: tuple[int, ...] | None) -> Self:
        """Return a copy with these channels and dense sizes; None leaves them as they are."""
        changes = {"channels": hidden_sizes, "dense_sizes": dense_sizes}
        return replace(self, **{name: sizes for name, sizes in changes.items() if sizes is not None})  # type: ignore[arg-type]

    def build(self, ends: Ends, generator: Generator) -> EncoderDecoder:
        """Return encoder and decoder.

        Raises:
            InputError: the mask is an input of the encoder; a likelihood that has parameters of the whole row.
        """
        if ends.sees_mask:
            raise InputError(
                f"network={self!r} does not take the mask of missing entries as input; use network='mlp' with "
                "corruption='missing'"
            )
        inputs = self.image_shape(ends)
        is_decoded = ends.image_shape is None and ends.likelihood.n_columns == ends.n_columns
        outputs = inputs if is_decoded else ends.output_shape or (1, 1, ends.likelihood.n_columns)
        kernel_size = self.kernel_size or _kernel_size(ends)
        return convolutions(
            inputs, outputs, ends.code_size, ends.likelihood, channels=self.channels,
            dense_sizes=self.dense_sizes, kernel_size=kernel_size, generator=generator, **self.layer_options,
        )  # fmt: skip

    def image_shape(self, ends: Ends) -> tuple[int, int, int]:
        """Return (channels, height, width) as which a row is read."""
        return ends.image_shape or (1, 1, ends.n_columns)


@dataclass(frozen=True, repr=False)
class Convolutional1d(Convolutional):
    """Convolutions of stride two along a series, then dense layers; the decoder mirrors them.

    Rows of an array (n, steps, channels) are series of these channels. Another row is a series of one channel: its
    columns in order are the steps. Each convolution halves the number of steps.

    Args:
        channels: channels of each convolution, outermost first. None takes 16, 32, 64, ... channels, with as many
            layers as bring the series to 8 steps.
        dense_sizes: units of the dense hidden layers between convolutions and code; None is (512, 128), at least as
            wide as the code; () is none.
        activation: activation of the hidden layers, as in `Convolutional`.
        kernel_size: steps of a kernel, odd.
        normalization: "batch" or "layer", or None.
        dropout: dropout rate of whole channels in training.

    Raises:
        InputError: as `Convolutional`; at `fit`, images.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 9.1.

    Example:
        >>> from isthmus import Convolutional1d
        >>> Convolutional1d((8, 16))
        Convolutional1d(channels=(8, 16))
    """

    kernel_size: int = 5

    def image_shape(self, ends: Ends) -> tuple[int, int, int]:
        """Return (channels, 1, steps).

        Raises:
            InputError: the rows are images.
        """
        if ends.image_shape is not None and not is_series(ends.image_shape):
            channels, height, width = ends.image_shape
            raise InputError(
                f"network={self!r} reads rows as series, and these are images of {height} x {width} with "
                f"{channels} channels; use Convolutional, or layout='ntc' if they are series"
            )
        return super().image_shape(ends)


@dataclass(frozen=True, repr=False)
class LISTA(BuiltInNetwork):
    """Encoder of unrolled steps of sparse inference with learned weights, and a linear decoder.

    Before training the encoder takes `n_steps` steps of ISTA over the initial dictionary.

    Args:
        n_steps: steps; with one step it is one layer.
        threshold: weight of the L1 norm in the initial steps. None is the weight of the sparsity in
            `PredictiveSparseDecomposition`, and 0.1 in other kinds.
        non_negative: codes are h >= 0.

    Raises:
        InputError: a count below 1, or a threshold that is not above 0; at `fit`, a likelihood with more than one
            parameter for a column, or the mask as an input.

    Source: Gregor & LeCun, Learning fast approximations of sparse coding (2010).

    Example:
        >>> from isthmus import LISTA
        >>> LISTA(n_steps=5)
        LISTA(n_steps=5)
    """

    n_steps: int = 3
    threshold: float | None = None
    non_negative: bool = False

    takes_mask: ClassVar[bool] = False

    def check(self) -> None:
        """Refuse a count below 1, and a threshold that is not above 0."""
        check_count("LISTA: n_steps", self.n_steps)
        if self.threshold is not None:
            check_positive("LISTA: threshold", self.threshold)

    def with_sizes(self, hidden_sizes: tuple[int, ...] | None, dense_sizes: tuple[int, ...] | None) -> Self:
        """Return the value: it has no hidden layers."""
        return self

    def build(self, ends: Ends, generator: Generator) -> EncoderDecoder:
        """Return encoder and decoder."""
        if ends.n_inputs != ends.n_columns or ends.likelihood.n_parameters != ends.n_columns:
            raise InputError(
                f"network={self!r} has one input and one output for each column; leave the mask of missing entries and "
                "learned variances out, or use network='mlp'"
            )
        decoder = networks.MLP((ends.code_size, ends.n_columns), generator=generator)
        weight = decoder.affine_maps[0].weight
        normalise(weight)
        threshold = DEFAULT_THRESHOLD if self.threshold is None else self.threshold
        encoder = lista.LISTA(weight.T, threshold, n_steps=self.n_steps, non_negative=self.non_negative)
        return EncoderDecoder(encoder, decoder, ())


@dataclass(frozen=True, repr=False)
class FeatureMaps(BuiltInNetwork):
    """Filters at every position of a row: an encoder of one convolution, and its transpose as a linear decoder.

    The code is the maps of all filters, (maps, *positions) as one vector, so that `code_size` follows from the sizes:
    leave it out. Images have filters of height and width, series of steps, and each filter reads all channels. Other
    rows are one axis, or have the axes `shape`. The two convolutions have weights of their own, and nothing between
    them: in `PredictiveSparseDecomposition` this is convolutional sparse coding.

    Args:
        n_maps: number of filters.
        kernel_size: length of the filters along each axis, odd.
        stride: distance of neighbouring positions of a map. With 2, maps of images have a quarter of the units.
        shape: axes of rows that are given flat or as an array of layout "table": (steps,), (height, width) or
            (depth, height, width). None takes those of images and series, and one axis for other rows.

    Raises:
        InputError: a size below 1, an even kernel; at `fit`, a kernel that is longer than an axis, axes that do not
            have as many values as a row, `shape` for images or series, another `code_size`, the mask as an input, or a
            likelihood with more than one parameter for a column.

    Source: Kavukcuoglu, Sermanet, Boureau, Gregor, Mathieu & LeCun, Learning convolutional feature hierarchies for
    visual recognition (2010), section 2.

    Example:
        >>> from isthmus import FeatureMaps
        >>> FeatureMaps(32, kernel_size=9, stride=2)
        FeatureMaps(n_maps=32, kernel_size=9, stride=2)
    """

    n_maps: int = 16
    kernel_size: int = 7
    stride: int = 1
    shape: Sequence[int] | None = None

    takes_mask: ClassVar[bool] = False

    def check(self) -> None:
        """Refuse sizes below 1, an even kernel, and a shape of more than three axes."""
        check_sizes("FeatureMaps: n_maps", (self.n_maps,))
        check_sizes("FeatureMaps: stride", (self.stride,))
        check_kernel_size(self.kernel_size)
        if self.shape is not None:
            check_sizes("FeatureMaps: shape", self.shape)
            if not 1 <= len(self.shape) <= 3:
                raise InputError(f"FeatureMaps: shape={tuple(self.shape)}: give one, two or three axes")

    def with_sizes(self, hidden_sizes: tuple[int, ...] | None, dense_sizes: tuple[int, ...] | None) -> Self:
        """Return the value: it has no hidden layers."""
        return self

    def grid(self, image_shape: tuple[int, int, int] | None, n_columns: int) -> FilterGrid:
        """Return the sizes for rows of a shape and a width.

        Raises:
            InputError: see the class.
        """
        if self.shape is None:
            return filter_grid(image_shape, n_columns, self.n_maps, self.kernel_size, self.stride)
        if image_shape is not None:
            raise InputError(
                f"network={self!r}: the rows are images or series, which have their own axes; leave shape out, or give "
                "layout='table'"
            )
        if math.prod(self.shape) != n_columns:
            raise InputError(
                f"network={self!r}: rows of {n_columns} columns in model space do not have the axes "
                f"{' x '.join(map(str, self.shape))}"
            )
        return FilterGrid((1, *self.shape), self.n_maps, self.kernel_size, self.stride)

    def code_size(self, image_shape: tuple[int, int, int] | None, n_columns: int) -> int:
        """Return the units of a code."""
        return self.grid(image_shape, n_columns).code_size

    def build(self, ends: Ends, generator: Generator) -> EncoderDecoder:
        """Return encoder and decoder; both start with the same filters, of half the norm in the encoder."""
        if ends.n_inputs != ends.n_columns or ends.likelihood.n_parameters != ends.n_columns:
            raise InputError(
                f"network={self!r} has one input and one output for each column; leave the mask of missing entries, "
                "targets, conditions and learned variances out, or use network='mlp'"
            )
        grid = self.grid(ends.image_shape, ends.n_columns)
        if ends.code_size != grid.code_size:
            raise InputError(
                f"code_size={ends.code_size}: {self!r} has a code of {grid.code_size} units, the positions of all "
                f"maps ({' x '.join(map(str, grid.maps_shape))}); leave code_size out"
            )
        filters = unit_filters(grid, generator)
        return EncoderDecoder(FilterEncoder(grid, INITIAL_RESPONSE * filters), FilterDecoder(grid, filters), ())


def _kernel_size(ends: Ends) -> int:
    """Return the default size of the kernels: 5 along the steps of series, else 3."""
    return 5 if ends.image_shape is not None and is_series(ends.image_shape) else 3


def perceptrons(
    n_inputs: int,
    hidden_sizes: tuple[int, ...],
    code_size: int,
    likelihood: Likelihood,
    *,
    tied: bool = False,
    code_activation: str = "linear",
    single_layer: bool = True,
    **options: Any,
) -> EncoderDecoder:
    """Return an MLP and its mirror, or with `tied` an MLP and its transpose.

    The weights of a single layer are initialised for its own activation, for sigmoids scaled by
    `SINGLE_LAYER_INIT_SCALE`: with the weights of linear units all sigmoids start near a half, and the first epochs
    are spent on separating them.

    Args:
        n_inputs: inputs of the encoder; twice the columns if the mask of observed entries is an input, too.
        hidden_sizes: units of the encoder's hidden layers, outermost first.
        code_size: units of the code.
        likelihood: the likelihood whose parameters the decoder returns.
        tied: the decoder uses the encoder's transposed weights.
        code_activation: activation of the code; one without its own initialisation scheme is initialised as "linear".
        single_layer: a single layer is trained alone, not together with others.
        options: activation, normalization, dropout and generator of `MLP`.

    Raises:
        InputError: tied weights with a likelihood that has more than one parameter per column, or with the mask as an
            input.
    """
    scheme = code_activation if not hidden_sizes and code_activation in INIT_SCHEMES else "linear"
    encoder = networks.MLP((n_inputs, *hidden_sizes, code_size), output_activation=scheme, **options)
    if single_layer and not hidden_sizes:
        encoder.affine_maps[0].weight.data.mul_(SINGLE_LAYER_INIT_SCALE.get(scheme, 1.0))
    if tied:
        check_tied_output(likelihood, n_inputs)
        return EncoderDecoder(encoder, TiedMLP(encoder), hidden_sizes)
    sizes = (code_size, *reversed(hidden_sizes), likelihood.n_parameters)
    return EncoderDecoder(encoder, networks.MLP(sizes, **options), hidden_sizes)


def convolutions(
    image_shape: tuple[int, int, int],
    output_shape: tuple[int, int, int],
    code_size: int,
    likelihood: Likelihood,
    *,
    channels: Sequence[int] | None,
    dense_sizes: Sequence[int] | None,
    **options: Any,
) -> EncoderDecoder:
    """Return a convolutional encoder and its mirror.

    Args:
        image_shape: (channels, height, width) of the encoder's input.
        output_shape: (channels, height, width) of the decoder's output.
        code_size: units of the code.
        likelihood: the likelihood whose parameters the decoder returns.
        channels: channels of each convolution; None chooses.
        dense_sizes: units of the dense layers after the convolutions; None chooses.
        options: activation, kernel_size, normalization, dropout and generator.

    Raises:
        InputError: a likelihood that has parameters of the whole row.
    """
    maps, dense = resolve_sizes(image_shape, code_size, channels, dense_sizes)
    per_pixel, rest = divmod(likelihood.n_parameters, likelihood.n_columns)
    if rest:
        raise InputError(
            f"likelihood={likelihood.name!r} has parameters of the whole row, which convolutions do not return; "
            "use perceptrons (kind 'deep', or network='mlp') with it, or likelihood='gaussian' here"
        )
    options |= {"channels": maps, "dense_sizes": dense}
    encoder = ConvolutionalEncoder(image_shape, code_size, **options)
    decoder = ConvolutionalDecoder(output_shape, code_size, per_pixel, **options)
    return EncoderDecoder(encoder, decoder, maps, dense)


def own_network(network: Network, ends: Ends, generator: Generator) -> EncoderDecoder:
    """Return the encoder and the decoder of a user's network.

    Raises:
        InputError: modules of other sizes.
    """
    encoder, decoder = build_pair(
        network, ends.n_inputs, ends.code_size, ends.likelihood.n_parameters, ends.image_shape, generator
    )
    return EncoderDecoder(encoder, decoder, ())


def check_tied_output(likelihood: Likelihood, n_inputs: int) -> None:
    """Refuse a likelihood that has not exactly one parameter for each input of the encoder."""
    if n_inputs != likelihood.n_columns:
        raise InputError(
            f"tied=True gives an output for each of the encoder's {n_inputs} inputs, and {likelihood.n_columns} "
            "columns are decoded: the mask is an input (corruption='missing'), or a target is decoded; give "
            "network=MLP(tied=False)"
        )
    if likelihood.n_parameters != n_inputs:
        raise InputError(
            f"tied=True gives {n_inputs} outputs, one for each input of the encoder, but likelihood "
            f"{likelihood.name!r} needs {likelihood.n_parameters} for {likelihood.n_columns} columns; "
            "use network=MLP(tied=False), or likelihood='gaussian'"
        )


class NetworkArgument(ValueArgument):
    """The argument `network`: strings may also be names of registered networks."""

    def expanded(self, given: Any) -> Any:
        """Return the value or the network of a name; values and networks as they are.

        Raises:
            InputError: an unknown name; an object without a method `build`.
        """
        if isinstance(given, str) and given not in self.values:
            return network_named(given)
        return super().expanded(given)

    def changed(self, given: Any, changes: Mapping[str, Any], accepted: Collection[str] | None = None) -> Any:
        """Return the network with other fields; a network of a user may be a dataclass.

        Raises:
            InputError: there is no such field.
        """
        network = self.expanded(given)
        is_own = not isinstance(network, Value) and is_dataclass(network) and not isinstance(network, type)
        if is_own and set(changes) <= {field.name for field in fields(network)}:
            return replace(network, **changes)
        return super().changed(given, changes, accepted)


NETWORK = NetworkArgument(
    "network",
    {
        "mlp": MLP(),
        "conv": Convolutional(),
        "conv1d": Convolutional1d(),
        "lista": LISTA(),
        "feature-maps": FeatureMaps(),
    },
    accepts=lambda given: isinstance(given, Network) and not isinstance(given, type),
    others="an object with a method build(n_inputs, code_size, n_outputs, image_shape, generator) that returns an "
    "encoder and a decoder",
    required=True,
)
"""The argument `network`."""
ARGUMENTS["network"] = NETWORK
