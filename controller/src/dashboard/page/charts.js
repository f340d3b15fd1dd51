// Pictures of numbers, as SVG. Each says in words what it shows.

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 480;
const HEIGHT = 150;
const LEFT = 48;
const BOTTOM = 18;
const COLOURS = 6;

/** An element of SVG with attributes and children. */
export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A number in few digits. */
export function short(number) {
  if (number >= 10000) return `${(number / 1000).toFixed(0)}k`;
  if (number >= 100 || Number.isInteger(number)) return number.toFixed(0);
  return number.toFixed(number >= 10 ? 1 : 2);
}

/** A time in its unit. */
export function time(micros) {
  if (micros == null) return "-";
  if (micros < 1000) return `${micros.toFixed(0)} µs`;
  if (micros < 100000) return `${(micros / 1000).toFixed(1)} ms`;
  if (micros < 1000000) return `${(micros / 1000).toFixed(0)} ms`;
  return `${(micros / 1000000).toFixed(1)} s`;
}

const clock = (at) => new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const across = (index, count) => LEFT + ((WIDTH - LEFT) * index) / Math.max(1, count - 1);
const up = (value, top) => (HEIGHT - BOTTOM) * (1 - value / top);

function frame(label, times, top, format) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label });
  for (const share of [0, 0.5, 1]) {
    const y = up(top * share, top);
    picture.append(svg("path", { class: "axis", d: `M${LEFT} ${y}H${WIDTH}` }));
    picture.append(svg("text", { x: LEFT - 6, y: y + (share === 1 ? 9 : 4), "text-anchor": "end" }, format(top * share)));
  }
  if (times.length > 1) {
    picture.append(svg("text", { x: LEFT, y: HEIGHT - 3 }, clock(times[0])));
    picture.append(svg("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, clock(times.at(-1))));
  }
  return picture;
}

/** A path through the values that are known. */
function line(values, top) {
  let path = "";
  let isDrawing = false;
  values.forEach((value, index) => {
    if (value == null) { isDrawing = false; return; }
    path += `${isDrawing ? "L" : "M"}${across(index, values.length).toFixed(1)} ${up(value, top).toFixed(1)}`;
    isDrawing = true;
  });
  return path;
}

function legend(series) {
  const items = series.map(({ name }, index) =>
    html("li", {}, svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
      svg("rect", { width: 10, height: 10, class: `f${index % COLOURS}` })), name));
  return html("ul", { class: "legend" }, ...items);
}

const last = (values) => values.findLast((value) => value != null);

/** Lines over time. `series` are `{ name, values }`. */
export function lines(title, times, series, format = short) {
  const top = Math.max(...series.flatMap(({ values }) => values.filter((value) => value != null)), 0) || 1;
  const words = series.map(({ name, values }) => `${name} ${last(values) == null ? "unknown" : format(last(values))}`);
  const picture = frame(`${title}, now: ${words.join(", ")}`, times, top, format);
  series.forEach(({ values }, index) =>
    picture.append(svg("path", { class: `line c${index % COLOURS}`, d: line(values, top) })));
  return html("figure", {}, html("figcaption", {}, title), picture, legend(series));
}

/** Areas over time, one upon the other. */
export function stacked(title, times, series) {
  const count = times.length;
  const sums = times.map((_, at) => series.reduce((sum, { values }) => sum + values[at], 0));
  const top = Math.max(...sums, 0) || 1;
  const words = series.map(({ name, values }) => `${name} ${short(values.at(-1) ?? 0)}`);
  const picture = frame(`${title}, now: ${words.join(", ")}`, times, top, short);
  let below = times.map(() => 0);
  series.forEach(({ values }, index) => {
    const above = values.map((value, at) => below[at] + value);
    const edge = (edges) => edges.map((value, at) => `${across(at, count).toFixed(1)} ${up(value, top).toFixed(1)}`);
    const outline = [...edge(above), ...edge(below).reverse()];
    picture.append(svg("path", { class: `area f${index % COLOURS}`, d: outline.length ? `M${outline.join("L")}Z` : "" }));
    below = above;
  });
  return html("figure", {}, html("figcaption", {}, title), picture, legend(series));
}

/** Answers by time and by how long they took: the more, the darker. */
export function heatMap(title, times, bounds, heat) {
  const used = bounds.map((_, row) => heat.some((column) => column[row] > 0)).concat(heat.some((column) => column.at(-1) > 0));
  const first = Math.max(0, used.indexOf(true) - 1);
  const end = Math.max(first + 2, used.lastIndexOf(true) + 2);
  const rows = Math.min(used.length, end) - first;
  const most = Math.max(...heat.flat(), 0) || 1;
  const now = heat.at(-1) ?? [];
  const fullest = now.indexOf(Math.max(...now));
  const words = now.some((rate) => rate > 0)
    ? (fullest < bounds.length ? `most answers take at most ${time(bounds[fullest])}` : `most answers take longer than ${time(bounds.at(-1))}`)
    : "no answers now";
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${words}` });
  const height = (HEIGHT - BOTTOM) / rows;
  const width = (WIDTH - LEFT) / Math.max(1, heat.length);
  for (let row = 0; row < rows; row += 1) {
    const bound = bounds[first + row];
    const y = HEIGHT - BOTTOM - height * (row + 1);
    if (rows < 9 || row % 2 === 0) {
      picture.append(svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" }, bound == null ? "more" : time(bound)));
    }
    heat.forEach((column, at) => {
      const rate = column[first + row];
      if (rate > 0) {
        const opacity = (0.12 + 0.88 * Math.sqrt(rate / most)).toFixed(2);
        picture.append(svg("rect", {
          class: "heat", x: (LEFT + at * width).toFixed(1), y: y.toFixed(1), width: (width + 0.3).toFixed(1), height: (height - 0.5).toFixed(1), opacity,
        }));
      }
    });
  }
  if (times.length > 1) {
    picture.append(svg("text", { x: LEFT, y: HEIGHT - 3 }, clock(times[0])));
    picture.append(svg("text", { x: WIDTH, y: HEIGHT - 3, "text-anchor": "end" }, clock(times.at(-1))));
  }
  return html("figure", {}, html("figcaption", {}, title), picture);
}

/** A small line without axes, beside the number that it ends with. */
export function spark(values) {
  const top = Math.max(...values, 0) || 1;
  const points = values.map((value, at) => `${((100 * at) / Math.max(1, values.length - 1)).toFixed(1)} ${(19 - (18 * value) / top).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: "0 0 100 20", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "line c0", d: points.length ? `M${points.join("L")}` : "", "vector-effect": "non-scaling-stroke" }));
}

/** A share of the whole, as a bar. */
export function bar(share) {
  return svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { width: (100 * share).toFixed(1), height: 10 }));
}

/** Who calls whom: columns of names, and what flows between them. `flows` are `{ from, to, rate }` by column. */
export function graph(label, columns, flows) {
  const ROW = 34;
  const BOX = 250;
  const GAP = 120;
  const height = Math.max(...columns.map((names) => names.length), 1) * ROW;
  const width = columns.length * BOX + (columns.length - 1) * GAP;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const x = (column) => column * (BOX + GAP);
  const y = (column, name) => (columns[column].indexOf(name) + 0.5) * ROW;
  const most = Math.max(...flows.flat().map(({ rate }) => rate), 0) || 1;
  flows.forEach((between, column) => {
    for (const { from, to, rate } of between) {
      const [x1, y1, x2, y2] = [x(column) + BOX, y(column, from), x(column + 1), y(column + 1, to)];
      const middle = (x1 + x2) / 2;
      const path = svg("path", {
        class: "flow", d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`, "stroke-width": (1 + 11 * (rate / most)).toFixed(1),
      });
      path.append(svg("title", {}, `${from} → ${to}: ${short(rate)}/s`));
      picture.append(path);
    }
  });
  columns.forEach((names, column) => {
    for (const name of names) {
      const shown = name.length > 38 ? `…${name.slice(-37)}` : name;
      picture.append(svg("rect", { class: "box", x: x(column), y: y(column, name) - 13, width: BOX, height: 26, rx: 4 }));
      const text = svg("text", { class: "name", x: x(column) + 8, y: y(column, name) + 4 }, shown);
      text.append(svg("title", {}, name));
      picture.append(text);
    }
  });
  return picture;
}
