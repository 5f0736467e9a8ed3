"""Inference by optimisation: the code that best explains a row, given a linear decoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.errors import InputError
from isthmus.parts.constraints import describe, dictionary_weight
from isthmus.parts.dictionaries import Atoms, Dictionary
from isthmus.parts.filter_maps import FilterDecoder
from isthmus.parts.forward import Batch
from isthmus.parts.inference import Code, Decoder, Inference
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.networks import MLP
from isthmus.parts.sparse_activations import check_k
from isthmus.parts.sparse_inference import SparseCodes, SparseProblem, fista, matching_pursuit
from isthmus.parts.sparse_norms import L1Norm, SparseNorm

LinearDecoder = MLP | FilterDecoder
"""Decoder r = D h + c: an `MLP` of one affine map, or one transposed convolution."""


class Correlations(nn.Module):
    """Encoder a = D'(x - c) of a linear decoder r = D h + c: the correlation of a row with each atom.

    Shapes: (batch, columns) -> (batch, code_size).

    Args:
        decoder: the decoder, whose weights are used; it is not registered here.

    Raises:
        InputError: the decoder is neither one affine map nor one transposed convolution.

    Example:
        >>> decoder = MLP((5, 3), generator=torch.Generator().manual_seed(0))
        >>> Correlations(decoder)(torch.zeros(2, 3)).shape
        torch.Size([2, 5])
    """

    def __init__(self, decoder: LinearDecoder) -> None:
        super().__init__()
        if not isinstance(decoder, FilterDecoder) and dictionary_weight(decoder) is None:
            raise InputError(f"inference by optimisation needs a linear decoder; found: {describe(decoder)}")
        # nn.Module does not register a module inside a tuple; deepcopy still copies it consistently.
        self._decoder = (decoder,)

    @property
    def dictionary(self) -> Dictionary:
        """The map D of a code to a row."""
        decoder = self._decoder[0]
        if isinstance(decoder, FilterDecoder):
            return decoder.dictionary
        return Atoms(cast(Tensor, dictionary_weight(decoder)).T)

    def centred(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Return x - c: the difference from the reconstruction of the code of zeros."""
        return x - cast(Tensor, self._decoder[0](x.new_zeros(1, self.dictionary.n_atoms)))

    def forward(
        self, x: Float[Tensor, "batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "batch code_size"]:
        """Return the correlations."""
        return self.dictionary.correlate(self.centred(x))


Solver = Callable[..., SparseCodes]
"""Function (problem, n_steps=, gap=, start=) -> codes, such as `fista`."""


class LinearDecoderInference(Inference):
    """Base class of inference that explains rows by the atoms of a linear decoder r = D h + c.

    No gradient flows through the code. It is not needed: at the minimum the derivative of the criterion by h is 0, so
    that the gradient by D is that with h constant.

    Args:
        decoder: the linear decoder; it belongs to the coder and is not registered here.

    Raises:
        InputError: the decoder is not linear.
    """

    def __init__(self, decoder: LinearDecoder) -> None:
        super().__init__()
        self.correlations = Correlations(decoder)
        self.encoder = self.correlations

    @property
    def atoms(self) -> Float[Tensor, "code_size columns"]:
        """The atoms as rows."""
        return self.correlations.dictionary.values

    def centred(self, x: Float[Tensor, "batch columns"]) -> Float[Tensor, "batch columns"]:
        """Return x - c."""
        return self.correlations.centred(x)

    @torch.no_grad()
    def solved(self, batch: Batch, solve: Callable[[Tensor, Tensor | None], Float[Tensor, "batch code_size"]]) -> Code:
        """Return the codes that a function of centred rows and their mask finds, in fp32 or better under autocast."""
        with torch.autocast(batch.x.device.type, enabled=False):
            x = self.centred(batch.x)
            return Code(solve(x, batch.mask), self.correlations.dictionary.correlate(x))


class OptimisedInference(LinearDecoderInference):
    r"""Sparse coding: h is the most probable code of a row, found by optimisation.

        h = argmin_h 1/2 ||m (x - c - D h)||^2 + alpha Omega(h) + l2/2 ||h||^2,   r = D h + c

    D and c are the weights of the decoder, and m is the mask of the visible entries. With the L1 norm h has a Laplace
    prior of the rate alpha.

    With a generator, as in training, each row takes `n_steps` steps. Without one, rows stop by their duality gap.

    Shapes: x (batch, columns); h (batch, code_size).

    Args:
        decoder: the linear decoder; it belongs to the coder and is not registered here.
        alpha: weight of Omega(h) relative to 1/2 ||x - r||^2.
        norm: Omega.
        l2: weight of 1/2 ||h||^2.
        solver: function that minimises.
        n_steps: steps in training, from the code of zeros.
        gap: duality gap at which a row stops without generator, relative to 1/2 ||x - c||^2.
        max_steps: largest number of steps without generator.

    Raises:
        InputError: the decoder is not linear; alpha or gap is not above 0; steps are not whole numbers of at
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

    def __init__(
        self,
        decoder: LinearDecoder,
        alpha: float,
        *,
        norm: SparseNorm | None = None,
        l2: float = 0.0,
        solver: Solver = fista,
        n_steps: int = 20,
        gap: float = 1e-4,
        max_steps: int = 1000,
    ) -> None:
        super().__init__(decoder)
        check_count("n_steps", n_steps)
        check_count("max_steps", max_steps)
        self.alpha, self.gap = check_positive("alpha", alpha), check_positive("gap", gap)
        self.norm, self.l2, self.solver = L1Norm() if norm is None else norm, l2, solver
        self.n_steps, self.max_steps = n_steps, max_steps

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch."""
        trains = generator is not None
        return self.solved(batch, lambda x, mask: self.minimum(self.problem(x, mask), trains=trains))

    def minimum(
        self, problem: SparseProblem, *, trains: bool, start: Float[Tensor, "batch code_size"] | None = None
    ) -> Float[Tensor, "batch code_size"]:
        """Return the codes that solve problems, from an initial code; None is 0."""
        if trains:
            return self.solver(problem, n_steps=self.n_steps, gap=None, start=start).code
        return self.solver(problem, n_steps=self.max_steps, gap=self.gap, start=start).code

    def problem(
        self,
        x: Float[Tensor, "batch columns"],
        mask: Float[Tensor, "batch columns"] | None = None,
        *,
        l2: float | None = None,
    ) -> SparseProblem:
        """Return the problems of centred rows, with another weight of 1/2 ||h||^2 if `l2` is given."""
        l2 = self.l2 if l2 is None else l2
        return SparseProblem.of(x, self.correlations.dictionary, self.alpha, l2=l2, norm=self.norm, mask=mask)


class PursuitInference(LinearDecoderInference):
    r"""Sparse coding with a bound on the number of atoms, by orthogonal matching pursuit.

        h ~ argmin_h 1/2 ||x - c - D h||^2   with at most k non-zeros in h

    The minimum is a combinatorial problem; matching pursuit adds one atom at a time. A hidden entry has the value c.

    Args:
        decoder: the decoder, an `MLP` of one affine map.
        k: largest number of non-zero units of a row.

    Raises:
        InputError: the decoder is not one affine map; k is not between 1 and the code size.

    Source: Pati, Rezaiifar & Krishnaprasad, Orthogonal matching pursuit (1993).

    Example:
        >>> decoder = MLP((4, 3), generator=torch.Generator().manual_seed(0))
        >>> inference = PursuitInference(decoder, k=2)
        >>> int((inference(Batch(torch.ones(1, 3)), decoder).code != 0).sum())
        2
    """

    def __init__(self, decoder: MLP, k: int) -> None:
        super().__init__(decoder)
        self.k = check_k(k, self.correlations.dictionary.n_atoms)

    def forward(
        self, batch: Batch, decoder: Decoder, generator: Generator | None = None, progress: float = 1.0
    ) -> Code:
        """Return the codes of a batch."""
        return self.solved(batch, self._pursue)

    def _pursue(
        self, x: Float[Tensor, "batch columns"], mask: Float[Tensor, "batch columns"] | None
    ) -> Float[Tensor, "batch code_size"]:
        return matching_pursuit(x if mask is None else x * mask, self.atoms, self.k)
