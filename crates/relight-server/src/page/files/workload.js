// One workload: how it stands, its recovery points, sizes and drills.

import { el, keepFocus, table, tell, trouble } from "./dom.js";
import { get, post } from "./api.js";
import { drillTimes, sizes, timeline } from "./chart.js";
import { pointList } from "./points.js";
import { bytes, health, outcome, runLink, span, time, took, ago } from "./words.js";

const card = (title, value, more, kind) => el("li", null, el("span", { class: "dim" }, title), el("b", { class: `words ${kind ?? ""}` }, value), more ? el("span", { class: "dim" }, more) : null);

const verdict = (judgement) => ({ met: ["kept", "good"], missed: ["missed", "bad"], "not-measured": ["not measured", "warn"] }[judgement?.verdict.verdict] ?? ["not promised", ""]);

export async function workload(name, signal) {
  const days = el("select", { id: "days" }, [7, 30, 90, 365].map((count) => el("option", { value: count, selected: count === 30 }, `${count} days`)));
  const content = el("div"), kept = {};
  async function fill() {
    const { data } = await get(`workloads/${encodeURIComponent(name)}`, { days: days.value }, signal);
    const list = await pointList(data, name, kept, async () => { await fill(); keepFocus(content); });
    content.replaceChildren(...about(data, name, list).flat(3).filter(Boolean));
  }
  days.addEventListener("change", () => fill().catch(trouble));
  await fill();
  return [el("h1", null, name), el("div", { class: "bar" }, el("label", { for: "days" }, "Look back", days), actions(name)), content];
}

function actions(name) {
  const ask = (kind, words) => el("button", { type: "button", class: "quiet", on: { click: async (event) => {
    event.target.disabled = true;
    try {
      await post("runs", { job: `${kind} ${name}` });
      tell(`Asked for it: ${kind} ${name}. It starts within seconds, unless a limit holds it up.`);
      location.hash = "#/runs";
    } catch (error) { tell(error.status === 403 ? "You may not ask for this." : error.message); }
    event.target.disabled = false;
  } } }, words);
  const restore = el("a", { class: "do", href: `#/restore/${encodeURIComponent(name)}` }, "Restore…");
  return [restore, ask("backup", "Back up now"), ask("verify", "Verify now"), ask("drill", "Drill now")];
}

function about(data, name, list) {
  const { standing, promises } = data;
  const rpo = verdict(standing.rpo), rto = verdict(standing.rto);
  const points = data.points.filter((point) => point.repository === promises.repository);
  const size = sizes(data.backups, data.since, data.now), drills = drillTimes(data.drills, promises["rto-seconds"]);
  return [
    el("ul", { class: "cards" },
      card("State", health(data.health)),
      card("Lost if it burns now", standing.newest ? ago(standing.newest.time, data.now).replace(/ ago$/, "") : "everything", standing.newest ? null : "there is no recovery point", standing.newest ? "" : "bad"),
      card("RPO", rpo[0], promises["rpo-seconds"] ? `promised: ${span(promises["rpo-seconds"])}` : null, rpo[1]),
      card("RTO", rto[0], promises["rto-seconds"] ? `promised: ${span(promises["rto-seconds"])}` : null, rto[1]),
      card("Next backup", standing.next ? ago(standing.next, data.now) : "none", promises.schedule)),
    standing.excluded ? el("p", { class: "note" }, `Left out of the plan: ${standing.excluded.reason}`) : null,
    standing.changes.map((change) => el("p", { class: "note" }, `Suddenly different (${change.what}): ${change.reason}`)),
    standing.rpo ? el("p", { class: "dim" }, `${standing.rpo.reason}. ${standing.rto?.reason ?? ""}.`) : null,
    el("h2", null, "Recovery points"),
    points.length > 0 ? el("div", null, timeline(points, data.since, data.now, promises["rpo-seconds"], data.windows), el("p", { class: "dim" }, `${points.length} in ${promises.repository}. ${data.windows ? "Of a filled field, any moment can be recovered; a dashed one is a gap in the log." : "A dashed field is longer than the RPO."}`), gapTable(data.windows)) : el("p", { class: "dim" }, "There is none in this time."),
    list,
    size ? [el("h2", null, "Size"), size, el("p", { class: "dim" }, "The line is all of it, bars are what was new.")] : null,
    el("h2", null, "Drills"),
    drills && promises["rto-seconds"] ? el("p", { class: "dim" }, `The dashed line is what was promised: back after ${span(promises["rto-seconds"])} at most. Bars above it, and crossed ones, missed that.`) : null,
    data.drills.length > 0 ? el("details", null, el("summary", null, "The same as a table"), table(`Drills of ${name}, newest first`, [["When", (drill) => time(drill.time)], ["Outcome", (drill) => drill.good ? "came back" : "did not come back"], ["Measured", (drill) => span(drill["measured-seconds"]), "number"], ["Promised", (drill) => span(drill["promised-seconds"]), "number"], ["Run", (drill) => runLink(drill.run), "number"]], data.drills.slice(0, 30)).element) : null,
    drills ?? el("p", { class: "dim" }, "Recovery was never tested: nobody knows how long it takes. Ask for a drill, or give the policy one."),
    el("h2", null, "Backups"),
    data.backups.length === 0 ? el("p", { class: "dim" }, "There was none in this time.") : table(`The newest of ${data.backups.length} backups of ${name}`, [
      ["Run", (run) => runLink(run.number), "number"], ["Started", (run) => time(run.started)], ["Outcome", outcome],
      ["Took", took, "number"], ["Size", (run) => bytes(run.figures.size), "number"], ["New", (run) => bytes(run.figures.added), "number"], ["What went wrong", (run) => run.message, "name"],
    ], data.backups.slice(0, 30)).element,
  ];
}

function gapTable(windows) {
  if (!windows || windows.gaps.length === 0) return null;
  return table("Gaps in the log: what cannot be recovered", [["From", (gap) => time(gap.from)], ["To", (gap) => gap.to ? time(gap.to) : el("span", { class: "bad" }, "until the next backup")], ["Why", (gap) => gap.cause, "name"]], windows.gaps.slice(-20)).element;
}
