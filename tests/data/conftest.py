from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import pytest

from isthmus.errors import InputError


@pytest.fixture(autouse=True)
def _no_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ISTHMUS_DATA_HOME", raising=False)


@pytest.fixture
def refused() -> Callable[..., AbstractContextManager[None]]:
    """Return a context that checks for an `InputError` of one line with every fragment."""

    @contextmanager
    def check(*fragments: str) -> Iterator[None]:
        with pytest.raises(InputError) as caught:
            yield
        text = str(caught.value)
        assert "\n" not in text
        for fragment in fragments:
            assert fragment in text

    return check


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
