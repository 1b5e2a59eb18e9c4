// A database cluster to a moment: what can be recovered, the moment, where to.

import { el, tell } from "./dom.js";
import { get } from "./api.js";
import { folder, nowhere, propose } from "./planned.js";
import { exactTime } from "./words.js";

// As the field for a moment takes it: the time of this browser.
const local = (time) => {
  const at = new Date(time);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 19);
};

export async function cluster(name, about, signal) {
  const { data } = await get(`workloads/${encodeURIComponent(name)}/windows`, {}, signal);
  const logs = data.filter((one) => one.windows && one.windows.intervals.length > 0);
  const intervals = logs.flatMap((one) => one.windows.intervals.map((interval) => ({ ...interval, repository: one.repository })));
  const gaps = logs.flatMap((one) => one.windows.gaps.map((gap) => ({ ...gap, repository: one.repository })));
  const told = el("div", { "aria-live": "polite" });
  const moment = el("input", { id: "moment", type: "datetime-local", step: "1", required: true });
  const last = intervals.map((one) => one.to).sort().pop();
  if (last) moment.value = local(last);
  const when = el("label", { for: "moment", hidden: true }, "The moment, by the clock of this browser", moment);
  const goal = el("select", { id: "goal", on: { change: () => { when.hidden = goal.value !== "time"; moment.disabled = when.hidden; } } },
    [intervals.length > 0 ? ["latest", "the newest moment that there is"] : null, intervals.length > 0 ? ["time", "a moment that I choose"] : null, ["immediate", "the end of the newest base backup, without the log after it"]]
      .filter(Boolean).map(([value, words]) => el("option", { value }, words)));
  moment.disabled = true;
  const choose = (one) => el("button", { type: "button", class: "quiet", "aria-label": `choose the end of the window from ${exactTime(one.from)}`, on: { click: () => {
    goal.value = "time";
    goal.dispatchEvent(new Event("change"));
    moment.value = local(one.to);
    moment.focus();
  } } }, "Choose a moment in it");
  const windows = intervals.length > 0 ? el("ul", { class: "plain windows" }, intervals.map((one) => el("li", null, `Any moment from ${exactTime(one.from)} to ${exactTime(one.to)} (${one.repository}) `, choose(one))),
    gaps.map((gap) => el("li", { class: "bad" }, `Nothing between ${exactTime(gap.from)} and ${gap.to ? exactTime(gap.to) : "the next backup"} (${gap.repository}): ${gap.cause}`)))
    : el("p", { class: "dim" }, "No log of it is kept: it can be restored to the end of its base backups only.");
  if (about.roots.length === 0) return el("section", null, el("h2", null, "The cluster, to a moment"), windows, nowhere());
  const to = el("input", { id: "cluster-to", required: true, spellcheck: "false", value: folder(about, name) });
  const see = el("button", { class: "do" }, "Show what would be done");
  for (const field of [to, moment, goal]) field.addEventListener("input", () => told.replaceChildren());
  return el("section", null, el("h2", null, "The cluster, to a moment"), windows, el("form", { class: "plain", on: { submit: async (event) => {
    event.preventDefault();
    const at = new Date(moment.value);
    if (goal.value === "time" && Number.isNaN(at.getTime())) return tell("Write the moment with its date and its time.");
    see.disabled = true;
    await propose(told, { workload: name, goal: goal.value === "time" ? at.toISOString() : goal.value, to: to.value.trim() });
    see.disabled = false;
  } } }, el("label", { for: "goal" }, "Up to", goal), when,
  el("label", { for: "cluster-to" }, "New folder on the server, which becomes the data directory", to, el("span", { class: "dim" }, `Below ${about.roots.join(", ")}.`)), el("p", { class: "buttons" }, see)), told);
}
