"""Time of the contraction penalty in closed form, by a random probe, and by the exact Jacobian."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.jacobians import Contraction
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP

ROWS = 128
ONE_LAYER = (784, 1000)
DEEP = (784, 1000, 500, 250, 30)
WIDE = (784, 800, 800, 1000)


def sigmoid_coder(sizes: tuple[int, ...], activation: str) -> Coder:
    """Build an encoder of these sizes, a sigmoid code and a decoder of one layer."""
    generator = torch.Generator().manual_seed(0)
    encoder = MLP(sizes, activation, generator=generator)
    decoder = MLP((sizes[-1], sizes[0]), generator=generator)
    return Coder(EncoderMap(encoder, "sigmoid"), decoder, likelihood_from({"name": "gaussian"}, sizes[0]))


def forward_pass(x: Tensor, preactivation: Tensor) -> ForwardPass:
    """Return the forward pass at which the penalty is evaluated; the penalty does not use the parameters of p_dec."""
    batch = Batch(x)
    return ForwardPass(batch, batch, preactivation, torch.sigmoid(preactivation), preactivation)


def medians(calls: dict[str, Callable[[], Tensor]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each call with its backward pass. The calls are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call().mean().backward()
            if turn:  # the first turn is a warm-up
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values)) for name, values in times.items()}


def closed_form(x: Tensor, repeats: int) -> list[str]:
    """Compare the penalty of one layer with the einsum of its formula and with a pass through the encoder."""
    coder = sigmoid_coder(ONE_LAYER, "sigmoid")
    weight = coder.encoder.affine_maps[0].weight
    a = coder.encoder(x).detach().requires_grad_()
    output = forward_pass(x, a)

    def einsum() -> Tensor:
        h = torch.sigmoid(a)
        return torch.einsum("bj,jd->b", (h * (1 - h)) ** 2, weight**2)

    penalty, second = Contraction(), Contraction(order=2)
    took = medians(
        {
            "bare einsum": einsum,
            "isthmus": lambda: penalty(output, coder, None),
            "encoder": lambda: coder.encode(Batch(x)).code.square(),
            "order=2": lambda: second(output, coder, None),
        },
        10 * repeats,
    )
    return [
        f"contraction of {'-'.join(map(str, ONE_LAYER))}, {len(x)} rows, forward and backward: "
        f"bare einsum {took['bare einsum']:.2f} ms, isthmus {took['isthmus']:.2f} ms, "
        f"ratio {took['isthmus'] / took['bare einsum']:.2f} (target 1.3); encoder {took['encoder']:.2f} ms, "
        f"order=2 with {second.n_corruptions} neighbours {took['order=2']:.2f} ms"
    ]


def deep(x: Tensor, repeats: int) -> list[str]:
    """Compare one probe, in reverse and in forward mode, with a pass through its encoder; and the exact Jacobian."""
    lines = []
    for sizes, mode in ((DEEP, "reverse mode"), (WIDE, "forward mode")):
        coder = sigmoid_coder(sizes, "silu")
        generator = torch.Generator().manual_seed(0)
        output = forward_pass(x, coder.encoder(x))
        probe, exact = Contraction(method="hutchinson"), Contraction(method="exact")
        calls = {
            "pass": lambda: coder.encode(Batch(x)).code.square(),  # noqa: B023
            "probe": lambda: probe(output, coder, generator),  # noqa: B023
        }
        took = medians(calls, 3 * repeats)
        line = (
            f"one probe of {'-'.join(map(str, sizes))}, {mode}: {took['probe']:.1f} ms, "
            f"{took['probe'] / took['pass']:.2f} forward and backward passes (target 4)"
        )
        if mode == "reverse mode":
            exact_time = medians({"exact": lambda: exact(output, coder, generator)}, 1)["exact"]  # noqa: B023
            line += f"; exact, {sizes[-1]} directions: {exact_time:.0f} ms, {exact_time / took['pass']:.1f} passes"
        lines.append(line)
    return lines


def run(x: np.ndarray, repeats: int) -> list[str]:
    """Return the lines of the tables."""
    rows = torch.from_numpy(x[:ROWS].reshape(ROWS, -1)).float() / 255
    return [*closed_form(rows, repeats), *deep(rows, repeats)]
