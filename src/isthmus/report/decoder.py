"""Export of a decoder to a JSON record that a page evaluates without a network, and its evaluation in Python.

    h_l = f_l( norm( s_l (Q_l h_(l-1)) + b_l ) ),   l = 1..n,   x = m(h_n),   raw = g( scale x + offset )

Q_l are 8-bit integers and s_l one scale for each row of the weights, so that the weights are s_l Q_l. m is the mean of
the likelihood. Batch normalisation in evaluation mode is part of s_l and b_l. g is the identity, or of a column that is
scaled by quantiles the way from normal scores to values, piecewise linear.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import erf, expit, softmax
from torch import Tensor, nn

from isthmus.data.preprocessing import Preprocessor
from isthmus.data.quantiles import QuantileMap, interpolated
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.learning.stacking import StackedDecoder
from isthmus.learning.unrolling import UnrolledDecoder, UntiedRBMDecoder
from isthmus.parts.belief_networks import GenerativeNetwork
from isthmus.parts.convolutions import ConvolutionalDecoder
from isthmus.parts.energies import RBMDecoder
from isthmus.parts.filter_maps import FilterDecoder
from isthmus.parts.layers import ACTIVATIONS, BatchNormalization, Dropout
from isthmus.parts.likelihood_binary import Bernoulli, ContinuousBernoulli
from isthmus.parts.likelihood_counts import LOG_RATE_BOUND, Categorical, Multinomial, Poisson
from isthmus.parts.likelihood_gaussians import (
    Gaussian,
    GaussianLearned,
    GaussianPerColumn,
    GaussianPredicted,
    GaussianUnit,
    MixtureDensity,
)
from isthmus.parts.likelihood_tables import Mixed, counts_of
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.mean_field import DBMDecoder
from isthmus.parts.networks import MLP, TiedMLP

MAX_BYTES = 8_000_000
"""Largest size of the weights of a decoder that is exported, in bytes."""

MAX_POINTS = 100
"""Largest number of points of the piecewise linear way back of a column."""

LARGEST = 127
"""Largest magnitude of a quantised weight."""

BATCH_NORM_EPSILON = 1e-5
"""The term under the square root of batch normalisation."""

_NAMES = {module: name for name, module in ACTIVATIONS.items()}

_FUNCTIONS: dict[type, str] = {
    Gaussian: "identity", GaussianLearned: "identity", GaussianPerColumn: "identity", GaussianPredicted: "identity",
    GaussianUnit: "sigmoid", Bernoulli: "sigmoid", ContinuousBernoulli: "continuous-bernoulli",
    Multinomial: "softmax", Poisson: "rate", MixtureDensity: "mixture",
}  # fmt: skip
"""The mean of a likelihood as a function of all outputs of the decoder."""

_UNIT_FUNCTIONS = {"real": "identity", "binary": "sigmoid", "categorical": "softmax", "count": "rate"}


@dataclass(frozen=True)
class DenseLayer:
    """One layer of a decoder: an affine map, layer normalisation if there are a gain and a shift, an activation.

    Attributes:
        weight: (outputs, inputs).
        bias: (outputs,).
        row_gain: (outputs,), the factor of each row of the weight; batch normalisation sets it.
        activation: a name in `ACTIVATIONS`.
        norm: gain (outputs,), shift (outputs,) and epsilon of layer normalisation; None without it.
    """

    weight: Float[Tensor, "outputs inputs"]
    bias: Float[Tensor, " outputs"]
    row_gain: Float[Tensor, " outputs"]
    activation: str = "linear"
    norm: tuple[Tensor, Tensor, float] | None = None

    @classmethod
    def affine(cls, weight: Tensor, bias: Tensor | None) -> DenseLayer:
        """Return the layer of an affine map; a missing bias is zero."""
        ones = torch.ones_like(weight[:, 0])
        return cls(weight, torch.zeros_like(ones) if bias is None else bias, ones)

    def followed_by(self, module: nn.Module) -> DenseLayer:
        """Return the layer with a normalisation or an activation after it.

        Raises:
            InputError: the module is of another type.
        """
        if isinstance(module, Dropout) or type(module) is nn.Identity:
            return self
        if type(module) in _NAMES:
            return replace(self, activation=_NAMES[cast(Any, type(module))])
        if isinstance(module, BatchNormalization):
            gain = module.weight / (module.running_variance + BATCH_NORM_EPSILON).sqrt()
            shifted = gain * (self.bias - module.running_mean) + module.bias
            return replace(self, row_gain=self.row_gain * gain, bias=shifted)
        if isinstance(module, nn.LayerNorm):
            return replace(self, norm=(module.weight, module.bias, module.eps))
        raise InputError(f"its decoder has a layer {type(module).__name__}, which the page cannot compute")


@torch.no_grad()
def decoder_record(model: BaseAutoencoder) -> dict[str, Any]:
    """Export the decoder of a model, with the mean of its likelihood and the way back to the user's units.

    The record has JSON types only. Arrays are base64 texts of little-endian numbers: weights int8, offset, scale and
    quantiles float64, all others float32.

    Args:
        model: a fitted estimator.

    Returns:
        A dictionary for `dequantised` and `restored`: layers, mean, offset, scale, quantiles, rounded, n_columns,
        code_size.

    Raises:
        InputError: the decoder or the likelihood cannot be exported, or the weights exceed `MAX_BYTES`. The message is
            the reason, a clause such as "its decoder is convolutional".

    Example:
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).normal(size=(30, 4))
        >>> model = Autoencoder(code_size=2, hidden_sizes=(8,), max_epochs=1, random_state=0).fit(X)
        >>> record = decoder_record(model)
        >>> [(layer["inputs"], layer["outputs"], layer["activation"]) for layer in record["layers"]]
        [(2, 8, 'silu'), (8, 4, 'linear')]
    """
    likelihood, preprocessing = model.coder_.likelihood, model.preprocessing_
    mean, n_needed = mean_record(likelihood)
    layers = dense_layers(model.coder_.decoder)
    layers[-1] = _first_outputs(layers[-1], n_needed)
    _check_size(layers)
    return {
        "layers": [_layer_record(layer) for layer in layers],
        "mean": mean,
        "n_columns": likelihood.n_columns,
        "code_size": model.code_size_,
        **_units_record(preprocessing),
    }


def dense_layers(decoder: Any) -> list[DenseLayer]:
    """Return the layers of a decoder in evaluation mode, from the code to the outputs.

    Args:
        decoder: a decoder of `isthmus.parts` whose layers are affine maps with a normalisation and an activation.

    Raises:
        InputError: the decoder is of another type; the message is the reason.

    Example:
        >>> decoder = MLP((2, 3, 4), "tanh", generator=torch.Generator().manual_seed(0))
        >>> [(tuple(layer.weight.shape), layer.activation) for layer in dense_layers(decoder)]
        [((3, 2), 'tanh'), ((4, 3), 'linear')]
    """
    if type(decoder) is MLP:
        return _from_modules(decoder.layers)
    if type(decoder) is TiedMLP:
        return _of_tied(decoder)
    if type(decoder) is RBMDecoder:
        return [DenseLayer.affine(decoder.rbm.weight.t(), decoder.rbm.visible_bias)]
    if type(decoder) is GenerativeNetwork:
        return _of_belief_network(decoder)
    if type(decoder) is DBMDecoder:
        return _of_dbm(decoder)
    if type(decoder) is UntiedRBMDecoder:
        return [DenseLayer.affine(decoder.weight, decoder.rbm.visible_bias)]
    if type(decoder) in (StackedDecoder, UnrolledDecoder):
        return _of_stack(decoder)
    if isinstance(decoder, ConvolutionalDecoder | FilterDecoder):
        raise InputError("its decoder is convolutional")
    raise InputError(f"its decoder, {_title(decoder)}, is not a network of the package")


def _title(decoder: Any) -> str:
    return type(getattr(decoder, "module", decoder)).__name__


def _from_modules(modules: Iterable[nn.Module]) -> list[DenseLayer]:
    """Return the layers of a sequence of affine maps, each followed by normalisation, activation and dropout."""
    layers: list[DenseLayer] = []
    for module in modules:
        if isinstance(module, nn.Linear):
            layers.append(DenseLayer.affine(module.weight, module.bias))
        else:
            layers[-1] = layers[-1].followed_by(module)
    return layers


def _of_tied(decoder: TiedMLP) -> list[DenseLayer]:
    weights = decoder._weights()
    biases = [*[None] * (len(weights) - len(decoder.biases)), *decoder.biases]
    finishes: list[Iterable[nn.Module]] = [*(cast(nn.Sequential, finish) for finish in decoder.finishes), ()]
    layers = []
    for weight, bias, finish in zip(weights, biases, finishes, strict=True):
        layer = DenseLayer.affine(weight, bias)
        for module in finish:
            layer = layer.followed_by(module)
        layers.append(layer)
    return layers


def _of_belief_network(decoder: GenerativeNetwork) -> list[DenseLayer]:
    """Return the top RBM downwards, then the directed layers; all units between are sigmoid."""
    top = decoder._rbms[-1]
    layers = [DenseLayer.affine(top.weight.t(), top.visible_bias)]
    if decoder.directed_layers:
        layers[0] = replace(layers[0], activation=_elementwise(top.likelihood))
    for k, directed in reversed(list(enumerate(decoder.directed_layers))):
        layer = DenseLayer.affine(directed.weight, directed.bias)
        layers.append(replace(layer, activation="sigmoid") if k else layer)
    return layers


def _of_dbm(decoder: DBMDecoder) -> list[DenseLayer]:
    """Return the downward pass of a deep Boltzmann machine, whose inputs from above are doubled."""
    energy = decoder._dbm[0]
    layers = []
    for k in reversed(range(energy.n_layers)):
        factor, activation = (2.0, "sigmoid") if k else (1.0, "linear")
        layer = DenseLayer.affine(factor * energy.weights[k].t(), energy.biases[k])
        layers.append(replace(layer, activation=activation))
    return layers


def _of_stack(decoder: StackedDecoder) -> list[DenseLayer]:
    """Return the layers of all decoders; the mean of a likelihood between two of them is an activation."""
    layers: list[DenseLayer] = []
    for part, likelihood in zip(decoder.decoders, [*decoder.likelihoods, None], strict=True):
        *others, last = dense_layers(part)
        if likelihood is not None:
            n_units = cast(Likelihood, likelihood).n_columns
            last = replace(_first_outputs(last, n_units), activation=_elementwise(likelihood))
        layers += [*others, last]
    return layers


def _elementwise(likelihood: Any) -> str:
    """Return the activation that is the mean of a likelihood of units.

    Raises:
        InputError: no activation has this value.
    """
    function = _FUNCTIONS.get(type(likelihood))
    if function not in ("identity", "sigmoid"):
        raise InputError(f"its layers have a likelihood {likelihood.name}, which the page cannot compute")
    return "linear" if function == "identity" else function


def _first_outputs(layer: DenseLayer, n: int) -> DenseLayer:
    """Return the last layer with its first n outputs; the others are parameters that the mean does not use."""
    return replace(layer, weight=layer.weight[:n], bias=layer.bias[:n], row_gain=layer.row_gain[:n])


def mean_record(likelihood: Likelihood) -> tuple[list[dict[str, Any]], int]:
    """Return the mean of a likelihood as functions of groups of columns, and the number of outputs that it needs.

    A function of all columns has the columns None.

    Raises:
        InputError: the likelihood is not one of the package.

    Example:
        >>> mean_record(Categorical(3, [[0, 1], [2]]))
        ([{'function': 'softmax', 'columns': [0, 1]}, {'function': 'softmax', 'columns': [2]}], 3)
    """
    n = likelihood.n_columns
    if type(likelihood) is Mixed:
        return [_group_record(group) for group in likelihood.groups], n
    if type(likelihood) is Categorical:
        return [{"function": "softmax", "columns": columns} for columns in likelihood.groups], n
    if type(likelihood) not in _FUNCTIONS:
        raise InputError(f"the page cannot compute the mean of its likelihood {likelihood.name}")
    whole: dict[str, Any] = {"function": _FUNCTIONS[type(likelihood)], "columns": None}
    if isinstance(likelihood, Poisson) and likelihood.log_largest_mean is not None:
        whole["bounds"] = likelihood.log_largest_mean.tolist()
    if isinstance(likelihood, MixtureDensity):
        k = likelihood.n_components
        return [{**whole, "n_components": k}], k + k * n
    return [whole], n


def _group_record(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the mean of a group of columns of one unit; of counts with bounds also the logarithms of these."""
    record = {"function": _UNIT_FUNCTIONS[group["unit"]], "columns": group["columns"]}
    if "largest" in group:
        record["bounds"] = counts_of([group]).log_largest_mean.tolist()  # type: ignore[union-attr]
    return record


def _check_size(layers: list[DenseLayer]) -> None:
    n_weights = sum(layer.weight.numel() for layer in layers)
    n_rows = sum(len(layer.weight) for layer in layers)
    if n_weights + 8 * n_rows > MAX_BYTES:
        raise InputError(f"its decoder has {n_weights:,} weights; at most {MAX_BYTES // 10**6} MB fit in the page")


def _layer_record(layer: DenseLayer) -> dict[str, Any]:
    quantised, scales = quantise(layer.weight.cpu().numpy())
    record: dict[str, Any] = {
        "outputs": len(quantised),
        "inputs": quantised.shape[1],
        "weights": encode(quantised, "i1"),
        "scales": encode(scales * layer.row_gain.cpu().numpy(), "<f4"),
        "bias": encode(layer.bias.cpu().numpy(), "<f4"),
        "activation": layer.activation,
    }
    if layer.norm is not None:
        gain, shift, epsilon = layer.norm
        record["norm"] = {
            "gain": encode(gain.cpu().numpy(), "<f4"), "shift": encode(shift.cpu().numpy(), "<f4"), "epsilon": epsilon,
        }  # fmt: skip
    return record


def quantise(
    weight: Float[np.ndarray, "outputs inputs"],
) -> tuple[Float[np.ndarray, "outputs inputs"], Float[np.ndarray, " outputs"]]:
    """Round weights to int8 with one scale per row: w is about scale * q, with q from -127 to 127.

    Args:
        weight: (outputs, inputs).

    Returns:
        q, int8 (outputs, inputs), and the scales, float32 (outputs,); a row of zeros has the scale 0.

    Example:
        >>> quantised, scales = quantise(np.array([[1.0, -0.5], [0.0, 0.0]]))
        >>> quantised.tolist(), (scales * 127).tolist()
        ([[127, -64], [0, 0]], [1.0, 0.0])
    """
    scales = (np.abs(weight).max(axis=1, initial=0.0) / LARGEST).astype(np.float32)
    quantised = np.rint(weight / np.where(scales > 0, scales, 1.0)[:, None])
    return np.clip(quantised, -LARGEST, LARGEST).astype(np.int8), scales


def _units_record(preprocessing: Preprocessor) -> dict[str, Any]:
    """Return the way back to the user's units, and whether values are rounded to bytes.

    It is offset and scale, and of columns that are scaled by quantiles at most `MAX_POINTS` points of the inverse map.
    """
    return {
        "offset": encode(preprocessing.offset, "<f8"),
        "scale": encode(preprocessing.scale, "<f8"),
        "quantiles": [_map_record(column, of_column) for column, of_column in preprocessing.quantiles.items()],
        "rounded": preprocessing.dtype == "uint8",
    }


def _map_record(column: int, of_column: QuantileMap) -> dict[str, Any]:
    scores, values = of_column.few_points(MAX_POINTS)
    return {
        "column": column, "scores": encode(scores, "<f8"), "values": encode(values, "<f8"),
        "slopes": list(of_column.slopes),
    }  # fmt: skip


def encode(values: np.ndarray, dtype: str) -> str:
    """Encode numbers as base64.

    Args:
        values: an array of any shape, read row by row.
        dtype: the type of the numbers: "i1", "<f4" or "<f8".

    Example:
        >>> decode(encode(np.array([1.0, 2.0]), "<f4"), "<f4").tolist()
        [1.0, 2.0]
    """
    return base64.b64encode(np.ascontiguousarray(values, np.dtype(dtype)).tobytes()).decode()


def decode(text: str, dtype: str) -> np.ndarray:
    """Decode numbers from base64, as float64."""
    return np.frombuffer(base64.b64decode(text), np.dtype(dtype)).astype(np.float64)


def dequantised(record: dict[str, Any], codes: Float[np.ndarray, "rows inputs"]) -> Float[np.ndarray, "rows n_columns"]:
    """Evaluate a record: decode codes to the mean of p_dec(x | h), in model space.

    The computation is in float64 and is that of the page.

    Args:
        record: the result of `decoder_record`.
        codes: (rows, code_size), of a conditional model each followed by its condition.

    Returns:
        The means, (rows, n_columns), float64.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(30, 4))
        >>> model = LinearAutoencoder(code_size=2, max_epochs=1, random_state=0).fit(X)
        >>> dequantised(decoder_record(model), np.zeros((5, 2))).shape
        (5, 4)
    """
    units = np.asarray(codes, np.float64)
    for layer in record["layers"]:
        units = _apply(layer, units)
    means = np.empty((len(units), record["n_columns"]))
    for part in record["mean"]:
        columns = slice(None) if part["columns"] is None else part["columns"]
        means[:, columns] = _mean(part, units if part["columns"] is None else units[:, columns])
    return means


def restored(record: dict[str, Any], means: Float[np.ndarray, "rows n_columns"]) -> Float[np.ndarray, "rows n_columns"]:
    """Return rows of model space in the raw numbers of the user's units, as the page computes them.

    Columns that are scaled by quantiles differ from `Preprocessor.raw_numbers` by the points that the record omits.

    Args:
        record: the result of `decoder_record`.
        means: (rows, n_columns), in model space.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(5, 1, size=(30, 4))
        >>> model = LinearAutoencoder(code_size=2, max_epochs=1, random_state=0).fit(X)
        >>> np.allclose(restored(decoder_record(model), np.zeros((1, 4))), X.mean(0))
        True
    """
    raw = means * decode(record["scale"], "<f8") + decode(record["offset"], "<f8")
    for part in record["quantiles"]:
        scores, values = (decode(part[name], "<f8") for name in ("scores", "values"))
        raw[:, part["column"]] = interpolated(raw[:, part["column"]], scores, values, part["slopes"])
    return np.clip(np.rint(raw), 0, 255) if record["rounded"] else raw


def _apply(layer: dict[str, Any], inputs: np.ndarray) -> np.ndarray:
    weights = decode(layer["weights"], "i1").reshape(layer["outputs"], layer["inputs"])
    units = (inputs @ weights.T) * decode(layer["scales"], "<f4") + decode(layer["bias"], "<f4")
    if "norm" in layer:
        norm = layer["norm"]
        centred = units - units.mean(1, keepdims=True)
        spread = np.sqrt((centred**2).mean(1, keepdims=True) + norm["epsilon"])
        units = centred / spread * decode(norm["gain"], "<f4") + decode(norm["shift"], "<f4")
    return _ACTIVATION_FUNCTIONS[layer["activation"]](units)


_ACTIVATION_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda a: a,
    "relu": lambda a: np.maximum(a, 0.0),
    "sigmoid": expit,
    "tanh": np.tanh,
    "gelu": lambda a: a * 0.5 * (1.0 + erf(a / np.sqrt(2.0))),
    "silu": lambda a: a * expit(a),
    "softplus": lambda a: np.logaddexp(a, 0.0),
}


def _mean(part: dict[str, Any], parameters: np.ndarray) -> np.ndarray:
    if part["function"] == "mixture":
        k = part["n_components"]
        means = parameters[:, k:].reshape(len(parameters), k, -1)
        return np.einsum("rk,rkc->rc", softmax(parameters[:, :k], axis=1), means)
    if "bounds" in part:
        bounds = np.asarray(part["bounds"])
        return np.exp(bounds - np.logaddexp(bounds - _log_rate(parameters), 0.0))
    return _MEAN_FUNCTIONS[part["function"]](parameters)


def _log_rate(parameters: np.ndarray) -> np.ndarray:
    bounded: np.ndarray = LOG_RATE_BOUND * np.tanh(parameters / LOG_RATE_BOUND)
    return bounded


def _continuous_bernoulli_mean(logits: np.ndarray) -> np.ndarray:
    """Compute 1/2 + (coth(l / 2) - 2 / l) / 2; near zero, the first terms of its series."""
    near = np.abs(logits) < 0.1
    safe = np.where(near, 1.0, logits)
    series = 0.5 + logits / 12 - logits**3 / 720
    return np.where(near, series, 0.5 + 0.5 / np.tanh(safe / 2) - 1 / safe)


_MEAN_FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda a: a,
    "sigmoid": expit,
    "softmax": lambda a: softmax(a, axis=1),
    "rate": lambda a: np.exp(_log_rate(a)),
    "continuous-bernoulli": _continuous_bernoulli_mean,
}
