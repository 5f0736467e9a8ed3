"""Draw docs/images/digits.png from the model of `isthmus demo`: python tools/draw_readme_picture.py."""

from pathlib import Path

import numpy as np

import isthmus
from isthmus.data import open as open_data
from isthmus.report import figures

model = isthmus.load("demo/digits.isthmus")
test = open_data("mnist-sample:test")
assert test.labels is not None
one_of_each = np.concatenate([np.flatnonzero(test.labels == digit)[:1] for digit in range(10)])
(output,) = model.read(test.X[one_of_each])
components = model.baseline_.decode(model.baseline_.encode(output.x))
reconstructions = {f"isthmus, {model.code_size_} numbers": output.reconstruction.numpy(), "PCA": components.numpy()}
figure = figures.originals_over_reconstructions(output.x.numpy(), reconstructions, (1, 28, 28))
figures.save(figure, Path("docs/images/digits.png"), force=True)
