// Users, their tokens and roles: seen by whoever may, and changed by whoever may.

import { el, keepFocus, paged, tell } from "./dom.js";
import { call, get, post, session } from "./api.js";
import { refusal } from "./approval.js";
import { ask } from "./confirm.js";

// A form that is opened when it is needed. `submit` gives what is to be told, and throws what went wrong.
function form(title, submit, ...parts) {
  const told = el("div", { "aria-live": "assertive" }), go = el("button", { class: "do" }, title);
  const ready = () => { go.disabled = false; };
  const fields = el("form", { class: "row", on: { submit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    told.replaceChildren();
    try {
      const words = await submit();
      event.target.reset();
      told.replaceChildren(words);
    } catch (error) { told.replaceChildren(refusal(error, ready)); }
    go.disabled = false;
  } } }, parts, go);
  return el("details", null, el("summary", null, title), fields, told);
}

const field = (id, words, attributes) => el("label", { for: id }, words, el("input", { id, autocapitalize: "none", spellcheck: "false", autocomplete: "off", ...attributes }));
const value = (element, id) => element.querySelector(`#${id}`).value.trim();
const done = (words) => el("p", { class: "note well", role: "status" }, words);

// A button that does one thing at once, and shows in `told` what was refused.
const button = (words, label, told, act) => el("button", { type: "button", class: "quiet", "aria-label": label, on: { click: async (event) => {
  event.target.disabled = true;
  told.replaceChildren();
  try { await act(); } catch (error) { told.replaceChildren(refusal(error)); event.target.disabled = false; }
} } }, words);

// `outside` is called when somebody was logged out by what was done here.
export async function people(place, roles, signal, outside) {
  const first = await get("users", { limit: 1 }, signal);
  const users = first["may-change-users"], rules = first["may-change-rules"];
  const list = el("div"), told = el("div", { "aria-live": "assertive" });
  const user = (name) => `users/${encodeURIComponent(name)}`;
  const grant = (one) => el("li", null, `${one.role ?? one.privileges.join(", ")} at ${one.path}`, one.role === null ? " by the plan" : "", one.below ? "" : ", not below",
    rules && one.role !== null ? [" ", button("Take away", `take ${one.role} at ${one.path} from ${one.who}`, told, async () => {
      await call("DELETE", "rules", { query: { path: one.path, who: one.who, role: one.role } });
      tell(`${one.who} has not ${one.role} at ${one.path} any more.`);
      await fill();
    })] : null, one.whose);
  const grants = (one) => el("ul", { class: "plain" }, one.grants.map((found) => grant({ ...found, whose: found.who !== one.user ? ` (${found.who})` : "" })));
  const tokens = (one) => el("ul", { class: "plain" }, one.tokens.map((id) => el("li", null, id, users || one.user === session.user ? [" ", button("Take away", `take the token ${id} away`, told, async () => {
    await call("DELETE", `${user(one.user)}/tokens/${encodeURIComponent(id.split("!").pop())}`);
    tell(`The token ${id} is gone.`);
    await fill();
  })] : null)));
  const enabled = (one) => el("span", { class: "buttons" }, el("span", { class: `tag ${one.enabled ? "good" : "bad"}` }, one.enabled ? "yes" : "no"),
    users && one.user !== session.user ? button(one.enabled ? "Keep out" : "Let in", `${one.enabled ? "keep out" : "let in"} ${one.user}`, told, async () => {
      await call("PUT", user(one.user), { body: { enabled: !one.enabled } });
      tell(one.enabled ? `${one.user} is kept out, and logged out everywhere.` : `${one.user} may log in.`);
      await Promise.all([fill(), outside()]);
    }) : null,
    users && one.user !== session.user ? el("button", { type: "button", class: "quiet", "aria-label": `remove ${one.user}`, on: { click: () => remove(one) } }, "Remove…") : null);
  const row = (words, cell) => [el("dt", null, words), el("dd", null, cell)];
  const remove = (one) => ask(told, { title: `Remove ${one.user}`, words: `Remove ${one.user}`, kind: "gone", back: () => { told.replaceChildren(); keepFocus(place); }, act: async () => {
    await call("DELETE", user(one.user));
    told.replaceChildren(done(`${one.user} is removed, and logged out everywhere.`));
    await Promise.all([fill(), outside()]);
    keepFocus(place);
  } },
  el("dl", { class: "facts" }, one.comment ? row("Who that is", one.comment) : null, row("Tokens that end", one.tokens.length > 0 ? one.tokens.join(", ") : "none"),
    row("Roles that it loses", one.grants.some((found) => found.role !== null && !found.who.startsWith("@")) ? one.grants.filter((found) => found.role !== null && !found.who.startsWith("@")).map((found) => `${found.role} at ${found.path}`).join(", ") : "none")),
  el("ul", { class: "note" }, el("li", null, "It is logged out everywhere at once, and programs with its tokens are kept out."),
    el("li", null, "It cannot be undone: somebody who is added under this name later begins with what the plan says, and nothing else. To keep it out for a time, use “Keep out”."),
    el("li", null, "Its backups stay, and so does what the evidence says of it.")));
  async function fill() {
    list.replaceChildren(await paged("Users and what they may do", [
      ["User", (one) => el("span", null, one.user, one.comment ? el("span", { class: "dim" }, ` ${one.comment}`) : ""), "name"],
      ["Enabled", enabled], ["Groups", (one) => one.groups.join(", ")], ["Tokens", (one) => one.tokens.length > 0 ? tokens(one) : null], ["May", (one) => one.grants.length > 0 ? grants(one) : "nothing", "name"],
    ], async (from) => {
      const { data, next } = await get("users", { limit: 50, from }, signal);
      return { rows: data, next };
    }, "There are no users."));
  }
  const add = form("Add a user", async () => {
    const name = value(add, "new-user"), password = add.querySelector("#new-password");
    const whole = name.includes("@") ? name : `${name}@pbs`;
    await post("users", { user: whole, password: password.value || null, comment: value(add, "new-comment") });
    password.value = "";
    await fill();
    return done(`${whole} is there, and may do nothing yet: give it a role.`);
  }, field("new-user", "Name, such as jane@pbs", { required: true }), field("new-password", "Password; none for a program", { type: "password", autocomplete: "new-password", minlength: "8" }), field("new-comment", "Who that is", { autocapitalize: "sentences" }));
  const role = el("select", { id: "rule-role" }, roles.map((one) => el("option", { value: one.name, title: one.comment }, one.name)));
  const give = form("Give a role", async () => {
    const who = value(give, "rule-who"), path = value(give, "rule-path");
    await call("PUT", "rules", { body: { path, who, role: role.value, below: give.querySelector("#rule-below").checked } });
    await fill();
    return done(`${who} has ${role.value} at ${path}.`);
  }, field("rule-who", "User, token or @group", { required: true }), el("label", { for: "rule-role" }, "Role", role), field("rule-path", "Where", { required: true, value: "/datastore" }),
  el("label", { for: "rule-below", class: "check" }, el("input", { id: "rule-below", type: "checkbox", checked: true }), "and all below"));
  const token = form("Make a token", async () => {
    const { data } = await post(`${user(value(token, "token-user"))}/tokens`, { name: value(token, "token-name"), expires: value(token, "token-end") ? new Date(`${value(token, "token-end")}T23:59:59`).toISOString() : null });
    await fill();
    return el("div", { class: "note well", role: "status" }, el("p", null, `The secret of ${data.token} is shown only now. It may do nothing before it is given a role.`), el("p", null, el("code", { class: "secret" }, data.secret)));
  }, field("token-user", "User", { required: true, value: session.user }), field("token-name", "Name of the token, such as laptop", { required: true }), field("token-end", "Good until; empty is for ever", { type: "date" }));
  await fill();
  place.replaceChildren(told, list, el("div", { class: "forms" }, users ? add : "", rules ? give : "", token));
}
