"""An encoder centred at the decoder's bias, and the initialization of a sparse dictionary."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.constraints import dictionary_weight, normalise
from isthmus.parts.likelihoods import Likelihood
from isthmus.parts.networks import MLP

MAX_ITERATIONS = 200
"""Largest number of Weiszfeld iterations; some tens are enough to initialize a bias."""

LARGEST_GAIN = 2.0
"""Largest ratio of first reconstructions to rows at which the encoder starts as the transpose of the decoder."""

N_PROBES = 256
"""Number of random rows of which the ratio is taken."""

ROWS_AT_ONCE = 256
"""Number of rows whose differences from the median are in memory at a time."""


class CentredMLP(MLP):
    """Encoder of the difference from the reconstruction of the zero code.

        a = encoder(v(x) - v(x_0)),   x_0 = E[x | h = 0]

    For a linear decoder and the Gaussian likelihood, x_0 is the decoder's bias, which encoder and decoder then share.
    The code of zeros reconstructs x_0 exactly. v is `Likelihood.encoder_view`: x itself, and log(1 + k) of counts k in
    tables, whose log rates are linear in the code.

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size).

    Args:
        encoder: the network whose layers are used.
        decoder: h -> parameters of p_dec. It is not registered as a submodule, so that a coder that holds both
            names its parameters once. A deep copy of that coder ties its copies to each other.
        likelihood: the likelihood that interprets the decoder's parameters.

    Source: Bricken et al. (2023), "Sparse autoencoder setup"; Gao et al. (2024), eq. 1 (b_pre).

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> from isthmus.parts.likelihoods import likelihood_from
        >>> decoder = MLP((5, 3), generator=generator)
        >>> encoder = CentredMLP(MLP((3, 5), generator=generator), decoder, likelihood_from({"name": "gaussian"}, 3))
        >>> decoder.start_at(torch.tensor([1.0, 2.0, 3.0]))
        >>> encoder(torch.tensor([[1.0, 2.0, 3.0]])).detach()
        tensor([[0., 0., 0., 0., 0.]])
    """

    def __init__(self, encoder: MLP, decoder: Callable[..., Tensor], likelihood: Likelihood) -> None:
        nn.Module.__init__(self)
        self.sizes, self.activation = encoder.sizes, encoder.activation
        self.normalization, self.dropout = encoder.normalization, encoder.dropout
        self.layers = encoder.layers
        # nn.Module does not register modules inside a tuple; deepcopy still copies them consistently.
        self._decoder_and_likelihood = (decoder, likelihood)

    @property
    def origin(self) -> Float[Tensor, " columns"]:
        """The origin x_0 of the encoder's input."""
        decoder, likelihood = self._decoder_and_likelihood
        zeros = next(self.parameters()).new_zeros(1, self.sizes[-1])
        return likelihood.mean(decoder(zeros))[0]

    def centre(self, mean: Float[Tensor, " inputs"]) -> None:
        """Do nothing: the forward pass already subtracts x_0."""

    def forward(
        self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None
    ) -> Float[Tensor, "*draws batch units"]:
        """Encode the difference of x from x_0."""
        return self.encode_difference(x, self.origin, generator=generator)

    def encode_difference(
        self,
        x: Float[Tensor, "*draws batch columns"],
        origin: Float[Tensor, "*draws batch columns"] | Float[Tensor, " columns"],
        mask: Float[Tensor, "batch columns"] | None = None,
        *,
        generator: Generator | None = None,
    ) -> Float[Tensor, "*draws batch units"]:
        """Encode v(x) - v(origin), and 0 in place of it where the mask is 0."""
        view = self._decoder_and_likelihood[1].encoder_view
        difference = view(x) - view(origin)
        return super().forward(difference if mask is None else difference * mask, generator)


@torch.no_grad()
def geometric_median(
    x: Float[Tensor, "rows columns"], weight: Float[Tensor, " rows"] | None = None
) -> Float[Tensor, " columns"]:
    r"""Return the point with the smallest weighted sum of distances to the rows: argmin_m sum_i w_i ||x_i - m||.

        m <- sum_i v_i x_i / sum_i v_i,   v_i = w_i / ||x_i - m||    (Weiszfeld)

    Unlike the mean, it is robust to a few outlying rows. Memory holds the rows in float64 (without a copy if they are
    float64 already), and the differences of `ROWS_AT_ONCE` rows from the median.

    Shapes: (rows, columns) -> (columns,), of the dtype of x; computed in float64.

    Args:
        x: the rows, or a sample of them.
        weight: w, the weight of each row; None is 1 for all.

    Source: Weiszfeld (1937); for the decoder's bias Bricken et al. (2023), Gao et al. (2024), appendix A.1.

    Example:
        >>> geometric_median(torch.tensor([[0.0], [1.0], [100.0]]))
        tensor([1.])
    """
    rows = x.double()
    weights = torch.ones(len(rows), dtype=torch.float64) if weight is None else weight.double()
    median = rows.mean(0) if weight is None else weights @ rows / weights.sum()
    mean_distance = float(_distances(rows, median).mean())
    for _ in range(MAX_ITERATIONS if mean_distance > 0.0 else 0):
        # A row at the median itself would have an infinite weight; the bound is far below the accuracy needed.
        factors = weights / _distances(rows, median).clamp_min(1e-9 * mean_distance)
        next_median = factors @ rows / factors.sum()
        step = float((next_median - median).norm())
        median = next_median
        if step <= 1e-7 * mean_distance:
            break
    return median.to(x.dtype)


def _distances(rows: Float[Tensor, "rows columns"], point: Float[Tensor, " columns"]) -> Float[Tensor, " rows"]:
    """Return ||x_i - point||, computed for `ROWS_AT_ONCE` rows at a time."""
    return torch.cat([(part - point).norm(dim=1) for part in rows.split(ROWS_AT_ONCE)])


@torch.no_grad()
def initialize_dictionary(encoder: nn.Module, decoder: object, n_active: int | None = None) -> None:
    """Initialize the decoder D with unit columns and, where the encoder is one layer, the encoder with W = D^T / g.

    Each unit then detects the pattern that it adds to the reconstruction. g is 1, unless so many units are active at
    the same time that the first reconstructions would be more than twice as large as the rows (`initial_gain`): an
    exponential mean, that of counts, would overflow. A decoder that is not one affine map is left unchanged.

    Args:
        encoder, decoder: the networks.
        n_active: the number of units that are active in a row; None is those with a positive pre-activation.

    Source: Gao et al. (2024), section 2.4 and appendix A.1.
    """
    weight = dictionary_weight(decoder)
    if weight is None:
        return
    normalise(weight)
    maps = encoder.affine_maps if isinstance(encoder, MLP) else []
    if len(maps) == 1 and maps[0].weight.shape == weight.shape[::-1]:
        gain = initial_gain(weight, n_active)
        maps[0].weight.copy_(weight.t() / gain if gain > LARGEST_GAIN else weight.t())


@torch.no_grad()
def initial_gain(dictionary: Float[Tensor, "columns units"], n_active: int | None = None) -> float:
    """Return the ratio of reconstructions D relu(D'x) to x, of random x: <x, r> / <x, x>.

    Args:
        dictionary: D, with columns of norm 1.
        n_active: the number of units, those with the largest pre-activations, that are active; None is all.

    Example:
        >>> both_signs = torch.tensor([[1.0, -1.0]])
        >>> round(initial_gain(both_signs), 3), round(initial_gain(both_signs.repeat(1, 20)), 3)
        (1.0, 20.0)
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N_PROBES, len(dictionary), generator=generator).to(dictionary)
    code = (x @ dictionary).relu()
    if n_active is not None and n_active < code.shape[1]:
        largest, units = code.topk(n_active, dim=1)
        code = torch.zeros_like(code).scatter(1, units, largest)
    return float((x * (code @ dictionary.T)).sum() / x.square().sum())
