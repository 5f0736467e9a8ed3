"""The base of classifier and regressor: a head on the code of an autoencoder, trained with it or alone."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from sklearn import clone
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from isthmus.data.preprocessing import n_rows_of
from isthmus.data.streams import LabelledRows, Subset, WeightedRows, blocks
from isthmus.errors import InputError
from isthmus.estimators import checkpoints, inputs, model_files
from isthmus.estimators.base import BaseAutoencoder, seed_of
from isthmus.estimators.checkpoints import DigestedRows, Run
from isthmus.estimators.data_passes import padded
from isthmus.estimators.deep import Autoencoder
from isthmus.estimators.labels import validate_labels
from isthmus.estimators.model_files import Packed, SavedEstimator
from isthmus.estimators.progress import ProgressBar
from isthmus.estimators.training_config import step_counts, training_config_for, with_max_steps
from isthmus.estimators.value_arguments import ValueArguments, clone_with_fitted
from isthmus.files import content_digest
from isthmus.learning.objectives import Objective
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.precision import resolve_device
from isthmus.learning.rows import Rows
from isthmus.learning.supervision import Loss, Supervision
from isthmus.learning.trainer import strip_prefix
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.networks import MLP, check_choice
from isthmus.parts.sampling import derived_generator

STARTS = ("encoder", "random")

_FITTED = ("seed_", "n_features_in_", "n_rows_", "history_", "planned_steps_", "n_steps_")
"""Fitted attributes that are plain data."""

MIN_LABELLED_VALIDATION_ROWS = 20
"""Minimum number of labelled validation rows; with fewer, none is held out, since their error is too noisy."""


@dataclass(kw_only=True, eq=False, repr=False)
class CodePredictor(SavedEstimator, ValueArguments):
    """Base class of `CodeClassifier` and `CodeRegressor`: a head on the code of an autoencoder.

    Args:
        encoder: a fitted autoencoder (it is copied and not changed), the path of its file, or an unfitted one, which
            is first fitted on all rows, those without label included. None is `Autoencoder()`.
        start: "encoder", or "random": the same network with new random weights, as a baseline.
        frozen: train the head alone; otherwise the encoder is fine-tuned with it.
        head_epochs: epochs in which the head is trained alone before the encoder is fine-tuned with it: the large
            gradients of an untrained head would undo much of the encoder's training.
        head_learning_rate: learning rate of these epochs; None is `learning_rate`.
        hidden_sizes: units of the head's hidden layers; () is one affine map.
        activation: activation of the head's hidden layers.
        hidden_noise: standard deviation of the Gaussian noise added to every hidden unit in training.
        dropout: dropout rate of hidden units and of the code in training.
        input_dropout: dropout rate of the columns of X in training.
        reconstruction_weight: weight of the autoencoder's own criterion, in nats, added to the loss of the labels.
        unlabeled: label of rows without label, which only the reconstruction uses; None if there is no such label.
        max_epochs, max_steps, batch_size, learning_rate, optimizer, patience, time_limit: of the training on labels, as
            in `BaseAutoencoder`.
        validation_fraction: fraction of the labelled rows that is held out as validation set; none is held out where
            that is fewer than 20 rows.
        random_state: seed of every random number; None draws a seed and stores it in `seed_`.
        device, precision, verbose: as in `BaseAutoencoder`.

    Attributes:
        encoder_: the autoencoder after training. Its decoder fits the code only if `frozen` or if
            `reconstruction_weight` is above 0.
        head_: the network from codes to outputs.
        history_: the record of the training on labels.
        planned_steps_, n_steps_: of the training on labels, as in `BaseAutoencoder`.
    """

    encoder: Any = None
    start: str = "encoder"
    frozen: bool = False
    head_epochs: int = 0
    head_learning_rate: float | None = None
    hidden_sizes: Sequence[int] = ()
    activation: str = "silu"
    hidden_noise: float = 0.0
    dropout: float = 0.0
    input_dropout: float = 0.0
    reconstruction_weight: float = 0.0
    unlabeled: Any = None
    max_epochs: int | None = None
    max_steps: int | Sequence[int] | None = None
    batch_size: int | None = None
    learning_rate: float = 2e-3
    optimizer: Any = "adamw"
    validation_fraction: float = 0.1
    patience: int | None = 10
    time_limit: float | None = None
    random_state: Any = None
    device: str = "auto"
    precision: str = "auto"
    verbose: int = 0

    kind: ClassVar[str]
    loss: ClassVar[Loss]

    # -- the differences of classifier and regressor ------------------------------------------------

    def _fit_labels(self, y: Any) -> Tensor:
        """Fit the encoding of the labels, and return the labels as the loss takes them."""
        raise NotImplementedError

    def _labels(self, y: Any) -> Tensor:
        """Return further labels in the encoding of `_fit_labels`."""
        raise NotImplementedError

    def _encoder_labels(self, labels: Tensor, encoder: BaseAutoencoder) -> Any:
        """Return the labels as `fit` of an unfitted encoder takes them."""
        raise NotImplementedError

    def _initial_output(self, labels: Tensor) -> Float[Tensor, " outputs"]:
        """Return the output of the untrained head, the same for every code."""
        raise NotImplementedError

    @property
    def _n_outputs(self) -> int:
        """Number of outputs of the head."""
        raise NotImplementedError

    def _fitted_labels(self) -> dict[str, Any]:
        """Return what `_fit_labels` fitted, by attribute name."""
        raise NotImplementedError

    # -- training -----------------------------------------------------------------------------------

    @inputs.unchanged_on_failure
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: ArrayLike | None = None,
        validation: tuple[Any, Any] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float = 60.0,
        resume: bool = False,
    ) -> CodePredictor:
        """Train on rows `X` and labels `y`. A fit that fails leaves the estimator as it was.

        Args:
            X: rows, as the autoencoder takes them.
            y: the label of each row, (n,).
            sample_weight: weight of each row, (n,), in the loss of the labels, in the reconstruction and in the fit of
                an unfitted encoder; rows of weight 0 are left out. None is 1 for every row. The scaling of regression
                targets and the initial class frequencies are unweighted.
            validation: validation set (X, y) in place of a fraction of the rows; its rows count equally.
            checkpoint: path of the model that will be saved; training writes its state, and that of the fit of an
                unfitted encoder, to `checkpoint` + ".checkpoint", and `save` removes it, except after Ctrl-C and after
                a run that its time limit ended.
            checkpoint_every: seconds between two writes of that state.
            resume: continue from that state if there is one; refused if the arguments, the weights of a fitted encoder
                or the data differ.

        Returns:
            The estimator itself.

        Raises:
            InputError: invalid rows, labels or arguments, in one line.
        """
        self._check_parameters()
        if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
            raise InputError(f"{type(self).__name__} validates on labels too; give validation=(rows, labels)")
        X = inputs.validate_input(self, X, reset=True)
        labels = self._fit_labels(validate_labels(self, y, n_rows_of(X)))
        weights = inputs.checked_weights(sample_weight, n_rows_of(X))
        given = self._encoder_argument()
        run = Run.of(checkpoint, checkpoint_every, resume=resume)
        self.seed_ = run.start(seed_of(self.random_state))
        if run.is_written:
            run.identify(self._identity(given, labels) | checkpoints.weight_entry(weights))
        generator = torch.Generator().manual_seed(self.seed_)
        self.encoder_ = self._initial_encoder(given, X, labels, weights, run)
        relative = None if weights is None else inputs.relative_weights(weights)
        coder_rows = self.encoder_._rows(X)
        all_rows = LabelledRows(coder_rows if relative is None else WeightedRows(coder_rows, relative), labels)
        counted = torch.ones(len(labels), dtype=torch.bool) if relative is None else relative > 0
        rows, validation_rows, notes = self._split_validation(all_rows, counted, validation, generator)
        if run.is_written:
            digested = DigestedRows(all_rows)
            digested_validation = None if validation_rows is None else DigestedRows(validation_rows)
            run.identify(checkpoints.row_entries(digested, digested_validation))
            notes = [*notes, checkpoints.SAMPLED_DIGEST_NOTE] if digested.is_sampled else notes
        self.n_rows_ = len(rows.index.unique())
        objective = self._build(self._prepare_encoder(rows, generator), generator)
        objective.head.start_at(self._initial_output(labels))
        self.head_ = objective.head
        whole = self._parts
        with ProgressBar(f"{self.kind} on {self.encoder_.kind}", self.verbose) as bar:
            phases = self._phases(objective, training_config_for(self, len(rows), run.every))
            phases = with_max_steps(phases, self.max_steps)
            if self._is_encoder_interrupted():
                before, last = [], {**self.encoder_.history_, "name": "encoder"}
                notes = [*notes, "the fit of the encoder was interrupted: the labels were not learned"]
            else:
                *before, last = run_phases(
                    whole, phases, rows, validation_rows, generator, on_progress=bar.on_progress,
                    save_state=run.save_state, save_end=run.save_end, resumed=run.resumed,
                )  # fmt: skip
        whole.eval()
        if not self.frozen:
            self.encoder_._on_weights_changed()
        self.planned_steps_, self.n_steps_ = step_counts([*before, last])
        self.history_: dict[str, Any] = {**last, "notes": notes, "pretraining": before}
        if run.has_end:
            self.history_["resumable"] = True
        return self

    def _phases(self, objective: Supervision, training_config: TrainingConfig) -> list[Phase]:
        """Return the phases: the head alone if `head_epochs` is above 0, then the whole."""
        last = Phase(self.loss.name, objective, training_config)
        if self.head_epochs == 0:
            return [last]
        rate = self.head_learning_rate or self.learning_rate
        alone = self._supervision(objective.unsupervised, objective.head, frozen=True)
        return [Phase("head", alone, replace(training_config, max_epochs=self.head_epochs, learning_rate=rate)), last]

    def _check_parameters(self) -> None:
        inputs.check_parameters(self)
        self._check_values()
        check_choice("start", self.start, STARTS)
        if self.frozen and self.start == "random":
            raise InputError("frozen=True with start='random' would keep random weights; choose one of the two")

    def _identity(self, given: BaseAutoencoder, labels: Tensor) -> dict[str, str]:
        """Return what the result depends on besides the rows; for a fitted encoder also its weights.

        Raises:
            InputError: an argument of the encoder that no file can hold.
        """
        if hasattr(given, "coder_"):
            weights = content_digest(given._pack()[0], {})[:16]
        else:
            model_files.header_of(given, ())
            weights = "none"
        encoder = {f"encoder.{name}": text for name, text in checkpoints.argument_entries(given).items()}
        encoding = repr({name: np.asarray(value).tolist() for name, value in self._fitted_labels().items()})
        return {
            "kind": self.kind, **checkpoints.argument_entries(self, without=("encoder",)),
            "encoder": given.kind, **encoder, "encoder.weights": weights,
            "labels": checkpoints.labels_digest(labels, encoding),
        }  # fmt: skip

    def _initial_encoder(
        self, given: BaseAutoencoder, X: Any, labels: Tensor, weights: np.ndarray | None, run: Run
    ) -> BaseAutoencoder:
        """Copy the fitted autoencoder, or fit an unfitted one, unless an earlier call did."""
        if hasattr(given, "coder_"):
            return copy.deepcopy(given)
        fresh = clone(given)
        if fresh.random_state is None:
            fresh.set_params(random_state=self.seed_)
        arguments, fitted = fresh.get_params(deep=False), run.kept_part("encoder")
        if fitted is None:
            encoder = self._fit_encoder(fresh, X, labels, weights, run.part("encoder"))
        else:
            encoder = type(fresh)._unpack(*fitted)
        encoder.set_params(**arguments)
        if run.is_written:
            run.keep_part("encoder", *encoder._pack())
        return encoder

    def _fit_encoder(
        self, fresh: BaseAutoencoder, X: Any, labels: Tensor, weights: np.ndarray | None, run: Run
    ) -> BaseAutoencoder:
        """Fit the autoencoder, with labels if it uses them."""
        if self.start == "random":
            fresh.set_params(max_epochs=1)  # for the preprocessing; its weights are replaced
        y = self._encoder_labels(labels, fresh)
        return fresh._fit(X, y if fresh.uses_labels else None, weights, None, run)

    def _is_encoder_interrupted(self) -> bool:
        """Return whether Ctrl-C stopped the fit of an encoder that was given unfitted."""
        given = self.encoder
        fitted_here = given is None or (isinstance(given, BaseAutoencoder) and not hasattr(given, "coder_"))
        return fitted_here and self.encoder_.history_["stopped"] == "interrupted"

    def _encoder_argument(self) -> BaseAutoencoder:
        """Return the autoencoder of the argument `encoder`.

        Raises:
            InputError: a file without an autoencoder, or another object.
        """
        given = self.encoder
        if given is None:
            return Autoencoder()
        if isinstance(given, str | os.PathLike):
            given = model_files.load(given)
        if not isinstance(given, BaseAutoencoder):
            what = type(given).__name__
            description = f"{what}(...)" if isinstance(given, BaseEstimator) else " ".join(repr(given).split())[:60]
            description = description if given is self.encoder else f"{self.encoder!r} holds a {what}"
            raise InputError(
                f"encoder={description} is not an autoencoder; give one of isthmus, or the path of its file"
            )
        return given

    def _split_validation(
        self, all_rows: LabelledRows, counted: Bool[Tensor, " n"], validation: Any, generator: torch.Generator
    ) -> tuple[Subset, Rows | None, list[str]]:
        """Return training rows and validation rows, both of a weight above 0 (`counted`), and notes for the user."""
        known = self.loss.known(all_rows.labels)
        labelled, others = (torch.nonzero(part & counted).flatten() for part in (known, ~known))
        if len(labelled) == 0:
            raise InputError("every row with a label has the sample_weight 0; give some of them a weight above 0")
        notes: list[str] = []
        validation_index = labelled[:0]
        if validation is None:
            validation_index = self._draw_validation_index(all_rows.labels, labelled, generator)
            n_wanted = round(self.validation_fraction * len(labelled))
            if 0 < n_wanted < MIN_LABELLED_VALIDATION_ROWS:
                notes = [f"no validation set: {n_wanted} labelled rows are too few to choose an epoch by"]
        labelled = labelled[~torch.isin(labelled, validation_index)]
        if validation is not None:
            X, y = validation
            X = inputs.validate_input(self, X, reset=False)
            validation_rows: Rows | None = LabelledRows(
                self.encoder_._rows(X), self._labels(validate_labels(self, y, n_rows_of(X)))
            )
        else:
            validation_rows = Subset(all_rows, validation_index) if len(validation_index) else None
        if self.reconstruction_weight == 0.0 or len(others) == 0:
            return Subset(all_rows, labelled), validation_rows, notes
        return _balance_labelled(all_rows, labelled, others), validation_rows, notes

    def _draw_validation_index(
        self, labels: Tensor, labelled: Int[Tensor, " labelled"], generator: torch.Generator
    ) -> Int[Tensor, " held"]:
        """Sample the validation rows: the same fraction of each class, or of all rows without classes, never all."""
        if round(self.validation_fraction * len(labelled)) < MIN_LABELLED_VALIDATION_ROWS:
            return labelled[:0]
        shuffled = labelled[torch.randperm(len(labelled), generator=generator)]
        groups = [shuffled]
        if labels.is_floating_point():
            inputs.n_validation_rows(self.validation_fraction, len(labelled))
        else:
            groups = [shuffled[labels[shuffled] == number] for number in labels[labelled].unique()]
        return torch.cat([rows[: min(round(self.validation_fraction * len(rows)), len(rows) - 1)] for rows in groups])

    def _prepare_encoder(self, rows: Rows, generator: torch.Generator) -> Objective:
        """Return the autoencoder's criterion, with new weights if `start` is "random"."""
        if self.start == "random":
            recipe = self.encoder_._with_new_weights(generator)
            self.encoder_._keep(recipe)
            recipe.objective.prepare(rows)
        else:
            recipe = self.encoder_._with_criterion()
            recipe.objective.prepare_statistics(rows)
        if not self.frozen and self.reconstruction_weight == 0.0:
            recipe.coder.inference.separate_weights()
        return recipe.objective

    def _build(self, unsupervised: Objective, generator: torch.Generator) -> Supervision:
        """Build the objective with a new head.

        An encoder that was fitted with the same seed had an equal generator, so the head has a derived one.
        """
        return self._supervision(unsupervised, self._new_head(derived_generator(generator)), frozen=self.frozen)

    def _new_head(self, generator: torch.Generator) -> MLP:
        sizes = (self.encoder_.code_size_, *self.hidden_sizes, self._n_outputs)
        return MLP(sizes, self.activation, generator=generator)

    def _supervision(self, unsupervised: Objective, head: MLP, *, frozen: bool) -> Supervision:
        return Supervision(
            unsupervised, head, self.loss, frozen=frozen,
            hidden_noise=self.hidden_noise, dropout=self.dropout, input_dropout=self.input_dropout,
            reconstruction_weight=self.reconstruction_weight,
        )  # fmt: skip

    @property
    def nested_models(self) -> list[Any]:
        """The autoencoder."""
        return [self.encoder_]

    @property
    def _parts(self) -> nn.ModuleDict:
        """The parts that are kept, by name."""
        return nn.ModuleDict({"encoder": self.encoder_._parts, "head": self.head_})

    # -- reading ------------------------------------------------------------------------------------

    def _outputs(self, X: Any) -> Float[np.ndarray, "n outputs"]:
        """Return the outputs of the head; blocks are padded, so that an output depends on its row alone."""
        check_is_fitted(self)
        rows = self.encoder_._rows(inputs.validate_input(self, X, reset=False))
        device = resolve_device(self.device)
        coder = self.encoder_.coder_.to(device).eval()
        self.head_.to(device).eval()
        with torch.no_grad():
            outputs = [
                self.head_(coder.encode(padded(batch).to(device)).code)[: len(batch.x)].cpu() for batch in blocks(rows)
            ]
        return torch.cat(outputs).double().numpy()

    # -- files, copies ------------------------------------------------------------------------------

    def _pack(self) -> Packed:
        nested, encoder = self.encoder_._pack()
        tensors = {f"encoder.{k}": v for k, v in nested.items()}
        tensors |= {f"head.{k}": v for k, v in self.head_.state_dict().items()}
        labels = {k: np.asarray(v) for k, v in self._fitted_labels().items()}
        packed = {k: {"dtype": v.dtype.str, "values": model_files.plain(k, v.tolist())} for k, v in labels.items()}
        header = model_files.header_of(self, _FITTED, without=("encoder",))
        return tensors, header | {"labels": packed, "encoder": encoder}

    @classmethod
    def _unpack(cls, tensors: dict[str, Tensor], header: dict[str, Any]) -> Self:
        """Return the predictor; its argument `encoder` is an unfitted autoencoder of the same arguments."""
        encoder = model_files.unpack(strip_prefix("encoder.", tensors), header["encoder"])
        model = model_files.constructed(cls, header, encoder=clone(encoder))
        model_files.set_fitted(model, header)
        for name, array in header["labels"].items():
            setattr(model, name, np.asarray(array["values"], dtype=array["dtype"]))
        model.encoder_ = encoder
        model.head_ = model._new_head(torch.Generator().manual_seed(0))
        model.head_.load_state_dict(strip_prefix("head.", tensors))
        model.head_.eval()
        return model

    def __sklearn_clone__(self) -> CodePredictor:
        """Return an unfitted copy with a copy of the same fitted autoencoder, for the folds of a search."""
        return clone_with_fitted(self, "encoder")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        given = self.encoder if isinstance(self.encoder, BaseAutoencoder) else Autoencoder()
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = given.missing != "refuse"
        tags.target_tags.required = True
        return tags


def _balance_labelled(all_rows: LabelledRows, labelled: Int[Tensor, " n"], others: Int[Tensor, " m"]) -> Subset:
    """Return labelled and unlabelled rows in about equal numbers, so that each batch has both.

    Labelled rows are repeated, and the weight of a repeated row in the reconstruction is divided by the repeats.
    """
    repeats = max(1, len(others) // len(labelled))
    weights = torch.ones(len(all_rows))
    weights[labelled] = 1 / repeats
    return Subset(WeightedRows(all_rows, weights), torch.cat([labelled.repeat(repeats), others]))
