// Small plots of the status page: what the page's figures were since it was opened.
import { element, sizeText } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300;
const HEIGHT = 72;
/** Samples that are kept: five minutes; and for so few there is room at least. */
const MOST = 150;
const LEAST = 30;

const KINDS = {
  peers: {
    read: (data) => Number(data.peers),
    bound: (data) => Number(data.needed),
    tell: (now) => `Storage peers: ${now} now, the dashed line is what an upload needs`,
  },
  up: { rate: (data) => Number(data.up), tell: (now, peak) => `Sending ${sizeText(now)}/s, at most ${sizeText(peak)}/s` },
  down: { rate: (data) => Number(data.down), tell: (now, peak) => `Fetching ${sizeText(now)}/s, at most ${sizeText(peak)}/s` },
  used: { read: (data) => Number(data.used), tell: (now) => `Space used: ${sizeText(now)}` },
};
const histories = new Map();

function sample(kind, data, history) {
  const now = performance.now() / 1000;
  if (kind.read) {
    history.values.push(kind.read(data));
  } else {
    const total = kind.rate(data);
    if (history.total !== undefined) {
      // A new phase of an upload begins at nothing: no speed is below zero.
      history.values.push(Math.max(0, total - history.total) / Math.max(0.1, now - history.at));
    }
    Object.assign(history, { total, at: now });
  }
  if (history.values.length > MOST) history.values.shift();
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function draw(figure, kind, data, values) {
  const bound = kind.bound?.(data);
  const peak = Math.max(...values, 0);
  const top = Math.max(peak, bound ?? 0, 1) * 1.15;
  const y = (value) => (HEIGHT - 4 - (value / top) * (HEIGHT - 8)).toFixed(1);
  const step = WIDTH / (Math.max(values.length, LEAST) - 1);
  const start = WIDTH - (values.length - 1) * step;
  const points = values.map((value, index) => `${(start + index * step).toFixed(1)},${y(value)}`);
  const told = kind.tell(values.at(-1) ?? 0, peak);
  const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": told });
  if (points.length > 1) {
    picture.append(
      shape("polygon", { class: "area", points: `${start.toFixed(1)},${HEIGHT} ${points.join(" ")} ${WIDTH},${HEIGHT}` }),
      shape("polyline", { class: "curve", points: points.join(" ") }),
    );
  }
  if (bound) picture.append(shape("line", { class: "bound", x1: 0, x2: WIDTH, y1: y(bound), y2: y(bound) }));
  figure.replaceChildren(picture, element("figcaption", {}, told));
}

/** Take a sample of every figure that has a plot, and draw it. */
export function drawPlots() {
  for (const figure of document.querySelectorAll("[data-plot]")) {
    const kind = KINDS[figure.dataset.plot];
    const data = document.getElementById(figure.dataset.of)?.dataset;
    if (!data) continue;
    const history = histories.get(figure.dataset.plot) ?? { values: [] };
    histories.set(figure.dataset.plot, history);
    sample(kind, data, history);
    draw(figure, kind, data, history.values);
  }
}
