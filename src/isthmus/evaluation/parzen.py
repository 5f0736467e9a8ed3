"""Parzen window log-likelihood of samples, and the table of baselines that shows what it measures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from isthmus.errors import InputError
from isthmus.evaluation.likelihood import RowEstimates
from isthmus.parts.layers import check_count, check_positive

MAX_ENTRIES = 2**21
"""Largest number of distances at a time, unless the distances of one row are more."""

GRID = tuple(float(width) for width in np.logspace(-1, 0, 10))
"""Bandwidths of the published protocol, for columns in [0, 1]: ten from 0.1 to 1, evenly spaced in the logarithm."""


@dataclass(frozen=True)
class ParzenEstimate(RowEstimates):
    """Parzen window log-likelihood of rows; `n_draws` is the number of samples, and `standard_error` is not a number.

    Attributes:
        bandwidth: sigma, in units of the columns.
        at_the_edge: True if the bandwidth is the smallest or the largest of the grid: choose a wider grid.
    """

    bandwidth: float
    at_the_edge: bool = False


def parzen_log_prob(
    samples: ArrayLike | Tensor,
    rows: ArrayLike | Tensor,
    *,
    bandwidth: float | None = None,
    validation: ArrayLike | Tensor | None = None,
    grid: Sequence[float] = GRID,
) -> ParzenEstimate:
    r"""Compute the log density of rows under a Gaussian kernel around each sample of a model.

        log p(x) = log 1/n sum_i N(x; s_i, sigma^2 I)
                 = logsumexp_i( -||x - s_i||^2 / (2 sigma^2) ) - log n - d/2 log(2 pi sigma^2)

    sigma is the bandwidth of the grid with the largest mean on the validation rows. At most `MAX_ENTRIES` distances, or
    those of one row, exist at a time.

    **The figure does not rank models.** In many dimensions it is far from log p(x) of the model for any number of
    samples. It rewards samples near the means of clusters: k-means centres can have a larger value than training rows,
    and than samples of the true distribution (Theis et al. 2016). `parzen_table` computes these baselines. Compare with
    published figures of the same data, number of samples, and protocol only.

    Shapes: samples (n, d); rows (m, d); validation (v, d); the result (m,), float64, nats.

    Args:
        samples: samples of the model.
        rows: the rows to score, in the same units.
        bandwidth: sigma; None chooses it on `validation`.
        validation: rows for the choice of sigma, which are neither training nor test rows.
        grid: the bandwidths to choose from.

    Raises:
        InputError: there are no samples or no rows; widths differ; a value is not finite; neither a bandwidth nor
            validation rows are given; a bandwidth is not above 0.

    Source: Breuleux, Bengio & Vincent, Quickly generating representative samples from an RBM-derived process (2011);
    Goodfellow et al., Generative adversarial networks (2014), section 5; Theis, van den Oord & Bethge, A note on the
    evaluation of generative models (2016), section 3.3.

    Example:
        >>> estimate = parzen_log_prob([[0.0, 0.0]], [[0.0, 0.0]], bandwidth=1.0)
        >>> round(estimate.mean, 4)  # -log(2 pi)
        -1.8379
    """
    s, x = _matrix("samples", samples), _matrix("rows", rows)
    _check_widths(s, x, "rows")
    if bandwidth is not None:
        sigma = check_positive("bandwidth", bandwidth)
        return _estimate(_log_prob(s, x, [sigma])[0], s, sigma)
    if validation is None:
        raise InputError("the bandwidth is unknown: give bandwidth=, or validation= rows to choose it on")
    held_out = _matrix("validation", validation)
    _check_widths(s, held_out, "validation")
    widths = sorted(check_positive("grid", width) for width in grid)
    if not widths:
        raise InputError("grid is empty; give at least one bandwidth")
    best = int(_log_prob(s, held_out, widths).mean(1).argmax())
    return _estimate(_log_prob(s, x, [widths[best]])[0], s, widths[best], best in (0, len(widths) - 1))


@dataclass(frozen=True)
class ParzenRow:
    """A row of `parzen_table`.

    Attributes:
        name: what the points are.
        n_points: the number of points.
        estimate: the Parzen window log-likelihood of the test rows.
    """

    name: str
    n_points: int
    estimate: ParzenEstimate


def parzen_table(
    model_samples: ArrayLike | Tensor,
    train: ArrayLike | Tensor,
    validation: ArrayLike | Tensor,
    test: ArrayLike | Tensor,
    *,
    n_centres: int | None = None,
    seed: int = 0,
    grid: Sequence[float] = GRID,
) -> tuple[ParzenRow, ...]:
    """Compute the Parzen window log-likelihood of test rows for samples of a model, and for two baselines.

    The baselines are the centres of k-means and real training rows. Each has its bandwidth, chosen on the validation
    rows. A model whose value is below that of the training rows may still be better than one above: centres, which are
    not samples of anything, often have the largest value.

    Args:
        model_samples: samples of the model, (n, d).
        train, validation, test: rows of the data, (., d).
        n_centres: number of centres; None is as many as samples, or as many as training rows if these are fewer. Their
            number is `n_points`.
        seed: of k-means and of the choice of training rows.
        grid: the bandwidths to choose from.

    Returns:
        Three rows: "model samples", "k-means centres", "training rows"; of the latter as many as samples, or all.

    Raises:
        InputError: as for `parzen_log_prob`; more centres than training rows.

    Source: Theis, van den Oord & Bethge (2016), table 1.

    Example:
        >>> data = np.random.default_rng(0).normal(size=(300, 2))
        >>> table = parzen_table(data[:50], data[50:200], data[200:250], data[250:])
        >>> [(row.name, row.n_points) for row in table]
        [('model samples', 50), ('k-means centres', 50), ('training rows', 50)]
    """
    samples, rows = _matrix("model_samples", model_samples), _matrix("train", train)
    _check_widths(samples, rows, "train")
    n = min(len(samples), len(rows))
    points = {
        "model samples": samples,
        "k-means centres": _centres(rows, n if n_centres is None else n_centres, seed),
        "training rows": rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:n]],
    }
    return tuple(
        ParzenRow(name, len(these), parzen_log_prob(these, test, validation=validation, grid=grid))
        for name, these in points.items()
    )


def _centres(rows: Float[Tensor, "n d"], n_centres: int, seed: int) -> Float[Tensor, "k d"]:
    """Return centres of k-means, which start at random rows."""
    from sklearn.cluster import MiniBatchKMeans

    check_count("n_centres", n_centres)
    if n_centres > len(rows):
        raise InputError(f"n_centres={n_centres}: there are {len(rows)} training rows; use at most as many centres")
    batch_size = min(len(rows), max(1024, 2 * n_centres))
    # Centres without rows stay where they are: replacing them would sample rows again and again.
    means = MiniBatchKMeans(
        n_centres, init="random", n_init=1, batch_size=batch_size, reassignment_ratio=0.0, random_state=seed
    )
    return torch.from_numpy(means.fit(rows.numpy()).cluster_centers_).double()


def _log_prob(samples: Tensor, rows: Tensor, widths: Sequence[float]) -> Float[Tensor, "widths rows"]:
    """Return log p(x) of each row for each bandwidth, in blocks of rows."""
    n, d = samples.shape
    squares, found = samples.square().sum(1), []
    for x in rows.split(max(1, MAX_ENTRIES // n)):
        distances = torch.addmm(squares + x.square().sum(1, keepdim=True), x, samples.T, alpha=-2).clamp_(min=0)
        found.append(torch.stack([torch.logsumexp(distances / (-2 * width**2), 1) for width in widths]))
    constants = [math.log(n) + 0.5 * d * math.log(2 * math.pi * width**2) for width in widths]
    return torch.cat(found, 1) - torch.tensor(constants, dtype=torch.float64)[:, None]


def _estimate(log_prob: Tensor, samples: Tensor, sigma: float, at_the_edge: bool = False) -> ParzenEstimate:
    return ParzenEstimate(log_prob, torch.full_like(log_prob, math.nan), len(samples), sigma, at_the_edge)


def _matrix(name: str, values: ArrayLike | Tensor) -> Float[Tensor, "n d"]:
    """Return rows as a float64 matrix on the CPU.

    Raises:
        InputError: they are not a matrix with at least one row and column, or a value is not finite.
    """
    given = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if given.ndim != 2 or 0 in given.shape:
        raise InputError(f"{name} have the shape {given.shape}; pass a matrix (rows, columns) of at least one row")
    matrix = torch.from_numpy(np.array(given, dtype=np.float64))
    if not bool(matrix.isfinite().all()):
        raise InputError(f"{name} have missing or infinite values; a Parzen window needs complete rows")
    return matrix


def _check_widths(samples: Tensor, other: Tensor, name: str) -> None:
    if samples.shape[1] != other.shape[1]:
        raise InputError(f"{name} have {other.shape[1]} columns, and the samples {samples.shape[1]}; pass equal widths")
