"""Forward and backward passes in training mode: they wait for no device and change no buffer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from isthmus.parts.carried import collected
from isthmus.parts.coder import Coder
from isthmus.parts.convolutions import ConvolutionalDecoder, ConvolutionalEncoder
from isthmus.parts.corruptions import CustomCorruption, GaussianNoise, Masking, MissingEntries, SaltAndPepper
from isthmus.parts.deep_energies import DBMEnergy, DBMLayerRBM
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.hidden_units import HIDDEN_UNITS
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import BatchNormalization
from isthmus.parts.likelihoods import LIKELIHOODS, likelihood_from
from isthmus.parts.networks import MLP
from isthmus.parts.penalties import CustomPenalty, LaplacePrior, LogPenalty, StudentTPrior, TargetRate
from isthmus.parts.prefixes import PrefixReconstruction
from isthmus.parts.semi_restricted import SemiRestrictedRBMEnergy
from isthmus.parts.sparse_activations import BatchTopK, Gated, JumpReLU, TopK, with_gathered_weights
from isthmus.parts.sparsity import ActiveUnits, DeadUnits, GateL1, GateReconstruction, UnitActivity
from isthmus.parts.visible_units import VISIBLE_UNITS
from tests.no_wait import NoWait, WaitError

N_COLUMNS, CODE_SIZE, N_ROWS = 6, 40, 9


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


def config(name: str) -> dict:
    if name == "categorical":
        return {"name": name, "groups": [[0, 1], [2, 3, 4, 5]]}
    if name == "mixed":
        units = {"binary": [0], "real": [1, 2], "categorical": [3, 4, 5]}
        return {"name": name, "groups": [{"unit": unit, "columns": columns} for unit, columns in units.items()]}
    return {"name": name}


def rows(name: str = "gaussian", n: int = N_ROWS) -> torch.Tensor:
    """Return rows in the support of a likelihood."""
    x = torch.randint(0, 2, (n, N_COLUMNS), generator=seeded(3)).float()
    if name in ("categorical", "mixed"):
        x[:, 1], x[:, 2:] = 1 - x[:, 0], 0.0
        x[:, 3] = 1.0
    return x


# The context


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.sum().item(),
        lambda x: int(x[0, 0]),
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: x[x > 0],
        lambda x: x.masked_select(x > 0),
        lambda x: x.index_put((x > 0,), torch.zeros(1)),
        lambda x: x.unique(),
        lambda x: torch.repeat_interleave(x, torch.ones(len(x), dtype=torch.long), 0),
        lambda x: torch.equal(x, x),
        lambda x: torch.allclose(x, x),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
    ],
)
def test_the_context_refuses_operations_that_wait(wait):
    x = normals(3, 2)
    wait(x)
    with NoWait(), pytest.raises(WaitError, match="waits for the device"):
        wait(x)


def test_the_context_admits_operations_of_fixed_size():
    x = normals(3, 2).requires_grad_()
    with NoWait():
        (x[torch.tensor([0, 2])].relu().sum() + torch.where(x > 0, x, 0.0).max()).backward()
    float(x.grad.sum())


# Buffers


CARRYING = {
    "batch normalisation": (lambda: BatchNormalization(CODE_SIZE), nn.Module.__call__),
    "batch normalisation of maps": (
        lambda: BatchNormalization(CODE_SIZE, maps=True),
        lambda module, x: module(x[..., None, None]),
    ),
    "batch-topk": (lambda: BatchTopK(3, CODE_SIZE), nn.Module.__call__),
    "activity": (lambda: UnitActivity(CODE_SIZE), lambda module, x: module.update(x.relu())),
}
carrying = pytest.mark.parametrize(("build", "run"), CARRYING.values(), ids=CARRYING.keys())


@carrying
@pytest.mark.parametrize("n_passes", [1, 2])
def test_a_training_pass_changes_buffers_only_when_they_are_stored(build, run, n_passes):
    standalone, module = build(), build()
    for step in range(3):
        before = copy.deepcopy(module.state_dict())
        with collected() as carried, NoWait():
            for i in range(n_passes):
                run(module, normals(N_ROWS, CODE_SIZE, seed=2 * step + i))
        assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
        carried.store()
        for i in range(n_passes):
            run(standalone, normals(N_ROWS, CODE_SIZE, seed=2 * step + i))
        assert not all(torch.equal(before[name], value) for name, value in module.state_dict().items())
        for name, value in standalone.state_dict().items():
            assert torch.equal(module.state_dict()[name], value)


@pytest.mark.parametrize("module", [BatchNormalization(CODE_SIZE), BatchTopK(3, CODE_SIZE)])
def test_an_evaluation_pass_carries_nothing(module):
    with collected() as carried:
        module.eval()(normals(N_ROWS, CODE_SIZE))
    assert len(carried) == 0


def test_running_moments_are_those_of_torch():
    ours, torchs = BatchNormalization(CODE_SIZE), nn.BatchNorm1d(CODE_SIZE)
    for seed in range(3):
        x = 2 * normals(N_ROWS, CODE_SIZE, seed=seed) + 1
        assert torch.equal(ours(x), torchs(x))
    assert torch.equal(ours.running_mean, torchs.running_mean)
    assert torch.equal(ours.running_variance, torchs.running_var)


def test_normalisation_in_evaluation_mode_uses_the_carried_moments():
    module, x = BatchNormalization(CODE_SIZE), normals(N_ROWS, CODE_SIZE)
    standalone = copy.deepcopy(module)
    with collected():
        module(x)
        carried = module.eval()(x)
    standalone(x)
    assert torch.equal(carried, standalone.eval()(x))


@pytest.mark.parametrize("shift", [0.0, -2.0, -100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_threshold_is_that_of_a_computation_with_branches(shift, dtype):
    activation, threshold = BatchTopK(3, CODE_SIZE).to(dtype), torch.zeros((), dtype=dtype)
    for seed in range(5):
        a = normals(N_ROWS, CODE_SIZE, seed=seed).to(dtype) + shift
        value = a.relu()
        reached = value.flatten().topk(3 * N_ROWS).values.min()
        if reached == 0 and bool((value > 0).any()):
            reached = value[value > 0].min()
        threshold.lerp_(reached, 0.01 if threshold > 0 else 1.0)
        activation(a)
        assert torch.equal(activation.threshold, threshold)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_activity_is_that_of_a_computation_with_branches(dtype):
    activity, rate = UnitActivity(CODE_SIZE).to(dtype), torch.zeros(CODE_SIZE, dtype=dtype)
    for n in range(1, 205):
        code = normals(7, CODE_SIZE, seed=n).relu()
        activity.update(code)
        rate.lerp_((code != 0).to(dtype).mean(0), max(1.0 / n, 0.01))
        assert torch.equal(activity.rate, rate)


# Sparse codes


def coder(activation: nn.Module, *, gather: int = 0, normalization: str | None = None) -> Coder:
    hidden = (7,) if normalization else ()
    encoder = MLP((N_COLUMNS, *hidden, CODE_SIZE), normalization=normalization, generator=seeded())
    decoder = MLP((CODE_SIZE, *hidden, N_COLUMNS), normalization=normalization, generator=seeded(1))
    decoder = with_gathered_weights(decoder, gather) if gather else decoder
    return Coder(EncoderMap(encoder, activation), decoder, likelihood_from({"name": "gaussian"}, N_COLUMNS))


def forward_pass(model: Coder, x: torch.Tensor) -> ForwardPass:
    return model(Batch(x))


def dead_units(n_revived: int = 3) -> DeadUnits:
    penalty = DeadUnits(code_size=CODE_SIZE, dead_after=50, n_revived=n_revived)
    penalty.activity.idle[::2] = 50
    penalty.refresh()
    return penalty


SPARSE = {
    "topk": (lambda: TopK(3, CODE_SIZE), dead_units),
    "batch-topk": (lambda: BatchTopK(3, CODE_SIZE), dead_units),
    "jumprelu": (lambda: JumpReLU(CODE_SIZE), ActiveUnits),
    "gated, values": (lambda: Gated(CODE_SIZE), GateReconstruction),
    "gated, gates": (lambda: Gated(CODE_SIZE), GateL1),
    "laplace": (nn.ReLU, LaplacePrior),
    "student": (nn.ReLU, StudentTPrior),
    "log": (nn.ReLU, LogPenalty),
    "rate": (nn.Sigmoid, TargetRate),
    "dead": (nn.ReLU, dead_units),
    "prefixes": (lambda: TopK(3, CODE_SIZE), lambda: PrefixReconstruction(prefixes=[2, 10], code_size=CODE_SIZE)),
    "function": (nn.ReLU, lambda: CustomPenalty(lambda output, coder: output.code.square().sum(-1))),
    "activity": (nn.ReLU, lambda: DeadUnits(code_size=CODE_SIZE, dead_after=50, n_revived=3)),
}


@pytest.mark.parametrize("normalization", [None, "batch"])
@pytest.mark.parametrize(
    ("name", "gather"), [*((name, 0) for name in SPARSE), ("topk", 3), ("batch-topk", 3), ("prefixes", 3)]
)
def test_a_sparse_code_is_trained_without_waiting(name, gather, normalization):
    build, penalty = SPARSE[name]
    model, term = coder(build(), gather=gather, normalization=normalization), penalty()
    modules = nn.ModuleList([model.encoder, model.decoder, model.code_activation, term])
    before = {name: buffer.clone() for name, buffer in modules.named_buffers()}
    with collected() as carried, NoWait():
        output = forward_pass(model, normals(N_ROWS, N_COLUMNS, seed=5))
        omega = term(output, model, None)
        (model.likelihood.nll(output.parameters, output.batch.x).mean() + omega.mean()).backward()
    assert all(torch.equal(before[name], buffer) for name, buffer in modules.named_buffers())
    carried.store()
    assert torch.isfinite(omega).all()
    assert all(torch.isfinite(p.grad).all() for p in modules.parameters() if p.grad is not None)


@pytest.mark.parametrize("activation", [TopK, BatchTopK])
@pytest.mark.parametrize("shape", [(N_ROWS,), (2, N_ROWS)])
@pytest.mark.parametrize("shift", [0.0, -1.5, -100.0])
def test_the_gathered_map_of_fixed_size_equals_the_dense_one(activation, shape, shift):
    results = []
    for gather in (0, 3):
        model = coder(activation(3, CODE_SIZE), gather=gather)
        a = (normals(*shape, CODE_SIZE) + shift).requires_grad_()
        with NoWait():
            r = model.decoder(model.code_activation(a))
            r.square().sum().backward()
        results.append([r, a.grad, *(p.grad for p in model.decoder.parameters())])
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense)


def test_more_active_units_than_stated_make_the_output_nan_in_training_alone():
    dense, sparse = coder(nn.ReLU()).decoder, coder(nn.ReLU(), gather=3).decoder
    code = torch.zeros(N_ROWS, CODE_SIZE)
    code[:, :3] = 1.0
    torch.testing.assert_close(sparse(code), dense(code))
    code[0, 3] = 1.0
    assert sparse(code).isnan().any()
    sparse.eval()
    torch.testing.assert_close(sparse(code), dense(code))
    with torch.no_grad():
        torch.testing.assert_close(sparse(code), dense(code))


def test_equal_values_select_no_more_units_than_fit():
    activation = BatchTopK(3, CODE_SIZE)
    code = activation(torch.ones(N_ROWS, CODE_SIZE))
    assert int((code != 0).sum()) == 3 * N_ROWS
    assert float(activation.threshold) == 1.0


def test_in_evaluation_mode_a_gathered_map_gets_the_gradient_of_the_dense_one():
    results = []
    for gather in (0, 3):
        decoder, code = coder(nn.ReLU(), gather=gather).decoder.eval(), normals(N_ROWS, CODE_SIZE).requires_grad_()
        with NoWait():
            decoder(code).square().sum().backward()
        results.append(code.grad)
    torch.testing.assert_close(*results)


# Dead units


def test_dead_units_count_the_rows_of_the_current_pass():
    model, penalty = coder(nn.ReLU()), DeadUnits(code_size=CODE_SIZE, dead_after=N_ROWS, n_revived=3)
    output = forward_pass(model, normals(N_ROWS, N_COLUMNS))
    with collected() as carried:
        penalty(output, model, None)
        assert torch.equal(penalty.dead, ~(output.code != 0).any(0))
        during = penalty.dead
    assert not penalty.dead.any()
    carried.store()
    assert torch.equal(penalty.dead, during)


def test_dead_units_are_noticed_at_a_refresh():
    model, penalty = coder(nn.ReLU()), DeadUnits(code_size=CODE_SIZE, dead_after=50, n_revived=3)
    output = forward_pass(model, normals(N_ROWS, N_COLUMNS))
    penalty.activity.idle[::2] = 50
    assert penalty.eval()(output, model, None).tolist() == [0.0] * N_ROWS
    penalty.refresh()
    assert penalty.has_dead
    assert penalty(output, model, None).abs().sum() > 0
    penalty.activity.idle.zero_()
    penalty.refresh()
    assert not penalty.has_dead
    assert penalty(output, model, None).tolist() == [0.0] * N_ROWS


def test_a_state_dict_restores_the_flag_of_the_last_refresh():
    found, none = dead_units(), DeadUnits(code_size=CODE_SIZE, dead_after=50, n_revived=3)
    none.activity.idle.fill_(50)  # not refreshed
    for source, target in ((found, none), (DeadUnits(code_size=CODE_SIZE, dead_after=50, n_revived=3), found)):
        flag = source.has_dead
        nn.ModuleDict({"term": target}).load_state_dict({f"term.{k}": v for k, v in source.state_dict().items()})
        assert target.has_dead == flag


# Corruptions


@pytest.mark.parametrize(
    "corruption",
    [
        GaussianNoise(0.1),
        GaussianNoise((0.1, 0.5)),
        Masking(0.3),
        Masking(0.3, [[0, 1]], N_COLUMNS),
        SaltAndPepper(0.3, N_COLUMNS),
        MissingEntries(0.3, [[0, 1]], N_COLUMNS),
        CustomCorruption(lambda x, generator: x / 2),
    ],
    ids=["gaussian", "range", "masking", "groups", "salt-and-pepper", "missing", "callable"],
)
def test_a_corruption_does_not_wait(corruption):
    with NoWait():
        assert corruption(rows(), seeded()).x.shape == (N_ROWS, N_COLUMNS)


# Likelihoods and energies


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_likelihood_does_not_wait(name, is_weighted):
    likelihood = likelihood_from(config(name), N_COLUMNS)
    parameters = normals(N_ROWS, likelihood.n_parameters).requires_grad_()
    x = rows(name)
    weight = torch.ones_like(x).index_fill(1, torch.tensor([0]), 0.0) if is_weighted else None
    with NoWait():
        (likelihood.nll(parameters, x, weight).sum() + likelihood.mean(parameters).sum()).backward()
        likelihood.mean_given(parameters, x)
        if name != "multinomial":  # the number of words of a row is a size
            likelihood.sample(parameters, seeded())
    assert torch.isfinite(parameters.grad).all()


def gibbs(rbm: RBMEnergy, v: torch.Tensor) -> torch.Tensor:
    """Return the terms of a step of contrastive divergence."""
    a, total = rbm(v), rbm.visible.total(v)
    h = rbm.sample_given(a.detach(), seeded())
    chain = rbm.sample_visible(h, seeded(), total)
    chain_input = rbm(chain)
    h = rbm.sample_given(chain_input.detach(), seeded(), h)
    reconstruction = rbm.likelihood.nll(rbm.down(rbm.mean_given(a)), v)
    own = rbm.free_energy_given(v, a) - rbm.chain_energy(chain, chain_input, h)
    return (own + reconstruction + rbm.hidden_free_energy(h, total)).mean() + rbm.free_energy(v).mean()


@pytest.mark.parametrize("hidden", HIDDEN_UNITS)
@pytest.mark.parametrize("name", VISIBLE_UNITS)
def test_a_step_of_an_energy_does_not_wait(name, hidden):
    rbm = RBMEnergy(likelihood_from(config(name), N_COLUMNS), 5, hidden=hidden, generator=seeded())
    if name == "multinomial":
        rbm.visible.most_words = N_COLUMNS
    with NoWait():
        gibbs(rbm, rows(name)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in rbm.parameters())


def test_a_step_of_a_semi_restricted_energy_does_not_wait():
    rbm = SemiRestrictedRBMEnergy(likelihood_from(config("bernoulli"), N_COLUMNS), 5, generator=seeded())
    with NoWait():
        gibbs(rbm, rows()).backward()


@pytest.mark.parametrize("name", ["bernoulli", "gaussian", "categorical", "mixed"])
def test_a_step_of_a_deep_energy_does_not_wait(name):
    dbm = DBMEnergy(likelihood_from(config(name), N_COLUMNS), (5, 4, 3), generator=seeded())
    v = rows(name)
    with NoWait():
        layers = dbm.sample_hidden_layers(v, 3, seeded())
        chain, even = dbm.sample_even(layers[::2], seeded())
        odd = dbm.sample_odd(chain, even, seeded())
        (dbm.free_energy(v, 5) - dbm.odd_free_energy(odd) + dbm.energy(v, layers)).mean().backward()
        for k in (1, 2):
            rbm = DBMLayerRBM(dbm, k)
            below = v if k == 1 else layers[0]
            rbm.free_energy_given(below, rbm(below)).mean().backward()


def test_the_words_of_a_row_are_sampled_without_waiting_where_their_largest_number_is_known():
    units = RBMEnergy(likelihood_from(config("multinomial"), N_COLUMNS), 5, generator=seeded()).visible
    r, total = normals(3, N_COLUMNS), torch.tensor([4.0, 0.0, 7.0])
    expected = units.sample(r, seeded(), total)
    units.most_words = 7
    with NoWait():
        sampled = units.sample(r, seeded(), total)
    assert torch.equal(sampled, expected)
    units.most_words = 6
    assert units.sample(r, seeded(), total).sum(-1).tolist() == [4.0, 0.0, 6.0]


def test_groups_of_several_sizes_have_the_sum_of_their_log_normalizers():
    likelihood = likelihood_from({"name": "categorical", "groups": [[0, 3, 5], [2, 1], [4]]}, N_COLUMNS)
    units = RBMEnergy(likelihood, 5, generator=seeded()).visible
    r = normals(N_ROWS, N_COLUMNS)
    expected = sum(r[:, group].exp().sum(-1).log() for group in likelihood.groups)
    torch.testing.assert_close(units.log_normalizer(r, torch.zeros(N_COLUMNS)), expected)


# Convolutions


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_a_step_of_convolutions_does_not_wait(normalization):
    options = {"dense_sizes": (8,), "normalization": normalization, "dropout": 0.2}
    encoder = ConvolutionalEncoder((1, 8, 8), 5, (4,), **options, generator=seeded())
    decoder = ConvolutionalDecoder((1, 8, 8), 5, 1, (4,), **options, generator=seeded())
    with collected(), NoWait():
        decoder(encoder(normals(N_ROWS, 64), seeded()), seeded()).square().mean().backward()
