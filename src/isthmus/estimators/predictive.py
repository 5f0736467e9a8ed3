"""Predictive sparse decomposition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Float
from sklearn.utils.validation import check_is_fitted
from torch import nn

from isthmus.errors import InputError
from isthmus.estimators.dictionary_models import DictionaryModel
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import EncoderArguments
from isthmus.estimators.training_config import TrainingDefaults
from isthmus.evaluation.features import as_kernels
from isthmus.parts.coder import Coder
from isthmus.parts.filter_maps import ByMap, FilterDecoder, n_weights
from isthmus.parts.layers import ACTIVATIONS, check_choice, check_count, check_positive
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import LinearDecoder
from isthmus.parts.predictive_inference import GainTanh, PredictionError, PredictiveInference, SoftShrinkage
from isthmus.parts.sparse_norms import L1Norm
from isthmus.values.networks import LISTA, EncoderDecoder, Ends, FeatureMaps

READINGS = ("encoder", "optimal")
"""Codes that `transform` returns."""

ATOM_DEFAULTS = TrainingDefaults(n_batches=20, batch_sizes=(16, 256), n_steps=1000, epochs=(10, 60))
FILTER_DEFAULTS = TrainingDefaults(n_batches=20, batch_sizes=(16, 16), n_steps=400, epochs=(2, 40))
"""Batches and epochs of atoms of whole rows, and of filters."""

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

    With `network=FeatureMaps(16, kernel_size=7)` it is convolutional, in one, two or three dimensions: atoms are
    filters of norm 1 at every position of a series, an image or a volume, D h is their transposed convolution, and the
    encoder is one convolution. The code is the maps of all filters, and the dictionary is updated by gradient.

    Args:
        code_size: number of atoms. None takes the columns of model space, at least 64 and at most 256.
        sparsity: the penalty Omega: "l1", "elastic-net", "group-l2", "topographic", or a value such as `L1(0.5)` and
            `Topographic(shape=(8, 8))`. None takes `L1` with a tenth of the root mean squared norm of the centred
            rows as its weight.
        prediction_weight: gamma, relative to 1/2 ||x - r||^2.
        code_activation: of the encoder's output: "shrinkage", soft thresholds that are learned; "gain-tanh", tanh with
            a learned gain, as in the paper; or another activation, such as "linear".
        network: the encoder, "mlp" of one layer, or a value such as `MLP((500,))`; its decoder is not used, because
            the dictionary is the decoder. `FeatureMaps` has both: a convolution and filters as dictionary.
        n_inference_steps: steps of the optimisation from the prediction, in training.
        transform_inference: "encoder": codes are f(x); "optimal": codes are the minimum, found from f(x). `set_params`
            changes it after `fit`.
        non_negative: codes have the constraint h >= 0.
        update: "online" updates the dictionary in closed form from running sums, and the encoder by the optimiser;
            "gradient" both by the optimiser. None is "online", and "gradient" for filters.
        learning_rate: None takes .01.
        max_epochs: None takes as many as make about 1,000 steps, between 10 and 60; for filters 400 steps, between 2
            and 40.
        likelihood: "gaussian", the only one; "auto" is the same.

    The other arguments are those of `BaseAutoencoder`.

    Attributes:
        components_: the atoms as rows, (code_size, columns); of `FeatureMaps` the filters, (maps, h, w) or
            (maps, h, w, c), of series (maps, t) or (maps, t, c), of volumes (maps, d, h, w).

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

    update: str | None = None  # type: ignore[assignment]
    prediction_weight: float = 1.0
    code_activation: str = "shrinkage"
    n_inference_steps: int = 10
    transform_inference: str = "encoder"

    kind: ClassVar[str] = "psd"
    default_rate: ClassVar[float] = 1e-2
    network_defaults: ClassVar[Mapping[str, Any]] = {"hidden_sizes": (), "tied": False}

    @property
    def training_defaults(self) -> TrainingDefaults:  # type: ignore[override]
        """Default batches and epochs: each position of a filter is an example, so that fewer rows are needed."""
        return ATOM_DEFAULTS if self._filters is None else FILTER_DEFAULTS

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood, prior = likelihood_from(shape.likelihood, shape.n_columns), self._prior
        assert prior is not None
        pair = self._pair(Ends(shape.n_columns, shape.code_size, likelihood, shape.image_shape), shape, generator)
        decoder, activation = self._ends_of_code(pair, shape, prior.weight, generator)
        inference = PredictiveInference(
            pair.encoder, activation, decoder, prior.weight,
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

    def _ends_of_code(
        self, pair: EncoderDecoder, shape: Shape, threshold: float, generator: torch.Generator
    ) -> tuple[LinearDecoder, nn.Module]:
        """Return the dictionary and the activation of the code; a filter has one threshold or gain for all places."""
        decoder = pair.decoder
        if isinstance(decoder, FilterDecoder):
            n_maps = decoder.grid.n_maps
            return decoder, ByMap(self._activation(n_maps, threshold), n_maps)
        decoder = MLP((shape.code_size, shape.n_columns), "linear", generator=generator)
        return decoder, self._activation(shape.code_size, threshold)

    def _activation(self, code_size: int, threshold: float) -> nn.Module:
        """Return the activation of the encoder's output; thresholds start at the weight of the penalty."""
        if self.code_activation == "shrinkage":
            return SoftShrinkage(code_size, threshold, non_negative=self.non_negative)
        return GainTanh(code_size) if self.code_activation == "gain-tanh" else ACTIVATIONS[self.code_activation]()

    @property
    def _filters(self) -> FeatureMaps | None:
        """The network of filters; None where atoms cover whole rows."""
        network = self.value_of("network")
        return network if isinstance(network, FeatureMaps) else None

    @property
    def _resolved_update(self) -> str:
        by_default = "online" if self._filters is None else "gradient"
        return by_default if self.update is None else self.update

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

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_positive("prediction_weight", self.prediction_weight)
        check_count("n_inference_steps", self.n_inference_steps)
        check_choice("transform_inference", self.transform_inference, READINGS)
        check_choice("code_activation", self.code_activation, (*OWN_ACTIVATIONS, *ACTIVATIONS))
        if self._filters is not None:
            self._check_filters()
        if getattr(self._network, "tied", False):
            raise InputError(f"network={self.network!r}: the dictionary has weights of its own; leave tied out")

    def _check_filters(self) -> None:
        """Refuse arguments that need a matrix of atoms, or units without places."""
        if self.update == "online":
            raise InputError(
                f"update='online': the dictionary of {self.network!r} is updated by gradient; leave it out"
            )
        prior = self._prior
        if prior is not None and not isinstance(prior.norm(self.non_negative), L1Norm):
            raise InputError(
                f"sparsity={prior!r}: its groups are of units in a row, and those of {self.network!r} have places; "
                "give L1 or ElasticNet"
            )

    # -- training -----------------------------------------------------------------------------------

    @property
    def _n_atoms(self) -> int:
        return super()._n_atoms if self._filters is None else self._filters.n_maps

    def _covered(self, n_columns: int) -> float:
        network = self._filters
        if network is None:
            return 1.0
        return n_weights(network.grid(self.preprocessing_.inputs.map_shape, n_columns)) / n_columns

    @property
    def _reason_of_weight(self) -> str:
        return super()._reason_of_weight + ("" if self._filters is None else ", on as many columns as a filter covers")

    # -- reading ------------------------------------------------------------------------------------

    @property
    def components_(self) -> Float[np.ndarray, "atoms ..."]:
        """The atoms as rows, in model space; of `FeatureMaps` the filters."""
        if self._filters is None:
            return super().components_
        check_is_fitted(self)
        return as_kernels(self.coder_.decoder.weight.detach().cpu().numpy())
