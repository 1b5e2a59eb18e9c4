// Log-in: the password, then the second factor if one is asked for.

import { el, show, svg, trouble } from "./dom.js";
import { call, enter, get, post } from "./api.js";

// A form in the middle of the page. `submit` throws what is to be told.
function form(title, submit, ...parts) {
  const told = el("div", { "aria-live": "assertive" });
  const go = el("button", { class: "do" }, title);
  const element = el("form", { class: "login", on: { submit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    told.replaceChildren();
    try { await submit(); } catch (error) { told.replaceChildren(el("div", { class: "fault", role: "alert" }, el("p", null, error.message))); }
    go.disabled = false;
  } } }, el("h1", null, "Relight"), told, parts, go);
  return element;
}

export const code = (id) => el("input", { id, name: "otp", autocomplete: "one-time-code", autocapitalize: "none", spellcheck: "false", required: true });

export function signIn(done, words) {
  const user = el("input", { id: "user", name: "username", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
  const password = el("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const realm = el("select", { id: "realm" }), choice = el("label", { for: "realm", hidden: true }, "Known to", realm);
  show(form("Log in", async () => {
    const name = user.value.trim();
    try {
      const { data } = await post("session", { user: name.includes("@") ? name : `${name}@${realm.value || "pbs"}`, password: password.value });
      const asked = data["second-factor"];
      if (!asked) { enter(data); await done(); } else if (asked.enrolled) ask(asked, done); else await enrol(asked, done);
    } catch (error) {
      password.value = "";
      password.focus();
      if (error.status === 401) error.message = "The name or the password is wrong.";
      throw error;
    }
  }, words ? el("div", { class: "fault", role: "alert" }, el("p", null, words)) : null, el("label", { for: "user" }, "User, such as jane@pbs", user), el("label", { for: "password" }, "Password", password), choice));
  user.focus();
  // The form is there at once; what else there is to log in with comes after it.
  get("realms").then(({ data }) => {
    const directories = data.filter((one) => !one.provider);
    choice.hidden = directories.length === 0;
    realm.replaceChildren(el("option", { value: "pbs" }, "this server"), ...directories.map((one) => el("option", { value: one.name }, one.title)));
    document.querySelector("form.login")?.append(...data.filter((one) => one.provider).map(away));
  }, () => {});
}

// A button that leads to a provider of identities.
const away = ({ name, title }) => el("button", { type: "button", class: "quiet", on: { click: async (event) => {
  event.target.disabled = true;
  try { location.assign((await post("session/provider", { realm: name })).data.url); } catch (error) { trouble(error); event.target.disabled = false; }
} } }, `Log in with ${title}`);

// Back from a provider: what came with it is handed over, and does not stay in the history.
export async function comeBack() {
  const response = location.search;
  history.replaceState(null, "", "/");
  try {
    enter((await call("PUT", "session/provider", { body: { response } })).data);
    return null;
  } catch (error) {
    return error.status === 401 ? "You were not let in: the log-in took too long, or you are in none of the groups that may. An administrator finds the reason in the server's log." : error.message;
  }
}

function ask(asked, done) {
  const otp = code("otp");
  show(form("Go on", async () => {
    try {
      enter((await post("session/second-factor", { user: asked.user, ticket: asked.ticket, otp: otp.value })).data);
      await done();
    } catch (error) { otp.value = ""; otp.focus(); throw error; }
  }, el("label", { for: "otp" }, "Code of your app, or a recovery code", otp),
  asked["recovery-codes"] < 3 ? el("p", { class: "dim" }, `You have ${asked["recovery-codes"]} recovery codes left.`) : null, again(done)));
  otp.focus();
}

async function enrol(asked, done) {
  const { data } = await post("session/enrolment", { user: asked.user, ticket: asked.ticket });
  const otp = code("otp");
  show(form("Go on", async () => {
    try {
      const entered = enter((await post("session/second-factor", { user: asked.user, ticket: asked.ticket, otp: otp.value })).data);
      show(codes(entered["recovery-codes"], done));
    } catch (error) { otp.value = ""; otp.focus(); throw error; }
  }, el("p", null, "This server wants a second factor beside your password."), secret(data), el("label", { for: "otp" }, "First code of the app", otp), again(done)));
  otp.focus();
}

const again = (done) => el("button", { type: "button", class: "quiet", on: { click: () => signIn(done) } }, "Log in as somebody else");

// What an app has to know, as a picture and as text.
export function secret({ secret: text, uri, qr }) {
  const side = qr.side + 8;
  const picture = svg("svg", { viewBox: `-4 -4 ${side} ${side}`, class: "qr", role: "img", "aria-label": "QR code with the secret for the app; the same as text is below" },
    svg("rect", { x: -4, y: -4, width: side, height: side, class: "qr-back" }), svg("path", { d: qr.path, class: "qr-dark" }));
  return el("div", null, el("p", null, "Let an app for one-time passwords read this, ", el("a", { href: uri }, "open it in the app of this device"), ", or type the secret into it."), picture,
    el("p", null, el("code", { class: "secret" }, text.replace(/(.{4})(?=.)/g, "$1 "))));
}

// Recovery codes, shown once. `done` goes on.
export function codes(list, done) {
  const go = el("button", { type: "button", class: "do", on: { click: done } }, "I have kept them");
  queueMicrotask(() => go.focus());
  return el("div", { class: "login" }, el("h1", null, "Recovery codes"), el("p", null, "Each is good once in place of a code, if you lose the app. They are shown only now: print them, or keep them where you keep passwords."),
    el("ul", { class: "codes" }, list.map((one) => el("li", null, el("code", null, one)))), go);
}
