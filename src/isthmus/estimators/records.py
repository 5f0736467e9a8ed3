"""Records: the shape of the data, the parts built for it, and the output of a fitted model."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from isthmus.data.preprocessing import Preprocessor
from isthmus.evaluation.residuals import squared_residuals
from isthmus.learning.objectives import Objective
from isthmus.parts.coder import Coder
from isthmus.parts.likelihoods import Likelihood, likelihood_from


@dataclass(frozen=True)
class ModelOutput:
    """The outputs of a model for a block of rows, float32, in model space.

    Attributes:
        x: the rows, (block, columns).
        preactivation: output of the encoder's last affine map, (block, code_size).
        code: (block, code_size).
        parameters: of p_dec(x | h), (block, n_parameters).
        reconstruction: the mean of p_dec(x | h), (block, columns).
        nll: -log p_dec(x | h), (block,), nats.
        mask: 1 for an observed entry, 0 for a missing one, (block, columns); None if all were observed. The values
            of x at missing entries are placeholders and take no part in any error.
    """

    x: Float[Tensor, "block columns"]
    preactivation: Float[Tensor, "block code_size"]
    code: Float[Tensor, "block code_size"]
    parameters: Float[Tensor, "block parameters"]
    reconstruction: Float[Tensor, "block columns"]
    nll: Float[Tensor, " block"]
    mask: Float[Tensor, "block columns"] | None = None

    def first(self, n: int) -> ModelOutput:
        """Return the first n rows, on the CPU."""
        parts: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
        parts = {name: part if part is None else part[:n].cpu() for name, part in parts.items()}
        return ModelOutput(**parts)

    @property
    def squared_residuals(self) -> Float[Tensor, "block columns"]:
        """(x - r)^2 of each observed entry, 0 of a missing one."""
        return squared_residuals(self.x, self.reconstruction, self.mask)


@dataclass(frozen=True)
class Shape:
    """The properties of the data from which a kind builds its parts.

    Attributes:
        n_columns: the width of the rows that are encoded, in model space.
        code_size: units of the code.
        image_shape: (channels, height, width) of images, (channels, 1, steps) of series, None for other rows.
        likelihood: the configuration of p_dec.
        groups: columns of model space that stand for one column of the user's table.
        n_conditions: the width of the conditions in model space.
        n_outputs, output_shape: width and image shape of the target that is decoded; None is that of the rows.
        hidden_sizes, dense_sizes: sizes that an earlier fit resolved; None where they are resolved now.
    """

    n_columns: int
    code_size: int
    image_shape: tuple[int, int, int] | None
    likelihood: dict[str, Any]
    groups: tuple[tuple[int, ...], ...] = ()
    n_conditions: int = 0
    n_outputs: int | None = None
    output_shape: tuple[int, int, int] | None = None
    hidden_sizes: tuple[int, ...] | None = None
    dense_sizes: tuple[int, ...] | None = None

    def resolved(self, name: str, argument: Any, default: Any = None) -> Any:
        """Return the sizes that an earlier fit resolved, else the constructor's argument, else the default.

        Example:
            >>> shape = Shape(784, 8, None, {}, hidden_sizes=(128, 64))
            >>> shape.resolved("hidden_sizes", None), shape.resolved("dense_sizes", None, (32,))
            ((128, 64), (32,))
        """
        given = (sizes for sizes in (getattr(self, name), argument) if sizes is not None)
        return next(given, default)

    @classmethod
    def of(cls, preprocessing: Preprocessor, code_size: int, likelihood: dict[str, Any]) -> Shape:
        """Return the shape of data with this preprocessing."""
        inputs = preprocessing.inputs
        groups = tuple(map(tuple, inputs.members or ()))
        shape = cls(
            inputs.n_columns, code_size, inputs.map_shape, likelihood, groups,
            n_conditions=preprocessing.n_conditions,
        )  # fmt: skip
        if inputs is preprocessing:
            return shape
        return replace(shape, n_outputs=preprocessing.n_columns, output_shape=preprocessing.map_shape)

    @property
    def decodes_target(self) -> bool:
        """True if the model decodes a target, and not its inputs."""
        return self.n_outputs is not None

    @property
    def decoded_shape(self) -> tuple[int, int, int] | None:
        """The image shape of what is decoded; None for other rows."""
        return self.output_shape if self.decodes_target else self.image_shape

    @property
    def built_likelihood(self) -> Likelihood:
        """The likelihood of what is decoded, with new parameters."""
        return likelihood_from(self.likelihood, self.n_columns if self.n_outputs is None else self.n_outputs)


@dataclass(frozen=True)
class Recipe:
    """The parts that a kind builds for its data.

    Attributes:
        coder: the model that is kept, saved and read.
        objective: the criterion of the whole model.
        layers: the criteria of the layers that are trained before, lowest first.
        density: the part of a kind with a density, such as log Z; it is kept and saved too.
        hidden_sizes, dense_sizes: the sizes that were resolved, of kinds that have them.
    """

    coder: Coder
    objective: Objective
    layers: tuple[Any, ...] = ()
    density: nn.Module | None = None
    hidden_sizes: tuple[int, ...] | None = None
    dense_sizes: tuple[int, ...] | None = None

    @property
    def parts(self) -> nn.ModuleDict:
        """The parts that are kept, by name."""
        return kept_parts(self.coder, self.density)

    @property
    def whole(self) -> nn.ModuleDict:
        """The parts that are kept, and the criteria of the layers: the model that the hooks of phases receive."""
        return nn.ModuleDict({**self.parts, "layers": nn.ModuleList(self.layers)})


def kept_parts(coder: Coder, density: nn.Module | None) -> nn.ModuleDict:
    """Return the parts of a model that are kept and saved, by name."""
    return nn.ModuleDict({"coder": coder} | ({} if density is None else {"density": density}))
