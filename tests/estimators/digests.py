"""Digests of every row of the table of kinds: a change that is to leave the numbers alone leaves them bit-equal.

`python -m tests.estimators.digests` writes `tests/fixtures/digests.json` anew; the commit that does so says why.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: sums of several threads differ in the last digits

import torch

from .fitted import X, fitted
from .kinds import KINDS

PATH = Path(__file__).parent.parent / "fixtures" / "digests.json"


def machine():
    """The versions and the processor on which a digest is reproduced bit for bit.

    Processors of one instruction set can still differ in the kernels that a library chooses, so the model counts.
    """
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = {line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags"))}
    return {
        "torch": torch.__version__,
        "numpy": np.__version__,
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "model": hashlib.sha256("\n".join(sorted(models)).encode()).hexdigest()[:16],
    }


def outputs(name):
    """Weights, codes and scores of a row of the table."""
    model = fitted(name)
    scores = [model.nll(X), *([model.score_samples(X)] if hasattr(model, "score_samples") else [])]
    return {
        "weights": [p.detach().cpu().numpy() for p in model.coder_.parameters()],
        "codes": [model.transform(X)],
        "scores": scores,
    }


def digest(arrays):
    """A hash of the bytes of all arrays, in any order: names and order of parameters may change."""
    return hashlib.sha256("".join(sorted(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays)).encode()).hexdigest()


def summary(arrays):
    """The root mean square of all entries."""
    return float(np.sqrt(np.mean(np.concatenate([a.astype(np.float64).ravel() for a in arrays]) ** 2)))


def measured(name):
    """What the fixture keeps of a row of the table."""
    return {
        part: {"sha256": digest(arrays), "rms": round(summary(arrays), 6)} for part, arrays in outputs(name).items()
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {"machine": machine(), "kinds": {name: measured(name) for name in KINDS}}
    PATH.write_text(json.dumps(found, indent=1) + "\n")
