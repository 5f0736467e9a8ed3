"""Values that a forward pass computes for later steps, collected so that the pass itself changes nothing."""

from __future__ import annotations

from contextvars import ContextVar

import torch
from torch import Tensor


class Carried:
    """New values of buffers, which are stored after the step.

    Example:
        >>> threshold = torch.zeros(())
        >>> with collected() as carried:
        ...     carry(threshold, threshold + 1.0)
        >>> float(threshold), float(carried.latest(threshold))
        (0.0, 1.0)
        >>> carried.store()
        >>> float(threshold)
        1.0
    """

    def __init__(self) -> None:
        self._entries: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def latest(self, buffer: Tensor) -> Tensor:
        """Return the collected value of a buffer, or the buffer itself if there is none."""
        return self._entries[id(buffer)][1] if id(buffer) in self._entries else buffer

    def set(self, buffer: Tensor, value: Tensor) -> None:
        """Collect the value that a buffer takes after the step; an earlier value is replaced."""
        self._entries[id(buffer)] = buffer, value.detach()

    @torch.no_grad()
    def store(self, skip: Tensor | None = None) -> None:
        """Store the values in their buffers.

        Args:
            skip: a scalar on the device of the buffers. If it is not zero, the buffers keep their values.
        """
        if not self._entries:
            return
        skips = None if skip is None else skip != 0
        for buffer, value in self._entries.values():
            if skips is None:
                buffer.copy_(value)
            else:
                torch.where(skips, buffer, value.to(buffer.dtype), out=buffer)


_COLLECTION: ContextVar[Carried | None] = ContextVar("carried", default=None)


class collected:
    """Context manager that collects what modules `carry`; it does not collect for an enclosing one."""

    def __enter__(self) -> Carried:
        carried = Carried()
        self._token = _COLLECTION.set(carried)
        return carried

    def __exit__(self, *error: object) -> None:
        _COLLECTION.reset(self._token)


def carry(buffer: Tensor, value: Tensor) -> None:
    """Set the value that a buffer takes after the step; outside of `collected` it is stored at once."""
    collection = _COLLECTION.get()
    if collection is not None:
        collection.set(buffer, value)
        return
    with torch.no_grad():
        buffer.copy_(value)


def latest(buffer: Tensor) -> Tensor:
    """Return the value that the current pass has carried for a buffer, or the buffer itself."""
    collection = _COLLECTION.get()
    return buffer if collection is None else collection.latest(buffer)
