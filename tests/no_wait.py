"""A context in which operations raise an error if a GPU would have to be waited for."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READ_VALUES = {
    "_local_scalar_dense", "equal", "allclose", "is_nonzero", "item", "_linalg_check_errors", "multinomial", "bincount",
}  # fmt: skip
"""Operators that read values of a tensor on the host."""

SIZED_BY_VALUES = {
    "nonzero", "nonzero_numpy", "argwhere", "masked_select", "_unique", "_unique2", "unique_dim", "unique_consecutive",
    "unique_dim_consecutive",
}  # fmt: skip
"""Operators whose output has a size that depends on values."""

INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_unsafe_index_put"}
"""Operators that wait if an index is a boolean mask."""

READ_TENSORS = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu, torch.Tensor.__array__}
"""Methods that read a whole tensor; on the CPU they reach no operator."""


class WaitError(AssertionError):
    """An operation would wait for the device."""


def check_operator(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise an error if an operator of ATen would wait for a GPU."""
    if name in READ_VALUES | SIZED_BY_VALUES:
        raise WaitError(f"aten.{name} waits for the device")
    if name in INDEXED and any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]):
        raise WaitError(f"aten.{name} with a boolean mask waits for the device")
    if name == "repeat_interleave" and kwargs.get("output_size") is None and isinstance(args[-1], torch.Tensor):
        raise WaitError("aten.repeat_interleave with a tensor of repeats and no output_size waits for the device")


class _Operators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        check_operator(func.overloadpacket.__name__, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READ_TENSORS:
            raise WaitError(f"Tensor.{func.__name__} waits for the device")
        return func(*args, **(kwargs or {}))


class NoWait:
    """Context manager that raises `WaitError` where a step on a GPU would wait for the device, on the CPU too.

    It does not see copies between devices, which the CPU alone does not have.

    Example:
        >>> with NoWait():
        ...     float(torch.ones(()))
        Traceback (most recent call last):
        ...
        tests.no_wait.WaitError: aten._local_scalar_dense waits for the device
    """

    def __enter__(self) -> NoWait:
        self._modes = [_Operators(), _Methods()]
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)
