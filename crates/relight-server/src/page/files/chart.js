// Charts as SVG, each with a text for those who do not see it.

import { svg } from "./dom.js";
import { bytes, span } from "./words.js";

const dayWords = { g: "good", m: "some failed", i: "incomplete", f: "failed", x: "cancelled", r: "running", "-": "none" };
const classes = { g: "c-g", m: "c-m", i: "c-i", f: "c-f", x: "c-x", r: "c-r", "-": "c-n" };

// A cell for each day; shape tells the state as well as colour does.
export function days(letters, first) {
  const size = 16, gap = 3;
  const name = (at) => {
    const day = new Date(`${first}T12:00:00Z`);
    day.setUTCDate(day.getUTCDate() + at);
    return day.toISOString().slice(0, 10);
  };
  const counted = {};
  for (const letter of letters) counted[letter] = (counted[letter] ?? 0) + 1;
  const label = "Backups by day: " + Object.entries(counted).map(([letter, count]) => `${count} ${dayWords[letter] ?? letter}`).join(", ");
  const width = letters.length * (size + gap) - gap;
  return svg("svg", { class: "days", viewBox: `0 0 ${width} ${size}`, role: "img", "aria-label": label },
    [...letters].map((letter, at) => svg("g", { transform: `translate(${at * (size + gap)} 0)` },
      svg("title", null, `${name(at)}: ${dayWords[letter] ?? letter}`), cell(letter, size))));
}

export function cell(letter, size = 16) {
  const of = classes[letter] ?? "c-n";
  if (letter === "-") return svg("rect", { class: of, y: size / 2 - 2, width: size, height: 4, rx: 2 });
  const box = svg("rect", { class: of, width: size, height: size, rx: 3 });
  if (letter === "f") return svg("g", null, box, svg("path", { class: "c-mark", d: `M4 4L${size - 4} ${size - 4}M${size - 4} 4L4 ${size - 4}` }));
  if (letter === "m" || letter === "i") return svg("g", null, box, svg("path", { class: "c-mark", d: `M4 ${size / 2}H${size - 4}` }));
  if (letter === "r") return svg("g", null, box, svg("circle", { class: "c-mark", cx: size / 2, cy: size / 2, r: 3 }));
  return box;
}

// As wide as the page is, so that the text of a chart is as large as other text on any screen.
let W = 900;
const LEFT = 66, RIGHT = 12;
const fit = () => { W = Math.round(Math.max(280, Math.min(900, (document.getElementById("main")?.clientWidth ?? 900) - 26))); };

function frame(height, label, ...content) {
  return svg("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": label }, svg("title", null, label), ...content);
}

function scale(from, to) {
  const length = Math.max(1, to - from);
  return (at) => LEFT + ((at - from) / length) * (W - LEFT - RIGHT);
}

function axis(from, to, y) {
  const x = scale(from, to), day = 86400e3;
  const steps = [1, 2, 7, 14, 30, 60, 120].map((days) => days * day);
  const step = (to - from) < 3 * day ? day / 4 : steps.find((step) => (to - from) / step <= Math.max(2, W / 120)) ?? steps.at(-1);
  const words = new Intl.DateTimeFormat(undefined, step < day ? { weekday: "short", hour: "2-digit" } : { month: "short", day: "numeric" });
  const marks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) {
    if (x(at) > W - 40) break;
    marks.push(svg("line", { class: "l-axis", x1: x(at), x2: x(at), y1: 6, y2: y }), svg("text", { x: x(at), y: y + 16, "text-anchor": "middle" }, words.format(new Date(at))));
  }
  return [svg("line", { class: "l-axis", x1: LEFT, x2: W - RIGHT, y1: y, y2: y }), marks];
}

// Recovery points on a line; where more lies between two than was promised, a gap is drawn as a gap. With a log between them,
// fields are what any moment of can be recovered, and gaps are those of the log.
export function timeline(points, since, now, promised, windows) {
  fit();
  const times = points.map((point) => new Date(point.time).getTime()).sort((a, b) => a - b);
  const from = new Date(since).getTime(), to = new Date(now).getTime(), x = scale(from, to);
  const at = (text) => new Date(text).getTime();
  const gaps = (windows?.gaps ?? []).map((gap) => [at(gap.from), gap.to ? at(gap.to) : to, gap.cause]).filter(([, end]) => end >= from);
  const fields = (windows?.intervals ?? []).map((one) => [at(one.from), at(one.to)]).filter(([, end]) => end >= from);
  if (promised && !windows) {
    // Before the first point that is still kept, nothing is known of gaps: points are forgotten on purpose.
    [...times, to].forEach((time, at) => {
      const before = times[at - 1];
      if (before !== undefined && (time - before) / 1000 > promised) gaps.push([before, time]);
    });
  }
  const label = windows ? `${points.length} recovery points, ${fields.length} windows of which any moment can be recovered, ${gaps.length} gaps` : `${points.length} recovery points; ${gaps.length} gaps longer than promised`;
  return frame(86, label, axis(from, to, 60),
    fields.map(([a, b]) => svg("g", null, svg("title", null, `any moment from ${new Date(a).toLocaleString()} to ${new Date(b).toLocaleString()}`),
      svg("rect", { class: "c-window", x: x(Math.max(a, from)), y: 22, width: Math.max(2, x(b) - x(Math.max(a, from))), height: 22 }))),
    gaps.map(([a, b, cause]) => svg("g", null, svg("title", null, `gap of ${span((b - a) / 1000)}${cause ? `: ${cause}` : ""}`),
      svg("rect", { class: "c-gap", x: x(Math.max(a, from)), y: 14, width: Math.max(2, x(b) - x(Math.max(a, from))), height: 38 }),
      x(b) - x(a) > 60 ? svg("text", { class: "t-bad", x: (x(Math.max(a, from)) + x(b)) / 2, y: 37, "text-anchor": "middle" }, span((b - a) / 1000)) : null)),
    times.map((time) => svg("g", null, svg("title", null, new Date(time).toLocaleString()), svg("rect", { class: "c-g", x: x(time) - 2, y: 18, width: 4, height: 30, rx: 2 }))));
}

function lines(top, words, height) {
  return [0, 0.5, 1].map((part) => svg("g", null, svg("text", { x: LEFT - 8, y: height - part * (height - 16) + 4, "text-anchor": "end" }, words(top * part)),
    svg("line", { class: "l-axis", x1: LEFT, x2: W - RIGHT, y1: height - part * (height - 16), y2: height - part * (height - 16) })));
}

// Sizes of backups over time: a line of all, bars of what was new.
export function sizes(backups, since, now) {
  fit();
  const good = backups.filter((run) => run.outcome === "good" && run.figures.size !== undefined).reverse();
  if (good.length === 0) return null;
  const from = new Date(since).getTime(), to = new Date(now).getTime(), x = scale(from, to), height = 150;
  const top = Math.max(1, ...good.map((run) => Math.max(run.figures.size, run.figures.added ?? 0)));
  const y = (value) => height - (value / top) * (height - 16);
  const at = (run) => x(new Date(run.started).getTime());
  const path = good.map((run, index) => `${index === 0 ? "M" : "L"}${at(run).toFixed(1)} ${y(run.figures.size).toFixed(1)}`).join("");
  return frame(height + 26, `Size of ${good.length} backups, the last ${bytes(good.at(-1).figures.size)}`, axis(from, to, height), lines(top, bytes, height),
    good.map((run) => svg("g", null, svg("title", null, `run ${run.number}: ${bytes(run.figures.added ?? 0)} new of ${bytes(run.figures.size)}`),
      svg("rect", { class: "c-x", x: at(run) - 3, width: 6, y: y(run.figures.added ?? 0), height: height - y(run.figures.added ?? 0) }),
      svg("circle", { class: "c-size", cx: at(run), cy: y(run.figures.size), r: 3 }))),
    svg("path", { class: "l-size", d: path }));
}

// Measured times of drills against the promise.
export function drillTimes(drills, promised) {
  fit();
  const shown = [...drills].reverse().slice(W < 500 ? -12 : -30);
  if (shown.length === 0) return null;
  const height = 150;
  const top = Math.max(1, promised ?? 0, ...shown.map((drill) => drill["measured-seconds"] ?? 0)) * 1.1;
  const y = (value) => height - (value / top) * (height - 16);
  const step = Math.min(60, (W - LEFT - RIGHT) / shown.length);
  const words = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
  const bars = shown.map((drill, at) => {
    const took = drill["measured-seconds"], x = LEFT + at * step + step * 0.2, width = step * 0.6;
    const good = drill.good && took !== null && (promised === null || promised === undefined || took <= promised);
    const title = svg("title", null, `run ${drill.run}: ${drill.good ? span(took) : "did not come back"}`);
    const day = at % Math.ceil(60 / step) === 0 ? svg("text", { x: x + width / 2, y: height + 16, "text-anchor": "middle" }, words.format(new Date(drill.time))) : null;
    if (took === null) return svg("g", null, title, day, svg("rect", { class: "c-f", x, width, y: 16, height: height - 16 }), svg("path", { class: "c-mark", d: `M${x} 16L${x + width} ${height}` }));
    return svg("g", null, title, day, svg("rect", { class: good ? "c-g" : "c-f", x, width, y: Math.min(y(took), height - 2), height: Math.max(2, height - y(took)) }));
  });
  const line = promised ? [svg("line", { class: "l-promise", x1: LEFT, x2: W - RIGHT, y1: y(promised), y2: y(promised) }),
    svg("text", { class: "t-bad", x: W - RIGHT, y: y(promised) - 5, "text-anchor": "end" }, `promised: ${span(promised)}`)] : [];
  return frame(height + 26, `${shown.length} drills, the last ${shown.at(-1)["measured-seconds"] === null ? "failed" : span(shown.at(-1)["measured-seconds"])}`, lines(top, span, height), bars, line);
}

// How much of a repository's storage was used, day by day.
export function growth(sizes, total) {
  if (sizes.length < 2) return null;
  fit();
  const from = new Date(sizes[0].time).getTime(), to = new Date(sizes.at(-1).time).getTime(), x = scale(from, to), height = 110;
  const top = Math.max(1, ...sizes.map((size) => size.used)) * 1.15;
  const y = (value) => height - (value / top) * (height - 16);
  const path = sizes.map((size, at) => `${at === 0 ? "M" : "L"}${x(new Date(size.time).getTime()).toFixed(1)} ${y(size.used).toFixed(1)}`).join("");
  return frame(height + 26, `From ${bytes(sizes[0].used)} to ${bytes(sizes.at(-1).used)} used${total ? ` of ${bytes(total)}` : ""} in ${span((to - from) / 1000)}`, axis(from, to, height), lines(top, bytes, height), svg("path", { class: "l-size", d: path }));
}
