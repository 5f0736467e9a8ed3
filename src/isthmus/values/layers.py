"""Values of `layers`: what the layers of a stack are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.errors import InputError
from isthmus.parts.layers import ACTIVATIONS, check_choice
from isthmus.values.contractions import CONTRACTION
from isthmus.values.corruptions import CORRUPTION
from isthmus.values.energy_methods import METHOD, ChainMethod
from isthmus.values.sparsities import SPARSITY
from isthmus.values.value import Value, check_flag, value_argument


@dataclass(frozen=True, repr=False)
class Layer(Value):
    """An autoencoder of one layer, as which each layer of a stack is trained; its regularisation can be combined.

    Args:
        corruption: corruption of the layer's input in training: None, "masking", "gaussian", "salt-and-pepper", a value
            such as `Masking(rate=0.5)`, or a function (x, generator) -> x~.
        sparsity: None, a name such as "l1", or a value such as `TopK(k=16)`.
        contraction: None, "encoder", or a value such as `Contraction(weight=0.2)`.
        activation: activation of each layer but the last: "sigmoid", "tanh", "relu", "softplus" or "linear"; None
            takes the one of the sparsity, "sigmoid" without one. The last has `code_activation`.
        tied: the decoder uses the encoder's transposed weights; None does so if the likelihood has one parameter per
            column.

    Raises:
        InputError: an unknown name; a corruption of columns ("groups", "missing"), which codes do not have.

    Source: Vincent et al., Stacked denoising autoencoders, JMLR 11 (2010).

    Example:
        >>> from isthmus import Layer, Masking
        >>> Layer(corruption=Masking(rate=0.5), sparsity="l1")
        Layer(corruption=Masking(rate=0.5), sparsity='l1')
    """

    corruption: Any = None
    sparsity: Any = None
    contraction: Any = None
    activation: str | None = None
    tied: bool | None = None

    nested: ClassVar[tuple[str, ...]] = ("corruption", "sparsity", "contraction")

    def check(self) -> None:
        """Refuse unknown names, and a corruption that has no meaning for codes."""
        corruption = CORRUPTION.expanded(self.corruption)
        SPARSITY.expanded(self.sparsity)
        CONTRACTION.expanded(self.contraction)
        check_flag("tied", self.tied)
        if self.activation is not None:
            check_choice("activation", self.activation, tuple(ACTIVATIONS))
        if getattr(corruption, "of_columns", False):
            raise InputError(
                f"corruption={self.corruption!r} has no meaning for codes, the input of the upper layers; take "
                "'masking', 'salt-and-pepper' or 'gaussian' in a stack"
            )


@dataclass(frozen=True, repr=False)
class RBMLayer(Value):
    """A restricted Boltzmann machine, as which each layer of a stack is trained.

    Args:
        method: "cd", "pcd", or a value such as `CD(n_steps=5)`.

    Raises:
        InputError: an unknown method, or one without chains.

    Source: Hinton & Salakhutdinov, Reducing the dimensionality of data with neural networks, Science 313 (2006).

    Example:
        >>> from isthmus import RBMLayer
        >>> RBMLayer(method="pcd")
        RBMLayer(method='pcd')
    """

    method: Any = "cd"

    nested: ClassVar[tuple[str, ...]] = ("method",)

    def check(self) -> None:
        """Refuse a method without chains."""
        if not isinstance(METHOD.expanded(self.method), ChainMethod):
            raise InputError(f"RBMLayer: method={self.method!r}: the layers of a stack are trained by 'cd' or 'pcd'")


LAYERS = value_argument(
    "layers",
    {
        "ordinary": Layer(), "denoising": Layer(corruption="masking"), "sparse": Layer(sparsity="l1"),
        "contractive": Layer(contraction="encoder"), "rbm": RBMLayer(),
    },
    required=True,
)  # fmt: skip
"""The argument `layers`."""
