// Runs, live, and one of them with its events.

import { el, paged, table, tell, trouble } from "./dom.js";
import { propose } from "./planned.js";
import { get, post } from "./api.js";
import { bytes, outcome, progress, runLink, time, took, workloadLink } from "./words.js";

const job = (run) => {
  const [kind, name, ...rest] = run.job.split(" ");
  return [kind, " ", name?.includes("/") ? workloadLink(name) : name ?? "", rest.length ? ` to ${rest.join(" ")}` : ""];
};
const columns = [
  ["Run", (run) => runLink(run.number), "number"], ["What", job, "name"], ["Started", (run) => time(run.started)], ["Outcome", outcome],
  ["Took", took, "number"], ["Size", (run) => bytes(run.figures.size), "number"], ["Asked by", (run) => run.who, "name"], ["What went wrong", (run) => run.message, "name"],
];

// Does it again and again while the page is shown and seen.
function every(milliseconds, signal, work) {
  const timer = setInterval(async () => {
    if (document.hidden) return;
    try { await work(); } catch (error) { if (error.status !== 401) trouble(error); }
  }, milliseconds);
  signal.addEventListener("abort", () => clearInterval(timer));
}

export async function runs(_, signal) {
  const state = { kind: "", outcome: "" };
  const live = el("div", { "aria-live": "off" }), ended = el("div");
  let before = "";
  async function fill() {
    ended.replaceChildren(await paged("Runs, newest first", columns, async (from) => {
      const { data, next } = await get("runs", { before: from, limit: 50, ...state }, signal);
      return { rows: data.filter((run) => run.ended), next };
    }, "Nothing has run yet."));
  }
  async function look() {
    const { data } = await get("runs", { running: true, limit: 200 }, signal);
    live.replaceChildren(data.length === 0 ? el("p", { class: "dim" }, "Nothing runs now.") : table("Running now", [
      ["Run", (run) => runLink(run.number), "number"], ["What", job, "name"], ["Started", (run) => time(run.started)], ["Since", took, "number"],
      ["Progress", progress], ["End it", (run) => cancel(run)],
    ], data).element);
    const now = data.map((run) => run.number).join();
    if (now !== before) { before = now; await fill(); }
  }
  const choice = (name, title, words) => el("label", { for: name }, title, el("select", { id: name, on: { change: (event) => { state[name] = event.target.value; fill().catch(trouble); } } },
    el("option", { value: "" }, "all"), words.map((word) => el("option", { value: word }, word))));
  await look();
  if (before === "") await fill();
  every(2000, signal, look);
  return [el("h1", null, "Runs"), live, el("div", { class: "bar" }, choice("kind", "Kind", ["backup", "copy", "verify", "drill", "forget", "collect", "exercise", "restore"]),
    choice("outcome", "Outcome", ["good", "incomplete", "failed", "cancelled", "interrupted"])), ended];
}

function cancel(run) {
  return el("button", { type: "button", class: "quiet", on: { click: async (event) => {
    event.target.disabled = true;
    try { await post(`runs/${run.number}/cancel`); tell(`Run ${run.number} ends soon.`); } catch (error) { event.target.disabled = false; tell(error.status === 403 ? "You may not cancel this." : error.message); }
  } } }, "Cancel");
}

// A restore that did not come to its end, asked for again: what would be done now is shown first.
function once(run) {
  const told = el("div", { "aria-live": "polite" });
  return el("div", { class: "again" }, el("p", null, el("button", { type: "button", class: "do", on: { click: () => propose(told, run.again) } }, "Ask for it again")), told);
}

export async function run(number, signal) {
  const facts = el("div"), events = el("ol", { class: "events" });
  const none = el("p", { class: "dim" }, "There are none, or they are not kept any more.");
  let from = 0;
  async function look() {
    let data;
    do {
      ({ data } = await get(`runs/${encodeURIComponent(number)}`, { from }, signal));
      events.append(...data.events.map((event) => el("li", null, time(event.time), " ", event.text)));
      from += data.events.length;
      none.hidden = from > 0;
    } while (data["more-events"] && from < 5000);
    const fact = (title, value) => value ? [el("dt", null, title), el("dd", null, value)] : [];
    facts.replaceChildren(el("dl", { class: "facts" }, fact("Outcome", outcome(data)), fact("Progress", progress(data)), fact("What", el("span", null, job(data))), fact("Repository", data.repository),
      fact("Due", time(data.due)), fact("Started", time(data.started)), fact("Took", took(data)), fact("Try", String(data.attempt)), fact("Asked by", data.who),
      fact("What went wrong", data.message ? el("span", { class: "bad" }, data.code ? `${data.code}: ${data.message}` : data.message) : null), fact("Snapshot", data.snapshot),
      Object.entries(data.figures).map(([name, count]) => fact({ size: "Size", read: "Read", added: "New", stored: "Stored", snapshots: "Snapshots", damaged: "Damaged" }[name] ?? name,
        name === "snapshots" || name === "damaged" ? String(count) : bytes(count)))), data.ended ? "" : el("p", null, cancel(data)), data.again ? once(data) : "");
    return data;
  }
  const first = await look();
  if (!first.ended) {
    const stop = new AbortController();
    signal.addEventListener("abort", () => stop.abort());
    every(1500, stop.signal, async () => { if ((await look()).ended) stop.abort(); });
  }
  return [el("h1", null, `Run ${first.number}`), facts, el("h2", null, "Events"), events, none];
}
