// The recovery points of a workload as a list: those who may protect them, and have some forgotten before the plan would.

import { el, keepFocus, paged, tell, trouble } from "./dom.js";
import { call, post } from "./api.js";
import { ask } from "./confirm.js";
import { refusal } from "./approval.js";
import { exactTime, time } from "./words.js";

const MANY = 50;
const several = (count) => `${count} recovery ${count === 1 ? "point" : "points"}`;

// `kept` outlives what is drawn: which repository is shown, and whether the list is open. `again` draws all of it anew.
export async function pointList(data, name, kept, again) {
  const repositories = [...new Set(data.points.map((point) => point.repository))];
  if (repositories.length === 0) return null;
  if (!repositories.includes(kept.repository)) kept.repository = repositories[0];
  const list = el("div"), told = el("div", { "aria-live": "assertive" }), whole = el("div");
  const choose = repositories.length < 2 ? null : el("label", { for: "points-of" }, "Repository", el("select", { id: "points-of", on: { change: (event) => {
    kept.repository = event.target.value;
    told.replaceChildren();
    fill().catch(trouble);
  } } }, repositories.map((one) => el("option", { selected: one === kept.repository }, one))));

  async function fill() {
    const repository = kept.repository, points = data.points.filter((point) => point.repository === repository);
    const forgets = data.may.forget.includes(repository), protects = data.may.protect.includes(repository);
    const picked = new Set();
    const forget = el("button", { type: "button", class: "quiet", disabled: true, on: { click: () => plan(repository, [...picked], told, name, again) } }, "Forget…");
    const count = el("p", { class: "dim", "aria-live": "polite" }, "None is chosen.");
    const pick = (point) => el("input", { type: "checkbox", "aria-label": `choose the recovery point of ${exactTime(point.time)}`, on: { change: (event) => {
      if (event.target.checked) picked.add(point.snapshot); else picked.delete(point.snapshot);
      forget.disabled = picked.size === 0;
      count.textContent = picked.size === 0 ? "None is chosen." : `${picked.size} chosen.`;
      told.replaceChildren();
    } } });
    const state = (point) => [point.damaged ? el("span", { class: "tag bad" }, "damaged") : null, point.complete ? null : el("span", { class: "tag warn" }, "incomplete"), point.damaged || !point.complete ? null : el("span", { class: "tag good" }, "good")];
    const guard = (point) => el("span", { class: "buttons" }, point.protected ? el("span", { class: "tag run" }, "protected") : null,
      protects ? el("button", { type: "button", class: "quiet", "aria-label": `${point.protected ? "take away the protection of" : "protect"} the recovery point of ${exactTime(point.time)}`, on: { click: (event) => protect(event.target, repository, point, told, name, again) } }, point.protected ? "Unprotect" : "Protect") : null);
    list.replaceChildren(...[forgets ? el("div", { class: "basket" }, count, forget) : null, await paged(`Recovery points in ${repository}, newest first`, [
      ...(forgets ? [["Choose", pick]] : []), ["When", (point) => time(point.time)], ["State", state], ["Protection", guard], ["Id", (point) => el("code", null, point.snapshot.slice(0, 8))],
    ], async (from = 0) => ({ rows: points.slice(from, from + MANY), next: from + MANY < points.length ? from + MANY : null }), "There is none.")].filter(Boolean));
  }
  await fill();
  const may = data.may.forget.length + data.may.protect.length > 0;
  whole.append(el("details", { open: kept.open, on: { toggle: (event) => { kept.open = event.target.open; } } }, el("summary", null, may ? "As a list: protect them, or forget some" : "As a list"), ...[choose ? el("div", { class: "bar" }, choose) : null, told, list].filter(Boolean)));
  return whole;
}

async function protect(button, repository, point, told, name, again) {
  button.disabled = true;
  told.replaceChildren();
  try {
    await call("PUT", `workloads/${encodeURIComponent(name)}/recovery-points/${point.snapshot}/protection`, { body: { repository, protected: !point.protected } });
    tell(point.protected ? "It is not protected any more." : "It is protected: nobody forgets it, and no rule does.");
    await again();
  } catch (error) {
    button.disabled = false;
    told.replaceChildren(refusal(error));
  }
}

// What would go and what would stay; then it is done just so.
async function plan(repository, snapshots, told, name, again) {
  const wanted = { workload: name, repository, snapshots };
  let data;
  try { data = (await post("forgets/plan", wanted)).data; } catch (error) { return told.replaceChildren(refusal(error)); }
  const row = (words, cell) => [el("dt", null, words), el("dd", null, cell)];
  const times = (points) => el("ul", { class: "plain" }, points.map((point) => el("li", null, exactTime(point.time), point.good ? "" : " (incomplete or damaged)", point.why ? `: ${point.why}` : "")));
  const sure = data["last-good"] ? el("input", { id: "last-good", type: "checkbox" }) : null;
  const left = data.left === 0 ? "nothing" : `${several(data.left)}, ${data["left-good"]} of them good; the newest is of ${exactTime(data["newest-left"])}`;
  const leave = () => { told.replaceChildren(); keepFocus(document.getElementById("main")); };
  const parts = [el("dl", { class: "facts" }, data.goes.length > 0 ? row("Goes", times(data.goes)) : null, data.stays.length > 0 ? row("Stays", times(data.stays)) : null, row(`Then left in ${repository}`, left)),
    data.warnings.length > 0 ? el("ul", { class: data["last-good"] ? "fault" : "note" }, data.warnings.map((warning) => el("li", null, warning))) : null];
  if (data.goes.length === 0) {
    return told.replaceChildren(el("section", { class: "review", "aria-label": "Nothing would go" }, el("h2", null, "Nothing would go"), ...parts.filter(Boolean), el("p", null, el("button", { type: "button", class: "quiet", on: { click: leave } }, "Leave it"))));
  }
  const words = `Forget ${several(data.goes.length)}`;
  ask(told, { title: `${words} of ${name} for good`, words, kind: "gone", back: leave, act: async () => {
    const { data: done } = await post("forgets", { ...wanted, digest: data.digest, "last-good": sure?.checked ?? false });
    tell(`${several(done.forgotten)} of ${name} forgotten. The next collection frees the room.`);
    await again();
  } }, ...parts, sure ? el("p", null, el("label", { for: "last-good", class: "buttons" }, sure, "Yes, although no good one is left there")) : null);
}
