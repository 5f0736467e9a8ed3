"""The decoder that the page holds, compared with the decoder of the model, and its script in a browser."""

import copy
import json
from importlib import resources

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import isthmus.report.decoder
from isthmus import (
    MLP,
    Autoencoder,
    ContractiveAutoencoder,
    DeepBeliefNetwork,
    DeepBoltzmannMachine,
    DeepRecurrentAutoencoder,
    DenoisingAutoencoder,
    InputError,
    LinearAutoencoder,
    RecirculationAutoencoder,
    RestrictedBoltzmannMachine,
    SparseAutoencoder,
    StackedAutoencoder,
    TopK,
    VariationalAutoencoder,
)
from isthmus.parts.layers import ACTIVATIONS
from isthmus.parts.likelihoods import LIKELIHOODS, likelihood_from
from isthmus.parts.networks import TiedMLP
from isthmus.report import write
from isthmus.report.code_maps import map_codes
from isthmus.report.decoder import MAX_POINTS, decoder_record, dequantised, mean_record, quantise, restored
from isthmus.report.decoder_section import unit_ranges

from .cases import CASES
from .pages import CHROMIUM, Page, run_in_browser

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 8)) + 0.1 * RNG.normal(size=(60, 8))
SHARES = 1 / (1 + np.exp(-REAL))
COUNTS = RNG.poisson(np.exp(REAL / 3))


def mixed_table():
    return pd.DataFrame(
        {
            "height": REAL[:, 0] + 170,
            "smoker": REAL[:, 1] > 0,
            "region": np.array(["north", "south", "west"])[RNG.integers(0, 3, 60)],
            "visits": COUNTS[:, 0],
            "weight": 1e4 * REAL[:, 2],
            "colour": np.array(["red", "blue", "green", "grey"])[RNG.integers(0, 4, 60)],
        }
    )


def skewed_table():
    rng = np.random.default_rng(1)
    wide = np.exp(rng.normal(size=(900, 2)))
    return pd.DataFrame({"income": wide[:, 0], "rain": np.where(wide[:, 1] < 1, 0, wide[:, 1]), "wet": wide[:, 1] > 1})


def fitted(kind, X, *, mlp=None, **options):
    network = {} if mlp is None else {"network": MLP((16,), **mlp)}
    return kind(**{"code_size": 3, "max_epochs": 5, "random_state": 0, **network, **options}).fit(X)


FITS = {
    "linear": lambda: fitted(LinearAutoencoder, REAL),
    "deep": lambda: fitted(Autoencoder, REAL),
    "deep tied": lambda: fitted(Autoencoder, REAL, mlp={"tied": True}),
    "batch": lambda: fitted(Autoencoder, REAL, mlp={"normalization": "batch", "activation": "relu"}),
    "batch tied": lambda: fitted(Autoencoder, REAL, mlp={"normalization": "batch", "tied": True}),
    "layer": lambda: fitted(Autoencoder, REAL, mlp={"normalization": "layer", "activation": "gelu"}),
    "dropout": lambda: fitted(Autoencoder, REAL, mlp={"dropout": 0.2, "activation": "tanh"}),
    "softplus": lambda: fitted(Autoencoder, REAL, mlp={"activation": "softplus"}),
    "sigmoid": lambda: fitted(Autoencoder, REAL, mlp={"activation": "sigmoid"}),
    "sparse": lambda: fitted(SparseAutoencoder, REAL, code_size=64, sparsity=TopK(k=2)),
    "denoising": lambda: fitted(DenoisingAutoencoder, REAL),
    "contractive": lambda: fitted(ContractiveAutoencoder, REAL),
    "mixed": lambda: fitted(Autoencoder, mixed_table()),
    "quantile": lambda: fitted(VariationalAutoencoder, mixed_table()),
    "quantile of many rows": lambda: fitted(Autoencoder, skewed_table(), scaling="quantile"),
    "images": lambda: CASES["images"]().model,
    "colours": lambda: fitted(Autoencoder, RNG.uniform(size=(30, 6, 5, 3)).astype(np.float32)),
    "texts": lambda: CASES["text"]().model,
    "bernoulli": lambda: fitted(Autoencoder, (REAL > 0).astype(float)),
    "gaussian-unit": lambda: fitted(Autoencoder, SHARES),
    "poisson": lambda: fitted(Autoencoder, COUNTS, likelihood="poisson", scaling="none"),
    "multinomial": lambda: fitted(Autoencoder, COUNTS, likelihood="multinomial", scaling="none"),
    "gaussian-predicted": lambda: fitted(Autoencoder, REAL, likelihood="gaussian-predicted"),
    "continuous-bernoulli": lambda: fitted(Autoencoder, SHARES, likelihood="continuous-bernoulli"),
    "mixture": lambda: fitted(Autoencoder, REAL, likelihood={"name": "mixture-density", "n_components": 3}),
    "stacked": lambda: fitted(StackedAutoencoder, REAL),
    "stacked rbm": lambda: fitted(StackedAutoencoder, SHARES, layers="rbm"),
    "recirculation": lambda: fitted(RecirculationAutoencoder, SHARES),
    "recurrent": lambda: fitted(DeepRecurrentAutoencoder, REAL),
    "rbm": lambda: fitted(RestrictedBoltzmannMachine, SHARES),
    "dbn": lambda: fitted(DeepBeliefNetwork, SHARES),
    "dbm": lambda: fitted(DeepBoltzmannMachine, SHARES),
}
ENERGIES_AND_STACKS = {"stacked", "stacked rbm", "recurrent", "rbm", "dbn", "dbm"}
"""Their layers have parameters outside of the modules of the decoder."""

FITTED: dict = {}


def model_of(name):
    if name not in FITTED:
        FITTED[name] = FITS[name]()
    return FITTED[name]


def codes_of(model):
    """Random codes, about as large as those of the model's rows."""
    rows = np.random.default_rng(1)
    codes = rows.normal(size=(20, model.code_size_))
    if isinstance(model, SparseAutoencoder):
        codes *= rows.uniform(size=codes.shape) < 0.05
    return codes.astype(np.float32)


@pytest.fixture(params=list(FITS))
def model(request):
    return model_of(request.param)


def rounded(weight):
    """The weight with 255 values in each row."""
    scale = weight.abs().amax(1, keepdim=True) / 127
    return torch.where(scale > 0, (weight / scale).round() * scale, 0.0)


@torch.no_grad()
def with_rounded_weights(model):
    """A copy of the coder whose decoder has rounded weights, in double precision."""
    coder = copy.deepcopy(model.coder_).cpu().eval()
    if isinstance(coder.decoder, TiedMLP):
        for layer in coder.encoder.affine_maps:
            layer.weight.copy_(rounded(layer.weight.t()).t())
    for layer in coder.decoder.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(rounded(layer.weight))
    return coder.double()


@pytest.mark.parametrize("name", [name for name in FITS if name not in ENERGIES_AND_STACKS])
def test_the_record_equals_the_decoder_with_rounded_weights(name):
    model = model_of(name)
    coder, codes = with_rounded_weights(model), codes_of(model)
    with torch.no_grad():
        expected = coder.likelihood.mean(coder.decode(torch.from_numpy(codes).double())).numpy()
    np.testing.assert_allclose(dequantised(decoder_record(model), codes), expected, rtol=1e-5, atol=1e-5)


def test_the_record_is_close_to_the_decoder_of_the_model(model):
    codes = codes_of(model)
    decoded = model._decode(codes)
    difference = np.abs(dequantised(decoder_record(model), codes) - decoded)
    assert difference.mean() < 0.01 * max(1, np.abs(decoded).mean()), "1% of counts above 1"


def test_a_record_has_json_types_and_needs_about_a_byte_for_each_weight(model):
    record = decoder_record(model)
    assert json.loads(json.dumps(record)) == record
    for layer in record["layers"]:
        assert len(layer["weights"]) <= 4 * -(-layer["inputs"] * layer["outputs"] // 3)


def test_every_likelihood_and_every_activation_of_the_package_is_exported():
    groups = [{"unit": "real", "columns": [0, 1]}, {"unit": "binary", "columns": [2]}]
    for name in LIKELIHOODS:
        options = {"groups": groups} if name == "mixed" else {}
        functions = {part["function"] for part in mean_record(likelihood_from({"name": name, **options}, 3))[0]}
        assert functions <= {*isthmus.report.decoder._MEAN_FUNCTIONS, "mixture"}
    assert isthmus.report.decoder._ACTIVATION_FUNCTIONS.keys() == ACTIVATIONS.keys()


def test_outputs_that_the_mean_does_not_use_are_not_exported():
    record = decoder_record(model_of("gaussian-predicted"))
    assert record["layers"][-1]["outputs"] == record["n_columns"] == 8


def test_a_quantised_weight_is_within_half_a_step_of_the_weight():
    weight = RNG.normal(size=(6, 50)) * 10.0 ** np.arange(-3, 3)[:, None]
    quantised, scales = quantise(weight)
    assert quantised.dtype == np.int8
    assert (np.abs(quantised).max(1) == 127).all()
    assert (np.abs(quantised * scales[:, None] - weight) <= 0.5001 * scales[:, None]).all()


class Own(nn.Module):
    """A decoder of a user."""


def test_a_decoder_that_cannot_be_exported_is_refused_with_the_reason(monkeypatch):
    conv = CASES["colours"]().model
    own = copy.deepcopy(model_of("deep"))
    own.coder_.decoder = Own()
    odd = copy.deepcopy(model_of("deep"))
    odd.coder_.decoder.layers[1] = nn.PReLU()
    reasons = {
        "its decoder is convolutional": conv,
        "its decoder, Own, is not a network of the package": own,
        "its decoder has a layer PReLU, which the page cannot compute": odd,
    }
    for reason, model in reasons.items():
        with pytest.raises(InputError, match=reason):
            decoder_record(model)
    monkeypatch.setattr(isthmus.report.decoder, "MAX_BYTES", 100)
    with pytest.raises(InputError, match=r"its decoder has [\d,]+ weights; at most 0 MB fit in the page"):
        decoder_record(model_of("deep"))


def test_a_page_without_a_decoder_gives_the_reason(tmp_path):
    case = CASES["colours"]()
    page = Page(write(case.model, case.X, tmp_path / "report.html"))
    assert "This page cannot decode points of the map: its decoder is convolutional." in page.text
    assert "decoder" not in page.ids
    assert "decoder-data" not in page.data


def test_the_plane_of_a_map_inverts_it():
    codes = RNG.normal(size=(30, 5)) * np.arange(5)
    found = map_codes(codes, np.ones(30))
    assert found.method == "PCA"
    at_points = found.plane.origin + found.points @ found.plane.directions
    np.testing.assert_allclose((codes - found.plane.origin) @ found.plane.projection.T, found.points, atol=1e-9)
    np.testing.assert_allclose((at_points - found.plane.origin) @ found.plane.projection.T, found.points, atol=1e-9)
    assert (found.plane.directions[:, 0] == 0).all(), "a constant unit keeps its value"
    pair = map_codes(codes[:, 1:3], np.ones(30))
    np.testing.assert_allclose(pair.plane.origin + pair.points @ pair.plane.directions, codes[:, 1:3])


def test_a_unit_that_is_rarely_active_has_its_whole_range():
    codes = np.zeros((1000, 2))
    codes[0, 0], codes[:, 1] = 7, np.arange(1000)
    assert unit_ranges(codes) == {"low": [0.0, 9.99], "high": [7.0, 989.01], "median": [0.0, 499.5]}


# -- in a browser ------------------------------------------------------------------------------------


def with_script(path, script):
    """Append a script to a page that stores `results` as JSON in an element."""
    page = path.read_text("utf-8")
    end = page.rindex("</body>")
    store = """
    const store = (results) => {
      const element = Object.assign(document.createElement("script"), { type: "application/json", id: "results" });
      element.textContent = JSON.stringify(results).replaceAll("<", "\\\\u003c");
      document.body.append(element);
    };"""
    path.write_text(f"{page[:end]}<script>{store}{script}</script>{page[end:]}", "utf-8")
    return path


@needs_chromium
def test_the_script_of_the_page_equals_the_record(tmp_path):
    models = {name: model_of(name) for name in FITS}
    records = {name: decoder_record(model) for name, model in models.items()}
    codes = {name: codes_of(model)[:5].astype(float) for name, model in models.items()}
    script = resources.files("isthmus.report").joinpath("templates", "decoder.js").read_text("utf-8")
    path = tmp_path / "decoders.html"
    path.write_text(f"<!doctype html><body><script>{script}</script></body>", "utf-8")
    data = json.dumps({name: [records[name], codes[name].tolist()] for name in models})
    with_script(path, f"""
    const results = {{}};
    for (const [name, [record, codes]] of Object.entries({data})) {{
      const {{ decode, restore }} = isthmusDecoder.build(record);
      results[name] = codes.map((code) => [[...decode(code)], [...restore(decode(code))]]);
    }}
    store(results);
    """)  # fmt: skip
    results = run_in_browser(path, tmp_path).data["results"]
    assert set(results) == set(FITS)
    for name, model in models.items():
        x, raw = np.asarray(results[name]).swapaxes(0, 1)
        expected = dequantised(records[name], codes[name])
        np.testing.assert_allclose(x, expected, atol=1e-4, rtol=1e-6, err_msg=name)
        preprocessing = model.preprocessing_
        values, tolerance = restored(records[name], expected), 1e-4 * preprocessing.scale.max()
        if preprocessing.dtype == "uint8":
            tolerance = 1.0
        np.testing.assert_allclose(raw, values, atol=tolerance * steepest(preprocessing), err_msg=name)


def steepest(preprocessing):
    """The largest change of a value for a change of its normal score; 1 without normal scores."""
    points = [of_column.points for of_column in preprocessing.quantiles.values()]
    return max([1, *((np.diff(values) / np.diff(scores)).max() for scores, values in points)])


def test_the_record_restores_the_units_of_the_user(model):
    preprocessing, record = model.preprocessing_, decoder_record(model)
    x = np.random.default_rng(1).normal(size=(50, preprocessing.n_columns)) * 1.5
    raw = preprocessing.raw_numbers(x)
    raw = np.clip(np.rint(raw), 0, 255) if record["rounded"] else raw
    span = np.ptp(raw, axis=0, keepdims=True)
    exact = all(len(of_column.points[0]) <= MAX_POINTS for of_column in preprocessing.quantiles.values())
    assert np.abs(restored(record, x) - raw).max() <= (1e-9 if exact else 5e-3) * span.max()


MOVES = """
const at = (name) => document.getElementById(`decoder-${name}`);
const pixels = (canvas) => [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
const cells = (row) => [...row.children].map((cell) => cell.textContent);
const seen = () => {
  const canvas = at("output").querySelector("canvas");
  const shown = canvas ? pixels(canvas) : [...at("output").querySelectorAll("tr")].map(cells);
  return { state: at("state").textContent, shown };
};
const slide = (unit, value) => {
  const input = at("sliders").querySelectorAll("input")[unit];
  input.value = value;
  input.dispatchEvent(new Event("input"));
};
const point = (x, y) => {
  const box = at("map").getBoundingClientRect();
  const place = { clientX: box.left + x * box.width, clientY: box.top + y * box.height };
  at("map").dispatchEvent(new PointerEvent("pointerdown", place));
};
const pick = (i) => { at("row").value = i; at("row").dispatchEvent(new Event("change")); };
const press = (key) => at("map").dispatchEvent(new KeyboardEvent("keydown", { key }));
"""


def moved(case, tmp_path, script, **options):
    """The page of a case, the results of a script that moves its controls, and the data of its decoder."""
    path = write(case.model, case.X, tmp_path / "report.html", labels=case.labels, **options)
    page = run_in_browser(with_script(path, MOVES + script), tmp_path)
    return page.data["results"], page.data["decoder-data"]


@needs_chromium
def test_an_image_follows_the_row_the_slider_and_the_point(tmp_path):
    case = CASES["images"]()
    results, data = moved(case, tmp_path, """
    const results = [seen()];
    pick(12);
    results.push(seen());
    slide(1, 200);
    results.push(seen());
    at("reset").click();
    results.push(seen());
    point(0.5, 0.5);
    results.push(seen());
    press("ArrowLeft");
    results.push(seen());
    store(results);
    """)  # fmt: skip
    start, picked, slid, again, centre, left = results
    codes = isthmus.report.decoder.decode(data["examples"]["codes"], "<f4").reshape(-1, 3)
    np.testing.assert_allclose(codes[12], case.model.transform(case.X)[example(data, 12)], rtol=1e-6)

    def pixels(code):
        restored = dequantised(data["record"], code[None])[0] * case.model.preprocessing_.scale
        grey = np.rint(np.clip((np.rint(restored) - data["view"]["low"]) / data["view"]["high"], 0, 1) * 255)
        return np.stack([grey, grey, grey, np.full(64, 255.0)], 1).ravel()

    changed = codes[12].copy()
    changed[1] = max(data["units"]["high"][1], changed[1])
    np.testing.assert_allclose(start["shown"], pixels(codes[0]), atol=1)
    np.testing.assert_allclose(picked["shown"], pixels(codes[12]), atol=1)
    np.testing.assert_allclose(slid["shown"], pixels(changed), atol=1)
    assert slid["state"].startswith("unit 1 = ")
    assert again == picked
    # The centre of the map is the middle of the points, and a step to the left is 2% of the side of the map.
    found = map_codes(case.model.transform(case.X), np.ones(50))
    low, high = found.points.min(0), found.points.max(0)
    middle, side = (low + high) / 2, 1.08 * (high - low).max()
    for result, target in ((centre, middle), (left, middle - [0.02 * side, 0])):
        np.testing.assert_allclose(
            result["shown"], pixels(found.plane.origin + target @ found.plane.directions), atol=2
        )
        assert result["state"] == "a point of the map"


def example(data, i):
    """The number of the row at a position of the list."""
    return int(data["examples"]["names"][i].split()[1])


@needs_chromium
@pytest.mark.parametrize("name", ["mixed", "quantile"])
def test_a_table_is_shown_in_its_units(tmp_path, name):
    class Case:
        model, X, labels = model_of(name), mixed_table(), None

    # More rows than those of the fit, so that the map is a t-SNE.
    Case.X = pd.concat([Case.X, Case.X.iloc[:5]], ignore_index=True)
    results, data = moved(Case, tmp_path, """
    const results = [seen()];
    slide(0, 0);
    results.push(seen());
    const input = at("sliders").querySelector("input");
    results.push([input.getAttribute("aria-valuetext"), input.closest("label").textContent]);
    store(results);
    """)  # fmt: skip
    start, slid, [value, label] = results
    assert data["map"]["method"] == "t-SNE"
    codes = isthmus.report.decoder.decode(data["examples"]["codes"], "<f4").reshape(-1, 3)
    changed = codes[0].copy()
    changed[0] = min(changed[0], data["units"]["low"][0])
    rows = {line[0]: line for line in slid["shown"]}
    x = dequantised(data["record"], np.stack([codes[0], changed]))
    raw = restored(data["record"], x)
    assert list(rows) == [
        "column", "height", "smoker = True", "region", "north", "south", "west", "visits", "weight", "colour",
        "blue", "green", "grey", "red",
    ]  # fmt: skip
    for column, name in ((0, "height"), (5, "visits")):
        for row, text in zip(raw, rows[name][1:3], strict=True):
            assert float(text.replace("−", "-")) == pytest.approx(row[column], rel=1e-3)
    levels = [float(rows[level][2].rstrip("%")) / 100 for level in ("north", "south", "west")]
    np.testing.assert_allclose(levels, raw[1, 2:5], atol=1e-3)
    assert rows["region"][2] == ["north", "south", "west"][int(np.argmax(levels))]
    likely = bool(raw[1, 1] > 0.5)
    chance = max(raw[1, 1], 1 - raw[1, 1])
    assert rows["smoker = True"][2].startswith(f"{likely} (")
    assert float(rows["smoker = True"][2].split("(")[1].rstrip("%)")) / 100 == pytest.approx(chance, abs=1e-3)
    assert start["state"] == f"the code of {data['examples']['names'][0]}"
    assert label == f"unit 0{value}"


@needs_chromium
def test_a_point_of_a_t_sne_has_the_weighted_mean_of_the_nearest_codes(tmp_path):
    class Case:
        model, X, labels = model_of("deep"), np.concatenate([REAL, REAL + 0.01]), None

    results, data = moved(Case, tmp_path, """
    point(0.4, 0.6);
    store([seen(), [...at("sliders").querySelectorAll("output")].map((output) => output.textContent)]);
    """)  # fmt: skip
    assert data["map"]["method"] == "t-SNE"
    error = np.ones(len(Case.X))
    codes = Case.model.transform(Case.X)
    points = map_codes(codes, error).points
    low, high = points.min(0), points.max(0)
    target = (low + high) / 2 + 1.08 * (high - low).max() * np.array([-0.1, -0.1])
    distance = np.square(points - target).sum(1)
    nearest = np.argsort(distance)[: data["map"]["neighbours"]]
    weights = 1 / distance[nearest]
    expected = weights @ codes[nearest] / weights.sum()
    shown = [float(text.replace("−", "-")) for text in results[1]]
    np.testing.assert_allclose(shown, expected, atol=0.03)


@needs_chromium
@pytest.mark.parametrize("name", ["text", "sparse", "table"])
def test_the_terms_of_texts_and_the_text_of_users_are_shown(name, tmp_path):
    case = CASES[name]()
    results, data = moved(case, tmp_path, "store([seen(), document.body.id]);", **case.options)
    assert results[1] == "", "the page executed text of the user"
    lines = results[0]["shown"][1:]
    assert len(lines) >= 7
    if name == "table":
        assert lines[0][0] == case.X.columns[0]
        return
    codes = isthmus.report.decoder.decode(data["examples"]["codes"], "<f4").reshape(-1, case.model.code_size_)
    row = dequantised(data["record"], codes[:1])[0] * case.model.preprocessing_.scale
    largest = np.argsort(-np.abs(row), kind="stable")[:15]
    assert [line[0] for line in lines] == [case.model.preprocessing_.columns[j] for j in largest]
    assert float(lines[0][2].replace("−", "-")) == pytest.approx(row[largest[0]], rel=1e-3)


@needs_chromium
def test_the_page_decodes_given_the_chosen_condition(tmp_path):
    table = mixed_table()
    model = VariationalAutoencoder(
        code_size=2, condition=["colour"], hidden_sizes=(16,), max_epochs=30, random_state=0
    ).fit(table)
    path = write(model, table, tmp_path / "report.html")
    script = """
    const cell = () => at("output").querySelectorAll("td")[1].textContent;
    const results = [[at("condition").value, cell()]];
    at("condition").selectedIndex = 2;
    at("condition").dispatchEvent(new Event("change"));
    results.push([at("condition").value, cell()]);
    at("reset").click();
    results.push([at("condition").value, cell()]);
    store(results);
    """
    page = run_in_browser(with_script(path, MOVES + script), tmp_path)
    data, results = page.data["decoder-data"], page.data["results"]
    assert data["conditions"]["names"] == ["colour blue", "colour green", "colour grey", "colour red"]
    row = example(data, 0)
    code, own = model.transform(table)[[row]], table["colour"][row]
    expected = [model.inverse_transform(code, {"colour": colour})["height"][0] for colour in (own, "grey", own)]
    assert [float(text) for _, text in results] == pytest.approx(expected, abs=0.1)
    assert results[1][0] == "2"
    assert results[2] == results[0]
