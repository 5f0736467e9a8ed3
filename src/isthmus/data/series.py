"""Windows of the series in a table: which rows each of them covers, and values of windows back at their times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from isthmus.data.window_rows import WindowRows
from isthmus.errors import InputError, pluralize

if TYPE_CHECKING:
    import pandas as pd


BLOCK_WINDOWS = 1024
"""Number of windows whose values are computed at a time."""


@dataclass(frozen=True)
class Windows:
    """Options of windows of a table: their size, their stride, and the columns of time and group.

    Attributes:
        size: number of steps of a window, at least 2.
        stride: steps between the starts of two windows. Above `size`, steps between windows are in none of them.
        time: column of times by which rows are ordered; None keeps the order of the table, without gaps.
        group: column whose values separate series, such as machines; None is one series.
        time_form: form of texts that are dates, such as "%d.%m.%Y", which a later table is read by; None finds it.
        time_kind: "dates" or "numbers", which the times of a later table must be; None takes both.

    Raises:
        InputError: sizes that are not whole numbers in their range; one column for both.

    Example:
        >>> Windows(64, 16, time="when").to_dict()
        {'size': 64, 'stride': 16, 'time': 'when', 'group': None, 'time_form': None, 'time_kind': None}
    """

    size: int
    stride: int
    time: str | None = None
    group: str | None = None
    time_form: str | None = None
    time_kind: str | None = None

    def __post_init__(self) -> None:
        for name, option, least in (("size", "--window", 2), ("stride", "--stride", 1)):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise InputError(f"{name}={value!r}: it must be a whole number of at least {least} ({option})")
            object.__setattr__(self, name, int(value))
        if self.time is not None and self.time == self.group:
            raise InputError(f"column {self.time!r} is given as time and as group; give two columns")

    @classmethod
    def of(cls, size: int, stride: int | None = None, time: str | None = None, group: str | None = None) -> Windows:
        """Return windows whose stride is a quarter of their size where none is given."""
        is_whole = isinstance(size, int | np.integer)
        return cls(size, (max(1, size // 4) if is_whole else 1) if stride is None else stride, time, group)

    @property
    def identifiers(self) -> list[str]:
        """The columns that are not channels: group and time, where they are given."""
        return [name for name in (self.group, self.time) if name is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Windows:
        """Return the windows of `to_dict`."""
        return cls(**config)


@dataclass(frozen=True, eq=False)
class WindowedSeries:
    """Windows of the series in a table, which every method of an autoencoder takes as rows.

    Attributes:
        X: the windows, (n, size, channels), float64, read from one copy of the table: they take 8 x n_rows x channels
            bytes for any stride. `np.asarray(X)` is an array of all of them.
        channels: names of the columns of X.
        options: how the windows were cut.
        order: (n_rows,), the row of the table at each position: series after series, each by time.
        starts: (n,), the position of the first step of each window.
        steps: the columns of group and time of the table, as a data frame of n_rows rows.
        notes: sentences for the user: rows that were sorted, gaps, groups that are shorter than a window.

    Example:
        >>> import pandas as pd
        >>> from isthmus.data import windows
        >>> table = pd.DataFrame({"hour": [0, 1, 2, 3, 9, 10, 11], "load": [4.0, 5, 6, 7, 1, 2, 3]})
        >>> found = windows(table, size=3, stride=1, time="hour")
        >>> found.X[:, :, 0].tolist()
        [[4.0, 5.0, 6.0], [5.0, 6.0, 7.0], [1.0, 2.0, 3.0]]
        >>> found.by_time(found.X)[:, 0].tolist()
        [4.0, 5.0, 6.0, 7.0, 1.0, 2.0, 3.0]
    """

    X: WindowRows
    channels: list[str]
    options: Windows
    order: Int[np.ndarray, " n_rows"]
    starts: Int[np.ndarray, " n"]
    steps: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def n_rows(self) -> int:
        """The number of rows of the table."""
        return len(self.order)

    @property
    def index(self) -> Int[np.ndarray, "n size"]:
        """The rows of the table that each window covers, in the order of its steps."""
        return self.order[self.starts[:, None] + np.arange(self.options.size)]

    @property
    def covered(self) -> Bool[np.ndarray, " n_rows"]:
        """True for each row of the table that is in a window."""
        change = np.zeros(self.n_rows + 1, np.int64)
        np.add.at(change, self.starts, 1)
        np.add.at(change, self.starts + self.options.size, -1)
        found = np.empty(self.n_rows, bool)
        found[self.order] = np.cumsum(change)[:-1] > 0
        return found

    @property
    def first(self) -> Int[np.ndarray, " n"]:
        """The row of the table at the start of each window."""
        return self.order[self.starts]

    @property
    def last(self) -> Int[np.ndarray, " n"]:
        """The row of the table at the end of each window."""
        return self.order[self.starts + self.options.size - 1]

    @property
    def names(self) -> pd.DataFrame:
        """The group, if there is one, and the times of the first and the last step of each window, as a data frame.

        Without a column of times these are row numbers.
        """
        import pandas as pd

        parts = {}
        if self.options.group is not None:
            parts[self.options.group] = self.steps[self.options.group].iloc[self.first].reset_index(drop=True)
        for name, rows in (("start", self.first), ("end", self.last)):
            times = pd.Series(rows) if self.options.time is None else self.steps[self.options.time].iloc[rows]
            parts[name if name != self.options.group else f"{name}_"] = times.reset_index(drop=True)
        return pd.DataFrame(parts)

    def by_time(self, values: Float[np.ndarray, "n size ..."]) -> Float[np.ndarray, "n_rows ..."]:
        """Return values of windows at the rows of the table, the mean of the windows that cover a row.

        Rows that no window covers are NaN, and so are entries that are NaN in all of their windows.

        Args:
            values: one for each step of each window, such as reconstructions or errors, in the order of X.

        Raises:
            InputError: another number of windows or of steps.
        """
        mean = TimeMean(self)
        mean.add(values)
        return mean.values()

    def by_time_of(
        self, values_of: Callable[[Float[np.ndarray, "block size channels"]], Any]
    ) -> Float[np.ndarray, "n_rows ..."]:
        """Return `by_time` of a function of windows, computed on `BLOCK_WINDOWS` of them at a time.

        Args:
            values_of: returns one value for each step of each window, such as `model.reconstruct`.

        Example:
            >>> import pandas as pd
            >>> from isthmus.data import windows
            >>> windows(pd.DataFrame({"x": np.arange(4.0)}), size=2, stride=1).by_time_of(np.square)[:, 0].tolist()
            [0.0, 1.0, 4.0, 9.0]
        """
        mean = TimeMean(self)
        for start in range(0, len(self), BLOCK_WINDOWS):
            mean.add(values_of(self.X[start : start + BLOCK_WINDOWS]))
        return mean.values()

    @cached_property
    def row_names(self) -> tuple[str, ...]:
        """The group, if there is one, and the start of each window as text."""
        named = self.names.drop(columns=self.names.columns[-1])
        return tuple(" ".join(map(str, each)) for each in named.to_numpy())

    @property
    def runs(self) -> Int[np.ndarray, " n_rows"]:
        """The number of the run at each position: successive steps, each in a window with the next; -1 in no window."""
        joined = np.zeros(self.n_rows + 1, np.int64)
        np.add.at(joined, self.starts + 1, 1)
        np.add.at(joined, self.starts + self.options.size, -1)
        is_joined = np.cumsum(joined)[:-1] > 0  # with the step before
        return np.where(self.covered[self.order], np.cumsum(~is_joined), 0) - 1

    def take(self, windows: slice | Int[np.ndarray, " taken"] | Bool[np.ndarray, " n"]) -> WindowedSeries:
        """Return some of the windows, without notes."""
        return replace(self, X=self.X.take(windows), starts=self.starts[windows], notes=())

    @property
    def overlap(self) -> bool:
        """True if successive windows share rows."""
        return self.options.stride < self.options.size

    def split(self, fraction: float) -> tuple[WindowedSeries, WindowedSeries]:
        """Return training and validation windows that share no row, see `split_masks`.

        A note of the training windows has the number of those that are in neither part.

        Raises:
            InputError: see `split_masks`.

        Example:
            >>> import pandas as pd
            >>> from isthmus.data import windows
            >>> training, validation = windows(pd.DataFrame({"x": np.arange(20.0)}), size=4, stride=2).split(0.3)
            >>> training.index[:, -1].tolist(), validation.index[:, 0].tolist()
            ([3, 5, 7, 9, 11], [12, 14, 16])
        """
        kept, held_out = self.split_masks(fraction)
        n_dropped = int((~kept & ~held_out).sum())
        note = f"{pluralize(n_dropped, 'window')} left out of training: they share rows with validation windows"
        return replace(self.take(kept), notes=(note,) if n_dropped else ()), self.take(held_out)

    def split_masks(self, fraction: float) -> tuple[Bool[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Return masks of the training and of the validation windows.

        Validation windows are the last ones of each group, round(fraction x n) of all. Windows that share a row with
        one of them are in neither part.

        Args:
            fraction: of the windows for validation, at least 0 and below 1.

        Raises:
            InputError: another fraction; fewer than two training windows are left.
        """
        if not 0 <= fraction < 1:
            raise InputError(f"fraction={fraction}: it must be at least 0 and below 1")
        kept, held_out = np.ones(len(self), bool), np.zeros(len(self), bool)
        total, taken = 0, 0
        for first, end in self._groups():
            total += end - first
            n_last = min(end - first, int(fraction * total + 0.5) - taken)
            taken += n_last
            if n_last:
                held_out[end - n_last : end] = True
                kept[first:end] = self.starts[first:end] + self.options.size <= self.starts[end - n_last]
        if kept.sum() < 2:
            n_dropped = int((~kept & ~held_out).sum())
            raise InputError(
                f"a validation fraction of {fraction:g} leaves {pluralize(int(kept.sum()), 'window')} of {len(self)} "
                f"for training, which needs at least two; {n_dropped} share rows with validation windows; give a "
                "smaller fraction (--validation 0 for none), or a smaller window"
            )
        return kept, held_out

    def _groups(self) -> list[tuple[int, int]]:
        """Return the first window of each group, and the one after its last."""
        import pandas as pd

        if self.options.group is None:
            return [(0, len(self))]
        groups = pd.factorize(self.steps[self.options.group])[0][self.first]
        borders = [0, *(np.flatnonzero(np.diff(groups)) + 1).tolist(), len(self)]
        return list(pairwise(borders))


class TimeMean:
    """The mean of values of overlapping windows at each row of the table, added block by block.

    Args:
        series: the windows.

    Example:
        >>> import pandas as pd
        >>> from isthmus.data import windows
        >>> series = windows(pd.DataFrame({"x": np.arange(5.0)}), size=3, stride=2)
        >>> mean = TimeMean(series)
        >>> mean.add(series.X[:1])
        >>> mean.add(series.X[1:] + 10)
        >>> mean.values()[:, 0].tolist()
        [0.0, 1.0, 7.0, 13.0, 14.0]
    """

    def __init__(self, series: WindowedSeries) -> None:
        self._series, self._done = series, 0
        self._sum: np.ndarray | None = None
        self._count = np.zeros(0)

    def add(self, values: Float[np.ndarray, "block size ..."]) -> None:
        """Add the values of the next windows.

        Raises:
            InputError: another number of steps, or more windows than there are.
        """
        values = np.asarray(values, np.float64)
        size, end = self._series.options.size, self._done + len(values)
        if values.ndim < 2 or values.shape[1] != size or end > len(self._series):
            raise InputError(
                f"values of shape {values.shape} for {pluralize(len(self._series), 'window')} of {size} steps; give "
                "one for each step of each window, (n, size, ...)"
            )
        if self._sum is None:
            self._sum = np.zeros((self._series.n_rows, *values.shape[2:]))
            self._count = np.zeros_like(self._sum)
        starts, present = self._series.starts[self._done : end], ~np.isnan(values)
        values = np.where(present, values, 0.0)
        for step in range(size):  # no two windows have their step of this number at the same row
            self._sum[starts + step] += values[:, step]
            self._count[starts + step] += present[:, step]
        self._done = end

    def values(self) -> Float[np.ndarray, "n_rows ..."]:
        """Return the means in the order of the table.

        Raises:
            InputError: windows without values.
        """
        if self._sum is None or self._done < len(self._series):
            raise InputError(f"values of {self._done} windows of {len(self._series)}; give those of every window")
        means = np.full_like(self._sum, np.nan)
        np.divide(self._sum, self._count, out=means, where=self._count > 0)
        in_order = np.empty_like(means)
        in_order[self._series.order] = means
        return in_order
