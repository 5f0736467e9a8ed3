"""Sparse coding: the code of a row is found by optimisation, and the dictionary by online learning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch

from isthmus.data.preprocessing import Preprocessor
from isthmus.errors import InputError
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.dictionary_models import DictionaryModel
from isthmus.estimators.given_atoms import GivenAtoms
from isthmus.estimators.model_files import Packed
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.value_arguments import clone_with_fitted
from isthmus.learning.dictionary_learning import OnlineDictionary
from isthmus.learning.objectives import Objective
from isthmus.learning.phases import Phase
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.coder import Coder
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import Penalty
from isthmus.values.sparse_inferences import FISTA, ISTA, CoordinateDescent, SparseInferenceValue
from isthmus.values.sparsities import NormPrior


@dataclass(kw_only=True, eq=False, repr=False)
class SparseCoding(DictionaryModel):
    r"""Sparse coding: each row is explained by few atoms of a dictionary, and the code is found by optimisation.

        h(x) = argmin_h 1/2 ||x - c - D h||^2 + Omega(h),   Omega(h) = sum_j |h_j| by default
        J = E_x [ 1/2 ||x - c - D h(x)||^2 + Omega(h(x)) ],   ||d_j|| = 1

    There is no encoder: inference solves a convex problem for each row, so that units compete to explain it, and an
    atom that is explained by others is 0. Codes are better than those of a sparse autoencoder with as many active
    units, and take longer. The dictionary is learned online, in closed form, with no learning rate.

    The criterion is the negative log density of a directed model, with a Laplace prior of h and a Gaussian of x given
    h. After training its scales are fitted to the codes, for `sample` and `log_prob`.

    Args:
        code_size: number of atoms. None takes the columns of model space, at least 64 and at most 256.
        sparsity: the penalty Omega: "l1", "elastic-net", "group-l2", "topographic", or a value such as `L1(0.5)`,
            `ElasticNet(weight=0.5, l2=0.1)`, `GroupL2(weight=0.5, size=4)`, `Topographic(shape=(8, 8))`. None takes
            `L1` with a tenth of the root mean squared norm of the centred rows as the weight.
        inference: the solver: "fista", "ista", "coordinate-descent", or a value such as `FISTA(gap=1e-6)`;
            "matching-pursuit" or `MatchingPursuit(k=10)` takes at most k atoms a row in place of a penalty.
        non_negative: codes have the constraint h >= 0.
        update: "online" updates the dictionary in closed form from running sums (Mairal et al. 2009); "gradient" by
            the optimiser, with atoms projected to norm 1.
        atoms: a dictionary that is given and stays: a fitted model or its file, whose atoms and preprocessing are
            used, or an array (atoms, columns) in model space. Its atoms then compete to explain a row ("explaining
            away"). None learns the dictionary.
        likelihood: "gaussian", the only one; "auto" is the same.
        max_epochs: None takes as many as make about 150 steps, between 5 and 20.
        batch_size: None takes about a tenth of the rows, between 16 and 512: large batches cost less for each row.
        learning_rate, optimizer: of `update="gradient"`; None takes .002.
        missing: with "mask" the code is that of the observed entries. It needs "fista" or "ista".

    The other arguments are those of `BaseAutoencoder`.

    Attributes:
        components_: the atoms as rows, (code_size, columns), as in scikit-learn.

    Raises:
        InputError: at `fit`, for invalid arguments or rows: a penalty without a convex problem, such as `TopK`; a
            weight that is not above 0; groups that do not divide the code; given atoms of another width.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 13.4; Olshausen & Field (1996, 1997); Mairal, Bach,
    Ponce & Sapiro, Online dictionary learning for sparse coding (2009); Coates & Ng, The importance of encoding versus
    training with sparse coding and vector quantization (2011), for given atoms.

    Example:
        >>> import numpy as np
        >>> from isthmus import L1, SparseCoding
        >>> X = np.random.default_rng(0).normal(size=(200, 6))
        >>> model = SparseCoding(code_size=12, sparsity=L1(0.5), max_epochs=5, random_state=0).fit(X)
        >>> codes = model.transform(X)
        >>> codes.shape, bool((codes == 0).mean() > 0.2), model.components_.shape
        ((200, 12), True, (12, 6))
    """

    inference: Any = "fista"
    atoms: Any = None

    _atoms_of_fit: ClassVar[GivenAtoms | None] = None
    """The dictionary that is given, in a fit, which reads it once: from `_check_parameters` to `_complete`."""

    kind: ClassVar[str] = "sparse-coding"
    unpacked_arguments: ClassVar[tuple[str, ...]] = ("atoms",)
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **DictionaryModel.accepted_strings,
        "inference": ("fista", "ista", "coordinate-descent", "matching-pursuit"),
    }

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        decoder = MLP((shape.code_size, shape.n_columns), "linear", generator=generator)
        given, prior = self._given, self._prior
        if given is not None:
            given.check_width(shape.n_columns)
            decoder.affine_maps[0].weight.data.copy_(given.atoms.T)
        inference = self._solver.build(decoder, prior, non_negative=self.non_negative)
        penalties = {} if prior is None else {"sparsity": prior.penalty(self.non_negative)}
        coder = Coder(inference, decoder, likelihood)
        return Recipe(coder, self._criterion(coder, penalties), density=self._new_density(shape.code_size))

    def _criterion(self, coder: Coder, penalties: Mapping[str, Penalty]) -> Objective:
        """Return the criterion; given atoms are not updated."""
        if self.atoms is None:
            return super()._criterion(coder, penalties)
        return OnlineDictionary(coder, penalties=penalties, learns=False)

    @property
    def _solver(self) -> SparseInferenceValue:
        """The solver."""
        solver = self.value_of("inference")
        if not isinstance(solver, SparseInferenceValue):
            raise InputError(
                f"inference={self.inference!r}: kind {self.kind} finds codes by optimisation; give one of "
                f"{', '.join(map(repr, self.accepted_strings['inference']))}, or a value such as FISTA()"
            )
        return solver

    @property
    def _prior(self) -> NormPrior | None:
        return super()._prior if self._solver.has_prior else None

    @property
    def _given(self) -> GivenAtoms | None:
        """The dictionary that is given; None if it is learned."""
        if self.atoms is None:
            return None
        return GivenAtoms.of(self.atoms) if self._atoms_of_fit is None else self._atoms_of_fit

    def _check_parameters(self) -> None:
        super()._check_parameters()
        self._check_solver()
        if self.atoms is not None:
            self._check_given()
        elif self.update == "online":
            self._refuse_optimizer("the online update has none; leave it out, or give update='gradient'")

    def _check_solver(self) -> None:
        """Refuse options that the solver does not have."""
        solver, prior = self._solver, self._prior
        if prior is None and (self.sparsity is not None or self.non_negative):
            raise InputError(
                f"inference={solver!r} bounds the number of active units and has no penalty; leave sparsity and "
                "non_negative out"
            )
        if prior is not None and prior.any_sign and isinstance(solver, CoordinateDescent):
            raise InputError(f"inference={solver!r} is for penalties of single units; give inference='fista' or 'ista'")
        if self.missing == "mask" and not isinstance(solver, FISTA | ISTA):
            raise InputError(
                f"missing='mask' needs inference='fista' or 'ista', and inference is {solver!r}; give one of these, "
                "or missing='mean'"
            )

    def _check_given(self) -> None:
        """Refuse arguments of a dictionary that is learned, and keep the given one for the fit that begins."""
        given = GivenAtoms.of(self.atoms)
        self.__dict__["_atoms_of_fit"] = given
        if self.update != "online":
            raise InputError(f"update={self.update!r}: atoms are given and stay; leave update out")
        if self.code_size not in (None, len(given.atoms)):
            raise InputError(f"code_size={self.code_size!r}: {len(given.atoms)} atoms are given; leave code_size out")
        self._refuse_optimizer("atoms are given and stay; leave it out")

    def _refuse_optimizer(self, reason: str) -> None:
        """Refuse arguments of the optimiser where it is not used."""
        for argument in ("learning_rate", "optimizer"):
            if getattr(self, argument) not in (None, "adamw"):
                raise InputError(f"{argument}={getattr(self, argument)!r}: {reason}")

    # -- training -----------------------------------------------------------------------------------

    def _learned_preprocessing(self, X: Any, weights: np.ndarray | None, windows: Any = None) -> Preprocessor:
        given = self._given
        if given is None or given.preprocessing is None:
            return super()._learned_preprocessing(X, weights, windows)
        return given.preprocessing

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        given = self._given
        return super()._suggest_code_size(rows) if given is None else (len(given.atoms), "the given atoms")

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        if self.atoms is not None:
            training_config = replace(training_config, max_epochs=1, max_steps=1)
        return super()._phases(recipe, training_config, generator)

    def _complete(self, recipe: Recipe, rows: SurveyedRows) -> None:
        super()._complete(recipe, rows)
        self.__dict__.pop("_atoms_of_fit", None)

    def _notes(self, recipe: Recipe) -> list[str]:
        if self.atoms is None:
            return super()._notes(recipe)
        return ["atoms are given; the fit took the mean of the rows and the scales of the codes alone"]

    def __sklearn_clone__(self) -> SparseCoding:
        """Return an unfitted copy; a fitted model as `atoms` is kept, for the folds of a search."""
        return clone_with_fitted(self, "atoms")

    # -- files --------------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        tensors, header = super()._pack()
        return tensors, header | {"given_atoms": self.atoms is not None}

    @classmethod
    def _unpack(cls, tensors: dict[str, torch.Tensor], header: dict[str, Any]) -> Self:
        model = super()._unpack(tensors, header)
        if header["given_atoms"]:
            model.atoms = model.dictionary()
        return model
