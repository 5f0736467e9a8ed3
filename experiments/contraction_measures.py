"""Measurements of the contraction experiment: Jacobians, spectra and saturation of codes, fine-tuned test errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from experiments.experiment import Settings
from experiments.learning import raise_if_interrupted
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.jacobians import Contraction, singular_values

SATURATED = 0.05
"""A sigmoid unit within this of 0 or 1 is saturated."""

N_BINS = 20
N_PROBES = 50
ROWS_AT_ONCE = 10
"""Number of rows whose Jacobian matrices are computed at once."""


def rows_in_model_space(model: BaseAutoencoder, X: np.ndarray) -> Float[Tensor, "rows columns"]:
    """Return the preprocessed rows."""
    return torch.cat([reading.x for reading in model.read(X)])


@torch.no_grad()
def jacobian_norms(model: BaseAutoencoder, X: np.ndarray, of: str = "encoder") -> Float[np.ndarray, " rows"]:
    """Return ||J||_F of each row, in closed form for one layer, else from `N_PROBES` probes."""
    coder, norms = _coder(model), []
    penalty, generator = Contraction(of=of, n_probes=N_PROBES), torch.Generator().manual_seed(0)
    for x in rows_in_model_space(model, X).split(250):
        norms.append(penalty(coder(Batch(x)), coder, generator).sqrt())
    return torch.cat(norms).numpy()


@torch.no_grad()
def spectrum(model: BaseAutoencoder, X: np.ndarray) -> Float[np.ndarray, " directions"]:
    """Return the mean over rows of the singular values of the encoder, largest first."""
    coder = _coder(model)
    parts = rows_in_model_space(model, X).split(ROWS_AT_ONCE)
    values = [singular_values(coder.encoder, coder.code_activation, x) for x in parts]
    return torch.cat(values).mean(0).numpy()


@torch.no_grad()
def contraction_ratios(
    model: BaseAutoencoder, X: np.ndarray, distances: Sequence[float], seed: int
) -> Float[np.ndarray, " distances"]:
    """Return ||f(x) - f(x + d u)|| / d for each distance d and a random unit vector u, mean over rows."""
    coder, generator = _coder(model), torch.Generator().manual_seed(seed)
    x = rows_in_model_space(model, X)
    direction = torch.randn(x.shape, generator=generator)
    direction /= direction.norm(dim=1, keepdim=True)
    code = coder.encode(Batch(x)).code
    moved = (coder.encode(Batch(x + d * direction)).code - code for d in distances)
    return np.array([float(m.norm(dim=1).mean()) / d for m, d in zip(moved, distances, strict=True)])


def measured(model: BaseAutoencoder, test: np.ndarray, settings: Settings) -> dict[str, Any]:
    """Return all measurements of one model: Jacobians on the first test rows, codes on all of them."""
    first, few = test[: settings["rows_measured"]], test[: settings["rows_of_matrices"]]
    codes, norms = model.transform(test), jacobian_norms(model, first)
    share, _ = np.histogram(codes, N_BINS, (0.0, 1.0))
    far = (codes < SATURATED) | (codes > 1 - SATURATED)
    return {
        "norm": float(norms.mean()),
        "squared_norm": float((norms.astype(np.float64) ** 2).mean()),
        "reconstruction_norm": float(jacobian_norms(model, first[:250], "reconstruction").mean()),
        "saturated": float(far.mean()),
        "histogram": (share / share.sum()).round(6).tolist(),
        "spectrum": [float(f"{value:.4g}") for value in spectrum(model, few)],
        "ratios": contraction_ratios(model, first, settings["distances"], settings["seed"]).round(6).tolist(),
        "nll": float(model.nll(test).mean(dtype=np.float64)),
    }


def fine_tuned_error(
    model: BaseAutoencoder,
    rows: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    settings: Settings,
) -> dict[str, Any]:
    """Fine-tune classifiers from the encoder, a softmax on the code: their errors in percent.

    The weights are those of the best epoch on the validation rows; the test rows are used once. The mean is over
    settings["tunings"] seeds, since one error in a hundred digits is too few to compare two codes.
    """
    fits = [_fine_tuned_after(model, rows, validation, settings, seed) for seed in range(settings["tunings"])]
    test_errors = [100 * (1 - one.score(*test)) for one in fits]
    return {
        "validation_error": float(np.mean([100 * (1 - one.score(*validation)) for one in fits])),
        "test_error": float(np.mean(test_errors)),
        "test_errors": test_errors,
        "tuning_epochs": [one.history_["best_epoch"] + 1 for one in fits],
    }


def _fine_tuned_after(
    model: BaseAutoencoder, rows: tuple[np.ndarray, np.ndarray], validation: Any, settings: Settings, seed: int
) -> CodeClassifier:
    classifier = CodeClassifier(encoder=model, random_state=settings["seed"] + seed, verbose=1, **settings["tuning"])
    raise_if_interrupted(classifier.fit(*rows, validation=validation))
    return classifier


def _coder(model: BaseAutoencoder) -> Coder:
    """Return the coder of a fitted model on the CPU in evaluation mode."""
    return model.coder_.to("cpu").eval()


def weight_norms(model: BaseAutoencoder) -> dict[str, float]:
    """Return the norm of all weight matrices of the encoder and of those that only the decoder has."""
    coder = _coder(model)
    return {
        name: float(sum(w.detach().square().sum() for w in part.parameters() if w.ndim > 1)) ** 0.5
        for name, part in (("encoder", coder.encoder), ("decoder", cast(Any, coder.decoder)))
    }
