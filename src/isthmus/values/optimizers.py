"""Values of `optimizer`: the optimiser of training, with its decay, clipping and averaging."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from isthmus.errors import InputError
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.layers import check_positive
from isthmus.parts.penalties import check_weight
from isthmus.values.value import Value, value_argument


class Optimizer(Value):
    """Base class of the values of `optimizer`.

    Attributes:
        weight_decay: None takes the default of the kind.
        clip_norm: maximum norm of the gradient; None does not clip.
        averaging: decay of an exponential moving average of the weights, which replaces the last weights; None is off.
        name: of the optimiser in `TrainingConfig`.
    """

    weight_decay: float | None
    clip_norm: float | None
    averaging: float | None
    name: ClassVar[str]

    def check(self) -> None:
        """Refuse a negative decay, a norm that is not above 0, and an averaging outside [0, 1)."""
        if self.weight_decay is not None:
            check_weight(f"{type(self).__name__}: weight_decay", self.weight_decay)
        if self.clip_norm is not None:
            check_positive("clip_norm", self.clip_norm)
        if self.averaging is not None:
            check_fraction("averaging", self.averaging)

    def configured(self, training_config: TrainingConfig, *, momentum: float, weight_decay: float) -> TrainingConfig:
        """Return the training configuration with this optimiser.

        Args:
            training_config: the configuration.
            momentum, weight_decay: the defaults of the kind.
        """
        given = getattr(self, "momentum", None)
        return replace(
            training_config, optimizer=self.name, momentum=momentum if given is None else given,
            weight_decay=weight_decay if self.weight_decay is None else self.weight_decay,
            clip_norm=self.clip_norm, averaging=self.averaging,
        )  # fmt: skip


@dataclass(frozen=True, repr=False)
class AdamW(Optimizer):
    """AdamW: steps scaled by running moments of the gradient, with decoupled weight decay.

    The peak of the learning rate is the argument `learning_rate` of the kind.

    Args:
        weight_decay: decoupled weight decay; None takes the default of the kind: 0, and 2e-4 for energies, where it is
            w of the term w/2 ||W||^2.
        clip_norm: maximum norm of the gradient; None does not clip.
        averaging: decay of an exponential moving average of the weights, which replaces the last weights, in [0, 1);
            None is off.

    Raises:
        InputError: a negative decay, a norm that is not above 0, an averaging outside [0, 1).

    Source: Loshchilov & Hutter, Decoupled weight decay regularization (2019); Polyak & Juditsky, Acceleration of
    stochastic approximation by averaging (1992).

    Example:
        >>> from isthmus import AdamW
        >>> AdamW(weight_decay=1e-4, clip_norm=1.0)
        AdamW(weight_decay=0.0001, clip_norm=1.0)
    """

    weight_decay: float | None = None
    clip_norm: float | None = None
    averaging: float | None = None

    name: ClassVar[str] = "adamw"


@dataclass(frozen=True, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum.

    Args:
        momentum: in [0, 1); None takes the default of the kind: .9, and .5 for energies.
        weight_decay: weight of 1/2 ||theta||^2; None takes the default of the kind: 0, and 2e-4 for energies.
        clip_norm: maximum norm of the gradient; None does not clip.
        averaging: decay of an exponential moving average of the weights, which replaces the last weights, in [0, 1);
            None is off.

    Raises:
        InputError: a momentum outside [0, 1), and as `AdamW`.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 8.3.

    Example:
        >>> from isthmus import SGD
        >>> SGD(momentum=0.5)
        SGD(momentum=0.5)
    """

    momentum: float | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    averaging: float | None = None

    name: ClassVar[str] = "sgd"

    def check(self) -> None:
        """Refuse a momentum outside [0, 1), and what every optimiser refuses."""
        super().check()
        if self.momentum is not None:
            check_fraction("momentum", self.momentum)


def check_fraction(name: str, value: Any) -> None:
    """Check that a value is a number of at least 0 and below 1.

    Raises:
        InputError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise InputError(f"{name}={value!r}: it must be a fraction, at least 0 and below 1")


OPTIMIZER = value_argument("optimizer", {"adamw": AdamW(), "sgd": SGD()}, required=True)
"""The argument `optimizer`."""
