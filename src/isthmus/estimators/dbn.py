"""The deep belief network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.classifier import CodeClassifier
from isthmus.estimators.contrastive import Contrastive
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.rbm_layers import further_layers
from isthmus.estimators.records import Recipe, Shape
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.deep_densities import DBNDensity
from isthmus.learning.phases import Phase
from isthmus.learning.precision import resolve_device
from isthmus.learning.stacking import LayerInputs
from isthmus.learning.training_config import TrainingConfig
from isthmus.learning.wake_sleep import DBNObjective, can_be_transposed, start_transposed, unfold
from isthmus.parts.belief_networks import belief_network_coder, copy_network
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.likelihoods import Bernoulli, likelihood_from
from isthmus.parts.visible_units import units_class
from isthmus.values.networks import MLP


@dataclass(kw_only=True, eq=False, repr=False)
class DeepBeliefNetwork(Contrastive, BaseAutoencoder):
    r"""Deep belief network: RBMs trained greedily on each other's codes; the top two layers stay undirected.

        p(x, h_1 .. h_L) = p(x | h_1) ... p(h_(L-2) | h_(L-1)) p(h_(L-1), h_L),   code = h_L of h_k = sigma(a_k)

    The two top layers form an RBM; every layer below is sampled from the one above. In greedy training each new RBM
    replaces the prior over the codes and raises the bound on log p(x) as far as it models them better; it is trained on
    sampled codes. If it has a unit for each column of the rows below, which must be binary, it starts as the transpose
    of the RBM below, which is that very prior. The up-down algorithm then trains all layers together by local rules:
    the directed generative layers on rows sampled upwards (wake phase), the recognition layers on samples of the model
    (sleep phase). This method made deep networks trainable in 2006.

    Args:
        hidden_sizes: units of each layer but the last, lowest first (`code_size` is the last); None takes one
            layer as wide as the code.
        fine_tuning: the up-down algorithm after the layers: None skips it; or a value such as
            `FineTuning(epochs=20)`, whose default learning rate is a tenth of the layers' rate.
        n_draws: samples of the recognition network in the bound of each row.

    The other arguments are those of `Contrastive` (method, optimizer), which hold for each layer, and of
    `BaseAutoencoder`. Epochs are those of each layer.

    Attributes:
        score_kind_: "bound" if log Z of the top RBM is known (enumerated, or after `estimate_log_partition`):
            `score_samples` is then a lower bound on log p(x); else "unnormalised", the same without log Z.
        log_partition_: log Z of the top RBM, if it is known.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 20.3; Hinton, Osindero & Teh, A fast learning
    algorithm for deep belief nets (2006); Salakhutdinov & Murray, On the quantitative analysis of deep belief networks
    (2008).

    Example:
        >>> import numpy as np
        >>> from isthmus import DeepBeliefNetwork
        >>> X = np.repeat(np.random.default_rng(0).random((100, 2)) < 0.5, 3, axis=1).astype(float)
        >>> model = DeepBeliefNetwork(hidden_sizes=(5,), code_size=4, max_epochs=3, random_state=0).fit(X)
        >>> model.score_kind_, model.transform(X).shape, model.sample(5, random_state=0).shape
        ('bound', (100, 4), (5, 6))
        >>> bool(np.allclose(model.to_autoencoder().transform(X), model.transform(X), atol=1e-6))
        True
    """

    hidden_sizes: Sequence[int] | None = None
    fine_tuning: Any = None
    n_draws: int = 20

    kind: ClassVar[str] = "dbn"
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {"method": ("pcd", "cd")}
    overcomplete: ClassVar[bool] = True

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        hidden_sizes = tuple(map(int, shape.resolved("hidden_sizes", self.hidden_sizes, (shape.code_size,))))
        if units_class(shape.likelihood["name"]).total_is_given:
            raise InputError(
                "a deep belief network has no units for word counts; take an RBM (kind 'rbm'), or "
                "likelihood='bernoulli' on the presence of words"
            )
        first, *others = (*hidden_sizes, shape.code_size)
        options, likelihood = self._contrast_options(), likelihood_from(shape.likelihood, shape.n_columns)
        layers = [ContrastiveDivergence(RBMEnergy(likelihood, first, generator=generator), **options)]
        for n_units in others:
            below = layers[-1].rbm
            rbm = RBMEnergy(Bernoulli(below.n_hidden), n_units, generator=generator)
            transposed = can_be_transposed(below, n_units)
            layers.append(ContrastiveDivergence(rbm, sampled=True, starts_biases=not transposed, **options))
        network = DBNObjective(belief_network_coder([layer.rbm for layer in layers]), layers[-1])
        return Recipe(network.coder, network, tuple(layers), density=network.density, hidden_sizes=hidden_sizes)

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        layers = cast("tuple[ContrastiveDivergence, ...]", recipe.layers)
        below = LayerInputs([layer.coder for layer in layers], resolve_device(self.device))
        names = [self.likelihood_["name"], *["bernoulli"] * (len(layers) - 1)]
        phases = [
            Phase(
                f"layer {k} of {len(names)}", layer, self._optimizer_config(training_config, name), below.view(k - 1),
                on_start=None if layer.starts_biases else partial(start_transposed, k=k),
                on_end=unfold if layer is layers[-1] else None,
            )
            for k, (layer, name) in enumerate(zip(layers, names, strict=True), 1)
        ]  # fmt: skip
        fine_tuning = self.value_of("fine_tuning")
        if fine_tuning is not None:
            last = phases[0].training_config
            last = fine_tuning.configured(replace(last, learning_rate=0.1 * last.learning_rate))
            phases.append(Phase("up-down", recipe.objective, last, below.view(0)))
        return phases

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        """Return the up-down algorithm, or without it the layers again, from their weights."""
        if self.fine_tuning is not None:
            return super()._further_phases(recipe, training_config, generator)
        return further_layers(self._phases(recipe, training_config, generator), recipe.layers, kept=1)

    @property
    def _no_partial_fit(self) -> str:
        return (
            "a deep belief network has no partial_fit: its layers are trained one after the other; use "
            "fit with warm_start=True, or a deep Boltzmann machine (kind 'dbm')"
        )

    @property
    def _epochs_argument(self) -> str:
        fine_tuning = self.value_of("fine_tuning")
        return "max_epochs" if fine_tuning is None or fine_tuning.epochs is None else "fine_tuning__epochs"

    @property
    def _density(self) -> DBNDensity:
        return cast(DBNDensity, self.density_)

    # -- density, autoencoder, classifier ------------------------------------------------------------

    def score_samples(self, X: Any) -> Float[np.ndarray, " n"]:
        """Return a lower bound on log p(x) of each row, nats, in model space; without log Z if that is not known.

        Of a row with missing entries it bounds the log density of the observed entries.
        """
        return self._by_row(X, partial(self._density.log_bound, n_draws=self.n_draws))

    def to_autoencoder(self) -> Autoencoder:
        """Return the deterministic network as an `Autoencoder` with the same codes and reconstructions, untied.

        It is the start of fine-tuning by back-propagation: `StackedAutoencoder(layers="rbm")` does both.

        Raises:
            InputError: `missing="mask"`: the network cannot impute missing entries as the lowest RBM does.
        """
        check_is_fitted(self)
        if self.missing == "mask":
            raise InputError(
                "missing='mask': the lowest RBM imputes missing entries, and the deterministic network would give "
                "other codes; keep the deep belief network, or fit with missing='mean'"
            )
        model = Autoencoder(
            code_size=self.code_size_, network=MLP(self.hidden_sizes_, activation="sigmoid"), code_activation="sigmoid",
            likelihood=self.likelihood, scaling=self.scaling, missing=self.missing, dtypes=self.dtypes,
            unknown=self.unknown, random_state=self.seed_, device=self.device,
        )  # fmt: skip
        for name in ("preprocessing_", "likelihood_", "baseline_", "history_", "code_size_", "seed_", "n_rows_",
                     "n_features_in_", "feature_names_in_", "_n_features_out"):  # fmt: skip
            if hasattr(self, name):
                setattr(model, name, copy.copy(getattr(self, name)))
        model._keep(model._recipe(model._shape(), torch.Generator().manual_seed(self.seed_)))
        copy_network(self.coder_.to("cpu"), model.coder_)
        model.coder_.eval()
        return model

    def to_classifier(self, **arguments: Any) -> CodeClassifier:
        """Return an unfitted classifier that starts from this network's codes and fine-tunes them.

        With `missing="mask"` the deep belief network itself is its encoder.

        Args:
            arguments: of `CodeClassifier`, except `encoder`.
        """
        return CodeClassifier(encoder=self if self.missing == "mask" else self.to_autoencoder(), **arguments)
