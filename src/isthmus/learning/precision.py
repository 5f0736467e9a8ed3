"""Device and floating-point precision of training: by default the fastest that the hardware supports accurately."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from isthmus.errors import InputError

PRECISIONS = ("auto", "fp32", "bf16")
FABRIC: dict[str, Literal["32-true", "bf16-mixed"]] = {"fp32": "32-true", "bf16": "bf16-mixed"}
"""Names of the precisions in lightning-fabric."""

MEDIUM_ERROR = 1e-5
"""Largest relative error at which a "medium" matrix product counts as fp32 (true fp32 has about 1e-7)."""


def resolve_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" means the first GPU if there is one, else the CPU.

    Raises:
        InputError: an unknown name, or a device that is not available.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(f"device={device!r} is not a device; use 'auto', 'cpu' or 'cuda'") from None
    if found.type not in ("cpu", "cuda"):
        raise InputError(f"device={device!r} is not supported; use 'auto', 'cpu' or 'cuda'")
    n_here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found.type == "cuda" and (found.index or 0) >= n_here:
        found_here = f"{n_here} CUDA device{'s' if n_here > 1 else ''}, counted from 0," if n_here else "no CUDA device"
        raise InputError(f"device={device!r}: torch finds {found_here} on this computer; use 'cpu' or 'auto'")
    return found


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return the precision of a name; "auto" means bf16 autocast on a GPU that multiplies bf16, else fp32.

    On a CPU "auto" means fp32, also where it multiplies bf16: there bf16 is faster for large networks on an idle
    machine, and much slower where its threads wait for those of other programs.

    Raises:
        InputError: the name is unknown.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        multiplies_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
        precision = "bf16" if multiplies_bf16 else "fp32"
    return precision


@contextmanager
def fast_products(precision: str, device: torch.device) -> Iterator[str]:
    """Context manager that sets torch's matmul precision to "medium" for fp32 where a probe finds it accurate.

    It yields the setting in use and restores the previous one afterwards. On some processors "medium" is twice as fast
    at the accuracy of fp32; on others it rounds to bf16, and on a GPU to TF32. So the error is measured on the device
    that is used.
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
    """Return the relative error of a matrix product of typical size against float64."""
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(64, 512, generator=generator)
    b = torch.randn(512, 128, generator=generator)
    exact = a.double() @ b.double()
    # Compared on the CPU, since not every device supports float64.
    return float((_product(a, b, device).double() - exact).norm() / exact.norm())


def _product(a: Tensor, b: Tensor, device: torch.device) -> Tensor:
    """Return the product a b, computed on a device and moved to the CPU."""
    return (a.to(device) @ b.to(device)).cpu()
