"""Compare the time of encoding with a bare forward pass, and measure the memory of a fit."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import torch

from isthmus import Autoencoder

MEMORY = """
import re
from pathlib import Path
import numpy as np
import isthmus
from isthmus import Autoencoder
import lightning_fabric, sklearn.decomposition, pandas, torch
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
x = np.random.default_rng(0).integers(0, 256, (60000, 784), dtype=np.uint8)
Autoencoder(code_size=30, hidden_sizes=(1000, 500, 250), max_epochs=1, batch_size=512, random_state=0).fit(x)
print(before, peak())
"""


def encoding(x: np.ndarray, repeats: int) -> list[str]:
    """Compare `transform` with one call of the encoder on all rows, in fp32."""
    model = Autoencoder(code_size=30, hidden_sizes=(1000, 500, 250), max_epochs=1, random_state=0).fit(x[:2000])
    encoder = model.coder_.encoder

    def bare() -> None:
        with torch.no_grad():
            encoder(torch.from_numpy(x.reshape(len(x), -1)).float() / 255).numpy()

    seconds: dict[str, list[float]] = {"bare forward": [], "isthmus": []}
    for _ in range(repeats):
        for name, call in (("bare forward", bare), ("isthmus", lambda: model.transform(x))):
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    speed = {name: len(x) / float(np.median(times)) for name, times in seconds.items()}
    ratio = speed["isthmus"] / speed["bare forward"]
    return [f"encoding {len(x)} rows: bare {speed['bare forward']:.0f} rows/s, isthmus {speed['isthmus']:.0f} rows/s, "
            f"ratio {ratio:.2f}"]  # fmt: skip


def memory() -> list[str]:
    """Measure the peak resident memory of a fit on 60,000 x 784 bytes in a new process, less that of the imports.

    It reads VmHWM (Linux only), since the peak of getrusage is inherited from the parent process.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    return [f"memory of a fit on 60000 x 784 bytes: imports {before:.0f} MiB, peak {after:.0f} MiB, "
            f"added {after - before:.0f} MiB (bound 1024)"]  # fmt: skip
