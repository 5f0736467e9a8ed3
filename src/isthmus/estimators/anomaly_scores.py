"""The parts of the score of `AnomalyDetector`: fitted to rows, read for others, written to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from isthmus.data.preprocessing import Preprocessor
from isthmus.estimators import model_files
from isthmus.estimators.cell_denoiser import CellDenoiser, CellRows, hidden_predictions, merged
from isthmus.estimators.denoising import DenoisingAutoencoder
from isthmus.evaluation.conditional_gaussian import MAX_COVARIANCE_COLUMNS, ConditionalGaussian, fit_gaussian
from isthmus.evaluation.oddness import KEPT, N_FITS, RowDensities, Standardization
from isthmus.files import content_digest
from isthmus.learning.trainer import strip_prefix

MIN_DENOISER_ROWS = 300
"""Least number of rows that the denoiser of hidden cells is trained on."""

DENOISER: dict[str, Any] = {
    "hidden_sizes": (64,), "code_size": 64, "rate": 0.3, "max_epochs": 500, "max_steps": 500, "batch_size": 256,
    "learning_rate": 3e-3,
}  # fmt: skip
"""Arguments of the denoiser."""

PASSES = 10
"""Largest number of passes over the rows in which each cell is hidden once, for the score."""

MAX_VARIANCE_ROWS = 5000
"""Number of training rows for the variances of the denoiser's errors."""

MIN_VARIANCE = 1e-3
"""Smallest variance of the error of a cell, in units of the squared standard deviation of its column."""

Packed = tuple[dict[str, Tensor], dict[str, Any]]
Groups = Sequence[Sequence[int]]


@dataclass(frozen=True)
class ModelRows:
    """Rows of the user with what they are in model space.

    Attributes:
        given: the rows, as `inputs.validate_input` returned them.
        x: (rows, columns), float32; values of missing entries are placeholders.
        mask: the observed entries; None if all are.
    """

    given: Any
    x: Float[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows columns"] | None

    def __len__(self) -> int:
        return len(self.x)

    @property
    def digest(self) -> str:
        """A digest of the values and of the missing entries."""
        mask = {} if self.mask is None else {"mask": self.mask}
        return content_digest({"x": self.x.contiguous(), **mask}, {})[:16]

    def take(self, index: Int[Tensor, " taken"]) -> ModelRows:
        """Return the rows of these numbers."""
        numbers = index.numpy()
        given = self.given.iloc[numbers] if hasattr(self.given, "iloc") else self.given[numbers]
        return ModelRows(given, self.x[index], None if self.mask is None else self.mask[index])


class TableScores:
    """The default score: trimmed densities, neighbours, and the errors of a denoiser in hidden cells.

    Each part is fitted to columns that are standardized and squashed beyond three standard deviations. The denoiser is
    trained on the rows that the trimmed Gaussian fits best, and its part is the sum of the squared errors of all cells,
    each hidden once, in units of the variance of the errors of its column. `needs_denoiser` says
    when there is one.
    """

    kind: ClassVar[str] = "table"

    def __init__(
        self,
        standardization: Standardization,
        densities: RowDensities,
        denoiser: DenoisingAutoencoder | None,
        variance: Float[Tensor, " columns"],
        groups: Groups,
    ) -> None:
        self.standardization, self.densities, self.denoiser = standardization, densities, denoiser
        self.variance, self.groups = variance, groups

    @property
    def gaussian(self) -> ConditionalGaussian:
        """The trimmed Gaussian of the standardized rows."""
        return self.densities.gaussian

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts."""
        return (*self.densities.names, *(() if self.denoiser is None else ("hidden cells",)))

    @classmethod
    def fitted(cls, rows: ModelRows, groups: Groups, generator: Generator, *, with_denoiser: bool, device: str) -> Self:
        """Fit all parts."""
        standardization = Standardization.of(rows.x, rows.mask)
        z = standardization(rows.x)
        densities = RowDensities.fitted(z, rows.mask, generator)
        seed = int(torch.randint(2**31, (), generator=generator))
        found = cls(standardization, densities, None, torch.ones(z.shape[1]).double(), groups)
        if not with_denoiser:
            return found
        distance = densities.gaussian.normal_score(z, rows.mask)
        near = distance <= distance.kthvalue(round(KEPT * len(z))).values
        z, mask = z[near], None if rows.mask is None else rows.mask[near]
        found.denoiser = _fitted_denoiser(z, mask, groups, seed, device)
        part = slice(MAX_VARIANCE_ROWS)
        squares = found.squared_errors(z[part], None if mask is None else mask[part])
        found.variance = squares.nanmean(0).nan_to_num(1.0).clamp(min=MIN_VARIANCE)
        return found

    def squared_errors(self, z: Tensor, mask: Tensor | None) -> Float[Tensor, "rows columns"]:
        """Return the squared errors of the denoiser, NaN of missing cells."""
        assert self.denoiser is not None
        errors = (hidden_predictions(self.denoiser, z, mask, merged(self.groups, PASSES)) - z).square()
        return errors if mask is None else torch.where(mask, errors, float("nan"))

    def raw(self, rows: ModelRows) -> Float[np.ndarray, "rows parts"]:
        """Return the score of each row by each part; higher is odder."""
        z = self.standardization(rows.x)
        scores = self.densities.scores(z, rows.mask)
        if self.denoiser is None:
            return scores
        errors = (self.squared_errors(z, rows.mask) / self.variance).nanmean(1)
        return np.column_stack([scores, errors.numpy()])

    def pack(self) -> Packed:
        """Return tensors and plain data for `unpack`."""
        tensors, config = self.densities.to_file()
        tensors = {f"densities.{name}": part for name, part in tensors.items()}
        tensors |= {
            "mean": self.standardization.mean, "scale": self.standardization.scale, "variance": self.variance,
        }  # fmt: skip
        header: dict[str, Any] = {"densities": config, "groups": [list(group) for group in self.groups]}
        if self.denoiser is not None:
            nested, header["denoiser"] = self.denoiser._pack()
            tensors |= {f"denoiser.{name}": part for name, part in nested.items()}
        return tensors, header

    @classmethod
    def unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        """Return the parts of what `pack` returned."""
        densities = RowDensities.from_file(strip_prefix("densities.", tensors), header["densities"])
        nested = header.get("denoiser")
        denoiser = None if nested is None else model_files.unpack(strip_prefix("denoiser.", tensors), nested)
        standardization = Standardization(tensors["mean"], tensors["scale"])
        return cls(standardization, densities, denoiser, tensors["variance"], header["groups"])


def _fitted_denoiser(z: Tensor, mask: Tensor | None, groups: Groups, seed: int, device: str) -> CellDenoiser:
    """Return a denoiser of hidden cells that is fitted to standardized rows."""
    observed = torch.ones_like(z, dtype=torch.bool) if mask is None else mask
    preprocessing = Preprocessor.from_data(z.numpy(), scaling="none", missing="mask", layout="table")
    denoiser = CellDenoiser.of_hidden_cells(
        groups=groups, likelihood="gaussian", random_state=seed, device=device, **DENOISER
    )
    return denoiser.fit_cells(preprocessing, CellRows(z, observed), observed[:0])


def needs_denoiser(n_rows: int, groups: Groups) -> bool:
    """Return whether rows are enough for the denoiser, and have more than one cell and not too many columns.

    Example:
        >>> needs_denoiser(1000, [[0], [1]]), needs_denoiser(1000, [[0, 1]]), needs_denoiser(100, [[0], [1]])
        (True, False, False)
    """
    return n_rows >= MIN_DENOISER_ROWS and len(groups) > 1 and sum(map(len, groups)) <= MAX_COVARIANCE_COLUMNS


class CodeScores:
    """The score of an autoencoder: the density of the codes and the likelihood of the rows given the codes.

    The density is a trimmed Gaussian of the standardized codes; the likelihood is `nll` of the autoencoder.
    """

    kind: ClassVar[str] = "code"
    names: ClassVar[tuple[str, ...]] = ("code density", "residual likelihood")

    def __init__(self, model: Any, standardization: Standardization, density: ConditionalGaussian) -> None:
        self.model, self.standardization, self.density = model, standardization, density

    @classmethod
    def fitted(cls, model: Any, rows: ModelRows) -> Self:
        """Fit an autoencoder, and the density of its codes.

        Raises:
            KeyboardInterrupt: Ctrl-C ended the training of the autoencoder.
        """
        model.fit(rows.given)
        if model.history_["stopped"] == "interrupted":
            raise KeyboardInterrupt
        codes = torch.from_numpy(model.transform(rows.given))
        standardization = Standardization.of(codes, None)
        return cls(model, standardization, fit_gaussian(standardization(codes), kept=KEPT, n_fits=N_FITS))

    def raw(self, rows: ModelRows) -> Float[np.ndarray, "rows 2"]:
        """Return the score of each row by each part; higher is odder."""
        codes = self.standardization(torch.from_numpy(self.model.transform(rows.given)))
        return np.column_stack([self.density.normal_score(codes).numpy(), self.model.nll(rows.given)])

    def pack(self) -> Packed:
        """Return tensors and plain data for `unpack`."""
        nested, header = self.model._pack()
        tensors = {f"model.{name}": part for name, part in nested.items()}
        tensors |= {
            "mean": self.standardization.mean, "scale": self.standardization.scale,
            "density.mean": self.density.mean, "density.loadings": self.density.loadings,
        }  # fmt: skip
        return tensors, {"model": header, "noise_variance": self.density.noise_variance}

    @classmethod
    def unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        """Return the parts of what `pack` returned."""
        model = model_files.unpack(strip_prefix("model.", tensors), header["model"])
        density = ConditionalGaussian(tensors["density.mean"], tensors["density.loadings"], header["noise_variance"])
        return cls(model, Standardization(tensors["mean"], tensors["scale"]), density)
