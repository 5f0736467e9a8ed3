"""Coder: the model that is trained, saved and read, without the criterion of its training."""

from __future__ import annotations

from typing import cast

from jaxtyping import Float
from torch import Generator, Tensor, nn

from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import Code, Decoder, Inference, with_condition
from isthmus.parts.likelihood_base import Likelihood


class Coder(nn.Module):
    r"""Autoencoder: inference p_enc(h | x), a decoder and the likelihood p_dec(x | h) of its outputs.

        x -> h ~ p_enc(h | x),   h -> r = decoder(h),   p_dec(x | h) = likelihood with the parameters r

    Shapes: x (batch, columns); h (*draws, batch, code_size); r (*draws, batch, n_parameters).

    Args:
        inference: x -> h.
        decoder: h -> parameters of p_dec. A module is registered; a decoder may use weights of the inference.
        likelihood: p_dec. It is registered here unless the inference has registered it.

    Source: Goodfellow, Bengio & Courville, Deep Learning, section 14.4.

    Example:
        >>> import torch
        >>> from isthmus.parts.inference import EncoderMap
        >>> from isthmus.parts.likelihoods import Gaussian
        >>> from isthmus.parts.networks import MLP
        >>> generator = torch.Generator().manual_seed(0)
        >>> coder = Coder(
        ...     EncoderMap(MLP((4, 2), generator=generator)), MLP((2, 4), generator=generator), Gaussian(4))
        >>> output = coder(Batch(torch.zeros(3, 4)))
        >>> output.code.shape, output.parameters.shape, coder.nll(output).shape
        (torch.Size([3, 2]), torch.Size([3, 4]), torch.Size([3]))
    """

    decoder: Decoder
    inference: Inference
    likelihood: Likelihood

    def __init__(self, inference: Inference, decoder: Decoder, likelihood: Likelihood) -> None:
        super().__init__()
        self.inference, self.decoder = inference, decoder
        if any(module is likelihood for module in inference.modules()):
            # An energy registers the likelihood of its visible units: each parameter has one name.
            object.__setattr__(self, "likelihood", likelihood)
        else:
            self.likelihood = likelihood

    @property
    def encoder(self) -> nn.Module:
        """The encoder of the inference, x -> a."""
        return self.inference.encoder

    @property
    def code_activation(self) -> nn.Module:
        """The activation of the inference, a -> h, where it is a map."""
        return cast(nn.Module, self.inference.code_activation)

    def encode(self, batch: Batch) -> Code:
        """Return the codes without random numbers."""
        return cast(Code, self.inference(batch, self.decoder))

    def decode(
        self,
        code: Float[Tensor, "*draws batch code_size"],
        generator: Generator | None = None,
        condition: Float[Tensor, "batch conditions"] | None = None,
    ) -> Float[Tensor, "*draws batch parameters"]:
        """Return the parameters of p_dec, of a conditional model given the condition of each row."""
        return self.decoder(with_condition(code, condition, self.inference.n_conditions), generator)

    def forward(self, batch: Batch, generator: Generator | None = None, progress: float = 1.0) -> ForwardPass:
        """Encode and decode a batch; without a generator, without random numbers."""
        inferred: Code = self.inference(batch, self.decoder, generator, progress)
        parameters = self.decode(inferred.code, generator, batch.condition)
        return ForwardPass(
            batch, batch, inferred.preactivation, inferred.code, parameters,
            log_q=inferred.log_q, log_prior=inferred.log_prior, kl=inferred.kl, progress=progress,
        )  # fmt: skip

    def nll(
        self, output: ForwardPass, entry_weights: Float[Tensor, "batch columns"] | None = None
    ) -> Float[Tensor, "*draws batch"]:
        """Return -log p_dec(x | h) per row, over the observed entries.

        Args:
            output: a forward pass.
            entry_weights: the weight of each entry in the sum over columns; None is the mask of the observed ones.
        """
        batch = output.batch
        weights = batch.observed if entry_weights is None else entry_weights
        return self.likelihood.nll(output.parameters, batch.desired_output, weights)
