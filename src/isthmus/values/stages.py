"""Values of `pretraining` and `fine_tuning`: the stages of training before and after the layers are joined."""

from __future__ import annotations

from dataclasses import dataclass, replace

from isthmus.errors import InputError
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.layers import check_choice, check_count, check_positive
from isthmus.parts.penalties import check_weight
from isthmus.values.value import Value, value_argument

METHODS = ("greedy", "together", "joint", "supervised")


class Stage(Value):
    """Base class of stages.

    Attributes:
        epochs: None takes `max_epochs` of the kind.
        learning_rate: None takes the default of the kind.
    """

    epochs: int | None
    learning_rate: float | None

    def check(self) -> None:
        """Refuse fewer than one epoch, and a learning rate that is not above 0."""
        if self.epochs is not None:
            check_count(f"{type(self).__name__}: epochs", self.epochs)
        if self.learning_rate is not None:
            check_positive(f"{type(self).__name__}: learning_rate", self.learning_rate)

    def configured(self, training_config: TrainingConfig) -> TrainingConfig:
        """Return the training configuration with the epochs and the learning rate of this stage."""
        return replace(
            training_config, max_epochs=self.epochs or training_config.max_epochs,
            learning_rate=self.learning_rate or training_config.learning_rate,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class Pretraining(Stage):
    """Training of the layers before the whole network.

    Args:
        method: "greedy", each layer on the codes of the trained layers below it; "together", all layers at the same
            time, each by its own criterion; "joint", all layers as one network with the regularisation of each;
            "supervised", each layer as the hidden layer of a classifier (it needs the labels `y` in `fit`).
        epochs: epochs of each layer (of all layers for "together" and "joint"); None takes `max_epochs`.
        learning_rate: None takes `learning_rate`. For the RBMs of a stack it is the rate of SGD with binary units, None
            is .1; RBMs with real units take a twentieth of it.
        reconstruction_weight: for "supervised", weight of a layer's reconstruction, added to the loss of the labels.

    Raises:
        InputError: an unknown method, fewer than one epoch, a learning rate that is not above 0, a negative weight, a
            weight with another method than "supervised".

    Source: Bengio, Lamblin, Popovici & Larochelle, Greedy layer-wise training of deep networks (2007); Zhou et al., Is
    joint training better for deep auto-encoders? (2014).

    Example:
        >>> from isthmus import Pretraining
        >>> Pretraining("joint", epochs=20)
        Pretraining(method='joint', epochs=20)
    """

    method: str = "greedy"
    epochs: int | None = None
    learning_rate: float | None = None
    reconstruction_weight: float = 0.0

    def check(self) -> None:
        """Refuse invalid fields."""
        super().check()
        check_choice("Pretraining: method", self.method, METHODS)
        check_weight("Pretraining: reconstruction_weight", self.reconstruction_weight)
        if self.reconstruction_weight and self.method != "supervised":
            raise InputError(
                f"Pretraining: reconstruction_weight={self.reconstruction_weight!r} applies only to "
                "method='supervised'; leave it out"
            )


@dataclass(frozen=True, repr=False)
class FineTuning(Stage):
    """Training of the whole network after its layers.

    The string "auto" of `StackedAutoencoder` fine-tunes after "greedy" and "together" alone; a value always does.

    Args:
        epochs: None takes `max_epochs`.
        learning_rate: None takes the default of the kind.

    Raises:
        InputError: fewer than one epoch; a learning rate that is not above 0.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks (2006); Hinton, Osindero &
    Teh, A fast learning algorithm for deep belief nets (2006), for the up-down algorithm.

    Example:
        >>> from isthmus import FineTuning
        >>> FineTuning(epochs=50, learning_rate=1e-3)
        FineTuning(epochs=50, learning_rate=0.001)
    """

    epochs: int | None = None
    learning_rate: float | None = None


PRETRAINING = value_argument("pretraining", {name: Pretraining(name) for name in METHODS})
"""The argument `pretraining`."""
FINE_TUNING = value_argument("fine_tuning", {"auto": FineTuning()})
"""The argument `fine_tuning`."""
