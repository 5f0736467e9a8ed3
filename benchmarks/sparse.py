"""Compare, for sparse codes, a decoder that gathers the columns of active units with a dense decoder."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.sparse_activations import TopK, with_gathered_weights

N_COLUMNS, K, BATCH = 784, 32, 256


def _pair(code_size: int) -> dict[str, nn.Module]:
    """Build a dense and a gathering decoder with the same weights."""
    dense = MLP((code_size, N_COLUMNS), generator=torch.Generator().manual_seed(0))
    gathering = with_gathered_weights(MLP((code_size, N_COLUMNS), generator=torch.Generator().manual_seed(0)), K)
    return {"dense": dense, "gathered": gathering}


def _rows() -> Tensor:
    return torch.randn(BATCH, N_COLUMNS, generator=torch.Generator().manual_seed(1))


def _decoding(decoder: nn.Module, code_size: int) -> Callable[[], None]:
    """Return a function that runs the decoder forward, and backward to code and weights."""
    generator = torch.Generator().manual_seed(2)
    code = TopK(K, code_size)(torch.randn(BATCH, code_size, generator=generator)).requires_grad_()
    x = _rows()

    def step() -> None:
        decoder.zero_grad()
        code.grad = None
        (decoder(code) - x).square().sum().backward()

    return step


def _training(decoder: nn.Module, code_size: int) -> Callable[[], None]:
    """Return a function that runs a training step: encoder, TopK, decoder, loss, backward and Adam."""
    encoder = MLP((N_COLUMNS, code_size), generator=torch.Generator().manual_seed(3))
    likelihood = likelihood_from({"name": "gaussian"}, N_COLUMNS)
    objective = Reconstruction(Coder(EncoderMap(encoder, TopK(K, code_size)), decoder, likelihood))
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, fused=True)
    batch = Batch(_rows())

    def step() -> None:
        optimizer.zero_grad()
        sum(term.mean() for term in objective.criterion(batch, 0.5, None).values()).backward()
        optimizer.step()

    return step


def _seconds(steps: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each step. The steps are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first turn is a warm-up
                times[name].append(time.perf_counter() - start)
    return {name: float(torch.tensor(taken).median()) for name, taken in times.items()}


def run(repeats: int = 5) -> list[str]:
    """Return the lines of a table: thousand rows per second, and the ratio of the gathering to the dense decoder."""
    lines = [f"TopK, k = {K}, {N_COLUMNS} columns, batches of {BATCH}, fp32, thousand rows/s",
             "units  operation          dense  gathered  ratio"]  # fmt: skip
    for code_size in (1024, 4096, 16384):
        for operation, build in (("decoding", _decoding), ("training step", _training)):
            steps = {name: build(decoder, code_size) for name, decoder in _pair(code_size).items()}
            speed = {name: BATCH / taken / 1e3 for name, taken in _seconds(steps, repeats).items()}
            ratio = speed["gathered"] / speed["dense"]
            lines.append(
                f"{code_size:5d}  {operation:18s} {speed['dense']:5.1f}  {speed['gathered']:8.1f}  {ratio:5.2f}"
            )
    return lines
