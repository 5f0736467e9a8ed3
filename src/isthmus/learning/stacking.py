"""Stacks of layers: deep autoencoders, their greedy and joint training, and the codes that layers are trained on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.precision import fast_products
from isthmus.learning.rows import Rows, sampled_batches
from isthmus.learning.supervision import Supervision, weighted
from isthmus.parts.carried import collected
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import Likelihood

MAX_CODE_BYTES = 2**28
"""Largest size of the codes of a layer in memory, in bytes; larger ones are mapped from a temporary file."""

ENCODE_BATCH_SIZE = 1024
"""Number of rows that are encoded together."""


class StackedEncoder(nn.Module):
    """Encoder of a stack: a_L = encoder_L(h_(L-1)),   h_k = s_k(encoder_k(h_(k-1))),   h_0 = x.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The parameters are shared with the layers.

    Args:
        layers: the layers, lowest first; the inference of each is a map.

    Source: Bengio et al., Greedy layer-wise training of deep networks (2007), section 3.
    """

    def __init__(self, layers: Sequence[Coder]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([layer.encoder for layer in layers])
        self.activations = nn.ModuleList([layer.code_activation for layer in layers[:-1]])

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Return the pre-activation a_L of the code."""
        first, *others = self.encoders
        preactivation = first(x, generator)
        for activation, encoder in zip(self.activations, others, strict=True):
            preactivation = encoder(activation(preactivation), generator)
        return cast(Tensor, preactivation)


class StackedDecoder(nn.Module):
    """Decoder of a stack: h_(k-1) = E[h_(k-1) | h_k] for k = L..2, then the parameters of p_1(x | h_1).

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters). The parameters are shared with the layers.

    Args:
        layers: the layers, lowest first.

    Source: Hinton & Salakhutdinov (2006), "unrolling"; Bengio et al. (2007), section 3.
    """

    def __init__(self, layers: Sequence[Coder]) -> None:
        super().__init__()
        self.decoders = nn.ModuleList([cast(nn.Module, layer.decoder) for layer in reversed(layers)])
        self.likelihoods = nn.ModuleList([layer.likelihood for layer in reversed(layers[1:])])

    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias of the lowest layer."""
        cast(Any, self.decoders[-1]).start_at(output)

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*draws batch parameters"]:
        """Return the parameters of p_1(x | h_1)."""
        *others, last = self.decoders
        units = code
        for decoder, likelihood in zip(others, self.likelihoods, strict=True):
            units = cast(Likelihood, likelihood).mean(decoder(units, generator))
        return cast(Tensor, last(units, generator))


def stacked_coder(layers: Sequence[Coder]) -> Coder:
    r"""Return the deep autoencoder of single-layer autoencoders: f = f_L ... f_1, g = g_1 ... g_L.

        g_k(h_k) = E[h_(k-1) | h_k],   h_0 = x

    The parameters are shared with the layers.

    Args:
        layers: the layers, lowest first; the likelihood of layer k > 1 models the code of layer k - 1.

    Source: Hinton & Salakhutdinov (2006); Bengio et al. (2007); DL book, section 14.3.

    Example:
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> first, second = (
        ...     Coder(EncoderMap(MLP((n, m), generator=generator), "sigmoid"), MLP((m, n), generator=generator),
        ...           likelihood_from({"name": name}, n))
        ...     for n, m, name in ((6, 4, "gaussian"), (4, 2, "bernoulli")))
        >>> coder, batch = stacked_coder([first, second]), Batch(torch.randn(3, 6, generator=generator))
        >>> torch.equal(coder.encode(batch).code, second.encode(Batch(first.encode(batch).code)).code)
        True
    """
    encoder = EncoderMap(StackedEncoder(layers), layers[-1].code_activation)
    return Coder(encoder, StackedDecoder(layers), layers[0].likelihood)


class LayeredObjective:
    """Mixin of objectives that train the layers of a stack: they initialize and project each layer."""

    layers: Sequence[Any]
    """The criteria of the layers, lowest first."""

    def prepare(self, rows: Rows) -> None:
        """Initialize each layer from the rows as the layers below, with their initial weights, encode them."""
        for layer, below in self._layer_rows(rows):
            layer.prepare(below)

    def prepare_statistics(self, rows: Rows) -> None:
        """Estimate what each layer needs besides its weights, from the rows as the layers below encode them."""
        for layer, below in self._layer_rows(rows):
            layer.prepare_statistics(below)

    def _layer_rows(self, rows: Rows) -> Iterator[tuple[Any, Rows]]:
        """Yield each layer, and some rows as the layers below encode them when the layer is yielded."""
        below = rows
        for layer in self.layers:
            yield layer, below
            with torch.no_grad():
                encoded = [(layer.coder.encode(batch).code, batch.weight) for batch in sampled_batches(below)]
            weights = [weight for _, weight in encoded if weight is not None]
            below = CodeRows(torch.cat([code for code, _ in encoded]), weights=torch.cat(weights) if weights else None)

    def project_gradient(self) -> None:
        """Project the gradient for the constraints of each layer."""
        for layer in self.layers:
            layer.project_gradient()

    def project(self) -> None:
        """Project the weights onto the constraints of each layer."""
        for layer in self.layers:
            layer.project()


class Stack(LayeredObjective, Reconstruction):
    r"""Criterion of the deep autoencoder that single-layer autoencoders form.

        J = E_x [ -log p_1(x | g_2(... g_L(f(x)))) ]

    The layers' corruption and penalties are not part of J, unless they are given as options.

    Args:
        layers: the criteria of the layers, lowest first.
        coder: the deep autoencoder; None is `stacked_coder` of the layers.
        options: arguments of `Reconstruction`.

    Source: Hinton & Salakhutdinov (2006); Bengio et al. (2007); DL book, sections 14.3 and 15.1.
    """

    def __init__(self, layers: Sequence[Reconstruction], coder: Coder | None = None, **options: Any) -> None:
        super().__init__(stacked_coder([layer.coder for layer in layers]) if coder is None else coder, **options)
        # nn.Module does not register modules inside a tuple, so that each parameter has one name; deepcopy copies them.
        self.layers = tuple(layers)

    def prepare_statistics(self, rows: Rows) -> None:
        """Estimate the statistics that the corruption needs; that of a layer is not a part of J."""
        Reconstruction.prepare_statistics(self, rows)


class JointStack(LayeredObjective, Reconstruction):
    r"""Criterion of a stack whose layers are trained jointly, each with its own corruption and penalties.

        J = E_x [ -log p_1(x | g(h_L)) ] + sum_k sum_i w_ki Omega_ki(h~_(k-1), h_k),
        h_k = f_k(h~_(k-1)),   h~_(k-1) ~ C_k(. | h_(k-1)),   h_0 = x

    The reconstruction term is that of the whole stack; the regularisation is that of each layer.

    Args:
        layers: the criteria of the layers, lowest first.
        coder: the deep autoencoder; None is `stacked_coder` of the layers.

    Source: Zhou et al., Is joint training better for deep auto-encoders? (2014), section 3.2.
    """

    def __init__(self, layers: Sequence[Reconstruction], coder: Coder | None = None) -> None:
        super().__init__(stacked_coder([layer.coder for layer in layers]) if coder is None else coder)
        self.layers = tuple(layers)
        self.corruptions = nn.ModuleList([layer.corruption for layer in layers if layer.corruption is not None])
        self.penalties = nn.ModuleDict(
            {
                f"layer_{number}_{name}": penalty
                for number, layer in enumerate(layers, 1)
                for name, penalty in layer.penalties.items()
            }
        )

    def climb(self, batch: Batch, progress: float, generator: torch.Generator | None) -> list[ForwardPass]:
        """Return the forward pass of each layer on the code of the layer below, lowest first."""
        outputs: list[ForwardPass] = []
        for layer in self.layers:
            outputs.append(layer(batch, generator, progress))
            batch = Batch(outputs[-1].code, weight=batch.weight)
        return outputs

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the reconstruction of the whole stack, (batch,), nats, and the weighted penalties of each layer."""
        outputs = self.climb(batch, progress, generator)
        top = outputs[-1]
        parameters = self.coder.decode(top.code, generator)
        whole = replace(outputs[0], preactivation=top.preactivation, code=top.code, parameters=parameters)
        terms = {"reconstruction": self.layers[0].nll(whole)}
        for number, (layer, output) in enumerate(zip(self.layers, outputs, strict=True), 1):
            for name, penalty in layer.penalties.items():
                terms[f"layer_{number}_{name}"] = penalty.weight * penalty(output, layer.coder, generator)
        return terms


class SimultaneousLayers(LayeredObjective, Objective):
    r"""Objective that trains the layers of a stack simultaneously, each by its own criterion.

        J = sum_k r_k J_k(h_(k-1)),   h_k = f_k(h_(k-1)) constant,   h_0 = x

    No gradient flows between layers. The input of a layer changes during training until the layer below has converged.

    Args:
        layers: the criteria of the layers, lowest first.
        rates: r_k, the learning rate of each layer relative to that of the phase, for SGD; None means 1 for all.

    Source: Bengio et al., Greedy layer-wise training of deep networks (2007), which trains the layers in turn.
    """

    def __init__(self, layers: Sequence[Objective], rates: Sequence[float] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.rates = [1.0] * len(layers) if rates is None else list(rates)

    def climb(self, batch: Batch) -> Iterator[tuple[int, Objective, Batch]]:
        """Yield the number of each layer, from 1, the layer, and its input batch."""
        for number, layer in enumerate(self.layers, 1):
            yield number, layer, batch
            if number < len(self.layers):
                with torch.no_grad():
                    batch = Batch(layer.coder.encode(batch).code, weight=batch.weight)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the terms of each layer times its rate."""
        return {
            f"layer_{number}_{name}": rate * term
            for rate, (number, layer, layer_input) in zip(self.rates, self.climb(batch), strict=True)
            for name, term in layer.criterion(layer_input, progress, generator).items()
        }

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """Return the sum of the monitors of the layers."""
        with collected():
            return torch.stack([layer.monitor(layer_input) for _, layer, layer_input in self.climb(batch)]).sum(0)


class SupervisedLayer(Supervision):
    r"""Objective that trains a layer as the hidden layer of a classifier, whose head is discarded afterwards.

        J = E[ -log p(y | V h + c) ] + w E[ -log p(x | h) ] + sum_i w_i Omega_i(x~, h),   h = f(x~),   x~ ~ C(. | x)

    The layer's corruption and penalties apply whether the reconstruction has a weight (w > 0) or not.

    The arguments are those of `Supervision`.

    Source: Bengio et al. (2007), section 4.2 (greedy layer-wise supervised training).
    """

    def prepare(self, rows: Rows) -> None:
        """Initialize the layer from the rows, as without labels."""
        self.unsupervised.prepare(rows)

    def prepare_statistics(self, rows: Rows) -> None:
        """Estimate what the layer needs besides its weights."""
        self.unsupervised.prepare_statistics(rows)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, "batch outputs"]:
        """Return the outputs of the classifier; the rows are corrupted where a generator is given."""
        corruption = cast(Reconstruction, self.unsupervised).corruption
        if corruption is not None and generator is not None:
            batch = replace(batch, x=corruption(batch.x, generator).x)
        return super().forward(batch, generator)

    def criterion(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return the cross-entropy, (batch,), the reconstruction times w if w > 0, and the weighted penalties."""
        assert batch.label is not None
        terms = {self.loss.name: self._mask_unlabelled(self.loss(self(batch, generator), batch.label), batch)}
        if self.reconstruction_weight > 0.0 or cast(Reconstruction, self.unsupervised).penalties:
            coder_terms = weighted(self.unsupervised.criterion(batch, progress, generator), batch.weight)
            reconstruction = self.reconstruction_weight * coder_terms.pop("reconstruction")
            terms |= {"reconstruction": reconstruction} if self.reconstruction_weight > 0.0 else {}
            terms |= coder_terms
        return terms


class CodeRows:
    """Data set of the codes of a layer.

    Args:
        codes: (n, units), in memory or mapped from disk.
        labels: (n,), the label of each row, if any.
        weights: (n,), the weight of each row, if any.
    """

    def __init__(
        self, codes: Float[Tensor, "n units"], labels: Tensor | None = None, weights: Float[Tensor, " n"] | None = None
    ) -> None:
        self.codes, self.labels, self.weights = codes, labels, weights
        self.n_columns = codes.shape[1]

    def __len__(self) -> int:
        return len(self.codes)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """Return the codes of the rows `index`."""
        label, weight = (None if part is None else part[index] for part in (self.labels, self.weights))
        return Batch(self.codes[index], rows=index, label=label, weight=weight)


class LayerInputs:
    """Views of the rows for the phases of a stack: the codes of the layers below, which are computed once.

    The codes of a layer are computed from the cached codes of the layer below, which are then released. So there are
    codes of at most two layers at a time for the training rows, and likewise for the validation rows. Codes of more
    than `MAX_CODE_BYTES` bytes are mapped from an unnamed file in the folder for temporary files, which is removed with
    them.

    Args:
        layers: the layers, lowest first.
        device: the device of the encoders.
    """

    def __init__(self, layers: Sequence[Coder], device: torch.device) -> None:
        self.layers, self.device = tuple(layers), device
        self._cached: dict[int, tuple[Rows, int, Rows]] = {}

    def view(self, n_below: int) -> Callable[[Rows], Rows]:
        """Return a function from the rows to the input of the layer that has `n_below` layers below it."""
        return partial(self.codes_of, n_below=n_below)

    def codes_of(self, rows: Rows, n_below: int) -> Rows:
        """Return the codes of `n_below` layers."""
        # The cache holds the rows too: an id is unique only while the object exists.
        _, level, codes = self._cached.get(id(rows), (rows, 0, rows))
        if level > n_below:
            level, codes = 0, rows
        for layer in self.layers[level:n_below]:
            codes = encode_rows(layer, codes, self.device)
        self._cached[id(rows)] = (rows, n_below, codes)
        return codes


@torch.no_grad()
def encode_rows(layer: Coder, rows: Rows, device: torch.device) -> CodeRows:
    """Encode rows with one layer, without corruption, in fp32; labels and weights are kept.

    Raises:
        InputError: the codes fit neither into memory nor on disk.
    """
    layer.to(device).eval()
    codes: Tensor | None = None
    labels: list[Tensor] = []
    weights: list[Tensor] = []
    try:
        with fast_products("fp32", device):
            for index in torch.arange(len(rows)).split(ENCODE_BATCH_SIZE):
                batch = rows.batch(index)
                code = layer.encode(batch.to(device)).code
                codes = allocate_codes(len(rows), code.shape[1]) if codes is None else codes
                codes[index[0] : index[0] + len(index)] = code.cpu()
                labels += [] if batch.label is None else [batch.label]
                weights += [] if batch.weight is None else [batch.weight]
    finally:  # after Ctrl-C too: the fitted model is on the CPU
        layer.to("cpu")
    assert codes is not None
    return CodeRows(codes, torch.cat(labels) if labels else None, torch.cat(weights) if weights else None)


def allocate_codes(n_rows: int, n_units: int) -> Float[Tensor, "n_rows n_units"]:
    """Return an empty float32 tensor, mapped from disk where it is larger than `MAX_CODE_BYTES`.

    Raises:
        InputError: the disk is full.
    """
    n_bytes = 4 * n_rows * n_units
    if n_bytes <= MAX_CODE_BYTES:
        return torch.empty(n_rows, n_units)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)  # raise for a full disk here, not by a signal later
            return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(n_rows, n_units)))
    except OSError as error:
        raise InputError(
            f"the codes of a layer need {n_bytes / 2**30:.2f} GiB, more than is free in {tempfile.gettempdir()} "
            f"({error.strerror or error}); set TMPDIR to a folder with enough space, or make the layer smaller"
        ) from None
