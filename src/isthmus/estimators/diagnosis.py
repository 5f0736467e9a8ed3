"""Facts of a fit for the doctor."""

from typing import Any


def examine_fit(model: Any, rows: Any, held_out: Any) -> None:
    """Write the doctor's findings into the history."""
    model.history_["findings"] = []
