"""The deep recurrent autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.errors import InputError
from isthmus.estimators.stacked import StackedAutoencoder
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import Stack, StackedDecoder
from isthmus.parts.coder import Coder
from isthmus.parts.recurrence import Recurrence
from isthmus.values.layers import RBMLayer
from isthmus.values.stages import METHODS


@dataclass(kw_only=True, eq=False, repr=False)
class DeepRecurrentAutoencoder(StackedAutoencoder):
    r"""Deep recurrent autoencoder: a stack with top-down feedback between its layers.

        initialise:  h_k = s(W_k h_(k-1) + b_k),   k = 1..L,   h_0 = x~
        one sweep:   h_k <- s( 1/2 (W_k h_(k-1) + b_k) + 1/2 (V_(k+1) h_(k+1) + c_k) ),   down and up again;
                     h_L <- s(W_L h_(L-1) + b_L)
        J = E_x E_{x~ ~ C(.|x)} [ mean over sweeps of -log p(x | g(h_L)) ],   g the decoder V_L .. V_1

    The layers are trained one after the other, as those of `StackedAutoencoder`. Then the weights are halved, since
    each intermediate layer gets two inputs, and the whole is trained through the unrolled sweeps to undo a corruption.
    It has the parameters of a feed-forward stack of the same sizes: the recurrence adds depth without parameters. The
    code is the top layer after the last sweep, and `reconstruct` decodes it. It is the deterministic counterpart of the
    mean field of a deep Boltzmann machine.

    Args:
        n_sweeps: T, the number of sweeps; 0 is the feed-forward stack, fine-tuned with its corruption.
        layers: "denoising" by default; any layer of `StackedAutoencoder` except RBMs.
        hidden_sizes: units of each layer but the last, lowest first; at least one.

    The other arguments are those of `StackedAutoencoder` and `BaseAutoencoder`. The corruption of the lowest layer is
    also that of the whole.

    Raises:
        InputError: at `fit`, for invalid arguments or rows.

    Source: Savard, Reseaux de neurones a relaxation entraines par critere d'autoencodeur debruitant, Universite de
    Montreal (2011); Salakhutdinov & Hinton, Deep Boltzmann machines (2009), for the halved weights.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> from isthmus import DeepRecurrentAutoencoder
        >>> X = load_digits().data[:200]
        >>> model = DeepRecurrentAutoencoder(
        ...     hidden_sizes=(32,), code_size=8, n_sweeps=2, max_epochs=2, random_state=0).fit(X)
        >>> model.transform(X).shape, model.reconstruct(X).shape
        ((200, 8), (200, 64))
    """

    _fine_tuned_after: ClassVar[tuple[str, ...]] = METHODS  # only fine-tuning trains the sweeps

    layers: Any = "denoising"
    n_sweeps: int = 3

    kind: ClassVar[str] = "recurrent"
    accepted_strings: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "layers": ("ordinary", "denoising", "sparse", "contractive")
    }

    def _stack(self, layers: list[Reconstruction]) -> Stack:
        coders, lowest = [layer.coder for layer in layers], layers[0]
        coder = Coder(Recurrence(coders, n_sweeps=self.n_sweeps), StackedDecoder(coders), coders[0].likelihood)
        return Stack(
            layers, coder, corruption=lowest.corruption, corrupted_weight=lowest.corrupted_weight,
            clean_weight=lowest.clean_weight,
        )  # fmt: skip

    def _check(self) -> None:
        super()._check()
        if isinstance(self.value_of("layers"), RBMLayer):
            raise InputError(
                "layers='rbm' with recurrence is the mean field of a deep Boltzmann machine; take kind 'dbm' for that, "
                "or layers='denoising' here"
            )
        if isinstance(self.hidden_sizes, Sized) and len(self.hidden_sizes) == 0:
            raise InputError("hidden_sizes=() leaves one layer, and the recurrence needs two; give one size or more")
