"""Filters at every position as a dictionary: the map of a matrix of shifted filters, in one to three dimensions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.errors import InputError
from isthmus.parts.constraints import UnitColumns, as_columns, atom_parameter
from isthmus.parts.dictionaries import Atoms, FilterGrid, Filters, eigenvalue_bound
from isthmus.parts.filter_maps import ByMap, FilterDecoder, FilterEncoder, unit_filters
from isthmus.parts.predictive_inference import SoftShrinkage
from isthmus.parts.sparse_inference import SparseProblem, coordinate_descent, duality_gap, fista, ista
from isthmus.parts.sparse_norms import L1Norm

GRIDS = {
    "series": FilterGrid((2, 1, 14), n_maps=3, kernel_size=5),
    "row": FilterGrid((1, 14), n_maps=3, kernel_size=5, stride=3),
    "image": FilterGrid((1, 7, 6), n_maps=3, kernel_size=3),
    "colours, strided": FilterGrid((3, 7, 8), n_maps=4, kernel_size=5, stride=2),
    "volume": FilterGrid((1, 4, 5, 3), n_maps=2, kernel_size=3),
    "volume, strided": FilterGrid((1, 5, 4, 6), n_maps=2, kernel_size=3, stride=2),
}
EVERY_GRID = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


def filters_of(grid: FilterGrid, seed: int = 0) -> Filters:
    return Filters(unit_filters(grid, torch.Generator().manual_seed(seed)).double(), grid)


def matrix(filters: Filters) -> torch.Tensor:
    """Return the atoms as rows: what each unit adds to a row."""
    return filters.decode(torch.eye(filters.n_atoms, dtype=torch.float64))


def shifted(filters: Filters) -> torch.Tensor:
    """Return the atoms by placing each filter at each position of a padded row."""
    grid, rows = filters.grid, []
    padded = tuple(axis + 2 * (size // 2) for axis, size in zip(grid.axes, grid.kernel, strict=True))
    inside = tuple(slice(size // 2, size // 2 + axis) for axis, size in zip(grid.axes, grid.kernel, strict=True))
    for weights in filters.values:
        for place in torch.cartesian_prod(*map(torch.arange, grid.maps_shape[1:])).reshape(-1, len(grid.axes)):
            row = torch.zeros(grid.row_shape[0], *padded, dtype=torch.float64)
            corner = [int(n) * stride for n, stride in zip(place, grid.strides, strict=True)]
            window = tuple(slice(c, c + size) for c, size in zip(corner, grid.kernel, strict=True))
            row[(slice(None), *window)] = weights
            rows.append(row[(slice(None), *inside)].flatten())
    return torch.stack(rows)


@EVERY_GRID
def test_atoms_are_the_shifted_filters(grid):
    filters = filters_of(grid)
    torch.testing.assert_close(matrix(filters), shifted(filters))
    assert grid.code_size == filters.n_atoms == len(shifted(filters))


@EVERY_GRID
def test_correlations_are_the_transpose(grid):
    filters = filters_of(grid)
    x = torch.randn(3, filters.n_columns, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(filters.correlate(x), x @ matrix(filters).T)


@EVERY_GRID
def test_the_bound_is_above_the_largest_eigenvalue_and_near_it_without_stride(grid):
    filters = filters_of(grid)
    atoms = matrix(filters)
    largest = float(torch.linalg.eigvalsh(atoms @ atoms.T)[-1])
    bound = float(filters.eigenvalue_bound())
    assert largest <= bound * (1 + 1e-9)
    if grid.stride == 1:
        assert bound <= 2.5 * largest
    assert float(Atoms(atoms).eigenvalue_bound()) == pytest.approx(float(eigenvalue_bound(atoms @ atoms.T)))


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 30), channels=st.integers(1, 3), stride=st.integers(1, 4), half=st.integers(0, 3),
    n_maps=st.integers(1, 3),
)  # fmt: skip
def test_maps_of_every_length_decode_to_rows_of_that_length(length, channels, stride, half, n_maps):
    kernel_size = min(2 * half + 1, length if length % 2 else max(length - 1, 1))
    grid = FilterGrid((channels, length), n_maps, kernel_size, stride)
    filters = filters_of(grid)
    assert matrix(filters).shape == (grid.code_size, channels * length)
    torch.testing.assert_close(matrix(filters), shifted(filters))


@EVERY_GRID
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("solver", [fista, ista])
def test_codes_are_those_of_the_matrix(grid, masked, solver):
    filters = filters_of(grid)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(4, filters.n_columns, dtype=torch.float64, generator=generator)
    mask = (torch.rand(x.shape, generator=generator) < 0.7).double() if masked else None
    with_filters = SparseProblem.of(x, filters, 0.4, l2=0.1, mask=mask)
    with_atoms = SparseProblem.of(x, matrix(filters), 0.4, l2=0.1, mask=mask)
    assert with_filters.gram is None
    found = solver(with_filters, gap=1e-8, n_steps=20_000).code
    exact = fista(with_atoms, gap=1e-8, n_steps=20_000).code
    torch.testing.assert_close(with_filters.objective(found), with_atoms.objective(exact), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(duality_gap(with_filters, found), duality_gap(with_atoms, found), rtol=0, atol=1e-9)
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_the_matrix_of_products_is_needed_for_coordinate_descent():
    filters = filters_of(GRIDS["image"])
    problem = SparseProblem.of(torch.ones(1, 42, dtype=torch.float64), filters, 1.0, norm=L1Norm())
    with pytest.raises(InputError, match="needs the Gram matrix of the atoms, and filters have none; use fista"):
        coordinate_descent(problem)


@EVERY_GRID
def test_encoder_and_decoder_are_the_map_and_its_transpose_with_offsets(grid):
    filters = filters_of(grid).values.float()
    encoder, decoder = FilterEncoder(grid, filters), FilterDecoder(grid, filters)
    atoms = matrix(Filters(filters.double(), grid)).float()
    level = torch.arange(1.0, grid.row_shape[0] + 1)
    mean = level.repeat_interleave(grid.n_columns // len(level))
    decoder.start_at(mean)
    h = torch.randn(2, 5, grid.code_size, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(decoder(h), h @ atoms + mean, rtol=1e-4, atol=1e-5)
    x = torch.randn(2, 5, grid.n_columns, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(encoder(x), x @ atoms.T, rtol=1e-4, atol=1e-5)


def test_a_centred_encoder_gives_no_response_to_the_mean_inside_the_image():
    grid = FilterGrid((3, 9, 9), n_maps=4, kernel_size=3)
    encoder = FilterEncoder(grid, unit_filters(grid, torch.Generator().manual_seed(0)))
    mean = torch.tensor([1.0, -2.0, 0.5]).repeat_interleave(81)
    encoder.centre(mean)
    inside = encoder(mean[None]).reshape(4, 9, 9)[:, 1:-1, 1:-1]
    torch.testing.assert_close(inside, torch.zeros_like(inside), rtol=0, atol=1e-5)


def test_filters_are_projected_to_norm_one_with_their_gradients():
    grid = FilterGrid((3, 7, 8), n_maps=4, kernel_size=5)
    filters = 3.0 * unit_filters(grid, torch.Generator().manual_seed(0))
    decoder = FilterDecoder(grid, filters)
    decoder(torch.randn(2, grid.code_size, generator=torch.Generator().manual_seed(1))).square().sum().backward()
    coder = type("Coder", (), {"decoder": decoder})()
    UnitColumns().check(coder)
    UnitColumns().project_gradient(coder)
    weight = atom_parameter(decoder)
    along = (as_columns(weight.grad) * as_columns(weight.detach())).sum(0)
    torch.testing.assert_close(along, torch.zeros(4), rtol=0, atol=1e-2)
    UnitColumns().project(coder)
    torch.testing.assert_close(decoder.weight.flatten(1).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(decoder.weight.detach(), filters / 3.0)


def test_an_activation_by_map_has_one_threshold_for_all_positions():
    shrinkage = SoftShrinkage(2, 1.0)
    shrinkage.log_threshold.data = torch.tensor([1.0, 2.0]).log()
    a = torch.tensor([[3.0, 0.5, -3.0, 3.0, 0.5, -3.0]])
    torch.testing.assert_close(ByMap(shrinkage, 2)(a), torch.tensor([[2.0, 0.0, -2.0, 1.0, 0.0, -1.0]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((1,), 2, 3), "filters move along one, two or three axes"),
        (((1, 2, 3, 4, 5), 2, 3), "filters move along one, two or three axes"),
        (((1, 8, 5), 2, 7), "kernel_size=7: the filters are longer than the shortest axis of the rows, 5"),
        (((1, 8), 2, 4), "even"),
        (((1, 8), 0, 3), "n_maps"),
        (((1, 8), 2, 3, 0), "stride"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        FilterGrid(*arguments)


def test_weights_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"filters of shape \(2, 1, 3, 3\): the rows need \(2, 3, 3, 3\)"):
        Filters(torch.zeros(2, 1, 3, 3), FilterGrid((3, 8, 8), 2, 3))
    with pytest.raises(InputError, match="give a matrix"):
        Atoms(torch.zeros(3))
    with pytest.raises(InputError, match="atoms of 192 columns, and the rows have 64"):
        SparseProblem.of(torch.zeros(1, 64), Filters(torch.zeros(2, 3, 3, 3), FilterGrid((3, 8, 8), 2, 3)), 1.0)
