"""The variational autoencoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from isthmus.errors import InputError
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.code_sampling import CodeSamplingMixin
from isthmus.estimators.data_passes import SurveyedRows
from isthmus.estimators.joint_distributions import (
    DistributionOfAllCodes,
    DistributionOfCodes,
    DistributionOfRows,
    distribution_of_codes,
)
from isthmus.estimators.records import Recipe, Shape
from isthmus.estimators.regularized import NetworkArguments
from isthmus.learning.phases import Phase
from isthmus.learning.rows import Rows
from isthmus.learning.training_config import TrainingConfig
from isthmus.learning.variational import VariationalBound
from isthmus.parts.coder import Coder
from isthmus.parts.conditioned_encoder import ShiftedEncoder
from isthmus.parts.forward import Batch
from isthmus.parts.layers import check_count
from isthmus.parts.priors import CodePrior
from isthmus.parts.stochastic_inference import DistributionInference
from isthmus.values.inferences import DiagonalPosterior, PosteriorValue
from isthmus.values.networks import EncoderDecoder, Ends
from isthmus.values.priors import KL, NormalPrior, VampPrior
from isthmus.values.terms import penalties_of

DRAWS_AT_ONCE = 10
"""Samples of the code that are decoded at once by `score_samples`."""

RATE, RATE_OF_TABLES = 2e-3, 1e-2
"""Default learning rates, of tables the second."""

LEARNED_VARIANCE = {"gaussian": "gaussian-per-column", "gaussian-unit": "gaussian-learned"}
"""Likelihoods with learned variances in place of those that "auto" chooses."""


@dataclass(kw_only=True, eq=False, repr=False)
class VariationalAutoencoder(CodeSamplingMixin, NetworkArguments, BaseAutoencoder):
    r"""Variational autoencoder: a code that is a distribution, a prior of codes, and a density of rows.

        h ~ p(h),   x ~ p_dec(x | h),   q(h | x) = N(mu(x), diag(s(x)^2)) by default
        J = E_x E_{h ~ q(h|x)} [ -log p_dec(x | h) ] + w KL(q(h | x) || p(h)),   -log p(x) <= J for w = 1

    The encoder returns mean and variance of each unit. Noise of this variance is added to the code, so the decoder has
    to give similar rows for similar codes, and the divergence keeps codes near the prior. Then codes drawn from the
    prior decode to new rows: `sample`. `transform` returns the means mu(x).

    `inference` gives q(h | x) a full covariance, or makes the code discrete: binary units, or categorical variables.
    Of a discrete code `transform` returns the probabilities of its states, which `reconstruct` and `nll` decode;
    `sample` and `score_samples` use the states. Its prior is uniform.

    Variances of the rows decide how much the code holds. Real columns learn theirs, between 4.5e-5 and 22,000 in scaled
    units; a fixed unit variance of standardised columns would treat most of their structure as noise, and units of the
    code would collapse to the prior.

    With `importance_samples=k` the tighter bound -log 1/k sum_i p(x, h_i) / q(h_i | x) is trained (importance weighted
    autoencoder), by its doubly reparameterised gradient.

    Args:
        kl: "elbo", or a value such as `KL(beta=4, warmup=0.1, free_bits=0.1)`: weight of the divergence.
        inference: "diagonal", "full", "bernoulli", "categorical", or a value such as
            `CategoricalPosterior(n_levels=10)`: the distribution of the code of a row.
        prior: "normal", "mixture", "vamp", "flow", or a value such as `MixturePrior(k=20)`, `VampPrior(k=500)`,
            `FlowPrior()`. A discrete code has its uniform prior with "normal", the default, and no other one.
        importance_samples: k, samples of the code per row; 1 trains the evidence lower bound.
        condition: names of columns of a table that encoder and decoder get as inputs and that are not reconstructed:
            q(h | x, c) and p_dec(x | h, c). Then `sample(condition={name: value})` draws rows of a given class. Other
            rows carry their conditions as `isthmus.data.Conditioned(X, {name: values})`. None conditions on nothing.
        network, hidden_sizes: the networks; `hidden_sizes` is the shorthand of `MLP(hidden_sizes=...)`, by default two
            layers by the width of the data. The encoder's outputs are the parameters of q, by default two for each
            unit.
        penalties: further terms of the criterion, in a list; see `Autoencoder`.
        likelihood: "auto" takes "bernoulli" for binary columns, "gaussian-per-column" for real ones, "gaussian-learned"
            for values in [0, 1], and for tables one likelihood a column, with learned variances.
        scaling: "auto" takes "quantile" for tables, so that samples have the distributions of real columns, with their
            repeated values, skew and tails. Other data are scaled as by other kinds.
        learning_rate: None takes .01 for tables, whose variances have to be learned within few steps, and .002 for
            other data.
        missing: with "mask" the bound is that of the observed entries, and the encoder gets their mask too, except for
            convolutions, which read missing entries as the column's mean.

    The other arguments are those of `BaseAutoencoder`.

    Attributes:
        score_kind_: "bound": `score_samples` returns a lower bound on log p(x) in expectation.

    Raises:
        InputError: at `fit`, for invalid arguments or rows: free bits with another prior than "normal", a weight other
            than 1 or penalties with several importance samples, a discrete code with a learned prior or several
            importance samples, a code size that the inference cannot have, a flow without zuko.

    Source: Goodfellow, Bengio & Courville, Deep Learning, sections 14.4 and 20.10.3; Kingma & Welling, Auto-encoding
    variational Bayes (2014); Rezende, Mohamed & Wierstra (2014); Burda, Grosse & Salakhutdinov (2016).

    Example:
        >>> import numpy as np
        >>> from isthmus import VariationalAutoencoder
        >>> t = np.random.default_rng(0).uniform(0, 6, (200, 1))
        >>> X = np.hstack([np.sin(t), np.cos(t), t / 6])
        >>> model = VariationalAutoencoder(code_size=2, max_epochs=10, random_state=0).fit(X)
        >>> model.transform(X).shape, model.sample(5, random_state=0).shape, model.score_samples(X).shape
        ((200, 2), (5, 3), (200,))
    """

    kl: Any = "elbo"
    inference: Any = "diagonal"
    prior: Any = "normal"
    importance_samples: int = 1
    condition: str | Sequence[str] | None = None
    hidden_sizes: Sequence[int] | None = None
    learning_rate: float | None = None  # type: ignore[assignment]

    kind: ClassVar[str] = "vae"
    takes_maps: ClassVar[bool] = False
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "inference": ("diagonal", "full", "bernoulli", "categorical")
    }

    # -- construction -------------------------------------------------------------------------------

    def _recipe(self, shape: Shape, generator: torch.Generator) -> Recipe:
        likelihood = shape.built_likelihood
        sees_mask = self.missing == "mask" and getattr(self._network, "takes_mask", True)
        ends = Ends(
            shape.n_columns, shape.code_size, likelihood, shape.image_shape, sees_mask=sees_mask,
            output_shape=shape.decoded_shape,
        )  # fmt: skip
        pair = self._distribution_pair(ends, shape, generator)
        several = self.importance_samples > 1
        posterior: PosteriorValue = self.value_of("inference")
        inference = posterior.build(
            pair.encoder, n_draws=self.importance_samples, sees_mask=sees_mask, path_derivative=several
        )
        inference.n_conditions = shape.n_conditions
        n_inputs = shape.n_columns + shape.n_conditions
        inference.prior = self.value_of("prior").build(inference, shape.code_size, n_inputs, generator)
        kl: KL = self.value_of("kl")
        objective = VariationalBound(
            Coder(inference, pair.decoder, likelihood), beta=kl.beta, warmup=kl.warmup, free_bits=kl.free_bits,
            penalties=penalties_of(self.penalties, "linear"), reduction="logmeanexp" if several else "mean",
        )  # fmt: skip
        return Recipe(objective.coder, objective, hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes)

    def _distribution_pair(self, ends: Ends, shape: Shape, generator: torch.Generator) -> EncoderDecoder:
        """Build a decoder of the code, and an encoder of the parameters of its distribution.

        The decoder has the conditions as further inputs, and so has an encoder that takes them; the output of another
        one is shifted by them.
        """
        n = shape.n_conditions
        pair = self._pair(replace(ends, code_size=ends.code_size + n), shape, generator)
        sizes = replace(shape, hidden_sizes=pair.hidden_sizes, dense_sizes=pair.dense_sizes)
        takes_conditions = getattr(self._network, "takes_mask", False)
        n_units = self.value_of("inference").n_outputs(ends.code_size)
        wide = replace(ends, code_size=n_units, n_conditions=n if takes_conditions else 0)
        encoder = self._pair(wide, sizes, generator).encoder
        if n and not takes_conditions:
            encoder = ShiftedEncoder(encoder, n, n_units, generator=generator)
        return replace(pair, encoder=encoder)

    @property
    def _condition_names(self) -> tuple[str, ...]:
        names = (self.condition,) if isinstance(self.condition, str) else self.condition or ()
        return tuple(str(name) for name in names)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if len(set(self._condition_names)) < len(self._condition_names):
            raise InputError(f"condition={self.condition!r} names a column twice")
        check_count("importance_samples", self.importance_samples)
        kl, normal = self.value_of("kl"), isinstance(self.value_of("prior"), NormalPrior)
        self._check_inference(normal=normal)
        if kl.free_bits and not (normal and self.importance_samples == 1):
            raise InputError(
                f"kl={kl!r}: free bits need the divergence of each unit, which has a closed form for prior='normal' "
                "and importance_samples=1; leave free_bits out"
            )
        if self.importance_samples > 1 and kl.beta != 1:
            raise InputError(
                f"kl={kl!r}: with importance_samples={self.importance_samples} the bound has no weight; give beta=1"
            )
        if getattr(self._network, "tied", False):
            raise InputError(
                f"network={self.network!r}: the encoder returns the parameters of a distribution, so the decoder "
                "cannot use its weights; leave tied out"
            )
        penalties_of(self.penalties, "linear")
        if self.importance_samples > 1 and len(self.penalties):
            raise InputError("penalties need importance_samples=1: the gradient of the bound weights the samples")

    def _check_inference(self, *, normal: bool) -> None:
        """Refuse arguments that the distribution of the code cannot have."""
        posterior = self.value_of("inference")
        if not isinstance(posterior, PosteriorValue):
            raise InputError(
                f"inference={self.inference!r}: the code of a variational autoencoder is a distribution; give one of "
                f"{', '.join(map(repr, self.accepted_strings['inference']))}"
            )
        if self.code_size is not None:
            posterior.check_code_size(int(self.code_size))
        if posterior.is_discrete and not normal:
            raise InputError(
                f"prior={self.prior!r}: the prior of a discrete code is uniform; leave prior out, or give "
                "inference='diagonal'"
            )
        if posterior.is_discrete and self.importance_samples > 1:
            raise InputError(
                f"importance_samples={self.importance_samples}: relaxed samples of a discrete code give no bound; give "
                "importance_samples=1, or inference='diagonal'; score_samples takes several draws of any code"
            )
        if isinstance(self.value_of("prior"), VampPrior) and not isinstance(posterior, DiagonalPosterior):
            raise InputError(
                f"prior={self.prior!r}: it is a mixture of posteriors with diagonal covariances; give "
                "inference='diagonal', or prior='mixture'"
            )

    def _suggest_code_size(self, rows: SurveyedRows) -> tuple[int, str]:
        n_components, why = super()._suggest_code_size(rows)
        return self.value_of("inference").suggested_code_size(n_components), why

    def _choose_likelihood(self, rows: SurveyedRows, validation_rows: Rows | None) -> dict[str, Any]:
        """Return the likelihood; that of "auto" with learned variances in place of a fixed one."""
        config = super()._choose_likelihood(rows, validation_rows)
        if self.likelihood != "auto" and not isinstance(self.likelihood, dict):
            return config
        return with_learned_variances(config, images=self.preprocessing_.image_shape is not None)

    @property
    def _scaling_of_tables(self) -> str:
        return "quantile"

    def _phases(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> list[Phase]:
        default = RATE_OF_TABLES if self.preprocessing_.source == "table" else RATE
        changed = replace(training_config, learning_rate=self.learning_rate or default)
        return super()._phases(recipe, changed, generator)

    def _further_phases(
        self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator
    ) -> list[Phase]:
        """Return the phase of the whole, with the last weight of the divergence and the last temperature."""
        cast(VariationalBound, recipe.objective).without_warmup()
        return super()._further_phases(recipe, training_config, generator)

    def _whole_phase(self, recipe: Recipe, training_config: TrainingConfig, generator: torch.Generator) -> Phase:
        cast(VariationalBound, recipe.objective).without_warmup()
        return super()._whole_phase(recipe, training_config, generator)

    def _notes(self, recipe: Recipe) -> list[str]:
        notes = super()._notes(recipe)
        if not self._condition_names:
            return notes
        given = ", ".join(self._condition_names)
        note = f"encoder and decoder have {given} as inputs, so the code need not hold this information"
        return [*notes, note]

    def _after_training(self, rows: SurveyedRows) -> None:
        self.score_kind_ = "bound"

    # -- the density --------------------------------------------------------------------------------

    @property
    def _inference(self) -> DistributionInference:
        return cast(DistributionInference, self.coder_.inference)

    def _code_prior(self) -> CodePrior:
        return self._inference.code_prior(self.code_size_)

    def p_enc(self, X: Any) -> DistributionOfCodes:
        """Return q(h | x), the distribution of the code of each row, with `mean`, `sample` and `log_prob`.

        Args:
            X: rows.

        Example:
            >>> import numpy as np
            >>> from isthmus import VariationalAutoencoder
            >>> X = np.random.default_rng(0).normal(size=(60, 4))
            >>> model = VariationalAutoencoder(code_size=2, max_epochs=2, random_state=0).fit(X)
            >>> H = model.p_enc(X).sample(10, random_state=0)
            >>> bound = model.p_dec(H).log_prob(X) + model.p_code().log_prob(H) - model.p_enc(X).log_prob(H)
            >>> H.shape, bound.shape
            ((10, 60, 2), (10, 60))
        """
        check_is_fitted(self)
        return distribution_of_codes(self, X)

    def p_dec(self, H: ArrayLike, condition: Any = None) -> DistributionOfRows:
        """Return p(x | h), the distribution of the row of each code, with `mean`, `sample` and `log_prob`.

        Args:
            H: codes, (n, code_size) or (n_draws, n, code_size).
            condition: the conditions of the n rows of a conditional model, as `inverse_transform` takes them.

        Raises:
            InputError: codes of another width, or not finite; a conditional model without its conditions.
        """
        check_is_fitted(self)
        return DistributionOfRows(self, H, condition)

    def p_code(self) -> DistributionOfAllCodes:
        """Return p(h), the prior of codes, with `sample` and `log_prob`."""
        check_is_fitted(self)
        return DistributionOfAllCodes(self)

    def score_samples(self, X: Any, *, n_draws: int = 100, random_state: Any = 0) -> Float[np.ndarray, " n"]:
        r"""Return a lower bound on log p(x) of each row, nats, in model space, by importance sampling.

        It is a density of scaled columns. Scores of models with different `scaling`, or of tables that were scaled by
        other rows, cannot be compared.

            log 1/n sum_i p(x | h_i) p(h_i) / q(h_i | x),   h_i = mu(x) + s(x) e_i

        Its expectation is at most log p(x), and rises to it with n. Codes of another inference than the diagonal one
        are other functions of the random numbers e_i. All rows share these, so the score of a row does not depend on
        other rows. Of a row with missing entries it is the bound of the observed entries, with `missing="mask"`.

        Args:
            X: rows.
            n_draws: n, samples of the code for each row. In memory are ten of them for a block of rows.
            random_state: seed of e.

        Raises:
            InputError: fewer than one draw.
        """
        check_is_fitted(self)
        check_count("n_draws", n_draws)
        rows, seed = self._rows(X), seed_of(random_state)
        found = [self._importance_bound(batch, n_draws, seed)[:n].cpu().numpy() for batch, n in self._padded(rows)]
        return np.concatenate(found)

    def _importance_bound(self, batch: Batch, n_draws: int, seed: int) -> Float[torch.Tensor, " batch"]:
        """Return the bound on log p(x) of a block of rows, ten draws at a time."""
        coder, inference = self.coder_, self._inference
        preactivation = inference(batch, coder.decoder).preactivation
        like, generator = torch.empty(n_draws, 1, self.code_size_), torch.Generator().manual_seed(seed)
        noise = inference.distribution(preactivation).noise(like, generator)
        log_w: list[torch.Tensor] = []
        for e in noise.to(batch.x.device).split(DRAWS_AT_ONCE):
            code = inference.draw(preactivation, e)
            parameters = coder.decode(code.code, condition=batch.condition)
            nll = coder.likelihood.nll(parameters, batch.desired_output, batch.observed)
            log_w.append(cast(torch.Tensor, code.log_prior) - cast(torch.Tensor, code.log_q) - nll)
        return torch.cat(log_w).logsumexp(0) - math.log(len(noise))


def with_learned_variances(config: dict[str, Any], *, images: bool) -> dict[str, Any]:
    """Return a likelihood with learned variances in place of one that "auto" chose with a fixed variance.

    Args:
        config: the configuration of the likelihood.
        images: True if rows are images, whose pixels share one variance.

    Example:
        >>> with_learned_variances({"name": "gaussian"}, images=False)
        {'name': 'gaussian-per-column'}
    """
    if config["name"] == "mixed":
        return {**config, "learned_variance": True}
    if config["name"] not in LEARNED_VARIANCE:
        return config
    return {"name": "gaussian-learned" if images else LEARNED_VARIANCE[config["name"]]}
