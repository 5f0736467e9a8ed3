"""Values of arguments, and the arguments that take them; `isthmus.values.value` explains them."""

from isthmus.values import (
    contractions,
    corruptions,
    energy_methods,
    layers,
    networks,
    optimizers,
    priors,
    sparsities,
    stages,
    vocabularies,
)

__all__ = [
    "contractions",
    "corruptions",
    "energy_methods",
    "layers",
    "networks",
    "optimizers",
    "priors",
    "sparsities",
    "stages",
    "vocabularies",
]
