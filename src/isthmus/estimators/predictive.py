"""Predictive sparse decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.estimators.dictionary_models import DictionaryModel
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import EncoderArguments
from isthmus.estimators.training_config import TrainingDefaults
from isthmus.parts.coder import Coder
from isthmus.parts.layers import ACTIVATIONS, check_choice, check_count, check_positive
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.predictive_inference import GainTanh, PredictionError, PredictiveInference, SoftShrinkage
from isthmus.values.networks import LISTA, Ends

READINGS = ("encoder", "optimal")
"""Codes that `transform` returns."""

OWN_ACTIVATIONS = ("shrinkage", "gain-tanh")
"""Activations with learned parameters."""


@dataclass(kw_only=True, eq=False, repr=False)
class PredictiveSparseDecomposition(EncoderArguments, DictionaryModel):
    r"""Predictive sparse decomposition: sparse coding with an encoder that predicts the optimal code.

        J = E_x min_h [ 1/2 ||x - c - D h||^2 + Omega(h) + gamma/2 ||h - f(x)||^2 ],   ||d_j|| = 1

    In training h is optimised by a few steps from the prediction f(x); then the dictionary fits the rows, and the
    encoder the codes. `transform` needs one pass through the encoder, in place of an optimisation for each row. The
    third term also keeps codes where an encoder can predict them.

    A stack of these is a pipeline: `make_pipeline(PredictiveSparseDecomposition(...), ...)`.

    Args:
        code_size: number of atoms. None takes the columns of model space, at least 64 and at most 256.
        sparsity: the penalty Omega: "l1", "elastic-net", "group-l2", "topographic", or a value such as `L1(0.5)` and
            `Topographic(shape=(8, 8))`. None takes `L1` with a tenth of the root mean squared norm of the centred
            rows as its weight.
        prediction_weight: gamma, relative to 1/2 ||x - r||^2.
        code_activation: of the encoder's output: "shrinkage", soft thresholds that are learned; "gain-tanh", tanh with
            a learned gain, as in the paper; or another activation, such as "linear".
        network: the encoder, "mlp" of one layer, or a value such as `MLP((500,))`. The decoder is always the
            dictionary.
        n_inference_steps: steps of the optimisation from the prediction, in training.
        transform_inference: "encoder": codes are f(x); "optimal": codes are the minimum, found from f(x). `set_params`
            changes it after `fit`.
        non_negative: codes have the constraint h >= 0.
        update: "online" updates the dictionary in closed form from running sums, and the encoder by the optimiser;
            "gradient" both by the optimiser.
        learning_rate: None takes .01.
        max_epochs: None takes as many as make about 1,000 steps, between 10 and 60.
        likelihood: "gaussian", the only one; "auto" is the same.

    The other arguments are those of `BaseAutoencoder`.

    Attributes:
        components_: the atoms as rows, (code_size, columns).

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Kavukcuoglu, Ranzato & LeCun, Fast inference in sparse coding algorithms with applications to object
    recognition (2008); Goodfellow, Bengio & Courville, Deep Learning, section 14.8.

    Example:
        >>> import numpy as np
        >>> from isthmus import L1, PredictiveSparseDecomposition
        >>> X = np.random.default_rng(0).normal(size=(200, 6))
        >>> model = PredictiveSparseDecomposition(code_size=12, sparsity=L1(0.5), max_epochs=5, random_state=0).fit(X)
        >>> model.transform(X).shape, sorted(model.history_["epochs"][-1]["terms"])
        ((200, 12), ['prediction', 'reconstruction', 'sparsity'])
    """

    prediction_weight: float = 1.0
    code_activation: str = "shrinkage"
    n_inference_steps: int = 10
    transform_inference: str = "encoder"

    kind: ClassVar[str] = "psd"
    default_rate: ClassVar[float] = 1e-2
    network_defaults: ClassVar[Mapping[str, Any]] = {"hidden_sizes": (), "tied": False}
    training_defaults: ClassVar[TrainingDefaults] = TrainingDefaults(
        n_batches=20, batch_sizes=(16, 256), n_steps=1000, epochs=(10, 60)
    )

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood, prior = likelihood_from(shape.likelihood, shape.n_columns), self._prior
        assert prior is not None
        pair = self._pair(Ends(shape.n_columns, shape.code_size, likelihood, shape.image_shape), shape, generator)
        decoder = MLP((shape.code_size, shape.n_columns), "linear", generator=generator)
        inference = PredictiveInference(
            pair.encoder, self._activation(shape.code_size, prior.weight), decoder, prior.weight,
            prediction_weight=self.prediction_weight, optimal=self.transform_inference == "optimal",
            norm=prior.norm(self.non_negative), l2=prior.l2, n_steps=self.n_inference_steps,
        )  # fmt: skip
        coder = Coder(inference, decoder, likelihood)
        terms = {
            "sparsity": prior.penalty(self.non_negative), "prediction": PredictionError(self.prediction_weight)
        }  # fmt: skip
        return Recipe(
            coder, self._criterion(coder, terms), density=self._new_density(shape.code_size),
            hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes,
        )  # fmt: skip

    @property
    def _network(self) -> Any:
        """The network; `LISTA` starts with the weight of the penalty as its threshold."""
        network, prior = super()._network, self._prior
        if isinstance(network, LISTA) and network.threshold is None and prior is not None:
            return replace(network, threshold=prior.weight)
        return network

    def set_params(self, **params: Any) -> Self:
        """Set arguments, as `ValueArguments.set_params`; `transform_inference` acts on a fitted model, too."""
        super().set_params(**params)
        if hasattr(self, "coder_"):
            self.coder_.inference.optimal = self.transform_inference == "optimal"
        return self

    def _activation(self, code_size: int, threshold: float) -> nn.Module:
        """Return the activation of the encoder's output; thresholds start at the weight of the penalty."""
        if self.code_activation == "shrinkage":
            return SoftShrinkage(code_size, threshold, non_negative=self.non_negative)
        return GainTanh(code_size) if self.code_activation == "gain-tanh" else ACTIVATIONS[self.code_activation]()

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_positive("prediction_weight", self.prediction_weight)
        check_count("n_inference_steps", self.n_inference_steps)
        check_choice("transform_inference", self.transform_inference, READINGS)
        check_choice("code_activation", self.code_activation, (*OWN_ACTIVATIONS, *ACTIVATIONS))
        if getattr(self._network, "tied", False):
            raise InputError(f"network={self.network!r}: the dictionary has weights of its own; leave tied out")
