"""Base class of kinds whose decoder is a learned dictionary: sparse coding and predictive sparse decomposition."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from isthmus.data.streams import BLOCK_SIZE, blocks
from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.code_sampling import CodeSamplingMixin
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.inputs import codes as checked_codes
from isthmus.estimators.records import Recipe
from isthmus.estimators.training_config import TrainingDefaults
from isthmus.evaluation.residuals import squared_residuals
from isthmus.learning.dictionary_learning import OnlineDictionary
from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.phases import Phase
from isthmus.learning.rows import Rows, sampled_batches
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.coder import Coder
from isthmus.parts.constraints import UnitColumns
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_choice
from isthmus.parts.likelihoods import LIKELIHOODS, likelihood_config
from isthmus.parts.penalties import Penalty
from isthmus.parts.priors import CodePrior
from isthmus.parts.sampling import randn_like
from isthmus.parts.sparse_density import SparseDensity
from isthmus.values.sparsities import L1, NormPrior
from isthmus.values.value import Value

UPDATES = ("online", "gradient")
"""Updates of the dictionary."""

DEFAULT_RATIO = 0.1
"""Weight of the default penalty, relative to the root mean squared norm of the centred rows."""

MAX_DENSITY_ROWS = 1024
"""Rows to whose codes the scales of the directed model are fitted, evenly spaced."""


@dataclass(kw_only=True, eq=False, repr=False)
class DictionaryModel(CodeSamplingMixin, BaseAutoencoder):
    r"""Base class of models x = D h + c + noise with a penalty on h and atoms of norm 1.

    Args:
        sparsity: the penalty Omega: "l1", "elastic-net", "group-l2", "topographic", or a value such as
            `L1(0.5)`; None takes `L1` with a tenth of the root mean squared norm of the centred rows as its weight.
        non_negative: codes have the constraint h >= 0.
        update: "online" updates the dictionary in closed form from running sums (Mairal et al. 2009); "gradient" by
            the optimiser, with atoms projected to norm 1.
    """

    likelihood: str | dict[str, Any] = "gaussian"
    sparsity: Any = None
    non_negative: bool = False
    update: str = "online"
    learning_rate: float | None = None  # type: ignore[assignment]

    overcomplete: ClassVar[bool] = True
    default_rate: ClassVar[float] = 2e-3
    """Learning rate of `learning_rate=None`."""
    training_defaults: ClassVar[TrainingDefaults] = TrainingDefaults(
        n_batches=10, batch_sizes=(16, 512), n_steps=150, epochs=(5, 20)
    )
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "sparsity": ("l1", "elastic-net", "group-l2", "topographic")
    }

    # -- construction -------------------------------------------------------------------------------

    @property
    def _resolved_update(self) -> str:
        """The update of the dictionary."""
        return self.update

    @property
    def _prior(self) -> NormPrior | None:
        """The penalty; None where inference has none."""
        prior = L1(getattr(self, "default_weight_", 1.0)) if self.sparsity is None else self.value_of("sparsity")
        if not isinstance(prior, NormPrior):
            raise InputError(
                f"sparsity={self.sparsity!r}: codes minimise a convex penalty; give one of "
                f"{', '.join(map(repr, DictionaryModel.accepted_strings['sparsity']))}, a value such as L1(0.5), or "
                "SparseCoding(inference=MatchingPursuit(k=10)) for k active units"
            )
        return prior

    def _criterion(self, coder: Coder, penalties: Mapping[str, Penalty]) -> Objective:
        """Return the criterion, with the update of the dictionary."""
        if self._resolved_update == "online":
            return OnlineDictionary(coder, penalties=penalties)
        return Reconstruction(coder, penalties=penalties, constraints=(UnitColumns(),))

    def _new_density(self, code_size: int) -> SparseDensity:
        return SparseDensity(code_size, non_negative=self.non_negative)

    def set_params(self, **params: Any) -> Self:
        """Set arguments, as `ValueArguments.set_params`; `sparsity__weight` of the default penalty is that of `L1`."""
        nested = any(name.startswith("sparsity__") for name in params)
        if nested and self.sparsity is None and "sparsity" not in params:
            params = {"sparsity": "l1", **params}
        return super().set_params(**params)

    def take_values(self, values: Mapping[str, Value]) -> None:
        """Set the values of a file; the weight of the default penalty is kept as that of the fit."""
        default = values.get("sparsity")
        if self.sparsity is None and isinstance(default, L1):
            self.default_weight_ = default.weight
            values = {name: value for name, value in values.items() if name != "sparsity"}
        super().take_values(values)

    def resolved_values(self) -> dict[str, Value]:
        """Return the values of the arguments; the default penalty where none is given."""
        values, prior = super().resolved_values(), self._prior
        return values if prior is None else values | {"sparsity": prior}

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("update", self._resolved_update, UPDATES)
        if isinstance(self.likelihood, dict) or self.likelihood in {*LIKELIHOODS} - {"gaussian"}:
            raise InputError(
                f"likelihood={self.likelihood!r}: kind {self.kind} minimises a squared error; leave likelihood out"
            )
        prior = self._prior
        if prior is None:
            return
        if not prior.weight > 0.0:
            raise InputError(f"sparsity={prior!r}: the weight must be above 0; with 0 no code is sparse")
        if prior.unit_columns is False:
            raise InputError(f"sparsity={prior!r}: atoms have the norm 1 here; leave unit_columns out")
        if prior.any_sign and self.non_negative:
            raise InputError(f"sparsity={prior!r} needs codes of any sign; leave non_negative out")

    # -- training -----------------------------------------------------------------------------------

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        norm = math.sqrt(rows.statistics.variance * self._covered(rows.n_columns))
        self.default_weight_ = float(f"{DEFAULT_RATIO * norm:.2g}") or 1.0
        return likelihood_config("gaussian" if self.likelihood == "auto" else self.likelihood, rows.deciding_row, None)

    @property
    def _n_atoms(self) -> int:
        """Number of atoms that are learned."""
        return self.code_size_

    def _covered(self, n_columns: int) -> float:
        """Return the fraction of a row that an atom covers."""
        return 1.0

    @property
    def _reason_of_weight(self) -> str:
        """The reason of the default weight."""
        return "a tenth of the norm of the centred rows"

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        return min(max(rows.n_columns, 64), 256), "the columns, at least 64 and at most 256"

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        return super()._phases(
            recipe, replace(training_config, learning_rate=self.learning_rate or self.default_rate), generator
        )

    def _notes(self, recipe: Recipe) -> list[str]:
        notes, prior = super()._notes(recipe), self._prior
        if self.sparsity is None and prior is not None:
            notes.append(f"sparsity was not given: {prior!r} chosen ({self._reason_of_weight})")
        if self._n_atoms > self.n_rows_:
            notes.append(
                f"there are more atoms ({self._n_atoms}) than rows ({self.n_rows_}), so that atoms can be rows; give "
                "a smaller code_size unless that is meant"
            )
        return notes

    @torch.no_grad()
    def _after_training(self, rows: SurveyedRows) -> None:
        """Fit the scales of codes and noise to some rows."""
        coder = self.coder_.to("cpu").eval()
        sizes, total, squares, n_entries = torch.zeros(self.code_size_), 0.0, 0.0, 0.0
        for batch in sampled_batches(rows, MAX_DENSITY_ROWS):
            output = coder(batch)
            weight = torch.ones(len(batch.x)) if batch.weight is None else batch.weight
            sizes += weight @ output.code.abs()
            total += float(weight.sum())
            residuals = squared_residuals(batch.x, output.parameters, batch.mask).sum(1)
            squares += float(weight @ residuals)
            n_entries += float(weight @ n_observed(batch))
        self._density.fit(sizes / total, torch.tensor(squares / max(n_entries, 1.0)))

    # -- reading ------------------------------------------------------------------------------------

    @property
    def components_(self) -> Float[np.ndarray, "code_size columns"]:
        """The atoms as rows, in model space, as in scikit-learn; the same as `dictionary()`."""
        check_is_fitted(self)
        return self.dictionary()

    @property
    def _density(self) -> SparseDensity:
        return cast(SparseDensity, self.density_).to("cpu")

    def _code_prior(self) -> CodePrior:
        return self._density

    def _draw(self, parameters: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return parameters + self._density.noise * randn_like(parameters, generator)

    @torch.no_grad()
    def log_prob(self, X: Any, H: ArrayLike | None = None) -> Float[np.ndarray, " n"]:
        r"""Return log p(x, h) of each row and its code, nats, in model space.

            log p(x, h) = log N(x; D h + c, s^2 I) + sum_j log Laplace(h_j; b_j)

        It is the joint density at one code, not the density of the row: an integral over codes has no closed form.
        Missing entries of a row are left out.

        Args:
            X: rows.
            H: codes, (n, code_size); None takes those of `transform`.

        Raises:
            InputError: codes of another shape, or not finite.

        Example:
            >>> import numpy as np
            >>> from isthmus import SparseCoding
            >>> X = np.random.default_rng(0).normal(size=(50, 4))
            >>> model = SparseCoding(code_size=8, max_epochs=2, random_state=0).fit(X)
            >>> bool((model.log_prob(X) > model.log_prob(X, model.transform(X) + 1)).all())
            True
        """
        check_is_fitted(self)
        rows, found = self._rows(X), []
        given = None if H is None else torch.from_numpy(checked_codes(H, self.code_size_))
        if given is not None and len(given) != len(rows):
            raise InputError(f"H has {len(given)} codes and X has {len(rows)} rows; give one code per row")
        coder, density = self.coder_.to("cpu").eval(), self._density
        for start, batch in zip(range(0, len(rows), BLOCK_SIZE), blocks(rows, BLOCK_SIZE), strict=True):
            code = coder.encode(batch).code if given is None else given[start : start + BLOCK_SIZE]
            residuals = squared_residuals(batch.x, coder.decode(code), batch.mask).sum(1)
            found.append(density.log_prob(code) + density.log_prob_of_residual(residuals, n_observed(batch)))
        return torch.cat(found).numpy()


def n_observed(batch: Batch) -> Float[torch.Tensor, " batch"]:
    """Return the number of observed entries of each row."""
    full = torch.full((len(batch.x),), float(batch.x.shape[1]))
    return full if batch.mask is None else batch.mask.sum(1)
