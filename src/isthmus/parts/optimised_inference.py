"""Inference by optimisation: the code that best explains a row, given a linear decoder."""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.constraints import describe, dictionary_weight
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, Inference
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.networks import MLP
from isthmus.parts.sparse_inference import SparseProblem, fista


class Correlations(nn.Module):
    """Encoder a = D'(x - c) of a linear decoder r = D h + c: the correlation of a row with each atom.

    Shapes: (batch, columns) -> (batch, code_size).

    Args:
        decoder: the decoder, whose weights are used; it is not registered here.

    Raises:
        InputError: the decoder is not one affine map.

    Example:
        >>> decoder = MLP((5, 3), generator=torch.Generator().manual_seed(0))
        >>> Correlations(decoder)(torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """

    def __init__(self, decoder: MLP) -> None:
        super().__init__()
        if dictionary_weight(decoder) is None:
            raise InputError(f"inference by optimisation needs a linear decoder; found: {describe(decoder)}")
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._decoder = (decoder,)

    @property
    def dictionary(self) -> Float[Tensor, "columns code_size"]:
        """The matrix D, whose columns are the atoms."""
        return cast(Tensor, dictionary_weight(self._decoder[0]))

    def centred(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Return x - c: the difference from the reconstruction of the code of zeros."""
        return x - self._decoder[0](x.new_zeros(1, self.dictionary.shape[1]))

    def forward(
        self, x: Float[Tensor, "batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "batch code_size"]:
        """Return the correlations."""
        return self.centred(x) @ self.dictionary


class OptimisedInference(Inference):
    r"""Sparse coding: h is the most probable code of a row under a Laplace prior, found by FISTA.

        h = argmin_h 1/2 ||m (x - c) - D h||^2 + alpha ||h||_1,   r = D h + c

    D and c are the weights of the decoder, and m is the mask of the visible entries: a hidden entry has the value c. No
    gradient flows through the code. It is not needed: at the minimum the derivative of the criterion by h is 0, so that
    the gradient by D is that with h constant.

    With a generator, as in training, each row takes `n_steps` steps. Without one, rows stop by their duality gap.

    Shapes: x (batch, columns); h (batch, code_size).

    Args:
        decoder: the decoder, an `MLP` of one affine map; it belongs to the coder and is not registered here.
        alpha: weight of ||h||_1 relative to 1/2 ||x - r||^2: the rate of the Laplace prior.
        non_negative: True for codes h >= 0, with an exponential prior.
        n_steps: steps of FISTA in training, from the code of zeros.
        gap: duality gap at which a row stops without generator, relative to 1/2 ||x - c||^2.
        max_steps: largest number of steps without generator.

    Raises:
        InputError: the decoder is not one affine map; alpha or gap is not above 0; steps are not whole numbers of at
            least 1.

    Source: Olshausen & Field, Sparse coding with an overcomplete basis set (1997); Goodfellow, Bengio & Courville, Deep
    Learning, section 13.4.

    Example:
        >>> decoder = MLP((2, 2), generator=torch.Generator().manual_seed(0))
        >>> _ = decoder.affine_maps[0].weight.data.copy_(torch.eye(2))
        >>> decoder.start_at(torch.tensor([1.0, 1.0]))
        >>> inference = OptimisedInference(decoder, alpha=1.0)
        >>> inference(Batch(torch.tensor([[4.0, 1.5]])), decoder).code
        tensor([[2., 0.]])
    """

    encoder: Correlations

    def __init__(
        self,
        decoder: MLP,
        alpha: float,
        *,
        non_negative: bool = False,
        n_steps: int = 20,
        gap: float = 1e-4,
        max_steps: int = 1000,
    ) -> None:
        super().__init__()
        check_count("n_steps", n_steps)
        check_count("max_steps", max_steps)
        self.encoder = Correlations(decoder)
        self.alpha, self.gap = check_positive("alpha", alpha), check_positive("gap", gap)
        self.non_negative, self.n_steps, self.max_steps = non_negative, n_steps, max_steps

    @torch.no_grad()
    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch, in fp32 or better also under autocast."""
        with torch.autocast(batch.x.device.type, enabled=False):
            problem = self.problem(batch)
            if generator is not None:
                code = fista(problem, n_steps=self.n_steps, gap=None).code
            else:
                code = fista(problem, n_steps=self.max_steps, gap=self.gap, drops_rows=False).code
        return Code(code, problem.correlations)

    def problem(self, batch: Batch) -> SparseProblem:
        """Return the problems of the rows of a batch."""
        centred = self.encoder.centred(batch.x)
        if batch.mask is not None:
            centred = centred * batch.mask
        return SparseProblem.of(centred, self.encoder.dictionary.T, self.alpha, non_negative=self.non_negative)
