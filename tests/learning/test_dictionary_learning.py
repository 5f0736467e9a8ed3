"""Online dictionary learning: the update against its surrogate, the sums, dead atoms, and the norm of atoms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.learning.dictionary_learning import DEAD_AFTER, OnlineDictionary, update_atoms
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Gaussian
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import OptimisedInference
from isthmus.parts.penalties import LaplacePrior
from isthmus.parts.sparse_inference import SparseProblem, fista

N_COLUMNS, N_ATOMS, ALPHA = 8, 12, 0.1


class MatrixRows:
    def __init__(self, x, mask=None, weight=None):
        self.x, self.mask, self.weight, self.n_columns = x, mask, weight, x.shape[1]

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        parts = [None if part is None else part[index] for part in (self.mask, self.weight)]
        return Batch(self.x[index], index, mask=parts[0], weight=parts[1])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sparse_rows(n=400, seed=1, n_atoms=N_ATOMS, rate=0.2):
    """Rows of a known dictionary with sparse codes."""
    g = seeded(seed)
    atoms = torch.nn.functional.normalize(torch.randn(n_atoms, N_COLUMNS, generator=g), dim=1)
    code = torch.randn(n, n_atoms, generator=g) * (torch.rand(n, n_atoms, generator=g) < rate)
    return code @ atoms, atoms


def objective(n_atoms=N_ATOMS, learns=True):
    decoder = MLP((n_atoms, N_COLUMNS), generator=seeded())
    coder = Coder(OptimisedInference(decoder, ALPHA), decoder, Gaussian(N_COLUMNS))
    return OnlineDictionary(coder, penalties={"sparsity": LaplacePrior(ALPHA)}, learns=learns)


def surrogate(atoms, a, b):
    return 0.5 * torch.trace(atoms.T @ a @ atoms) - (atoms * b).sum()


def test_one_pass_equals_coordinate_descent_written_with_loops():
    g = seeded(3)
    n = 70  # more than two blocks
    atoms = torch.nn.functional.normalize(torch.randn(n, N_COLUMNS, generator=g, dtype=torch.float64), dim=1)
    h = torch.randn(200, n, generator=g, dtype=torch.float64)
    a, b = h.T @ h / 200, h.T @ torch.randn(200, N_COLUMNS, generator=g, dtype=torch.float64) / 200
    expected = atoms.clone()
    for j in range(n):
        u = expected[j] + (b[j] - a[j] @ expected) / a[j, j]
        expected[j] = u / u.norm()
    before = surrogate(atoms, a, b)
    update_atoms(atoms, a, b)
    torch.testing.assert_close(atoms, expected)
    assert surrogate(atoms, a, b) < before


def test_an_atom_without_use_stays():
    atoms = torch.eye(2)
    update_atoms(atoms, torch.diag(torch.tensor([0.0, 1.0])), torch.tensor([[5.0, 5.0], [1.0, 1.0]]))
    torch.testing.assert_close(atoms, torch.tensor([[1.0, 0.0], [0.5**0.5, 0.5**0.5]]))


def test_the_sums_of_a_pass_are_means_in_which_a_batch_counts_in_proportion_to_its_number():
    x, _ = sparse_rows()
    model = objective().train()
    model.prepare(MatrixRows(x))
    atoms = model.inference.atoms.clone()
    model.window = 1e9
    for part in torch.arange(400).split(100):
        _, carried = model.terms(Batch(x[part]), 0.0, seeded())
        carried.store()  # the sums alone; the dictionary stays
    centred = x - x.mean(0)
    h = fista(SparseProblem.of(centred, atoms, ALPHA), n_steps=20, gap=None).code
    weighted = h * torch.arange(1, 5).repeat_interleave(100)[:, None] / 1000
    torch.testing.assert_close(model.code_moments, weighted.T @ h, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.cross_moments, weighted.T @ centred, rtol=1e-4, atol=1e-6)


def test_weights_of_rows_count_as_repeated_rows():
    x, _ = sparse_rows(40)
    weight = torch.arange(40) % 3 * 1.0
    repeated = x.repeat_interleave(weight.long(), 0)
    sums = []
    for batch in (Batch(x, weight=weight), Batch(repeated)):
        model = objective().train()
        _, carried = model.terms(batch, 0.0, seeded())
        carried.store()
        sums.append(model.cross_moments.clone())
    torch.testing.assert_close(*sums)


def trained(model, rows, epochs=15):
    model.prepare(rows)
    config = TrainingConfig(max_epochs=epochs, batch_size=50, device="cpu")
    Trainer(model, rows, None, config, seeded()).run()
    return model


def test_training_finds_the_atoms_that_made_the_rows():
    x, atoms = sparse_rows(1000, rate=0.12)
    model = trained(objective(), MatrixRows(x), epochs=30)
    cosines = (model.inference.atoms @ atoms.T).abs().amax(0)
    assert (cosines > 0.97).float().mean() > 0.9
    torch.testing.assert_close(model.inference.atoms.norm(dim=1), torch.ones(N_ATOMS))


def test_training_with_missing_entries_finds_them_too():
    x, atoms = sparse_rows(1500, rate=0.12)
    mask = (torch.rand(x.shape, generator=seeded(5)) > 0.1).float()
    model = trained(objective(), MatrixRows(x * mask, mask), epochs=30)
    assert ((model.inference.atoms @ atoms.T).abs().amax(0) > 0.95).float().mean() > 0.8


def test_the_inference_of_a_row_with_missing_entries_is_that_of_its_observed_ones():
    x, atoms = sparse_rows(6)
    mask = (torch.rand(x.shape, generator=seeded(5)) > 0.3).float()
    code = fista(SparseProblem.of(x, atoms, ALPHA, mask=mask), gap=1e-7, n_steps=5000).code
    for row, observed, found in zip(x, mask.bool(), code, strict=True):
        alone = fista(SparseProblem.of(row[None, observed], atoms[:, observed], ALPHA), gap=1e-7, n_steps=5000).code
        torch.testing.assert_close(found, alone[0], atol=2e-3, rtol=0)


def test_a_given_dictionary_stays():
    x, _ = sparse_rows(100)
    model = objective(learns=False)
    before = model.inference.atoms.clone()
    trained(model, MatrixRows(x), epochs=2)
    assert (model.inference.atoms == before).all()


def test_a_dead_atom_is_replaced_by_the_worst_residual():
    x, _ = sparse_rows(60)
    model = objective().train()
    model.prepare(MatrixRows(x))
    _, carried = model.terms(Batch(x), 0.0, seeded())
    model.activity.idle[3] = 10 * DEAD_AFTER
    carried.set(model.activity.idle, model.activity.idle.clone())
    worst = model.worst_residuals
    before = model.inference.atoms[3].clone()
    model.update(carried)
    torch.testing.assert_close(model.inference.atoms[3], worst[0] / worst[0].norm())
    assert not torch.allclose(model.inference.atoms[3], before)
    assert (model.code_moments[3] == 0).all()
    assert (model.code_moments[:, 3] == 0).all()
    assert model.activity.idle[3] == 0


def test_a_step_that_failed_changes_nothing():
    x, _ = sparse_rows(60)
    model = objective().train()
    model.prepare(MatrixRows(x))
    _, carried = model.terms(Batch(x), 0.0, seeded())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.update(carried, skip=torch.ones(()))
    assert all((value == before[name]).all() for name, value in model.state_dict().items())


@pytest.mark.parametrize("normalises", [True, False])
def test_without_atoms_of_norm_1_the_scale_avoids_the_penalty(normalises):
    """Codes shrink and atoms grow, at the same reconstruction, where nothing keeps the norm."""
    from isthmus.parts.constraints import UnitColumns

    x, _ = sparse_rows(400)
    decoder = MLP((N_ATOMS, N_COLUMNS), generator=seeded())
    coder = Coder(OptimisedInference(decoder, ALPHA), decoder, Gaussian(N_COLUMNS))
    model = Reconstruction(
        coder, penalties={"sparsity": LaplacePrior(ALPHA)}, constraints=(UnitColumns(),) if normalises else ()
    )
    rows = MatrixRows(x)
    model.prepare(rows)
    config = TrainingConfig(max_epochs=20, batch_size=50, learning_rate=0.1, device="cpu")
    Trainer(model, rows, None, config, seeded()).run()
    norms = coder.inference.atoms.detach().norm(dim=1)
    code = coder.encode(Batch(x)).code
    assert (float(norms.mean()) > 2.0) != normalises
    assert (float(code.abs().mean()) < 0.06) != normalises, float(code.abs().mean())


def test_rows_that_are_all_equal_give_codes_of_zeros():
    model = trained(objective(), MatrixRows(torch.ones(20, N_COLUMNS)), epochs=2)
    assert np.isfinite(model.inference.atoms.numpy()).all()
    assert (model.coder.encode(Batch(torch.ones(3, N_COLUMNS))).code == 0).all()
