"""The progress bar: loss, rows per second and time left, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from isthmus.learning.trainer import Progress


class ProgressBar:
    """Progress bar on stderr if that is a terminal; silent when piped or when `verbose` is 0.

    A context manager; `on_progress` is None if nothing is shown, so that the trainer does no work for it.
    """

    def __init__(self, title: str, verbose: int) -> None:
        self.title = title
        self._shown = verbose > 0 and sys.stderr.isatty()

    def __enter__(self) -> ProgressBar:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("epoch {task.fields[epoch]}  loss {task.fields[loss]:.4g}"),
                TextColumn("{task.fields[speed]:,.0f} rows/s  {task.fields[left]} left"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self.title, visible=False, epoch=1, loss=0.0, speed=0.0, left="?")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._bar.stop()

    @property
    def on_progress(self) -> Callable[[Progress], None] | None:
        """The callback of the trainer, or None if nothing is shown."""
        return self._update if self._shown else None

    def _update(self, progress: Progress) -> None:
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        self._bar.update(
            self._task,
            visible=True,
            description=f"{self.title}: {progress.phase}" if progress.phase else self.title,
            total=progress.total_steps,
            completed=progress.step,
            epoch=progress.epoch + 1,
            loss=progress.loss,
            speed=progress.rows_per_second,
            left=f"{minutes}:{seconds:02d}",
        )
