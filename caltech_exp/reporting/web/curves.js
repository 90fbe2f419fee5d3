// Plots of the runs behind a figure or a table, with a list of what can be shown: the list is legend, choice and
// table of values at one epoch, so that everything in the plot can also be read and reached by keyboard.
(() => {
  "use strict";
  const SHAPES = { circle: "●", square: "■", triangle: "▲", diamond: "◆", inverted_triangle: "▼", hex: "⬢" };
  const MARKERS = Object.keys(SHAPES);
  const COLOURS = 8;
  const FIRST_ROWS = 6; // of a table that are shown at first: more could not be told apart
  const COLUMNS = { train_loss: "training loss", val_loss: "validation loss", val_accuracy: "validation accuracy" };
  const data = JSON.parse(document.getElementById("curve-data").textContent);

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  function runName(run) {
    return run.state === "diverged" ? `seed ${run.seed}, diverged` : `seed ${run.seed}`;
  }

  function meanOf(config, label) {
    return { label, curves: config.mean, low: config.low, high: config.high, shown: true };
  }

  // A row's series: the mean of its finished runs with their range, if there are several, then its runs.
  function seriesOf(config, meanLabel, prefix) {
    const several = config.n > 1;
    const runs = config.runs.map((id) => ({
      label: `${prefix}${runName(data.runs[id])}`,
      curves: data.runs[id],
      thin: true,
      shown: !several && (config.n === 0 || data.runs[id].state === "finished"),
    }));
    return several ? [meanOf(config, meanLabel), ...runs] : runs;
  }

  function styled(series, indexOf) {
    return series.map((one, index) => ({
      ...one,
      colour: indexOf(one, index) % COLOURS,
      marker: MARKERS[index % MARKERS.length],
    }));
  }

  function figureSeries(key) {
    const config = data.configs[data.rows[key].config];
    return styled(seriesOf(config, `mean of ${config.n} runs`, ""), (_, index) => index);
  }

  // The means of all rows; the single runs of a row follow it in its colour, if they are asked for.
  function tableSeries(keys, withRuns) {
    const tables = new Set(keys.map((key) => key.split("=")[0]));
    const rows = keys.map((key, index) => {
      const config = data.configs[data.rows[key].config];
      const label = tables.size === 1 ? data.rows[key].label : key;
      const all = seriesOf(config, label, `${label}, `).map((one) => ({
        ...one,
        row: index,
        shown: one.shown && index < FIRST_ROWS,
      }));
      return withRuns || config.n <= 1 ? all : all.slice(0, 1);
    });
    return styled(rows.flat(), (one) => one.row);
  }

  function format(value) {
    if (value === null || value === undefined) return "–";
    return Math.abs(value) >= 1e5 ? value.toExponential(2) : value.toFixed(3);
  }

  class CurveView {
    constructor(place, { series, steps, reported, leftOut, cautions, expand }) {
      this.place = place;
      this.series = series;
      this.marks = { steps, reported, epoch: 1 };
      this.plots = element("div", { class: "plots" });
      this.list = element("table", { class: "series" });
      const controls = element("div", { class: "controls" }, this.slider(), ...(expand ? [this.expander(expand)] : []));
      const warning = element("p", { class: "caution" }, [...new Set(cautions)].filter(Boolean).join("\n"));
      place.append(warning, this.plots, controls, element("div", { class: "scroll" }, this.list), this.note(leftOut));
      this.setSeries(series);
      document.addEventListener("themechange", () => this.draw());
    }

    slider() {
      this.range = element("input", { type: "range", min: 1, step: 1 });
      this.output = element("output");
      this.range.addEventListener("input", () => this.setEpoch(Number(this.range.value)));
      return element("label", {}, "Values at epoch ", this.range, " ", this.output);
    }

    expander(expand) {
      const box = element("input", { type: "checkbox" });
      box.addEventListener("change", () => {
        const shown = new Map(this.series.map((one) => [one.label, one.shown]));
        this.setSeries(expand(box.checked).map((one) => ({ ...one, shown: shown.get(one.label) ?? one.shown })));
      });
      return element("label", {}, box, " list single runs");
    }

    note(leftOut) {
      const words = ["The dotted lines are where the learning rate steps down."];
      if (!this.marks.steps.length) words.length = 0;
      if (this.marks.reported !== null) words.push("The dash-dotted line is the report's accuracy after the last epoch.");
      if (leftOut) words.push(`${leftOut} more runs count in mean and range and have no curve here.`);
      words.push("The shaded range goes from the smallest to the largest value. Drag to zoom, click twice to go back.");
      return element("p", { class: "hint" }, words.join(" "));
    }

    setSeries(series) {
      this.series = series;
      this.epochs = Math.max(...series.map((one) => one.curves.val_accuracy?.length ?? 0), 1);
      this.range.max = this.epochs;
      this.buildList();
      this.draw();
      this.setEpoch(this.epochs);
    }

    buildList() {
      const headings = ["shown", ...Object.values(COLUMNS)].map((text, index) =>
        element("th", { scope: "col", ...(index ? { class: "number" } : {}) }, text),
      );
      this.cells = this.series.map(() => Object.keys(COLUMNS).map(() => element("td", { class: "number" })));
      const rows = this.series.map((one, index) => {
        const box = element("input", { type: "checkbox" });
        box.checked = one.shown;
        box.addEventListener("change", () => {
          one.shown = box.checked;
          this.draw();
        });
        const swatch = element("span", { class: "swatch", "aria-hidden": "true" }, SHAPES[one.marker]);
        swatch.style.color = `var(--series-${one.colour})`;
        const label = element("label", {}, box, " ", swatch, ` ${one.label}`);
        return element("tr", {}, element("th", { scope: "row" }, label), ...this.cells[index]);
      });
      this.list.replaceChildren(
        element("thead", {}, element("tr", {}, ...headings)),
        element("tbody", {}, ...rows),
      );
    }

    draw() {
      const shown = this.series.filter((one) => one.shown);
      this.move = reportPlots.draw(this.plots, shown, this.marks, (epoch) => this.setEpoch(epoch));
    }

    setEpoch(epoch) {
      this.marks.epoch = epoch;
      this.range.value = epoch;
      this.output.textContent = `${epoch} of ${this.epochs}`;
      for (const [index, one] of this.series.entries()) {
        for (const [column, quantity] of Object.keys(COLUMNS).entries()) {
          this.cells[index][column].textContent = format(one.curves[quantity]?.[epoch - 1]);
        }
      }
      this.move(epoch);
    }
  }

  function showFigure(place) {
    const key = place.dataset.figure;
    const row = data.rows[key];
    if (!row) return;
    const config = data.configs[row.config];
    place.hidden = false;
    place.closest("figure").classList.add("has-live");
    new CurveView(place, {
      series: figureSeries(key),
      steps: config.steps,
      reported: row.reported,
      leftOut: config.left_out,
      cautions: [config.caution],
    });
  }

  function showTable(details) {
    const keys = JSON.parse(details.dataset.rows).filter((key) => data.rows[key]);
    const configs = keys.map((key) => data.configs[data.rows[key].config]);
    const steps = new Set(configs.map((config) => JSON.stringify(config.steps)));
    new CurveView(details.querySelector(".live"), {
      series: tableSeries(keys, false),
      steps: steps.size === 1 ? configs[0].steps : [],
      reported: null,
      leftOut: configs.reduce((sum, config) => sum + config.left_out, 0),
      cautions: configs.map((config) => config.caution),
      expand: (withRuns) => tableSeries(keys, withRuns),
    });
  }

  // Plots cost time: each is drawn when it comes near the screen, or when its fold is opened.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watcher.unobserve(entry.target);
      showFigure(entry.target.querySelector("[data-figure]"));
    }
  }, { rootMargin: "600px" });
  for (const place of document.querySelectorAll("[data-figure]")) watcher.observe(place.closest("figure"));

  for (const details of document.querySelectorAll("details.explore")) {
    if (!JSON.parse(details.dataset.rows).some((key) => data.rows[key])) continue;
    details.hidden = false;
    details.addEventListener("toggle", () => showTable(details), { once: true });
  }
})();
