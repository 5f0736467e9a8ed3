"""Layers that learn one after the other, each on the codes of the layers below, and the deep autoencoder they make."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.precision import fast_products
from isthmus.learning.rows import Rows, sampled_batches
from isthmus.learning.supervision import Supervision
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.likelihoods import Likelihood

MAX_CODE_BYTES = 2**28
"""Bytes of the codes of one layer that may stand in memory; more are mapped from a temporary file."""

ENCODE_BATCH_SIZE = 1024
"""Rows that are encoded at once."""


class StackedEncoder(nn.Module):
    """a_L = encoder_L(h_(L-1)),   h_k = s_k(encoder_k(h_(k-1))),   h_0 = x; gives a_L.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The parameters are those of the layers.

    Args:
        layers: lowest first.

    Source: Bengio et al., Greedy layer-wise training of deep networks (2007), section 3.
    """

    def __init__(self, layers: Sequence[Reconstruction]) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([layer.encoder for layer in layers])
        self.activations = nn.ModuleList([layer.code_activation for layer in layers[:-1]])

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Map rows to the pre-activation of the code."""
        first, *others = self.encoders
        preactivation = first(x, generator)
        for activation, encoder in zip(self.activations, others, strict=True):
            preactivation = encoder(activation(preactivation), generator)
        return cast(Tensor, preactivation)


class StackedDecoder(nn.Module):
    """h_(k-1) = E[h_(k-1) | h_k] by decoder and likelihood of layer k, k = L..2; gives the parameters of p_1(x | h_1).

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters). The parameters are those of the layers.

    Args:
        layers: lowest first.

    Source: Hinton & Salakhutdinov (2006), "unrolling"; Bengio et al. (2007), section 3.
    """

    def __init__(self, layers: Sequence[Reconstruction]) -> None:
        super().__init__()
        self.decoders = nn.ModuleList([cast(nn.Module, layer.decoder) for layer in reversed(layers)])
        self.likelihoods = nn.ModuleList([layer.likelihood for layer in reversed(layers[1:])])

    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the last bias of the lowest layer."""
        cast(Any, self.decoders[-1]).start_at(output)

    def forward(
        self, code: Float[Tensor, "*draws batch code_size"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*draws batch parameters"]:
        """Map codes down."""
        *others, last = self.decoders
        units = code
        for decoder, likelihood in zip(others, self.likelihoods, strict=True):
            units = cast(Likelihood, likelihood).mean(decoder(units, generator))
        return cast(Tensor, last(units, generator))


class Stack(Reconstruction):
    r"""One deep autoencoder of several of one layer, whose parameters it shares: f = f_L ... f_1, g = g_1 ... g_L.

        J = E_x [ -log p_1(x | g_2(... g_L(f(x)))) ],   g_k(h_k) = E[h_(k-1) | h_k]

    What a layer learns, the stack has learned; the layers' corruption and penalties are no part of J.

    Args:
        layers: lowest first; the likelihood of each, but of the first, is of the code of the one below.

    Source: Hinton & Salakhutdinov (2006); Bengio et al. (2007); DL book, sections 14.3 and 15.1.

    Example:
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> first, second = (
        ...     Reconstruction(MLP((n, m), generator=generator), MLP((m, n), generator=generator),
        ...                    likelihood_from({"name": name}, n), "sigmoid")
        ...     for n, m, name in ((6, 4, "gaussian"), (4, 2, "bernoulli")))
        >>> stack, batch = Stack([first, second]), Batch(torch.randn(3, 6, generator=generator))
        >>> code = stack.encode(batch)[1]
        >>> torch.equal(code, second.encode(Batch(first.encode(batch)[1]))[1])
        True
    """

    def __init__(self, layers: Sequence[Reconstruction]) -> None:
        last = layers[-1].code_activation
        super().__init__(StackedEncoder(layers), StackedDecoder(layers), layers[0].likelihood, last)
        # In a tuple, nn.Module does not register them, so that each parameter has one name; deepcopy follows it.
        self._layers = tuple(layers)

    @property
    def layers(self) -> tuple[Reconstruction, ...]:
        """The layers, lowest first."""
        return self._layers

    def prepare(self, rows: Rows) -> None:
        """Begin every layer at the mean of what it will see, the layers below being as they were drawn."""
        prepare_layers(self.layers, rows)

    def project_gradient(self) -> None:
        """The constraints of the layers hold while they learn together."""
        for layer in self.layers:
            layer.project_gradient()

    def project(self) -> None:
        """The constraints of the layers hold while they learn together."""
        for layer in self.layers:
            layer.project()


class JointStack(Stack):
    r"""The layers of a stack learned together, each with its own corruption and penalties at its place in the chain.

        J = E_x [ -log p_1(x | g(h_L)) ] + sum_k sum_i w_ki Omega_ki(h~_(k-1), h_k),
        h_k = f_k(h~_(k-1)),   h~_(k-1) ~ C_k(. | h_(k-1)),   h_0 = x

    The reconstruction is of the whole; what regularises is local.

    Args:
        layers: lowest first.

    Source: Zhou et al., Is joint training better for deep auto-encoders? (2014), section 3.2.
    """

    def __init__(self, layers: Sequence[Reconstruction]) -> None:
        super().__init__(layers)
        self.corruptions = nn.ModuleList([layer.corruption for layer in layers if layer.corruption is not None])
        self.penalties = nn.ModuleDict(
            {
                f"layer_{number}_{name}": penalty
                for number, layer in enumerate(layers, 1)
                for name, penalty in layer.penalties.items()
            }
        )

    def climb(self, batch: Batch, progress: float, generator: torch.Generator | None) -> list[ForwardPass]:
        """The trip of each layer, lowest first, each on the code of the one below."""
        outputs: list[ForwardPass] = []
        for layer in self.layers:
            outputs.append(layer(batch, progress, generator))
            batch = Batch(outputs[-1].code)
        return outputs

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The reconstruction by the whole, (batch,), nats, and each layer's penalties times their weights."""
        outputs = self.climb(batch, progress, generator)
        top = outputs[-1]
        parameters = self.decoder(top.code, generator)
        whole = replace(outputs[0], preactivation=top.preactivation, code=top.code, parameters=parameters)
        terms = {"reconstruction": self.layers[0].nll(whole)}
        for number, (layer, output) in enumerate(zip(self.layers, outputs, strict=True), 1):
            for name, penalty in layer.penalties.items():
                terms[f"layer_{number}_{name}"] = penalty.weight * penalty(output, layer, generator)
        return terms


class SimultaneousLayers(Objective):
    r"""The layers of a stack at the same time, each by its own criterion on the codes of the one below.

        J = sum_k r_k J_k(h_(k-1)),   h_k = f_k(h_(k-1)) held,   h_0 = x

    No gradient goes from layer to layer; what a layer is given moves while it learns, until the one below has settled.

    Args:
        layers: lowest first.
        rates: r_k, the learning rate of each beside the phase's under plain steps; None is 1 for all.

    Source: Bengio et al., Greedy layer-wise training of deep networks (2007), which learns layers in turn and compares.
    """

    def __init__(self, layers: Sequence[Reconstruction], rates: Sequence[float] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.rates = [1.0] * len(layers) if rates is None else list(rates)

    def climb(self, batch: Batch) -> Iterator[tuple[int, Reconstruction, Batch]]:
        """The number of each layer, from 1, the layer, and what it sees of the batch."""
        for number, module in enumerate(self.layers, 1):
            layer = cast(Reconstruction, module)
            yield number, layer, batch
            if number < len(self.layers):
                with torch.no_grad():
                    batch = Batch(layer.encode(batch)[1])

    def prepare(self, rows: Rows) -> None:
        """Begin every layer at the mean of what it sees first."""
        prepare_layers([cast(Reconstruction, layer) for layer in self.layers], rows)

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The terms of each layer times its rate."""
        return {
            f"layer_{number}_{name}": rate * term
            for rate, (number, layer, seen) in zip(self.rates, self.climb(batch), strict=True)
            for name, term in layer.terms(seen, progress, generator).items()
        }

    def monitor(self, batch: Batch) -> Float[Tensor, " batch"]:
        """The sum of what one looks at of each layer."""
        return torch.stack([layer.monitor(seen) for _, layer, seen in self.climb(batch)]).sum(0)

    def project_gradient(self) -> None:
        """What each layer asks of its gradient."""
        for layer in self.layers:
            cast(Reconstruction, layer).project_gradient()

    def project(self) -> None:
        """Each layer's constraints."""
        for layer in self.layers:
            cast(Reconstruction, layer).project()


@torch.no_grad()
def prepare_layers(layers: Sequence[Reconstruction], rows: Rows) -> None:
    """Begin every layer at the mean of what it will see, the layers below being as they were drawn."""
    below = rows
    for layer in layers:
        layer.prepare(below)
        below = CodeRows(torch.cat([layer.encode(batch)[1] for batch in sampled_batches(below)]))


class SupervisedLayer(Supervision):
    r"""A layer that learns as the hidden layer of a classifier, which is thrown away after.

        J = E[ -log p(y | V h + c) ] + w E[ -log p(x | h) ] + sum_i w_i Omega_i(x~, h),   h = f(x~),   x~ ~ C(. | x)

    What regularises the layer without labels does so with them, whether its reconstruction counts (w > 0) or not.

    The arguments are those of `Supervision`.

    Source: Bengio et al. (2007), section 4.2 (greedy layer-wise supervised training).
    """

    def prepare(self, rows: Rows) -> None:
        """Begin the layer as it would begin without labels."""
        self.coder.prepare(rows)

    def forward(self, batch: Batch, generator: torch.Generator | None = None) -> Float[Tensor, "batch outputs"]:
        """The outputs of the classifier; the rows are corrupted where a generator is given."""
        if self.coder.corruption is not None and generator is not None:
            batch = replace(batch, x=self.coder.corruption(batch.x, generator).x)
        return super().forward(batch, generator)

    def terms(self, batch: Batch, progress: float, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The cross-entropy, (batch,), the reconstruction times w where it counts, and the penalties."""
        assert batch.label is not None
        terms = {self.loss.name: self._mask_unlabelled(self.loss(self(batch, generator), batch.label), batch.label)}
        if self.reconstruction_weight > 0.0 or self.coder.penalties:
            coder_terms = self.coder.terms(batch, progress, generator)
            reconstruction = self.reconstruction_weight * coder_terms.pop("reconstruction")
            terms |= {"reconstruction": reconstruction} if self.reconstruction_weight > 0.0 else {}
            terms |= coder_terms
        return terms


class CodeRows:
    """Rows that are codes of a layer.

    Args:
        codes: (n, units), in memory or mapped from disk.
        labels: (n,), the label of each row where it has one.
    """

    def __init__(self, codes: Float[Tensor, "n units"], labels: Tensor | None = None) -> None:
        self.codes, self.labels = codes, labels
        self.n_columns = codes.shape[1]

    def __len__(self) -> int:
        return len(self.codes)

    def batch(self, index: Int[Tensor, " batch"]) -> Batch:
        """The codes of the rows `index`."""
        return Batch(self.codes[index], rows=index, label=None if self.labels is None else self.labels[index])


class LayerInputs:
    """The views of the phases of a stack: the rows as layer k sees them, encoded once by the layers below.

    The codes of a layer are made of the kept codes of the layer below, which then go. So of the training rows, and
    of the held-out ones, there are those of two layers at most at a time; codes of more than `MAX_CODE_BYTES` bytes
    are mapped from a file without a name in the folder for temporary files, which is gone with them.

    Args:
        layers: lowest first.
        device: where rows are encoded.
    """

    def __init__(self, layers: Sequence[Reconstruction], device: torch.device) -> None:
        self.layers, self.device = tuple(layers), device
        self._cached: dict[int, tuple[Rows, int, Rows]] = {}

    def view(self, n_below: int) -> Callable[[Rows], Rows]:
        """The rows as the layer sees them that has `n_below` layers below it; 0 is the rows themselves."""

        def seen(rows: Rows) -> Rows:
            # The rows are kept beside their codes: a number is of one object only while that lives.
            _, level, codes = self._cached.get(id(rows), (rows, 0, rows))
            if level > n_below:
                level, codes = 0, rows
            for layer in self.layers[level:n_below]:
                codes = encode_rows(layer, codes, self.device)
            self._cached[id(rows)] = (rows, n_below, codes)
            return codes

        return seen


@torch.no_grad()
def encode_rows(layer: Reconstruction, rows: Rows, device: torch.device) -> CodeRows:
    """The codes of rows by one layer, without corruption, in fp32; labels go with their rows.

    Raises:
        InputError: neither memory nor disk has room for them.
    """
    layer.to(device).eval()
    codes: Tensor | None = None
    labels: list[Tensor] = []
    try:
        with fast_products("fp32", device):
            for index in torch.arange(len(rows)).split(ENCODE_BATCH_SIZE):
                batch = rows.batch(index)
                code = layer.encode(batch.to(device))[1]
                codes = allocate_codes(len(rows), code.shape[1]) if codes is None else codes
                codes[index[0] : index[0] + len(index)] = code.cpu()
                labels += [] if batch.label is None else [batch.label]
    finally:  # after Ctrl-C too: the model that is kept is on the CPU
        layer.to("cpu")
    assert codes is not None
    return CodeRows(codes, torch.cat(labels) if labels else None)


def allocate_codes(n_rows: int, n_units: int) -> Float[Tensor, "n_rows n_units"]:
    """A float32 tensor, mapped from disk where it is larger than `MAX_CODE_BYTES`.

    Raises:
        InputError: the disk is full.
    """
    n_bytes = 4 * n_rows * n_units
    if n_bytes <= MAX_CODE_BYTES:
        return torch.empty(n_rows, n_units)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)  # a full disk is told here, not by a signal later
            return torch.from_numpy(np.memmap(file, np.float32, "w+", shape=(n_rows, n_units)))
    except OSError as error:
        raise InputError(
            f"the codes of a layer take {n_bytes / 2**30:.2f} GiB, which {tempfile.gettempdir()} has no room for "
            f"({error.strerror or error}); set TMPDIR to a folder that has, or make the layer smaller"
        ) from None
