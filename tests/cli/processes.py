"""Commands as separate processes, with or without a terminal."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import torch

ISTHMUS = (sys.executable, "-c", "from isthmus.cli import main; main()")
TIMEOUT = 120
"""Seconds until a hanging process fails the test."""


def environment() -> dict[str, str]:
    """Environment with the thread count of this process: another count changes the order of sums and so the weights."""
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads()), "TERM": "xterm", "COLUMNS": "100"}


def wait_for(happened, process: subprocess.Popen, what: str) -> None:
    """Wait until `happened()` is true while the process runs."""
    began = time.monotonic()
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode} before {what}"
        assert time.monotonic() - began < TIMEOUT, f"no {what}"
        time.sleep(0.01)


class Terminal:
    """A process with its own terminal, and the text it prints there."""

    def __init__(self, *args: str) -> None:
        self.master, slave = pty.openpty()
        # A background shell makes its children ignore Ctrl-C; restore the default handler for the new process.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            [*ISTHMUS, *args], env=environment(), stdin=slave, stdout=subprocess.PIPE, stderr=slave
        )
        signal.signal(signal.SIGINT, before)
        os.close(slave)
        os.set_blocking(self.master, False)
        self.shown = ""

    def read(self) -> str:
        """Return the text printed so far."""
        try:
            while part := os.read(self.master, 65536):
                self.shown += part.decode(errors="replace")
        except OSError:  # no output at the moment, or the process has ended
            pass
        return self.shown

    def end(self) -> bytes:
        """Wait for the process and return its stdout."""
        deadline = time.monotonic() + TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read()
            time.sleep(0.01)
        self.read()
        os.close(self.master)
        with self.process:
            return self.process.stdout.read()
