"""LISTA: an encoder of a few unrolled steps of ISTA, whose matrices and thresholds are learned."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.dictionaries import eigenvalue_bound
from isthmus.parts.layers import check_count, check_positive
from isthmus.parts.sparse_norms import L1Norm


class LISTA(nn.Module):
    r"""Encoder of n steps of proximal gradient descent with learned weights, the same in each step.

        h_1 = S(a),   h_(t+1) = S(a + M h_t),   a = W x + b,   S(v)_j = sign(v_j) max(|v_j| - theta_j, 0)

    The initial weights are those of `ista` for a dictionary D with atoms as rows, so that the untrained encoder returns
    its codes after n steps from 0: W = D / L, b = 0, M = I - D D' / L and theta_j = alpha / L. L is an upper bound of
    the largest eigenvalue of D D'. The parameter is log theta. Trained to predict optimal codes, the encoder needs
    fewer steps than `ista`. The output is the code; `EncoderMap(LISTA(...))` is its inference.

    Shapes: (*draws, batch, columns) -> (*draws, batch, atoms).

    Args:
        dictionary: D; it is copied.
        alpha: weight of ||h||_1, above 0.
        n_steps: number of steps; with one step there is no matrix M.
        non_negative: True for codes h >= 0: S(v)_j = max(v_j - theta_j, 0).

    Raises:
        InputError: the dictionary is not a matrix, or has zeros only; alpha is not above 0; the steps are not a whole
            number of at least 1.

    Source: Gregor & LeCun, Learning fast approximations of sparse coding (2010), section 3.

    Example:
        >>> encoder = LISTA(torch.eye(2), alpha=1.0, n_steps=30)
        >>> encoder(torch.tensor([[3.0, -0.5]])).detach().round(decimals=3)
        tensor([[2., 0.]])
    """

    lateral: nn.Parameter | None

    def __init__(
        self,
        dictionary: Float[Tensor, "atoms columns"],
        alpha: float,
        *,
        n_steps: int = 3,
        non_negative: bool = False,
    ) -> None:
        super().__init__()
        check_positive("alpha", alpha)
        check_count("n_steps", n_steps)
        dictionary = dictionary.detach()
        if dictionary.ndim != 2 or not bool(dictionary.any()):
            raise InputError(
                f"LISTA starts from a dictionary (atoms, columns) with values other than 0; found one of shape "
                f"{tuple(dictionary.shape)}"
            )
        gram = dictionary @ dictionary.T
        lipschitz = eigenvalue_bound(gram)
        n_atoms, n_columns = dictionary.shape
        self.n_steps, self.norm = int(n_steps), L1Norm(non_negative)
        self.affine = skip_init(nn.Linear, n_columns, n_atoms, dtype=dictionary.dtype, device=dictionary.device)
        self.log_threshold = nn.Parameter((alpha / lipschitz).log().expand(n_atoms).clone())
        identity = torch.eye(n_atoms, dtype=gram.dtype, device=gram.device)
        self.register_parameter("lateral", nn.Parameter(identity - gram / lipschitz) if n_steps > 1 else None)
        with torch.no_grad():
            self.affine.weight.copy_(dictionary / lipschitz)
            self.affine.bias.zero_()

    @torch.no_grad()
    def centre(self, mean: Float[Tensor, " columns"]) -> None:
        """Subtract W mean from the bias, so that the encoder computes the code of x - mean."""
        self.affine.bias.sub_(self.affine.weight @ mean)

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch atoms"]:
        """Return the code after the last step; no random numbers are used."""
        threshold = self.log_threshold.exp()
        inputs = cast(Tensor, self.affine(x))
        h = self.norm.prox(inputs, threshold)
        if self.lateral is not None:
            for _ in range(self.n_steps - 1):
                h = self.norm.prox(inputs + F.linear(h, self.lateral), threshold)
        return h

    def extra_repr(self) -> str:
        """Return the arguments that `repr` shows."""
        return f"n_steps={self.n_steps}, non_negative={self.norm.non_negative}"
