"""Deep belief network as encoder and decoder: the upward maps of its RBMs, and directed layers downwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.nn.utils import skip_init

from isthmus.errors import InputError
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy, check_chain
from isthmus.parts.hidden_units import BinaryHidden
from isthmus.parts.inference import ImputingMap
from isthmus.parts.networks import MLP


class RecognitionNetwork(nn.Module):
    """Encoder x -> a_L of a deep belief network: h_k = sigma(c_k + W_k h_(k-1)), a_L = c_L + W_L h_(L-1).

    Shapes: (*draws, batch, columns) -> (*draws, batch, code_size). The last map is that of the top RBM.

    Args:
        rbms: the RBMs, lowest first; their upward maps are shared.
    """

    rbms: tuple[RBMEnergy, ...]
    """The RBMs, lowest first."""

    def __init__(self, rbms: Sequence[RBMEnergy]) -> None:
        super().__init__()
        self.maps = nn.ModuleList([rbm.up for rbm in rbms[:-1]])
        self.activations = nn.ModuleList([nn.Sigmoid() for _ in rbms[:-1]])
        self.top = rbms[-1]
        # nn.Module does not register modules inside a tuple: the lower RBMs are not parts of the network.
        self.rbms = tuple(rbms)

    def inputs(self, k: int, below: Tensor) -> Tensor:
        """Return a_(k+1), the input of layer k + 1, from the units of layer k."""
        return cast(Tensor, self.rbms[k](below))

    def forward(self, x: Float[Tensor, "*draws batch columns"], generator: Generator | None = None) -> Tensor:
        """Return a_L, with means in place of samples."""
        units = x
        for k, activation in enumerate(self.activations):
            units = activation(self.inputs(k, units))
        return self.inputs(len(self.maps), units)


class GenerativeNetwork(nn.Module):
    """Decoder h_L -> parameters of p(x | h_1) of a deep belief network: means through the top RBM and directed layers.

    Shapes: (*draws, batch, code_size) -> (*draws, batch, n_parameters).

    Args:
        rbms: the RBMs, lowest first; each directed layer starts from the transposed weights of its RBM and shares
            its biases.
    """

    def __init__(self, rbms: Sequence[RBMEnergy]) -> None:
        super().__init__()
        self.maps = nn.ModuleList()
        for rbm in rbms[:-1]:
            directed = skip_init(nn.Linear, rbm.n_hidden, rbm.n_visible)
            directed.bias = rbm.visible_bias
            self.maps.append(directed)
        # nn.Module does not register modules inside a tuple: the RBMs belong to the encoder.
        self._rbms = tuple(rbms)
        self.copy_rbm_weights()

    @property
    def directed_layers(self) -> list[nn.Linear]:
        """The directed layers h_(k+1) -> h_k, lowest first."""
        return [cast(nn.Linear, layer) for layer in self.maps]

    @torch.no_grad()
    def copy_rbm_weights(self) -> None:
        """Copy the transposed weights of the RBMs to the directed layers."""
        for directed, rbm in zip(self.directed_layers, self._rbms, strict=False):
            directed.weight.copy_(rbm.weight.t())

    def parameters_below(self, k: int, units: Tensor) -> Tensor:
        """Return the parameters of layer k given the units of layer k + 1; layer 0 is the rows."""
        return cast(Tensor, self.maps[k](units))

    @torch.no_grad()
    def start_at(self, output: Float[Tensor, " outputs"]) -> None:
        """Set the visible biases to `output`."""
        self._rbms[0].visible_bias.copy_(output)

    def forward(self, code: Float[Tensor, "*draws batch code_size"], generator: Generator | None = None) -> Tensor:
        """Return the parameters of p(x | h_1), with means in place of samples."""
        units = self._rbms[-1].visible_mean(code)
        for k in reversed(range(1, len(self.maps))):
            units = torch.sigmoid(self.parameters_below(k, units))
        return self.parameters_below(0, units)


def belief_network_coder(rbms: Sequence[RBMEnergy]) -> Coder:
    """Return the coder of a deep belief network: the recognition network and the directed layers, with means.

    The lowest RBM, which was trained on such rows, imputes missing entries.

    Args:
        rbms: the RBMs, lowest first.

    Raises:
        InputError: fewer than two layers, hidden units that are not binary, or sizes that do not match.

    Example:
        >>> from isthmus.parts.forward import Batch
        >>> from isthmus.parts.likelihoods import Bernoulli
        >>> generator = torch.Generator().manual_seed(0)
        >>> coder = belief_network_coder(
        ...     [RBMEnergy(Bernoulli(n), m, generator=generator) for n, m in ((6, 4), (4, 3))])
        >>> coder.encode(Batch(torch.ones(5, 6))).code.shape
        torch.Size([5, 3])
    """
    _check_layers(rbms)
    inference = ImputingMap(RecognitionNetwork(rbms), nn.Sigmoid(), rbms[0])
    return Coder(inference, GenerativeNetwork(rbms), rbms[0].likelihood)


@torch.no_grad()
def copy_network(network: Coder, coder: Coder) -> None:
    """Copy the weights and the likelihood of a deep belief network to a deep autoencoder of the same sizes.

    Args:
        network: `belief_network_coder` of RBMs.
        coder: an autoencoder whose encoder and decoder are an `MLP` of sigmoid units each.
    """
    recognition, generation = cast(RecognitionNetwork, network.encoder), cast(GenerativeNetwork, network.decoder)
    upward, downward = (cast(MLP, part).affine_maps for part in (coder.encoder, coder.decoder))
    for k, (to, rbm) in enumerate(zip(upward, recognition.rbms, strict=True)):
        # The first layer's input may be s(v) = v / sigma^2.
        scale = rbm.visible.sufficient_statistic(torch.ones_like(to.weight[:1])) if k == 0 else 1.0
        to.weight.copy_(rbm.weight * scale)
        to.bias.copy_(rbm.hidden_bias)
    downward[0].weight.copy_(recognition.top.weight.t())
    downward[0].bias.copy_(recognition.top.visible_bias)
    for to, directed in zip(downward[1:], reversed(generation.directed_layers), strict=True):
        to.load_state_dict(directed.state_dict())
    coder.likelihood.load_state_dict(network.likelihood.state_dict())


def _check_layers(rbms: Sequence[RBMEnergy]) -> None:
    """Check that RBMs form a deep belief network.

    Raises:
        InputError: fewer than two layers, sizes that do not match, or units that are not binary.
    """
    if len(rbms) < 2:
        raise InputError(f"a deep belief network has two layers or more; found {len(rbms)}; give hidden_sizes")
    check_chain(rbms)
    for k, rbm in enumerate(rbms, 1):
        if not isinstance(rbm.hidden, BinaryHidden) or rbm.models_word_counts:
            raise InputError(
                f"layer {k} of a deep belief network needs binary hidden units and no word counts; found "
                f"{rbm.hidden.name!r} hidden units and likelihood {rbm.likelihood.name!r}"
            )
