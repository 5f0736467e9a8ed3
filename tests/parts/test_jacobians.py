"""Jacobians and contractive penalties against torch's Jacobians, finite differences and Gaussian integrals."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.parts import jacobians
from isthmus.parts.coder import Coder
from isthmus.parts.convolutions import ConvolutionalDecoder, ConvolutionalEncoder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.jacobians import Contraction, activation_derivative, code_jacobian, jvp, singular_values, vjp
from isthmus.parts.layers import ACTIVATIONS
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP
from isthmus.parts.sparse_activations import JumpReLU, TopK

N, COLUMNS, UNITS = 5, 7, 4


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n_columns: int = COLUMNS) -> Tensor:
    return torch.rand(N, n_columns, generator=seeded(1), dtype=torch.float64)


class Model(Coder):
    """A coder with its maps as functions of the rows."""

    def __init__(
        self,
        encoder: nn.Module,
        code_activation: nn.Module,
        n_columns: int,
        *,
        decoder: nn.Module | None = None,
        sees_mask: bool = False,
    ) -> None:
        super().__init__(
            EncoderMap(encoder, code_activation, sees_mask=sees_mask),
            decoder or MLP((UNITS, n_columns), generator=seeded(2)),
            likelihood_from({"name": "bernoulli"}, n_columns),
        )
        self.double()

    def code(self, x: Tensor) -> Tensor:
        return self.code_activation(self.encoder(x))

    def reconstruction(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(self.code(x)))

    def output(self, x: Tensor, mask: Tensor | None = None) -> ForwardPass:
        return self(Batch(x, mask=mask))


def shallow(activation: str = "sigmoid") -> Model:
    return Model(MLP((COLUMNS, UNITS), generator=seeded()), ACTIVATIONS[activation](), COLUMNS)


def deep(activation: str = "silu", code_activation: str = "tanh", *, code_size: int = UNITS, **options) -> Model:
    encoder = MLP((COLUMNS, 9, 6, code_size), activation, generator=seeded(), **options)
    model = Model(encoder, ACTIVATIONS[code_activation](), COLUMNS)
    model.decoder = MLP((code_size, 5, COLUMNS), "tanh", generator=seeded(2)).double()
    return with_running_moments(model)


def convolutional(normalization: str | None = None) -> Model:
    options = {"channels": (3, 4), "dense_sizes": (6,), "normalization": normalization, "generator": seeded()}
    encoder = ConvolutionalEncoder((1, 5, 4), UNITS, activation="silu", **options)
    decoder = ConvolutionalDecoder((1, 5, 4), UNITS, activation="silu", **options)
    return with_running_moments(Model(encoder, nn.Sigmoid(), 20, decoder=decoder))


def with_running_moments(model: Model) -> Model:
    """Run some batches, so that the running moments differ from their initial values."""
    n_columns = model.likelihood.n_columns
    for seed in range(3):
        model.code(torch.rand(8, n_columns, generator=seeded(seed), dtype=torch.float64))
    return model


def jacobian_by_torch(f, x: Tensor) -> Tensor:
    return torch.stack([torch.autograd.functional.jacobian(f, row[None]).squeeze((0, 2)) for row in x])


def squared_norm(J: Tensor) -> Tensor:
    return J.square().sum((-2, -1))


DEEP = {
    "silu": lambda: deep(),
    "sigmoid": lambda: deep("sigmoid", "sigmoid"),
    "gelu, batch normalised": lambda: deep("gelu", normalization="batch"),
    "tanh, layer normalised": lambda: deep("tanh", "softplus", normalization="layer"),
    "dropout": lambda: deep(dropout=0.5),
    "wide code": lambda: deep(code_size=11),
    "convolutional": convolutional,
    "convolutional, batch normalised": lambda: convolutional("batch"),
    "convolutional, layer normalised": lambda: convolutional("layer"),
}
by_model = pytest.mark.parametrize("build", DEEP.values(), ids=DEEP.keys())


# The closed form


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_closed_form_contraction_equals_the_jacobian(activation):
    model, x = shallow(activation), rows()
    assert Contraction().resolve_method(model, COLUMNS, UNITS) == "closed"
    torch.testing.assert_close(
        Contraction()(model.output(x), model, None), squared_norm(jacobian_by_torch(model.code, x))
    )


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "softplus"])
def test_gradients_of_the_closed_form_are_those_of_finite_differences_twice(activation, order):
    model, x = shallow(activation), rows()[:2]
    penalty = Contraction(order=order, hessian_scale=0.5, n_corruptions=2)
    layer = model.encoder.affine_maps[0]

    def omega(weight: Tensor, bias: Tensor) -> Tensor:
        changed = copy.deepcopy(model)
        fixed = changed.encoder.affine_maps[0]
        del fixed.weight, fixed.bias
        fixed.weight, fixed.bias = weight, bias
        return penalty(changed.output(x), changed, seeded())

    point = (layer.weight.detach().requires_grad_(), layer.bias.detach().requires_grad_())
    assert torch.autograd.gradcheck(omega, point)
    assert torch.autograd.gradgradcheck(omega, point)


@pytest.mark.parametrize("activation", [TopK(2, UNITS), JumpReLU(UNITS, threshold=0.05)], ids=["TopK", "JumpReLU"])
def test_sparse_activations_have_the_closed_form_too(activation):
    model, x = Model(MLP((COLUMNS, UNITS), generator=seeded()), activation, COLUMNS), rows()
    expected = squared_norm(jacobian_by_torch(model.code, x))
    assert expected.max() > 0
    torch.testing.assert_close(Contraction(method="closed")(model.output(x), model, None), expected)


def test_the_closed_form_accepts_leading_axes():
    model, x = shallow(), rows()
    output = model.output(torch.stack([x, x + 1]))
    output = ForwardPass(Batch(x), Batch(x), output.preactivation, output.code, output.parameters)
    penalty = Contraction()(output, model, None)
    torch.testing.assert_close(penalty[0], Contraction()(model.output(x), model, None))
    torch.testing.assert_close(penalty[1], Contraction()(model.output(x + 1), model, None))


def test_a_mask_appended_to_the_rows_is_constant():
    x, mask = rows(), (rows() < 0.7).double()
    for sizes in ((2 * COLUMNS, UNITS), (2 * COLUMNS, 6, UNITS)):
        model = Model(MLP(sizes, "tanh", generator=seeded()), nn.Sigmoid(), COLUMNS, sees_mask=True)
        expected = squared_norm(jacobian_by_torch(model.code, torch.cat([x * mask, mask], -1))[..., :COLUMNS])
        torch.testing.assert_close(Contraction()(model.output(x, mask), model, None), expected)


# Deep maps


@by_model
def test_the_exact_norm_equals_the_jacobian_in_eval_mode(build):
    model = build()
    x = rows(model.likelihood.n_columns)
    penalty = Contraction(method="exact")(model.output(x), model, seeded())
    read = copy.deepcopy(model).eval()
    torch.testing.assert_close(penalty, squared_norm(jacobian_by_torch(read.code, x)))
    torch.testing.assert_close(code_jacobian(model.encoder, model.code_activation, x), jacobian_by_torch(read.code, x))


@by_model
def test_the_exact_norm_of_the_reconstruction_equals_its_jacobian(build):
    model = build()
    x = rows(model.likelihood.n_columns)
    penalty = Contraction(method="exact", of="reconstruction")(model.output(x), model, seeded())
    read = copy.deepcopy(model).eval()
    torch.testing.assert_close(penalty, squared_norm(jacobian_by_torch(read.reconstruction, x)))


@by_model
@pytest.mark.parametrize("of", ["encoder", "reconstruction"])
def test_the_mean_over_many_probes_tends_to_the_exact_norm(build, of):
    model = build()
    x = rows(model.likelihood.n_columns)
    output = model.output(x)
    exact = Contraction(method="exact", of=of)(output, model, None)
    probed = [Contraction(method="hutchinson", of=of, n_probes=40)(output, model, seeded(i)) for i in range(5)]
    error = torch.stack(probed).mean(0) / exact - 1
    # The relative deviation of one probe is below sqrt 2, so that of the mean of 200 is below .1.
    assert error.abs().max() < 0.35
    assert error.mean().abs() < 0.1


@by_model
@pytest.mark.parametrize("method", ["exact", "hutchinson"])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_deep_contractions_are_those_of_finite_differences(build, method, order):
    model = build()
    x = rows(model.likelihood.n_columns)[:3]
    penalty = Contraction(method=method, order=order, n_corruptions=2, hessian_scale=0.3)
    weight, output = next(model.encoder.parameters()), model.output(x)
    (gradient,) = torch.autograd.grad(penalty(output, model, seeded()).sum(), weight)
    direction = torch.randn(weight.shape, generator=seeded(3), dtype=torch.float64)
    values, step = [], 1e-5
    for sign in (1, -1):
        with torch.no_grad():
            weight.add_(direction, alpha=sign * step)
            values.append(float(penalty(output, model, seeded()).sum()))
            weight.sub_(direction, alpha=sign * step)
    assert float((gradient * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_probes_use_vjp_for_narrow_codes_and_jvp_for_wide_codes():
    for f, size in ((vjp, UNITS), (jvp, COLUMNS)):
        model, x = deep(), rows()
        directions = torch.randn(3, N, size, generator=seeded(), dtype=torch.float64)
        J = jacobian_by_torch(copy.deepcopy(model).eval().code, x)
        expected = torch.stack([((J.mT if f is vjp else J) @ d[..., None])[..., 0] for d in directions], -1)
        with jacobians.eval_mode(model):
            torch.testing.assert_close(f(model.code, x, directions), expected)
    assert jacobians.use_forward_mode(MLP((3, 8, 9), generator=seeded()), 3, 9)
    assert not jacobians.use_forward_mode(MLP((3, 8, 3), generator=seeded()), 3, 3)


def test_probes_depend_on_the_generator_and_more_probes_reduce_the_variance():
    model = deep()
    output, one = model.output(rows()), Contraction(method="hutchinson")
    torch.testing.assert_close(one(output, model, seeded(4)), one(output, model, seeded(4)), rtol=0, atol=0)
    assert not torch.equal(one(output, model, seeded(4)), one(output, model, seeded(5)))
    spread = [
        torch.stack([Contraction(method="hutchinson", n_probes=n)(output, model, seeded(i)) for i in range(60)]).std(0)
        for n in (1, 16)
    ]
    assert (spread[0] / spread[1]).mean().item() == pytest.approx(4, rel=0.25)


def test_values_are_the_same_under_no_grad():
    for model in (shallow(), deep(), convolutional()):
        x = rows(model.likelihood.n_columns)
        for order in (1, 2):
            penalty = Contraction(order=order)
            value = penalty(model.output(x), model, seeded())
            with torch.no_grad():
                without_gradient = penalty(model.output(x), model, seeded())
            assert not without_gradient.requires_grad
            torch.testing.assert_close(without_gradient, value)


def test_training_mode_and_running_statistics_are_restored():
    model = deep(normalization="batch", dropout=0.3).train()
    before = copy.deepcopy(model.state_dict())
    output = model.output(rows())
    after_trip = copy.deepcopy(model.state_dict())
    assert any(not torch.equal(before[name], after_trip[name]) for name in before)
    Contraction(order=2, method="exact")(output, model, seeded())
    assert all(torch.equal(after_trip[name], value) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


# Second-order term


@pytest.mark.parametrize("method", ["closed", "exact"])
def test_the_second_order_is_the_mean_squared_difference_of_jacobians(method):
    model, x = shallow(), rows()
    penalty = Contraction(order=2, hessian_weight=0.7, hessian_scale=0.4, n_corruptions=3, method=method)
    noise = torch.randn(3, N, COLUMNS, generator=seeded(), dtype=torch.float64)
    J = jacobian_by_torch(model.code, x)
    around = [squared_norm(J - jacobian_by_torch(model.code, x + 0.4 * e)) for e in noise]
    expected = squared_norm(J) + 0.7 * torch.stack(around).mean(0)
    torch.testing.assert_close(penalty(model.output(x), model, seeded()), expected)


def test_the_second_order_by_probes_tends_to_its_exact_value():
    model, x = deep(), rows()
    options = {"order": 2, "hessian_weight": 5.0, "hessian_scale": 0.4, "n_corruptions": 100}
    exact = Contraction(method="exact", **options)(model.output(x), model, seeded())
    probed = Contraction(method="hutchinson", n_probes=100, **options)(model.output(x), model, seeded(9))
    torch.testing.assert_close(probed, exact, rtol=0.3, atol=0)


def test_the_second_order_over_the_variance_tends_to_the_hessian_norm():
    model, x = shallow(), rows()
    layer = model.encoder.affine_maps[0]
    s = torch.sigmoid(layer(x))
    curvature = s * (1 - s) * (1 - 2 * s)
    hessian = (curvature.square() * layer.weight.square().sum(1).square()).sum(1)
    scale = 1e-3
    penalty = Contraction(order=2, hessian_weight=scale**-2, hessian_scale=scale, n_corruptions=20_000)
    second = penalty(model.output(x), model, seeded()) - Contraction()(model.output(x), model, None)
    torch.testing.assert_close(second, hessian, rtol=0.05, atol=0)


# Jacobian matrices and singular values


def test_one_layer_has_its_jacobian_in_closed_form_and_the_spectrum_sums_to_the_contraction():
    model, x = shallow("sigmoid"), rows()
    J = code_jacobian(model.encoder, model.code_activation, x)
    torch.testing.assert_close(J, jacobian_by_torch(model.code, x))
    spectrum = singular_values(model.encoder, model.code_activation, x)
    assert spectrum.shape == (N, min(UNITS, COLUMNS))
    assert (spectrum.diff(dim=1) <= 0).all()
    torch.testing.assert_close(spectrum.square().sum(1), Contraction()(model.output(x), model, None))


def test_activation_derivatives_are_differentiable_and_computed_under_no_grad():
    a = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()
    (curvature,) = torch.autograd.grad(activation_derivative(nn.Tanh(), a).sum(), a)
    torch.testing.assert_close(curvature, -2 * a.tanh() * (1 - a.tanh().square()))
    with torch.no_grad():
        torch.testing.assert_close(activation_derivative(nn.Tanh(), a), 1 - a.tanh().square())
    torch.testing.assert_close(activation_derivative(nn.Identity(), a), torch.ones_like(a))


# Lower precision and tied weights


@pytest.mark.parametrize("method", ["auto", "exact", "hutchinson"])
@pytest.mark.parametrize("order", [1, 2])
def test_under_autocast_the_penalty_is_near_that_of_single_precision(method, order):
    for model in (shallow().float(), deep().float(), convolutional().float()):
        x = rows(model.likelihood.n_columns).float()
        penalty = Contraction(method=method, order=order)
        expected = penalty(model.output(x), model, seeded())
        with torch.autocast("cpu", torch.bfloat16):
            value = penalty(model.output(x), model, seeded())
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.05, atol=0.01)


def test_tied_weights_get_gradients_through_both_maps():
    encoder = MLP((COLUMNS, UNITS), generator=seeded())
    model = Model(encoder, nn.Sigmoid(), COLUMNS, decoder=TiedMLP(encoder))
    for of in ("encoder", "reconstruction"):
        x = rows()
        penalty = Contraction(of=of, method="exact")(model.output(x), model, None)
        f = model.code if of == "encoder" else model.reconstruction
        torch.testing.assert_close(penalty, squared_norm(jacobian_by_torch(f, x)))
        (gradient,) = torch.autograd.grad(penalty.sum(), encoder.affine_maps[0].weight)
        assert gradient.abs().sum() > 0


# Choice of the method, and invalid arguments


def test_auto_selects_the_method_by_layers_and_sizes():
    sizes = {(40, 30, 16): "exact", (40, 30, 17): "hutchinson", (16, 30, 40): "exact", (40, 50): "closed"}
    for layers, method in sizes.items():
        model = Model(MLP(layers, generator=seeded()), nn.Sigmoid(), layers[0])
        assert Contraction().resolve_method(model, layers[0], layers[-1]) == method
    model = Model(MLP((40, 50), generator=seeded()), nn.Softmax(-1), 40)
    assert Contraction().resolve_method(model, 40, 50) == "hutchinson"
    assert Contraction(of="reconstruction").resolve_method(shallow(), COLUMNS, UNITS) == "exact"


@pytest.mark.parametrize(
    ("model", "options", "text"),
    [
        (
            deep,
            {},
            "contraction method 'closed' needs an encoder of one layer, but this encoder has 3; use 'auto'",
        ),
        (convolutional, {}, "but this encoder is a ConvolutionalEncoder; use 'auto'"),
        (shallow, {"of": "reconstruction"}, "but of='reconstruction' includes the decoder; use 'auto'"),
        (
            lambda: Model(MLP((COLUMNS, UNITS), generator=seeded()), nn.Softmax(-1), COLUMNS),
            {},
            "but the code activation Softmax is not elementwise; use 'auto'",
        ),
    ],
)
def test_the_closed_form_raises_where_there_is_none(model, options, text):
    built = model()
    with pytest.raises(InputError) as error:
        Contraction(method="closed", **options)(built.output(rows(built.likelihood.n_columns)), built, None)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight": -1.0}, "Contraction: weight -1.0 is invalid"),
        ({"order": 3}, "Contraction: order=3: it must be 1, or 2"),
        ({"order": True}, "Contraction: order=True: it must be 1, or 2"),
        ({"hessian_weight": math.nan}, "^hessian_weight: weight nan is invalid"),
        ({"hessian_scale": 0.0}, "hessian_scale=0.0: it must be a finite number above 0"),
        ({"hessian_scale": "a"}, "hessian_scale='a': it must be a finite number above 0"),
        ({"n_corruptions": 0}, "n_corruptions=0: it must be a whole number of at least 1"),
        ({"n_probes": 1.5}, "n_probes=1.5: it must be a whole number of at least 1"),
        ({"of": "code"}, "Contraction: of 'code' is unknown; .*choose one of: encoder, reconstruction"),
        ({"method": "hutchison"}, "Contraction: method 'hutchison' is unknown; did you mean 'hutchinson'?"),
    ],
)
def test_invalid_arguments_raise(options, text):
    with pytest.raises(InputError, match=text):
        Contraction(**options)
