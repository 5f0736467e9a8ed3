"""Where and in which arithmetic learning runs: the fastest that this machine has and that is right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from isthmus.errors import InputError

PRECISIONS = ("auto", "fp32", "bf16")
FABRIC: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""What lightning-fabric calls them."""

MEDIUM_ERROR = 1e-5
"""Largest relative error of a "medium" product that still passes for fp32 (true fp32 gives about 1e-7)."""


def resolve_device(device: str) -> torch.device:
    """ "auto" is the first GPU where there is one, else the processor.

    Raises:
        InputError: an unknown name, or a device this machine does not have.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device!r} is no device; use 'auto', 'cpu' or 'cuda'") from None
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"device={device!r}: models live on 'cpu' or 'cuda'; use one of them, or 'auto'")
    n_here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= n_here:
        seen = f"{n_here} CUDA device{'s' if n_here > 1 else ''}, counted from 0," if n_here else "no CUDA device"
        raise InputError(f"device={device!r}: torch sees {seen} on this machine; use 'cpu' or 'auto'")
    return found


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision that is meant: for "auto" bf16 autocast where the hardware multiplies bf16, else fp32.

    An emulated bf16 product is many times slower than fp32, so support in software does not count.

    Raises:
        InputError: an unknown name.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        precision = "bf16" if _multiplies_bf16(device) else "fp32"
    return precision


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


@contextmanager
def fast_products(precision: str, device: torch.device) -> Iterator[str]:
    """In fp32, let matrix products run at "medium" where a probe shows that they stay right; restore the setting after.

    Yields the setting in force. On some processors "medium" is twice as fast at fp32's accuracy, on others it rounds
    to bf16, on a GPU to TF32: only the measured error of the device that will multiply tells.
    """
    before = torch.get_float32_matmul_precision()
    try:
        if precision == "fp32":
            torch.set_float32_matmul_precision("medium")
            if _product_error(device) > MEDIUM_ERROR:
                torch.set_float32_matmul_precision(before)
        yield torch.get_float32_matmul_precision()
    finally:
        torch.set_float32_matmul_precision(before)


def _product_error(device: torch.device) -> float:
    """Relative error of a product of the shapes of this field against float64."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(64, 512, generator=generator)
    b = torch.randn(512, 128, generator=generator)
    exact = a.double() @ b.double()
    # Compared on the processor: not every device has float64.
    return float((_product(a, b, device).double() - exact).norm() / exact.norm())


def _product(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    """a b, multiplied on a device and brought back."""
    return (a.to(device) @ b.to(device)).cpu()
