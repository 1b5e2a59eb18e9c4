// Every workload by day, the worst first, and what would be lost now.

import { el, paged, svg, trouble } from "./dom.js";
import { get } from "./api.js";
import { cell, days } from "./chart.js";
import { health, healths, time, workloadLink, ago } from "./words.js";

const legend = () => el("ul", { class: "legend" }, [["g", "good"], ["m", "some failed, or incomplete"], ["f", "failed"], ["x", "cancelled"], ["r", "running"], ["-", "none"]]
  .map(([letter, words]) => el("li", null, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, cell(letter)), words)));

const judged = (judgement) => {
  if (!judgement) return null;
  const { verdict } = judgement.verdict;
  const kind = { met: "good", missed: "bad", "not-measured": "warn" }[verdict] ?? "dim";
  const words = { met: "kept", missed: `missed by ${judgement.verdict.by}`, "not-measured": "not measured", "not-promised": "not promised" }[verdict] ?? verdict;
  return el("span", { class: kind, title: judgement.reason }, words);
};

export async function overview(_, signal) {
  const state = { health: null, search: "" };
  const list = el("div");
  let turn = 0;
  const read = (from) => get("overview", { from, limit: 50, health: state.health, search: state.search }, signal);
  // What is read first is both the summary and the first rows.
  let begin = await read();
  const summary = begin.data;
  async function fill() {
    const mine = ++turn;
    let now, first;
    const rows = await paged("Workloads, the worst first", [
      ["Workload", (row) => workloadLink(row.standing.workload), "name"],
      ["State", (row) => health(row.health)],
      ["Days", (row) => days(row.days, first)],
      ["Lost now", (row) => row.standing.rpo ? (row.standing.newest ? el("span", { title: row.standing.rpo.reason }, ago(row.standing.newest.time, now).replace(/ ago$/, "")) : el("span", { class: "bad" }, "everything")) : null, "number"],
      ["RPO", (row) => judged(row.standing.rpo)],
      ["RTO", (row) => judged(row.standing.rto)],
      ["Next", (row) => time(row.standing.next)],
      ["", (row) => row.standing.newest ? el("a", { class: "quiet", href: `#/restore/${encodeURIComponent(row.standing.workload)}`, "aria-label": `restore ${row.standing.workload}` }, "Restore") : null],
    ], async (from) => {
      const { data, next } = begin ?? await read(from);
      begin = null;
      now = data.now; first = data["first-day"];
      return { rows: data.workloads, next };
    }, state.health || state.search ? "No workload is so." : "The plan names no workloads, or none that you may see.");
    if (mine === turn) list.replaceChildren(rows);
  }
  const cards = Object.entries(healths).filter(([name]) => summary.health[name] > 0).map(([name, [words, kind, why]]) =>
    el("li", null, el("button", { type: "button", title: why, "aria-pressed": "false", on: { click: (event) => {
      const on = state.health === name;
      state.health = on ? null : name;
      for (const other of event.currentTarget.closest("ul").querySelectorAll("button")) other.setAttribute("aria-pressed", "false");
      event.currentTarget.setAttribute("aria-pressed", String(!on));
      fill().catch(trouble);
    } } }, el("b", { class: kind }, String(summary.health[name])), words)));
  let soon;
  const search = el("input", { type: "search", id: "search", autocomplete: "off", on: { input: (event) => {
    state.search = event.target.value;
    clearTimeout(soon);
    soon = setTimeout(() => fill().catch(trouble), 200);
  } } });
  await fill();
  const bad = (summary.health.unprotected ?? 0) + (summary.health.exposed ?? 0) + (summary.health["too-slow"] ?? 0);
  return [el("h1", null, bad > 0 ? `${bad} of ${summary.total} workloads do not have what was promised` : "Overview"),
    el("ul", { class: "cards" }, cards), el("div", { class: "bar" }, el("label", { for: "search" }, "Search by name or policy", search)), legend(), list];
}
