// Live plots of the runs behind a picture, in its place when the reader asks for them, with a list of what can be
// shown: the list is legend, choice and table of values at one epoch, so that everything in the plot can also be
// read and reached by keyboard.
(() => {
  "use strict";
  const SHAPES = { circle: "●", square: "■", triangle: "▲", diamond: "◆", inverted_triangle: "▼", hex: "⬢" };
  const MARKERS = Object.keys(SHAPES);
  const COLOURS = 8;
  const FIRST_ROWS = 6; // of a table that are shown at first: more could not be told apart
  const COLUMNS = { train_loss: "training loss", val_loss: "validation loss", val_accuracy: "validation accuracy" };
  const [TO_LIVE, TO_PICTURE] = ["explore", "picture"];
  const data = JSON.parse(document.getElementById("page-curves").textContent);

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function runName(run) {
    return run.state === "finished" ? `seed ${run.seed}` : `seed ${run.seed}, ${run.state}`;
  }

  function lastEpoch(item) {
    return Math.max(item.curves.val_accuracy?.length ?? 0, 1);
  }

  // The mean of a row's finished runs with their range, if there are several, then its runs.
  function rowSeries(config, meanLabel, prefix) {
    const hasMean = config.n > 1;
    const runs = config.runs.map((id) => ({
      label: `${prefix}${runName(data.runs[id])}`,
      curves: data.runs[id],
      thin: true,
      shown: !hasMean && (config.n === 0 || data.runs[id].state === "finished"),
    }));
    const mean = { label: meanLabel, curves: config.mean, low: config.low, high: config.high, shown: true };
    return hasMean ? [mean, ...runs] : runs;
  }

  function styled(series, colourOf) {
    return series.map((item, index) => ({
      ...item,
      colour: colourOf(item, index) % COLOURS,
      marker: MARKERS[index % MARKERS.length],
    }));
  }

  // Of one row its mean and runs. Of several the means; the runs of a row follow it in its colour, if asked for.
  function seriesOf(keys, withRuns) {
    const configs = keys.map((key) => data.configs[data.rows[key].config]);
    if (keys.length === 1) {
      return styled(rowSeries(configs[0], `mean of ${configs[0].n} runs`, ""), (_, index) => index);
    }
    const isOneTable = new Set(keys.map((key) => key.split("=")[0])).size === 1;
    const rows = keys.map((key, index) => {
      const label = isOneTable ? data.rows[key].label : key;
      const series = rowSeries(configs[index], label, `${label}, `).map((item) => ({
        ...item,
        row: index,
        shown: item.shown && index < FIRST_ROWS,
      }));
      return withRuns || configs[index].n <= 1 ? series : series.slice(0, 1);
    });
    return styled(rows.flat(), (item) => item.row);
  }

  function format(value) {
    if (value === null || value === undefined) return "–";
    return Math.abs(value) >= 1e5 ? value.toExponential(2) : value.toFixed(3);
  }

  class CurveView {
    constructor(place, keys) {
      const configs = keys.map((key) => data.configs[data.rows[key].config]);
      const steps = new Set(configs.map((config) => JSON.stringify(config.steps)));
      const reported = keys.length === 1 ? data.rows[keys[0]].reported : null;
      this.keys = keys;
      this.marks = { steps: steps.size === 1 ? configs[0].steps : [], reported, epoch: 1 };
      this.leftOut = configs.reduce((sum, config) => sum + config.left_out, 0);
      this.plots = element("div", { class: "plots" });
      this.list = element("table", { class: "series" });
      const controls = element("div", { class: "controls" }, this.slider());
      if (keys.length > 1) controls.append(this.expander());
      place.append(this.plots, controls, element("div", { class: "scroll" }, this.list), this.note());
      this.setSeries(seriesOf(keys, false));
      document.addEventListener("schemechange", () => this.draw());
    }

    slider() {
      this.range = element("input", { type: "range", min: 1, step: 1 });
      this.output = element("output");
      this.range.addEventListener("input", () => this.setEpoch(Number(this.range.value)));
      return element("label", {}, "Values at epoch ", this.range, " ", this.output);
    }

    expander() {
      const box = element("input", { type: "checkbox" });
      box.addEventListener("change", () => {
        const shown = new Map(this.series.map((item) => [item.label, item.shown]));
        const series = seriesOf(this.keys, box.checked);
        this.setSeries(series.map((item) => ({ ...item, shown: shown.get(item.label) ?? item.shown })));
      });
      return element("label", {}, box, " list single runs");
    }

    note() {
      const words = [];
      if (this.marks.steps.length) words.push("Dotted lines: the learning rate steps down.");
      if (this.marks.reported !== null) words.push("Dash-dotted line: the reported accuracy after the last epoch.");
      if (this.leftOut) words.push(`${this.leftOut} more runs count in mean and range and have no curve here.`);
      words.push("The shaded range goes from the smallest to the largest value. Drag to zoom, double-click to reset.");
      return element("p", { class: "quiet" }, words.join(" "));
    }

    setSeries(series) {
      this.series = series;
      this.epochs = Math.max(...series.map(lastEpoch));
      this.range.max = this.epochs;
      this.buildList();
      this.draw();
      this.setEpoch(this.epochs);
    }

    buildList() {
      const headings = ["shown", "epoch", ...Object.values(COLUMNS)].map((text, index) =>
        element("th", { scope: "col", ...(index ? { class: "number" } : {}) }, text),
      );
      this.cells = this.series.map(() =>
        ["epoch", ...Object.keys(COLUMNS)].map(() => element("td", { class: "number" })),
      );
      const rows = this.series.map((item, index) => {
        const box = element("input", { type: "checkbox" });
        box.checked = item.shown;
        box.addEventListener("change", () => {
          item.shown = box.checked;
          this.draw();
        });
        const swatch = element("span", { class: "swatch", "aria-hidden": "true" }, SHAPES[item.marker]);
        swatch.style.color = `var(--series-${item.colour})`;
        const label = element("label", {}, box, " ", swatch, ` ${item.label}`);
        return element("tr", {}, element("th", { scope: "row" }, label), ...this.cells[index]);
      });
      this.list.replaceChildren(
        element("thead", {}, element("tr", {}, ...headings)),
        element("tbody", {}, ...rows),
      );
    }

    draw() {
      const shown = this.series.filter((item) => item.shown);
      this.move = bokehPlots.draw(this.plots, shown, this.marks, (epoch) => this.setEpoch(epoch));
    }

    // Each row shows its values at that epoch, or at its last if it ends before.
    setEpoch(epoch) {
      this.marks.epoch = epoch;
      this.range.value = epoch;
      this.output.textContent = `${epoch} of ${this.epochs}`;
      for (const [index, item] of this.series.entries()) {
        const own = Math.min(epoch, lastEpoch(item));
        const values = Object.keys(COLUMNS).map((quantity) => format(item.curves[quantity]?.[own - 1]));
        for (const [column, text] of [String(own), ...values].entries()) this.cells[index][column].textContent = text;
      }
      this.move(epoch);
    }
  }

  function addButton(figure) {
    const keys = JSON.parse(figure.dataset.rows).filter((key) => data.rows[key]);
    if (!keys.length) return;
    const place = figure.querySelector(".live");
    const button = element("button", { type: "button", class: "explore", "aria-expanded": "false" }, TO_LIVE);
    let view = null;
    button.addEventListener("click", () => {
      const isLive = figure.classList.toggle("is-live");
      place.hidden = !isLive;
      button.setAttribute("aria-expanded", String(isLive));
      button.textContent = isLive ? TO_PICTURE : TO_LIVE;
      if (isLive) view ??= new CurveView(place, keys);
    });
    figure.querySelector("figcaption").append(" ", button);
  }

  for (const figure of document.querySelectorAll("figure[data-rows]")) addButton(figure);
})();
