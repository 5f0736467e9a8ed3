"""The deep Boltzmann machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.contrastive import Contrastive, default_learning_rate
from isthmus.estimators.records import Shape
from isthmus.learning.dbm_objective import DBMObjective, layer_objectives
from isthmus.learning.phases import Phase
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import Rows
from isthmus.learning.stacking import LayerInputs
from isthmus.learning.trainer import TrainingConfig
from isthmus.parts.deep_energies import DBMEnergy
from isthmus.parts.likelihoods import likelihood_from


@dataclass(kw_only=True, eq=False, repr=False)
class DeepBoltzmannMachine(Contrastive, BaseAutoencoder):
    r"""The deep Boltzmann machine: layers of units with one energy, in which every layer speaks to both its neighbours.

        E(v, h_1 .. h_L) = -b_0' v - v' W_1' h_1 - sum_k h_k' W_(k+1)' h_(k+1) - sum_k b_k' h_k
        mu_k = sigma(b_k + W_k mu_(k-1) + W_(k+1)' mu_(k+1)),   code = mu_L

    What a layer makes of a row depends on the layers above it as well: the code is found by going up and down until it
    settles (mean field), and ambiguous rows are settled from the top. It learns as every energy does: what rows ask of
    the settled units goes down, what persistent chains of the machine itself believe goes up. Where the layers begin
    decides whether the upper ones learn at all: here each pair of neighbours first learns as a machine of its own,
    with what comes from the missing side counted twice; or, with `pretraining_epochs=0`, all learn together from the
    start, in centred steps and, for the first half of them, from draws of the hidden units in place of mean field.

    Args:
        hidden_sizes: units of each layer but the last, lowest first, whose `code_size` is of its own; None takes one
            layer as wide as the code.
        pretraining_epochs: of each pair of layers; None takes `max_epochs`, 0 leaves it out.
        pretraining_learning_rate: None takes what a restricted machine of these units would have.
        n_iterations: rounds of mean field, and of the draws where the layers learn together from the start.
        learning_rate: of the whole machine; None takes what a restricted one would have. With "sgd", weights
            above a hidden layer of more than 100 units take steps shorter by that much.

    The other arguments are those of `Contrastive` (n_steps, n_chains, centred, optimizer, momentum; its method is
    "pcd") and of every kind: see there and `BaseAutoencoder`.

    Attributes:
        score_kind_: "bound" where log Z is known (summed, or after `estimate_log_partition`): `score_samples` is then
            a lower bound on log p(x); else "unnormalised", the same without log Z.
        log_partition_: log Z, where it is known.

    Raises:
        InputError: at `fit`, for arguments or rows that cannot be used, in one line.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 20.4; Salakhutdinov & Hinton, Deep Boltzmann
    machines (2009); Montavon & Mueller, Deep Boltzmann machines and the centering trick (2012).

    Example:
        >>> import numpy as np
        >>> from isthmus import DeepBoltzmannMachine
        >>> X = np.repeat(np.random.default_rng(0).random((100, 2)) < 0.5, 3, axis=1).astype(float)
        >>> model = DeepBoltzmannMachine(hidden_sizes=(5,), code_size=4, max_epochs=3, random_state=0).fit(X)
        >>> model.score_kind_, model.transform(X).shape, model.sample(5, random_state=0).shape
        ('bound', (100, 4), (5, 6))
        >>> [rates.shape for rates in model.marginals(X)]
        [(100, 5), (100, 4)]
    """

    hidden_sizes: Sequence[int] | None = None
    pretraining_epochs: int | None = None
    pretraining_learning_rate: float | None = None
    n_iterations: int = 10

    kind: ClassVar[str] = "dbm"
    overcomplete: ClassVar[bool] = True

    # -- the recipe ---------------------------------------------------------------------------------

    def _build_objective(self, shape: Shape, generator: torch.Generator) -> DBMObjective:
        if self.method != "pcd":
            raise InputError(
                f"method={self.method!r}: a deep Boltzmann machine learns by persistent chains, method='pcd'; "
                "contrastive divergence serves its layers one by one (pretraining_epochs)"
            )
        given = shape.resolved("hidden_sizes", self.hidden_sizes)
        self.hidden_sizes_ = tuple(int(size) for size in ((shape.code_size,) if given is None else given))
        likelihood = likelihood_from(shape.likelihood, shape.n_columns)
        machine = DBMEnergy(likelihood, (*self.hidden_sizes_, shape.code_size), generator=generator)
        chosen = self._contrast_options()
        del chosen["method"]
        return DBMObjective(machine, n_iterations=self.n_iterations, **chosen)

    def _phases(self, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        objective, name = cast(DBMObjective, self.objective_), self.likelihood_["name"]
        whole = self._optimizer_config(training_config, name)
        phases: list[Phase] = []
        if self.pretraining_epochs != 0:
            layers = layer_objectives(objective, centred=self.centred, weight_decay=self.weight_decay)
            below = LayerInputs(layers, resolve_device(self.device))
            for k, layer in enumerate(layers):
                rate = self.pretraining_learning_rate or default_learning_rate("bernoulli" if k else name)
                how = replace(
                    whole, max_epochs=self.pretraining_epochs or whole.max_epochs, optimizer="sgd", learning_rate=rate
                )
                phases.append(Phase(f"layer {k + 1} of {len(layers)}", layer, how, below.view(k)))
        return [*phases, Phase("all layers", objective, whole)]

    @property
    def _energy_model(self) -> Any:
        return self.objective_

    def _after_training(self, rows: Rows) -> None:
        objective = cast(DBMObjective, self.objective_)
        if not objective.is_joined:  # somebody pressed Ctrl-C while its layers learned one by one
            objective.prepare(rows)
        if not objective.is_normalised:
            objective.finish(rows)
        super()._after_training(rows)

    # -- the density, the codes of every layer, and what it becomes -------------------------------------

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """A lower bound on log p(x) by row, nats, in model space; without log Z where that is not known."""
        rows, objective = self._rows(X), cast(DBMObjective, self.objective_)
        return np.concatenate([objective.log_bound(batch)[:n].cpu().numpy() for batch, n in self._padded(rows)])

    def marginals(self, X: Any) -> list[Float[np.ndarray, "n units"]]:
        """The settled rates of every hidden layer, lowest first: (n, units) each.

        The last are the codes, but of the `encoder_` of a classifier, whose pass up has left the machine.
        """
        rows, objective = self._rows(X), cast(DBMObjective, self.objective_)
        blocks = [[mu[:n].cpu().numpy() for mu in objective.marginals(batch)] for batch, n in self._padded(rows)]
        return [np.concatenate(layer) for layer in zip(*blocks, strict=True)]

    def to_classifier(self, **arguments: Any) -> CodeClassifier:
        """An unfitted classifier that starts from this machine's codes and fine-tunes them from labels.

        What is fine-tuned is the pass up, layer after layer, to which the settled marginals of the layers above are
        given as inputs besides (Salakhutdinov & Hinton 2009, section 3.3). It has weights of its own, begun at the
        machine's, which stays as it is, and so does what its marginals say to the layers below. Only with
        `reconstruction_weight` the machine itself learns on; the marginals follow it, and no gradient goes through
        how they settled.

        Args:
            arguments: of `CodeClassifier`, but `encoder`.
        """
        return CodeClassifier(encoder=self, **arguments)
