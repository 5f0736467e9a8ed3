"""Inference p_enc(h | x): how a batch of rows becomes codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.forward import Batch
from isthmus.parts.layers import ACTIVATIONS, check_choice


class Decoder(Protocol):
    """A decoder module: a callable whose initial output can be set."""

    def __call__(self, code: Tensor, generator: Generator | None = None) -> Tensor:
        """Return the parameters of p_dec, given codes."""
        ...

    def start_at(self, output: Tensor) -> None:
        """Make `output` the initial output for every code, up to the random weights."""
        ...


@runtime_checkable
class SharedEncoder(Protocol):
    """An encoder that uses the weights of a model of the rows."""

    def separate_weights(self) -> None:
        """Copy the weights, so that training the encoder leaves the model unchanged."""
        ...


@runtime_checkable
class CentringEncoder(Protocol):
    """An encoder whose input can be centred by its biases."""

    def centre(self, mean: Float[Tensor, " inputs"]) -> None:
        """Encode x - mean in place of x from now on."""
        ...


class Imputer(Protocol):
    """A model of the rows that imputes missing entries."""

    def impute(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None
    ) -> Float[Tensor, "batch columns"]:
        """Return the rows with imputed values where the mask is 0."""
        ...


@dataclass(frozen=True)
class Code:
    """The result of inference.

    Attributes:
        code: h; draws are leading axes, and a map has none.
        preactivation: a, the values from which the code is computed.
        log_q: log p_enc(h | x) of each draw, nats; None for a map, and for relaxed draws of a discrete code.
        log_prior: log p(h) of each draw, nats; None where log_q is None.
        kl: KL(p_enc(h | x) || p(h)) in closed form, nats, as parts whose sum it is: one for each unit, given the units
            before it, or for each variable of a categorical code; None where there is no such form.
    """

    code: Float[Tensor, "*draws batch code_size"]
    preactivation: Float[Tensor, "*draws batch units"]
    log_q: Float[Tensor, "*draws batch"] | None = None
    log_prior: Float[Tensor, "*draws batch"] | None = None
    kl: Float[Tensor, "batch parts"] | None = None


class Inference(nn.Module, ABC):
    """Base class of inference: a map, a distribution, an optimisation or a chain.

    `Coder` calls `forward` in one place. The mask of the batch says which entries the inference may see: 1 for an entry
    that was observed and that no corruption declares missing. How hidden entries are treated is decided here alone.
    """

    encoder: nn.Module
    """The module (x, generator) -> a that the inference starts from."""

    sees_mask: bool = False
    """True if the mask m of the visible entries is an input of the encoder: a = encoder([x * m, m])."""

    is_distribution: ClassVar[bool] = False
    """True if samples of the code have `log_q` and `log_prior`, and `n_draws` is their number."""

    n_conditions: int = 0
    """Width of the condition c, the last inputs of encoder and decoder: a = encoder([x, c]), r = decoder([h, c])."""

    @abstractmethod
    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch.

        Args:
            batch: the rows, and the mask of the entries that may be seen; None is all.
            decoder: the decoder, for inference that explains the rows; it belongs to the `Coder`.
            generator: the source of random numbers in training. Without one the code is deterministic and has no
                leading axes: it is the one that `transform` returns.
            progress: training progress in [0, 1].
        """

    def visible(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows as the encoder sees them; with `sees_mask`, hidden entries are 0."""
        return batch.x if batch.mask is None or not self.sees_mask else batch.x * batch.mask

    def encoder_input(
        self,
        visible: Float[Tensor, "*draws batch columns"],
        mask: Float[Tensor, "batch columns"] | None,
        condition: Float[Tensor, "batch conditions"] | None = None,
    ) -> Float[Tensor, "*draws batch inputs"]:
        """Return the rows, with `sees_mask` followed by their mask, and by their condition if there is one."""
        if self.sees_mask:
            mask = torch.ones_like(visible) if mask is None else mask.expand_as(visible)
            visible = torch.cat([visible, mask], -1)
        return with_condition(visible, condition, self.n_conditions)

    def preactivation(
        self,
        visible: Float[Tensor, "*draws batch columns"],
        mask: Float[Tensor, "batch columns"] | None,
        generator: Generator | None = None,
        condition: Float[Tensor, "batch conditions"] | None = None,
    ) -> Float[Tensor, "*draws batch units"]:
        """Return a of rows as the encoder sees them."""
        encoder_input = self.encoder_input(visible, mask, condition)
        return cast(
            Tensor, self.encoder(encoder_input) if generator is None else self.encoder(encoder_input, generator)
        )

    def separate_weights(self) -> None:
        """Give the encoder weights of its own before it is trained on labels alone, if it shares them."""
        encoder = getattr(self, "encoder", None)
        if isinstance(encoder, SharedEncoder):
            encoder.separate_weights()


class EncoderMap(Inference):
    r"""Deterministic map h = s(a),   a = encoder(x); with `sees_mask` a = encoder([x * m, m]).

    Shapes: x and m (batch, columns); a (batch, units); h (batch, code_size).

    Args:
        encoder: x -> a, the pre-activation of the code.
        code_activation: s, by name or as a module.
        sees_mask: True if the mask m of the visible entries is an input of the encoder, which then has 2 * columns
            inputs. Otherwise hidden entries enter with the value that they have in x.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.1.

    Example:
        >>> inference = EncoderMap(nn.Linear(4, 2, bias=False), sees_mask=True)
        >>> x, m = torch.ones(1, 2), torch.tensor([[1.0, 0.0]])
        >>> inference.encoder_input(inference.visible(Batch(x, mask=m)), m)
        tensor([[1., 0., 1., 0.]])
    """

    def __init__(self, encoder: nn.Module, code_activation: str | nn.Module = "linear", *, sees_mask: bool = False):
        super().__init__()
        self.encoder = encoder
        if isinstance(code_activation, str):
            check_choice("code_activation", code_activation, tuple(ACTIVATIONS))
            code_activation = ACTIVATIONS[code_activation]()
        self.code_activation = code_activation
        self.sees_mask = sees_mask

    def activate(
        self, preactivation: Float[Tensor, "*draws batch units"], generator: Generator | None, progress: float
    ) -> Float[Tensor, "*draws batch code_size"]:
        """Return h = s(a)."""
        return cast(Tensor, self.code_activation(preactivation))

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the code of a batch."""
        preactivation = self.preactivation(self.visible(batch), batch.mask, generator, batch.condition)
        return Code(self.activate(preactivation, generator, progress), preactivation)


class ImputingMap(EncoderMap):
    """Map of rows whose missing entries are imputed first: h = s(encoder(x^)).

    Shapes: as for `EncoderMap`.

    Args:
        encoder: x -> a.
        code_activation: s, by name or as a module.
        imputer: the model that imputes the missing entries. It is not registered here.

    Example:
        >>> class Zeros:
        ...     def impute(self, x, mask):
        ...         return x if mask is None else x * mask
        >>> inference = ImputingMap(nn.Identity(), "linear", Zeros())
        >>> inference(Batch(torch.ones(1, 2), mask=torch.tensor([[1.0, 0.0]])), None).code
        tensor([[1., 0.]])
    """

    def __init__(self, encoder: nn.Module, code_activation: str | nn.Module, imputer: Imputer) -> None:
        super().__init__(encoder, code_activation)
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._imputer = (imputer,)

    def visible(self, batch: Batch) -> Float[Tensor, "batch columns"]:
        """Return the rows with missing entries imputed."""
        return self._imputer[0].impute(batch.x, batch.mask)


def with_condition(
    inputs: Float[Tensor, "*draws batch inputs"], condition: Float[Tensor, "batch conditions"] | None, n_conditions: int
) -> Float[Tensor, "*draws batch all_inputs"]:
    """Return inputs of a network followed by the condition of each row; zeros where none is given.

    Example:
        >>> with_condition(torch.ones(3, 1, 2), torch.tensor([[5.0]]), 1)[0]
        tensor([[1., 1., 5.]])
        >>> with_condition(torch.ones(1, 2), None, 1)
        tensor([[1., 1., 0.]])
    """
    if n_conditions == 0:
        return inputs
    condition = inputs.new_zeros(n_conditions) if condition is None else condition
    return torch.cat([inputs, condition.expand(*inputs.shape[:-1], n_conditions)], -1)
