"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const charts = read("charts"), points = read("points");
  const tip = document.getElementById("tip");
  const place = (name) => document.getElementById(`chart-${name}`);

  // Colours are CSS variables until a chart is drawn, because the page has a light and a dark theme. They are replaced
  // in colour attributes only: a name of the user's may look like a variable.
  const style = () => getComputedStyle(document.documentElement);
  const isColour = (key) => /color$/.test(key) || key === "colorscale";
  const coloured = (value, colours, inside = false) => {
    if (typeof value === "string") {
      return inside && value.startsWith("var(") ? colours.getPropertyValue(value.slice(4, -1)).trim() : value;
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, colours, inside));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, colours, isColour(key))]));
  };
  const themed = (layout) => {
    const axis = { gridcolor: "var(--line)", linecolor: "var(--line)", tickcolor: "var(--line)" };
    const titled = (title) => ({ ...title, font: { size: 13 } });
    const out = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", ...layout,
      font: { family: "system-ui, sans-serif", size: 13, color: "var(--muted)" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: "var(--muted)", activecolor: "var(--ink)" },
      hoverlabel: { bgcolor: "var(--paper)", bordercolor: "var(--line)", font: { color: "var(--ink)", size: 13 }, align: "left" },
    };
    for (const key of Object.keys(out)) if (/^[xy]axis/.test(key)) {
      out[key] = { ...axis, ...out[key], title: titled(out[key].title) };
    }
    return out;
  };
  const config = {
    responsive: true, displaylogo: false, scrollZoom: false,
    // The other buttons of plotly would send the data to its servers.
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  let colour = null;
  const draw = (name) => {
    const { data, layout } = charts[name];
    const shown = name === "map" && colour
      ? data.map((trace) => ({ ...trace, visible: trace.meta === colour })) : data;
    const finalLayout = name === "map" && colour === "error" ? { ...layout, annotations: [], showlegend: false } : layout;
    return Plotly.react(place(name), ...coloured([shown, themed(finalLayout)], style()),
      { ...config, displayModeBar: name === "map" });
  };

  const element = (tag, text, parent, className) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    if (parent) parent.append(made);
    return made;
  };
  const tile = (sheet, uri, index, parent, caption) => {
    const scale = Math.max(1, Math.round(96 / Math.max(sheet.width, sheet.height)));
    const figure = element("figure", undefined, parent);
    const box = element("div", undefined, figure, "tile");
    box.style.width = `${sheet.width * scale}px`;
    box.style.height = `${sheet.height * scale}px`;
    box.style.backgroundImage = `url("${uri}")`;
    box.style.backgroundSize = `${sheet.across * sheet.width * scale}px ${sheet.down * sheet.height * scale}px`;
    const column = index % sheet.across, row = Math.floor(index / sheet.across);
    box.style.backgroundPosition = `-${column * sheet.width * scale}px -${row * sheet.height * scale}px`;
    element("figcaption", caption, figure);
  };
  const values = (rows, parent) => {
    const table = element("table", undefined, parent);
    const head = element("tr", undefined, table);
    for (const name of ["", "original", "model"]) element("td", name, head, "quiet");
    for (const [column, original, reconstruction] of rows) {
      const line = element("tr", undefined, table);
      element("th", column, line);
      element("td", original, line);
      element("td", reconstruction, line);
    }
  };
  const describe = (index) => {
    tip.replaceChildren();
    const head = element("p", undefined, tip);
    element("b", points.name[index], head);
    if (points.label) element("span", ` · ${points.label[index]}`, head);
    element("p", `squared error ${points.error[index]}`, tip, "quiet");
    if (points.text) element("p", points.text[index], tip, "quiet");
    if (points.pictures) {
      const pair = element("div", undefined, tip, "pair");
      tile(points.pictures, points.pictures.original, index, pair, "original");
      tile(points.pictures, points.pictures.reconstruction, index, pair, "model");
    }
    if (points.values) values(points.values[index], tip);
  };
  const move = (event) => {
    const { width, height } = tip.getBoundingClientRect();
    const left = event.clientX + 18 + width > innerWidth ? event.clientX - 18 - width : event.clientX + 18;
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 8))}px`;
  };
  const watch = () => {
    const map = place("map");
    map.on("plotly_hover", ({ points: [point], event }) => {
      describe(point.customdata);
      tip.hidden = false;
      move(event);
    });
    map.on("plotly_unhover", () => { tip.hidden = true; });
    map.addEventListener("mouseleave", () => { tip.hidden = true; });
  };

  for (const name of Object.keys(charts)) if (place(name)) draw(name);
  if (place("map")) watch();
  for (const button of document.querySelectorAll("[data-colour]")) {
    button.addEventListener("click", () => {
      colour = button.dataset.colour;
      for (const other of document.querySelectorAll("[data-colour]")) {
        other.setAttribute("aria-pressed", String(other === button));
      }
      draw("map");
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const name of Object.keys(charts)) if (place(name)) draw(name);
  });
})();
