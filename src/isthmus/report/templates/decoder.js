"use strict";
// Evaluates the record of a decoder. It is the same computation as `isthmus.report.decoder.dequantised` in Python.
const isthmusDecoder = (() => {
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer;
  const int8 = (text) => new Int8Array(bytes(text));
  const float32 = (text) => new Float32Array(bytes(text));
  const float64 = (text) => new Float64Array(bytes(text));

  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
  const sigmoid = (a) => (a >= 0 ? 1 / (1 + Math.exp(-a)) : Math.exp(a) / (1 + Math.exp(a)));
  // The error function: Abramowitz & Stegun 7.1.26, with an absolute error below 1.5e-7.
  const erf = (x) => {
    const t = 1 / (1 + 0.3275911 * Math.abs(x));
    const sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return Math.sign(x) * (1 - sum * Math.exp(-x * x));
  };
  const activations = {
    linear: (a) => a,
    relu: (a) => Math.max(a, 0),
    sigmoid,
    tanh: Math.tanh,
    gelu: (a) => a * 0.5 * (1 + erf(a / Math.SQRT2)),
    silu: (a) => a * sigmoid(a),
    softplus,
  };

  const layer = (record) => {
    const weights = int8(record.weights), scales = float32(record.scales), bias = float32(record.bias);
    const activation = activations[record.activation], { inputs, outputs, norm } = record;
    const gain = norm && float32(norm.gain), shift = norm && float32(norm.shift);
    return (h) => {
      const units = new Float64Array(outputs);
      for (let i = 0, start = 0; i < outputs; i += 1, start += inputs) {
        let sum = 0;
        for (let j = 0; j < inputs; j += 1) sum += weights[start + j] * h[j];
        units[i] = scales[i] * sum + bias[i];
      }
      if (norm) {
        const mean = units.reduce((a, b) => a + b, 0) / outputs;
        const variance = units.reduce((a, b) => a + (b - mean) ** 2, 0) / outputs;
        const spread = Math.sqrt(variance + norm.epsilon);
        for (let i = 0; i < outputs; i += 1) units[i] = ((units[i] - mean) / spread) * gain[i] + shift[i];
      }
      return units.map(activation);
    };
  };

  const softmax = (a) => {
    const largest = a.reduce((x, y) => Math.max(x, y), -Infinity);
    const powers = a.map((x) => Math.exp(x - largest));
    const total = powers.reduce((x, y) => x + y, 0);
    return powers.map((x) => x / total);
  };
  const continuousBernoulli = (l) =>
    (Math.abs(l) < 0.1 ? 0.5 + l / 12 - l ** 3 / 720 : 0.5 + 0.5 / Math.tanh(l / 2) - 1 / l);
  const means = {
    identity: (a) => a,
    sigmoid: (a) => a.map(sigmoid),
    softmax,
    rate: (a, { bounds }) => a.map((x, j) => {
      const logRate = 20 * Math.tanh(x / 20);
      return Math.exp(bounds ? bounds[j] - softplus(bounds[j] - logRate) : logRate);
    }),
    "continuous-bernoulli": (a) => a.map(continuousBernoulli),
    mixture: (a, { n_components: k }) => {
      const shares = softmax(a.slice(0, k)), n = (a.length - k) / k;
      return new Float64Array(n).map((_, j) => shares.reduce((sum, share, c) => sum + share * a[k + c * n + j], 0));
    },
  };

  // A normal score -> the value on the lines between points, with the given slopes beyond them.
  const pointwise = (record) => {
    const scores = float64(record.scores), values = float64(record.values), [below, above] = record.slopes;
    const last = scores.length - 1;
    return (z) => {
      if (z <= scores[0]) return values[0] + below * (z - scores[0]);
      if (z >= scores[last]) return values[last] + above * (z - scores[last]);
      let low = 0, high = last;
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (scores[middle] <= z) low = middle; else high = middle;
      }
      return values[low] + ((values[high] - values[low]) * (z - scores[low])) / (scores[high] - scores[low]);
    };
  };

  const build = (record) => {
    const layers = record.layers.map(layer);
    const offset = float64(record.offset), scale = float64(record.scale);
    const valueOf = new Map(record.quantiles.map((part) => [part.column, pointwise(part)]));
    // A code -> the mean of the row, in model units.
    const decode = (code) => {
      const outputs = layers.reduce((h, apply) => apply(h), Float64Array.from(code));
      const x = new Float64Array(record.n_columns);
      for (const part of record.mean) {
        if (part.columns === null) x.set(means[part.function](outputs, part));
        else {
          const values = means[part.function](Float64Array.from(part.columns, (j) => outputs[j]), part);
          part.columns.forEach((j, i) => { x[j] = values[i]; });
        }
      }
      return x;
    };
    // A row in model units -> in the units of the user.
    const restore = (x) => x.map((value, j) => {
      const scaled = value * scale[j] + offset[j];
      const raw = valueOf.has(j) ? valueOf.get(j)(scaled) : scaled;
      return record.rounded ? Math.min(255, Math.max(0, Math.round(raw))) : raw;
    });
    return { decode, restore };
  };
  return { build, int8, float32, float64 };
})();

// Shows what the decoder of the page returns for the current code.
(() => {
  const source = document.getElementById("decoder-data");
  if (!source) return;
  const { record, conditions, view, units, examples, map } = JSON.parse(source.textContent);
  const { data: traces, layout: { annotations } } = JSON.parse(document.getElementById("charts").textContent).map;
  const { build, int8, float32, float64 } = isthmusDecoder;
  const decoder = build(record), size = record.code_size;
  const place = (name) => document.getElementById(`decoder-${name}`);
  const colourOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const element = (tag, parent, text, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    parent.append(made);
    return made;
  };
  const shown = (value, digits = 4) => {
    const text = Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3)
      ? value.toExponential(digits - 2) : String(Number(value.toPrecision(digits)));
    return text.replaceAll("-", "−");
  };
  const exampleCodes = float32(examples.codes);
  const exampleCode = (i) => Float64Array.from(exampleCodes.subarray(i * size, (i + 1) * size));

  const conditionValues = conditions && float32(conditions.values);
  const decoded = (h) => {
    if (!conditions) return decoder.decode(h);
    const n = conditions.size;
    return decoder.decode([...h, ...conditionValues.subarray(condition * n, (condition + 1) * n)]);
  };

  // The state: the chosen row and what the decoder returns for its code; the code of that row or of the last point of the
  // map, from which sliders move the current code; and the point of the current code, if it has one.
  // The condition is a position in the list.
  let example = 0, startRow, base, code, point = null, condition = 0;

  // -- the map ---------------------------------------------------------------------------------------
  const all = traces[traces.length - 1];
  const points = all.x.map((x, i) => [x, all.y[i]]);
  const inverse = (() => {
    if (map.codes) {
      const quantised = int8(map.codes), scales = float32(map.scales), n = map.rows.length;
      return {
        code: (target) => {
          const nearest = map.rows.map((row, i) => [(points[row][0] - target[0]) ** 2 + (points[row][1] - target[1]) ** 2, i])
            .sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, map.neighbours);
          const weights = nearest[0][0] === 0 ? nearest.map((_, i) => Number(i === 0)) : nearest.map(([d]) => 1 / d);
          const total = weights.reduce((a, b) => a + b, 0);
          return new Float64Array(size).map((_, j) => scales[j]
            * nearest.reduce((sum, [, i], k) => sum + weights[k] * quantised[j * n + i], 0) / total);
        },
        point: () => null,
      };
    }
    const origin = float64(map.origin), directions = float64(map.directions), projection = float64(map.projection);
    const along = (h, axis) => h.reduce((sum, value, j) => sum + projection[axis * size + j] * (value - origin[j]), 0);
    return {
      code: ([x, y]) => origin.map((value, j) => value + x * directions[j] + y * directions[size + j]),
      point: (h, before) => [along(h, 0), map.method === "unit" ? (before || [0, 0])[1] : along(h, 1)],
    };
  })();
  const canvas = place("map");
  const frame = (() => {
    const ends = [0, 1].map((axis) => {
      const values = points.map((p) => p[axis]);
      return [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
    });
    let half = ends.map(([low, high]) => 0.54 * (high - low) || 0.5);
    if (map.method === "PCA" || map.method === "t-SNE") half = half.map(() => Math.max(...half));
    const middle = ends.map(([low, high]) => (low + high) / 2);
    return { low: middle.map((m, i) => m - half[i]), span: half.map((h) => 2 * h) };
  })();
  const inside = ([x, y]) => [(x - frame.low[0]) / frame.span[0], 1 - (y - frame.low[1]) / frame.span[1]];
  const colours = () => {
    const found = points.map(() => "--muted"), values = {};
    for (const trace of traces) {
      const colour = trace.marker.color;
      if (typeof colour === "string" && colour.startsWith("var(")) {
        for (const i of trace.customdata) found[i] = colour.slice(4, -1);
      }
    }
    for (const name of new Set(found)) values[name] = colourOf(name);
    return found.map((name) => values[name]);
  };
  const nameGroups = (pen, side) => {
    Object.assign(pen, {
      font: "600 13px system-ui, sans-serif", textAlign: "center", textBaseline: "middle", lineWidth: 4, lineJoin: "round",
      strokeStyle: colourOf("--paper"), fillStyle: colourOf("--ink"),
    });
    for (const { x, y, text } of annotations) {
      // The texts are escaped for plotly, as in `charts.plain`.
      const name = text.replace(/^<b>|<\/b>$/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
      const [left, top] = inside([x, y]);
      pen.strokeText(name, left * side, top * side);
      pen.fillText(name, left * side, top * side);
    }
  };
  // The points are drawn once for each size and theme; the mark of the current point is drawn over a copy.
  let side, ratio, background;
  const drawPoints = () => {
    side = canvas.clientWidth || 360;
    ratio = window.devicePixelRatio || 1;
    background = document.createElement("canvas");
    background.width = background.height = canvas.width = canvas.height = Math.round(side * ratio);
    const pen = background.getContext("2d"), hues = colours();
    pen.scale(ratio, ratio);
    pen.globalAlpha = 0.6;
    points.forEach((p, i) => {
      const [x, y] = inside(p);
      pen.fillStyle = hues[i];
      pen.beginPath();
      pen.arc(x * side, y * side, points.length > 400 ? 2 : 3, 0, 7);
      pen.fill();
    });
    pen.globalAlpha = 1;
    nameGroups(pen, side);
    drawMark();
  };
  const drawMark = () => {
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(background, 0, 0);
    if (!point) return;
    pen.scale(ratio, ratio);
    const [x, y] = inside(point).map((share) => Math.min(1, Math.max(0, share)) * side);
    for (const [colour, width] of [[colourOf("--paper"), 6], [colourOf("--ink"), 2.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width;
      pen.beginPath();
      pen.arc(x, y, 8, 0, 7);
      pen.stroke();
    }
  };

  // -- the sliders -----------------------------------------------------------------------------------
  const STEPS = 200;
  let sliders = [];
  const range = (j) => [Math.min(units.low[j], base[j]), Math.max(units.high[j], base[j])];
  const chosenUnits = () => {
    const varying = [...Array(size).keys()].filter((j) => units.high[j] > units.low[j]);
    if (varying.length <= units.most) return varying;
    const unusual = (j) => Math.abs(base[j] - units.median[j]) / (units.high[j] - units.low[j]);
    return varying.sort((a, b) => unusual(b) - unusual(a) || a - b).slice(0, units.most);
  };
  const makeSliders = () => {
    const box = place("sliders");
    box.replaceChildren();
    sliders = chosenUnits().map((unit) => {
      const label = element("label", box);
      element("span", label, `unit ${unit}`);
      const input = element("input", label);
      Object.assign(input, { type: "range", min: 0, max: STEPS, step: 1 });
      input.dataset.unit = unit;
      const value = element("output", label);
      input.addEventListener("input", () => {
        const [low, high] = range(unit);
        code[unit] = low + (Number(input.value) / STEPS) * (high - low);
        point = inverse.point(code, point);
        show(`unit ${unit} = ${shown(code[unit])}`, input);
      });
      return { unit, input, value };
    });
  };
  const setSliders = (moved) => {
    for (const { unit, input, value } of sliders) {
      const [low, high] = range(unit);
      if (input !== moved) input.value = Math.round((STEPS * (code[unit] - low)) / (high - low));
      value.textContent = shown(code[unit], 3);
      input.setAttribute("aria-valuetext", shown(code[unit], 3));
    }
  };

  // -- what the decoder returns ----------------------------------------------------------------------
  const output = place("output");
  const pixelsOf = (x) => {
    const [channels, height, width] = view.shape, n = height * width, raw = decoder.restore(x);
    const bright = (c, i) => Math.min(1, Math.max(0, (raw[c * n + i] - view.low) / (view.high - view.low)));
    const picture = new ImageData(width, height);
    for (let i = 0; i < n; i += 1) {
      const colour = channels === 3 || channels === 4
        ? [0, 1, 2].map((c) => bright(c, i))
        : Array(3).fill([...Array(channels).keys()].reduce((sum, c) => sum + bright(c, i), 0) / channels);
      picture.data.set([...colour.map((share) => Math.round(255 * share)), 255], 4 * i);
    }
    return picture;
  };
  const drawImage = (x, caption) => {
    const figure = element("figure", output);
    const box = element("canvas", figure);
    const [, height, width] = view.shape;
    box.width = width;
    box.height = height;
    box.style.aspectRatio = `${width} / ${height}`;
    box.style.maxWidth = `${(440 * width) / height}px`;
    box.setAttribute("role", "img");
    box.setAttribute("aria-label", caption);
    box.getContext("2d").putImageData(pixelsOf(x), 0, 0);
    element("figcaption", figure, caption);
  };
  const bar = (parent, share, className) => {
    const cell = element("td", parent, undefined, "decoder-bar-cell");
    const mark = element("i", cell, undefined, className);
    const width = 100 * Math.min(1, Math.abs(share));
    if (className === "share") mark.style.width = `${width}%`;
    else {
      mark.style.width = `${width / 2}%`;
      mark.style.marginLeft = `${share < 0 ? 50 - width / 2 : 50}%`;
    }
  };
  const line = (body, name, start, now, className) => {
    const row = element("tr", body, undefined, className);
    element("th", row, name).title = name;
    element("td", row, start).title = start;
    element("td", row, now).title = now;
    return row;
  };
  const percent = (share) => `${(100 * share).toFixed(1)}%`;
  const levelLines = (body, column, start, now) => {
    const index = column.levels.map((_, k) => k), of = (x, k) => x[column.first + k];
    const top = (x) => index.reduce((best, k) => (of(x, k) > of(x, best) ? k : best), 0);
    const row = line(body, column.name, column.levels[top(start)], column.levels[top(now)]);
    element("td", row);
    const largest = [...index].sort((a, b) => Math.max(of(start, b), of(now, b)) - Math.max(of(start, a), of(now, a)) || a - b);
    const text = column.probable ? percent : shown;
    for (const k of largest.slice(0, 8).sort((a, b) => a - b)) {
      bar(line(body, column.levels[k], text(of(start, k)), text(of(now, k)), "level"), of(now, k), "share");
    }
  };
  const table = (first) => {
    const made = element("table", element("div", output, undefined, "decoder-scrolled"));
    const head = element("tr", element("thead", made));
    for (const name of [first, "chosen row", "current", ""]) element("th", head, name);
    return element("tbody", made);
  };
  const drawTable = (start, now) => {
    const body = table("column"), rawStart = decoder.restore(start), raw = decoder.restore(now);
    for (const column of view.columns) {
      const j = column.first;
      if (column.unit === "categorical") levelLines(body, column, rawStart, raw);
      else if (column.unit === "binary") {
        const text = (x) => `${column.levels[Number(x[j] > 0.5)]} (${column.probable
          ? percent(x[j] > 0.5 ? x[j] : 1 - x[j]) : shown(x[j])})`;
        bar(line(body, `${column.name} = ${column.levels[1]}`, text(rawStart), text(raw)), raw[j], "share");
      } else {
        const away = column.spread > 0 ? (raw[j] - column.mean) / (3 * column.spread) : 0;
        bar(line(body, column.name, shown(rawStart[j]), shown(raw[j])), away, away < 0 ? "minus" : "plus");
      }
    }
  };
  const drawTerms = (start, now) => {
    const body = table("term"), rawStart = decoder.restore(start), raw = decoder.restore(now);
    const order = [...raw.keys()].sort((a, b) => Math.abs(raw[b]) - Math.abs(raw[a]) || a - b).slice(0, 15);
    const largest = Math.abs(raw[order[0]]) || 1;
    for (const j of order) bar(line(body, view.names[j], shown(rawStart[j]), shown(raw[j])), raw[j] / largest, "share");
  };
  const drawLine = (start, now) => {
    const rows = [[decoder.restore(start), "start"], [decoder.restore(now), "now"]];
    // Channels that have names are those of a series: each has its own scale, in a band of the picture.
    const bands = view.names ? view.channels : 1, n = rows[0][0].length / view.channels;
    const scales = Array.from({ length: bands }, (_, band) => {
      const parts = rows.map(([x]) => (bands > 1 ? x.subarray(band * n, (band + 1) * n) : x));
      const ends = parts.flatMap((x) => [x.reduce((a, b) => Math.min(a, b)), x.reduce((a, b) => Math.max(a, b))]);
      return { low: Math.min(...ends), span: Math.max(...ends) - Math.min(...ends) || 1 };
    });
    const figure = element("figure", output, undefined, "decoder-line");
    const space = "http://www.w3.org/2000/svg", picture = document.createElementNS(space, "svg");
    for (const [name, value] of Object.entries({
      viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img", "aria-label": "Values of the decoded row by column",
    })) picture.setAttribute(name, value);
    for (const [x, name] of rows) {
      for (let c = 0; c < view.channels; c += 1) {
        const path = document.createElementNS(space, "polyline"), band = bands > 1 ? c : 0;
        const { low, span } = scales[band], height = 100 / bands, base = height * (band + (bands > 1 ? 0.95 : 1));
        const reach = bands > 1 ? 0.9 * height : height;
        path.setAttribute("class", name);
        path.setAttribute("points", [...x.subarray(c * n, (c + 1) * n)].map((value, i) =>
          `${((100 * i) / Math.max(1, n - 1)).toFixed(3)},${(base - (reach * (value - low)) / span).toFixed(3)}`).join(" "));
        picture.append(path);
      }
    }
    const scale = element("p", figure, undefined, "decoder-ends");
    if (view.names) {
      scales.forEach(({ low, span }, c) => element("span", scale, `${view.names[c]}: ${shown(low)} to ${shown(low + span)}`));
    } else {
      element("span", scale, shown(scales[0].low + scales[0].span));
      element("span", scale, shown(scales[0].low));
    }
    figure.append(picture);
    const values = view.names ? "Value by step, a band for each channel." : "Value by column.";
    element("figcaption", figure, values + " Blue: the current code. Grey: the code of the chosen row.");
  };
  const draw = {
    image: (start, now) => {
      drawImage(now, "current code");
      drawImage(start, `code of ${examples.names[example]}`);
    },
    table: drawTable, terms: drawTerms, line: drawLine,
  };

  // -- changes of the code ---------------------------------------------------------------------------
  const show = (state, moved) => {
    const now = decoded(code), top = output.firstChild ? output.firstChild.scrollTop : 0;
    output.replaceChildren();
    draw[view.kind](startRow, now);
    output.firstChild.scrollTop = top;
    place("state").textContent = state;
    setSliders(moved);
    drawMark();
  };
  const start = (state) => {
    code = base.slice();
    makeSliders();
    show(state);
  };
  const choose = (i) => {
    example = i;
    base = exampleCode(i);
    if (conditions) {
      condition = conditions.rows[i];
      place("condition").selectedIndex = condition;
    }
    startRow = decoded(base);
    const position = examples.points[i];
    point = position === null ? inverse.point(base, null) : points[position];
    start(`the code of ${examples.names[i]}`);
  };
  const moveTo = (target) => {
    point = target;
    base = inverse.code(target);
    start("a point of the map");
  };
  const pointed = (event) => {
    const box = canvas.getBoundingClientRect();
    moveTo([
      frame.low[0] + (frame.span[0] * (event.clientX - box.left)) / box.width,
      frame.low[1] + frame.span[1] * (1 - (event.clientY - box.top) / box.height),
    ]);
  };
  let dragging = false;
  canvas.addEventListener("pointerdown", (event) => {
    dragging = true;
    if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
    pointed(event);
  });
  canvas.addEventListener("pointermove", (event) => { if (dragging) pointed(event); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { dragging = false; });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = point || frame.low.map((low, i) => low + frame.span[i] / 2), share = event.shiftKey ? 0.1 : 0.02;
    moveTo(from.map((value, i) => Math.min(frame.low[i] + frame.span[i],
      Math.max(frame.low[i], value + share * step[i] * frame.span[i]))));
  });
  place("row").addEventListener("change", (event) => choose(Number(event.target.value)));
  if (conditions) {
    place("condition").addEventListener("change", (event) => {
      condition = Number(event.target.value);
      show(`the condition ${conditions.names[condition]}`);
    });
  }
  place("reset").addEventListener("click", () => choose(example));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPoints);
  new ResizeObserver(drawPoints).observe(canvas);
  place("row").selectedIndex = 0;
  drawPoints();
  choose(0);
})();
