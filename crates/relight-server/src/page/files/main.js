// Where what is shown: the address behind # says what.

import { el, fault, show, tell } from "./dom.js";
import { logIn, logOut, resume, session } from "./api.js";
import { overview } from "./overview.js";
import { workload } from "./workload.js";
import { run, runs } from "./runs.js";
import { drills, evidence, repositories } from "./lists.js";
import { plan } from "./plan.js";

const pages = [
  ["", "Overview", overview],
  ["runs", "Runs", runs],
  ["drills", "Drills", drills],
  ["repositories", "Repositories", repositories],
  ["plan", "Plan", plan, "Sys.Audit"],
  ["evidence", "Evidence", evidence, "Sys.Audit"],
];
const others = { workload, run };
let leave = new AbortController();

function head(current) {
  document.getElementById("head").hidden = session.user === null;
  document.getElementById("who").textContent = session.user ?? "";
  const links = pages.filter(([, , , needs]) => !needs || session.may.includes(needs)).map(([name, title]) =>
    el("a", { href: `#/${name}`, "aria-current": name === current ? "page" : null }, title));
  document.getElementById("nav").replaceChildren(...links);
}

function logInForm() {
  leave.abort();
  head(null);
  document.title = "Log in – Relight";
  const told = el("div", { "aria-live": "assertive" });
  const user = el("input", { id: "user", name: "username", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: "false" });
  const password = el("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });
  const go = el("button", { class: "do" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    told.replaceChildren();
    try {
      const name = user.value.trim();
      await logIn(name.includes("@") ? name : `${name}@pbs`, password.value);
      await navigate();
    } catch (error) {
      password.value = "";
      const words = error.status === 401 ? "The name or the password is wrong." : error.message;
      told.replaceChildren(el("div", { class: "fault", role: "alert" }, el("p", null, words)));
      password.focus();
    }
    go.disabled = false;
  };
  show(el("form", { class: "login", on: { submit } }, el("h1", null, "Relight"), told,
    el("label", { for: "user" }, "User, such as jane@pbs", user), el("label", { for: "password" }, "Password", password), go));
  user.focus();
}

async function navigate() {
  if (session.user === null) return logInForm();
  leave.abort();
  leave = new AbortController();
  const here = leave;
  const [name = "", ...rest] = location.hash.replace(/^#\/?/, "").split("?")[0].split("/");
  const found = pages.find(([page]) => page === name);
  const page = found?.[2] ?? others[name];
  head(name);
  if (!page) return show(el("h1", null, "There is no such page"), el("p", null, el("a", { href: "#/" }, "Overview")));
  try {
    let argument;
    try { argument = decodeURIComponent(rest.join("/")); } catch { argument = rest.join("/"); }
    const content = await page(argument, here.signal);
    if (here.signal.aborted) return;
    show(content);
    const title = document.querySelector("main h1")?.textContent ?? found?.[1] ?? "";
    document.title = `${title} – Relight`;
    window.scrollTo(0, 0);
    performance.mark("painted");
  } catch (error) {
    if (!here.signal.aborted) show(el("h1", null, found?.[1] ?? "Relight"), fault(error));
  }
}

document.addEventListener("logged-out", () => {
  if (session.user === null) return;
  Object.assign(session, { user: null, csrf: null, may: [] });
  logInForm();
  tell("Your session has ended. Log in again.");
});
document.getElementById("out").addEventListener("click", async () => {
  try { await logOut(); } catch (error) { tell(error.message); }
  logInForm();
});
window.addEventListener("hashchange", navigate);
try {
  await resume();
  await navigate();
} catch (error) {
  show(fault(error));
}
