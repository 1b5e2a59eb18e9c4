// Who may do what, what waits for a second person, and where users are logged in.

import { el, keepFocus, paged, table, tell, trouble } from "./dom.js";
import { call, get, post, session } from "./api.js";
import { subject } from "./approval.js";
import { people } from "./people.js";
import { time } from "./words.js";

const kinds = { waiting: "warn", approved: "good", denied: "bad", used: "", expired: "" };
const actions = { delete: "deleting recovery points early", retention: "keeping recovery points for a shorter time or promising less", keys: "giving keys away", restore: "restoring over production", access: "changing who may do what" };

function decision(request, again) {
  if (!request["may-decide"]) {
    const made = request.decision;
    return made ? el("span", null, `${made.approved ? "approved" : "denied"} by ${made.by}`, made.remark ? `: ${made.remark}` : "") : request.who === session.user ? "Somebody else has to decide." : null;
  }
  const remark = el("input", { "aria-label": `Remark on request ${request.number}`, placeholder: "Remark", maxlength: "1000" });
  const buttons = [];
  const decide = (word) => async () => {
    buttons.forEach((button) => { button.disabled = true; });
    try {
      await post(`approvals/${request.number}/${word}`, { remark: remark.value });
      tell(word === "approve" ? `Request ${request.number} is approved: ${request.who} can do it once.` : `Request ${request.number} is denied.`);
      await again();
    } catch (error) { trouble(error); buttons.forEach((button) => { button.disabled = false; }); }
  };
  buttons.push(el("button", { type: "button", class: "do", on: { click: decide("approve") } }, `Approve ${request.number}`),
    el("button", { type: "button", class: "quiet", on: { click: decide("deny") } }, `Deny ${request.number}`));
  return el("div", { class: "decide" }, remark, ...buttons);
}

async function requests(place, signal) {
  const first = await get("approvals", { limit: 1 }, signal);
  const again = async () => { await requests(place, signal); keepFocus(place); document.dispatchEvent(new Event("decided")); };
  const list = await paged("Requests, newest first", [
    ["Number", (request) => String(request.number), "number"], ["Who", (request) => request.who, "name"],
    ["What", subject, "name"],
    ["Standing", (request) => el("span", { class: `tag ${kinds[request.standing] ?? ""}` }, request.standing)],
    ["Until", (request) => time(request.expires)], ["Decision", (request) => decision(request, again), "name"],
  ], async (from) => {
    const { data, next } = await get("approvals", { limit: 50, before: from }, signal);
    return { rows: data, next };
  }, "Nobody has asked for anything.");
  const needed = first.required.map((action) => actions[action] ?? action);
  const glass = first["broken-glass"];
  place.replaceChildren(
    el("p", { class: needed.length ? null : "warn" }, needed.length ? `A second person is needed for ${needed.join(", ")}.` : "Nothing needs a second person here: whoever has the privilege can delete recovery points alone. [approvals] in the configuration changes that."),
    glass ? el("div", { class: "fault", role: "alert" }, el("p", null, `The glass was broken by ${glass.who}: nothing needs a second person until `, time(glass.until), `. The reason given: ${glass.reason}`)) : "",
    list);
}

async function sessions(place, signal) {
  const end = (one) => async (event) => {
    event.target.disabled = true;
    try {
      await call("DELETE", `sessions/${one.id}`);
      if (one.this) return location.reload();
      tell(`${one.user} is logged out there.`);
      await sessions(place, signal);
      keepFocus(place);
    } catch (error) { event.target.disabled = false; trouble(error); }
  };
  place.replaceChildren(await paged("Where users are logged in", [
    ["User", (one) => one.user, "name"], ["Since", (one) => time(one.since)], ["Until", (one) => time(one.until)], ["From", (one) => one.address],
    ["", (one) => el("button", { type: "button", class: "quiet", "aria-label": `Log ${one.user} out, there since ${one.since}`, on: { click: end(one) } }, one.this ? "Log out here" : "Log out")],
  ], async (from) => {
    const { data, next } = await get("sessions", { limit: 50, from }, signal);
    return { rows: data, next };
  }, "Nobody is logged in by a password."));
}

export async function access(_, signal) {
  const waiting = el("section"), users = el("section"), logged = el("section");
  const { data: roles } = await get("roles", {}, signal);
  await Promise.all([requests(waiting, signal), people(users, roles, signal, () => sessions(logged, signal)), sessions(logged, signal)]);
  return [el("h1", null, "Access"), el("h2", null, "Approvals"), waiting, el("h2", null, "Users"), users, el("h2", null, "Sessions"), logged,
    el("h2", null, "Roles"), table("Roles", [
      ["Role", (role) => role.name, "name"], ["What for", (role) => role.comment, "name"], ["Privileges", (role) => role.privileges.join(", "), "name"],
    ], roles).element];
}
