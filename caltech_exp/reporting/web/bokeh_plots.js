// Draws curves over epochs with BokehJS: a panel of losses, a panel of validation accuracy.
//
// A series is {label, colour, marker, thin, curves, low, high}; curves, low and high hold a list per quantity with
// one value an epoch, null where there is none. Colour and marker tell series apart, dashes the validation loss.
const bokehPlots = (() => {
  "use strict";
  const HEIGHT = 300;
  const LARGE_LOSS = 20; // above it, as when a run diverges, losses are drawn on a logarithmic axis
  const MARKERS_PER_CURVE = 8;
  const PANELS = [
    {
      label: "loss (– training, - - validation)",
      lines: [
        { quantity: "train_loss", dash: "solid", name: "training loss" },
        { quantity: "val_loss", dash: [6, 4], name: "validation loss" },
      ],
    },
    {
      label: "validation accuracy",
      lines: [{ quantity: "val_accuracy", dash: "solid", name: "validation accuracy" }],
    },
  ];

  function numbers(values) {
    return values.map((value) => (value === null ? NaN : value));
  }

  // A colour of the style sheet as Bokeh's canvas can paint it: variables may hold light-dark().
  function colour(element, variable) {
    const probe = document.createElement("span");
    probe.style.color = `var(${variable})`;
    element.append(probe);
    const computed = getComputedStyle(probe).color;
    probe.remove();
    return computed;
  }

  function longest(series) {
    return Math.max(1, ...series.map((item) => item.curves.val_accuracy?.length ?? 0));
  }

  function highest(series, panel) {
    const values = series.flatMap((item) => panel.lines.flatMap((line) => item.curves[line.quantity] ?? []));
    return values.reduce((most, value) => Math.max(most, value ?? 0), 0);
  }

  // The accuracies that are drawn, with some room around them.
  function accuracyRange(series, reported) {
    const curves = series.flatMap((item) => [item.curves, item.low, item.high]);
    const values = curves.flatMap((curve) => curve?.val_accuracy ?? []).filter((value) => value !== null);
    if (reported !== null) values.push(reported);
    if (!values.length) return [0, 1];
    const [least, most] = [Math.min(...values), Math.max(...values)];
    const room = Math.max((most - least) * 0.06, 0.01);
    return [Math.max(least - room, 0), Math.min(most + room, 1)];
  }

  function canvas(panel, series, marks, style) {
    const epochs = longest(series);
    const isAccuracy = panel.lines[0].quantity === "val_accuracy";
    const most = highest(series, panel);
    const logarithmic = !isAccuracy && most > LARGE_LOSS;
    const options = {
      height: HEIGHT,
      sizing_mode: "stretch_width",
      x_axis_label: "epoch",
      y_axis_label: logarithmic ? `${panel.label}, logarithmic` : panel.label,
      x_range: [0.5, epochs + 0.5],
      y_axis_type: logarithmic ? "log" : "linear",
      tools: "box_zoom,reset",
      toolbar_location: null,
      background_fill_alpha: 0,
      border_fill_alpha: 0,
      outline_line_color: style.rule,
    };
    if (!logarithmic) options.y_range = isAccuracy ? accuracyRange(series, marks.reported) : [0, most * 1.05 || 1];
    const plot = Bokeh.Plotting.figure(options);
    for (const axis of [...plot.xaxes, ...plot.yaxes]) {
      Object.assign(axis, {
        axis_label_text_color: style.ink,
        axis_label_text_font_style: "normal",
        major_label_text_color: style.ink,
        axis_line_color: style.rule,
        major_tick_line_color: style.rule,
        minor_tick_line_color: null,
      });
    }
    for (const grid of [...plot.xgrids, ...plot.ygrids]) grid.grid_line_color = style.grid;
    return plot;
  }

  function drawLine(plot, item, line, colours) {
    const y = item.curves[line.quantity];
    if (!y) return null;
    const x = y.map((_, index) => index + 1);
    const data = { x, y: numbers(y) };
    if (item.low) Object.assign(data, { low: numbers(item.low[line.quantity]), high: numbers(item.high[line.quantity]) });
    const source = new Bokeh.ColumnDataSource({ data });
    const point = { x: { field: "x" }, y: { field: "y" }, source };
    const paint = colours[item.colour];
    if (item.low) {
      const range = { x: { field: "x" }, y1: { field: "low" }, y2: { field: "high" }, source };
      plot.varea({ ...range, fill_color: paint, fill_alpha: 0.18 });
    }
    const width = item.thin ? 1.2 : 2.2;
    const curve = plot.line({ ...point, line_color: paint, line_width: width, line_dash: line.dash, name: item.label });
    const every = Math.max(1, Math.round(x.length / MARKERS_PER_CURVE));
    const some = x.filter((epoch) => (epoch - 1) % every === 0);
    plot.scatter({
      x: some,
      y: some.map((epoch) => data.y[epoch - 1]),
      marker: item.marker,
      size: item.thin ? 5 : 7,
      fill_color: paint,
      line_color: paint,
    });
    const tip = new Bokeh.HoverTool({
      renderers: [curve],
      mode: "mouse",
      line_policy: "nearest",
      tooltips: [["", "$name"], ["epoch", "@x"], [line.name, "@y{0.000}"]],
    });
    plot.add_tools(tip);
    return curve;
  }

  function addSpan(plot, dimension, location, style, dash) {
    const span = new Bokeh.Span({ dimension, location, line_color: style.ink, line_dash: dash, line_alpha: 0.6 });
    plot.add_layout(span);
    return span;
  }

  // Draws into `element`, in place of what was there. `marks` are {steps, reported, epoch}; `onEpoch` hears which
  // epoch the pointer is at. Returns a function that moves the line at the chosen epoch.
  function draw(element, series, marks, onEpoch) {
    for (const old of element.bokehDocuments ?? []) old.clear();
    element.replaceChildren();
    element.bokehDocuments = [];
    const style = {
      ink: colour(element, "--ink"),
      rule: colour(element, "--rule"),
      grid: colour(element, "--grid"),
    };
    const colours = Array.from({ length: 8 }, (_, index) => colour(element, `--series-${index}`));
    const epochs = longest(series);
    const spans = PANELS.map((panel) => {
      const plot = canvas(panel, series, marks, style);
      for (const item of series) for (const line of panel.lines) drawLine(plot, item, line, colours);
      for (const step of marks.steps) addSpan(plot, "height", step, style, [2, 3]);
      if (marks.reported !== null && panel.lines[0].quantity === "val_accuracy") {
        addSpan(plot, "width", marks.reported, style, [8, 3, 2, 3]);
      }
      const span = addSpan(plot, "height", marks.epoch, style, "solid");
      plot.on_event("mousemove", (event) => {
        const epoch = Math.round(event.x);
        if (epoch >= 1 && epoch <= epochs) onEpoch(epoch);
      });
      show(element, plot);
      return span;
    });
    return (epoch) => {
      for (const span of spans) span.location = epoch;
    };
  }

  function show(element, plot) {
    const place = document.createElement("div");
    place.className = "plot";
    element.append(place);
    const page = new Bokeh.Document();
    page.add_root(plot);
    element.bokehDocuments.push(page);
    Bokeh.embed.add_document_standalone(page, place);
  }

  return { draw };
})();
