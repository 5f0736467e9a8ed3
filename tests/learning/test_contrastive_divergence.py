"""Contrastive divergence against exact gradients of energies that can be enumerated."""

import copy
import itertools

import pytest
import torch

from isthmus import InputError
from isthmus.learning.chains import BlockGibbs, ChainState, run_chain
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.densities import RBMDensity
from isthmus.learning.rows import evenly_spaced
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.penalties import TargetRate

BERNOULLI = {"name": "bernoulli"}


class Memory:
    """Rows in a tensor."""

    def __init__(self, x):
        self.x, self.n_columns = x, x.shape[1]

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        return Batch(self.x[index], rows=index)


def all_states(n_units):
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=n_units)), dtype=torch.float64)


def rbm(config=BERNOULLI, n_columns=5, n_hidden=3, scale=0.8, hidden="bernoulli"):
    generator = torch.Generator().manual_seed(0)
    made = RBMEnergy(
        likelihood_from(config, n_columns), n_hidden, hidden=hidden, weight_scale=scale, generator=generator
    ).double()
    with torch.no_grad():
        made.visible_bias.copy_(0.5 * torch.randn(n_columns, generator=generator))
        made.hidden_bias.copy_(0.5 * torch.randn(n_hidden, generator=generator))
    return made


def data(n=64, n_columns=5):
    generator = torch.Generator().manual_seed(7)
    return (torch.rand(n, n_columns, generator=generator) < 0.4).double()


def contrast(objective, v, generator, progress=0.0):
    """Return the contrast of the rows v."""
    terms, _ = objective.terms(Batch(v), progress, generator)
    return terms["contrast"]


def gradients(objective, loss):
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in objective.rbm.named_parameters()}
    objective.zero_grad()
    return found


def exact_gradients(made, v):
    """Return the gradients of the mean of -log p(v), by enumeration."""
    loss = made.free_energy(v).mean() + (-made.free_energy(all_states(made.n_visible))).logsumexp(0)
    loss.backward()
    found = {name: parameter.grad.clone() for name, parameter in made.named_parameters()}
    made.zero_grad()
    return found


def assert_gradients_close(ours, theirs, atol):
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=atol, rtol=0, msg=lambda text, name=name: name + text)


def test_the_contrast_has_the_exact_gradient_for_chains_sampled_from_the_model():
    made, v, n = rbm(), data(), 60000
    objective = ContrastiveDivergence(made, method="pcd", n_chains=n, centred=False).double()
    generator = torch.Generator().manual_seed(1)
    p = torch.softmax(-made.hidden_free_energy(all_states(3)), 0)
    objective.density.particles.copy_(all_states(3)[torch.multinomial(p, n, replacement=True, generator=generator)])
    ours = gradients(objective, contrast(objective, v, generator).mean())
    assert_gradients_close(ours, exact_gradients(made, v), atol=0.01)


def test_persistent_chains_converge_to_the_model_from_any_start():
    made, v, n = rbm(), data(), 20000
    objective = ContrastiveDivergence(made, method="pcd", n_chains=n, centred=False, n_steps=30).double()
    ours = gradients(objective, contrast(objective, v, torch.Generator().manual_seed(1)).mean())
    assert_gradients_close(ours, exact_gradients(made, v), atol=0.02)


@pytest.mark.parametrize("k", [1, 2])
def test_cd_k_is_the_contrast_with_the_enumerated_kernel_applied_k_times_to_the_rows(k):
    made, row = rbm(), data(1)
    states, hidden = all_states(5), all_states(3)

    def kernel(v):  # (n, 5) -> the distribution after one step, over every state
        up = torch.softmax(-made.energy(v[:, None], hidden.expand(len(v), -1, -1)), 1)
        energies = made.energy(states.expand(8, -1, -1), hidden[:, None].expand(-1, 32, -1))
        return up @ torch.softmax(-energies, 1)

    with torch.no_grad():
        reached = kernel(row)
        for _ in range(k - 1):
            reached = reached @ kernel(states)
    expected = made.free_energy(row).mean() - (reached[0] * made.free_energy(states)).sum()
    objective = ContrastiveDivergence(made, method="cd", n_steps=k, centred=False).double()
    theirs = gradients(objective, expected)
    ours = gradients(objective, contrast(objective, row.expand(40000, -1), torch.Generator().manual_seed(2)).mean())
    assert_gradients_close(ours, theirs, atol=0.015)


@pytest.mark.parametrize("config", [BERNOULLI, {"name": "gaussian-per-column"}, {"name": "multinomial"}],
                         ids=lambda config: config["name"])  # fmt: skip
def test_the_centred_gradient_is_the_gradient_of_the_energy_in_centred_units(config):
    made = rbm(config)
    v = 3 * data() if config["name"] == "multinomial" else data()
    objective = ContrastiveDivergence(made, method="cd").double()
    objective.density.carry_offsets(v, rate=1.0)
    mu, offset = objective.density.visible_offset, objective.density.hidden_offset
    model = v.flip(0)[:, [1, 2, 3, 4, 0]]

    def difference(energy):
        return energy(v).mean() - energy(model).mean()

    centred = {
        "W": made.weight.detach().clone(),
        "b": made.visible_bias.detach() + made.weight.detach().t() @ offset,
        "c": made.hidden_bias.detach() + made.weight.detach() @ mu,
    }
    for value in centred.values():
        value.requires_grad_()

    def weights():
        return {
            "up.weight": centred["W"], "up.bias": centred["c"] - centred["W"] @ mu,
            "visible_bias": centred["b"] - centred["W"].t() @ offset,
        }  # fmt: skip

    def free_energy(rows):
        class FreeEnergy(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.rbm = made

            def forward(self, rows):
                return self.rbm.free_energy(rows)

        named = {f"rbm.{name}": value for name, value in weights().items()}
        return torch.func.functional_call(FreeEnergy(), named, rows)

    steps = torch.autograd.grad(difference(free_energy), list(centred.values()))
    with torch.no_grad():
        for value, step in zip(centred.values(), steps, strict=True):
            value -= 0.1 * step
    expected = {name: value.detach().clone() for name, value in weights().items()}
    difference(made.free_energy).backward()
    objective.project_gradient()
    for name, value in expected.items():
        parameter = dict(made.named_parameters())[name]
        torch.testing.assert_close(parameter - 0.1 * parameter.grad, value)


def test_without_a_generator_the_chain_uses_means():
    made = rbm()
    v = data()
    term = contrast(ContrastiveDivergence(made, method="cd").double(), v, None)
    torch.testing.assert_close(term, made.free_energy(v) - made.free_energy(made.mean_field(v)))


@pytest.mark.parametrize("method", ["pcd", "cd"])
def test_a_pair_of_step_numbers_interpolates_with_progress(method, monkeypatch):
    objective, generator = ContrastiveDivergence(rbm(), method=method, n_steps=(1, 25)).double(), torch.Generator()
    down, counts = BlockGibbs.down, []
    monkeypatch.setattr(BlockGibbs, "down", lambda *arguments: counts.append(1) or down(*arguments))
    for progress, n_steps in ((0.0, 1), (0.5, 13), (1.0, 25)):
        counts.clear()
        contrast(objective, data(), generator, progress)
        assert len(counts) == n_steps


def test_every_term_has_its_weight():
    made = rbm()
    penalties = {"sparsity": TargetRate(0.5, target_rate=0.1)}
    objective = ContrastiveDivergence(made, weight_decay=0.3, penalties=penalties).double()
    terms, _ = objective.terms(Batch(data()), 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(terms["weight_decay"], 0.15 * made.weight.square().sum())
    sparsity = TargetRate(target_rate=0.1).of(made.hidden_mean(data()))
    torch.testing.assert_close(terms["sparsity"], 0.5 * sparsity)


def test_monitor_is_a_deterministic_pseudo_likelihood():
    made, v = rbm(), data(3000)
    objective = ContrastiveDivergence(made, n_chains=3).double()
    flipped = v[None].repeat(5, 1, 1)
    for j in range(5):
        flipped[j, :, j] = 1 - v[:, j]
    exact = torch.nn.functional.softplus(made.free_energy(v) - made.free_energy(flipped)).sum(0)
    assert torch.equal(objective.monitor(Batch(v)), objective.monitor(Batch(v)))
    assert objective.monitor(Batch(v)).mean().item() == pytest.approx(exact.mean().item(), rel=0.02)


def test_monitor_of_word_counts_is_the_nll_of_the_reconstruction():
    made, v = rbm({"name": "multinomial"}), 3 * data()
    nll = made.likelihood.nll(made.down(made.hidden_mean(v)), v)
    torch.testing.assert_close(ContrastiveDivergence(made).double().monitor(Batch(v)), nll)


def test_a_missing_entry_is_imputed_by_its_conditional_mean():
    made = rbm({"name": "gaussian"})
    objective, v = ContrastiveDivergence(made).double(), data()
    mask = torch.ones_like(v)
    mask[:, 2] = 0
    holes = Batch(torch.where(mask != 0, v, 99.0), mask=mask)
    start = torch.where(mask != 0, v, made.visible_bias)
    filled = torch.where(mask != 0, v, made.mean_field(start))
    torch.testing.assert_close(objective.coder.encode(holes).code, made.hidden_mean(filled))


def test_gibbs_steps_keep_the_distribution_of_the_model():
    made = rbm()
    generator = torch.Generator().manual_seed(4)
    p = torch.softmax(-made.free_energy(all_states(5)), 0)
    v = all_states(5)[torch.multinomial(p, 40000, replacement=True, generator=generator)]
    start = ChainState(made.sample_hidden(v, generator))
    state = run_chain(BlockGibbs(made), start, 3, generator)
    codes = (state.visible @ torch.tensor([16.0, 8.0, 4.0, 2.0, 1.0]).double()).long()
    torch.testing.assert_close(torch.bincount(codes, minlength=32) / 40000, p.detach(), atol=0.008, rtol=0,
                               check_dtype=False)  # fmt: skip


CASES = [
    ("pcd", "bernoulli", "bernoulli", 0.2),
    ("cd", "bernoulli", "rectified", 0.1),
    ("pcd", "categorical", "bernoulli", 0.2),
    ("cd", "gaussian", "bernoulli", 0.02),
    ("pcd", "gaussian-per-column", "rectified", 0.02),
    ("cd", "multinomial", "bernoulli", 0.05),
]


@pytest.mark.parametrize(("method", "name", "hidden", "learning_rate"), CASES)
def test_training_separates_rows_from_rows_with_swapped_halves(method, name, hidden, learning_rate):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(200, 1, generator=generator) < 0.5
    x = torch.where(first, torch.tensor([1.0, 0, 0, 1, 0, 0]), torch.tensor([0, 1.0, 0, 0, 1, 0]))
    config = {"name": name} | ({"groups": [[0, 1, 2], [3, 4, 5]]} if name == "categorical" else {})
    if name.startswith("gaussian"):
        x = 3 * x + torch.randn(x.shape, generator=generator)
    if name == "multinomial":
        x = 3 * x
    made = RBMEnergy(likelihood_from(config, 6), 4, hidden=hidden, weight_scale=0.1, generator=generator)
    objective = ContrastiveDivergence(made, method=method, n_chains=50)
    training_config = TrainingConfig(
        max_epochs=30, batch_size=20, optimizer="sgd", momentum=0.5, learning_rate=learning_rate
    )
    objective.prepare(Memory(x))
    before = float(objective.monitor(Batch(x)).mean())
    Trainer(objective, Memory(x), None, training_config, generator).run()
    exchanged = torch.cat([x[:, :3], torch.where(first, x[~first[:, 0]][:1, 3:], x[first[:, 0]][:1, 3:])], 1)
    assert float(objective.monitor(Batch(x)).mean()) < before
    assert made.free_energy(exchanged).mean() - made.free_energy(x).mean() > 1.0
    assert objective.density.particles.shape == (50 if method == "pcd" else 0, 4)


def test_a_copy_is_independent_and_names_each_weight_once():
    objective = ContrastiveDivergence(rbm({"name": "gaussian-learned"}), n_chains=2)
    again = copy.deepcopy(objective)
    assert again.coder.decoder.rbm is again.coder.encoder is again.rbm is again.density.gibbs.rbm
    assert again.rbm.visible.likelihood is again.coder.likelihood is not objective.coder.likelihood
    assert sorted(objective.state_dict()) == [
        *(f"coder.inference.encoder.{name}"
          for name in ("likelihood.free_log_variance", "up.bias", "up.weight", "visible_bias")),
        *(f"density.{name}" for name in ("hidden_offset", "log_partition", "particles", "visible_offset")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n_chains": 0}, "n_chains=0: sampling needs at least one chain; give 1 or more"),
        ({"method": "pdc"}, "method 'pdc' is unknown; did you mean 'pcd'"),
        ({"n_steps": 0}, "n_steps=0: it must be a whole number of at least 1, or a pair of such"),
        ({"n_steps": (1, 0.5)}, r"n_steps=\(1, 0.5\): it must be a whole number"),
        ({"weight_decay": -1.0}, "weight_decay: weight -1.0 is invalid"),
    ],
)
def test_invalid_arguments_raise(arguments, text):
    with pytest.raises(InputError, match=text):
        ContrastiveDivergence(rbm(), **arguments)


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian", "rectified"])
@pytest.mark.parametrize("n_columns", [5, 3])
def test_rows_with_missing_entries_have_a_lower_bound_where_these_cannot_be_summed_out(hidden, n_columns, monkeypatch):
    made = RBMDensity(rbm(n_columns=n_columns, hidden=hidden, scale=0.4)).double()
    made.compute_log_partition()
    x, mask = (
        data(40, n_columns),
        (torch.rand(40, n_columns, generator=torch.Generator().manual_seed(1)) < 0.6).double(),
    )
    exact = made.log_prob(Batch(x, mask=mask))
    monkeypatch.setattr(RBMEnergy, "can_sum_missing", False)
    bound = made.log_prob(Batch(x, mask=mask))
    complete = (mask == 1).all(1)
    torch.testing.assert_close(bound[complete], exact[complete])
    assert (bound <= exact + 1e-9).all()
    assert (exact - bound).max() < 0.3


class Counting(Memory):
    """Rows that keep the size of each batch that was asked of them."""

    def __init__(self, x):
        super().__init__(x)
        self.sizes = []

    def batch(self, index):
        self.sizes.append(len(index))
        return super().batch(index)


def test_chains_that_start_at_rows_keep_their_number_of_words():
    x = torch.ones(20, 5).double()
    x[7] = 40.0
    objective = ContrastiveDivergence(rbm({"name": "multinomial"}), method="cd", n_chains=2).double()
    objective.prepare(Memory(x))
    assert objective.density.totals.tolist() == [5.0, 5.0]
    _, _, visible = objective.contrast(x, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(visible.sum(1), x.sum(1))


def test_chains_that_start_at_longer_rows_than_before_keep_their_number_of_words():
    objective = ContrastiveDivergence(rbm({"name": "multinomial"}), method="cd", n_chains=2).double()
    objective.prepare(Memory(torch.ones(20, 5).double()))
    x = torch.full((20, 5), 8.0).double()
    objective.prepare_statistics(Memory(x))
    _, _, visible = objective.contrast(x, 0.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(visible.sum(1), x.sum(1))


@pytest.mark.parametrize("config", [BERNOULLI, {"name": "multinomial"}], ids=lambda config: config["name"])
def test_chains_start_from_many_rows_of_which_one_block_is_dense(config):
    x = (torch.rand(5000, 5, generator=torch.Generator().manual_seed(0)) + torch.linspace(0, 1, 5000)[:, None]).round()
    made, rows = RBMDensity(rbm(config), n_chains=7).double(), Counting(x.double())
    made.initialize_chains(rows)
    assert max(rows.sizes) <= 1024
    sample = x.double()[evenly_spaced(5000)]
    h = made.rbm.hidden_mean(sample)
    torch.testing.assert_close(made.particles, h[torch.arange(7) * len(h) // 7])
    torch.testing.assert_close(made.hidden_offset, h.mean(0))
    if config == BERNOULLI:
        torch.testing.assert_close(made.visible_offset, sample.mean(0))
    else:
        torch.testing.assert_close(made.totals, sample.sum(1)[torch.arange(7) * len(h) // 7])
