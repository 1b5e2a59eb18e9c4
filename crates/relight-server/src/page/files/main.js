// Where what is shown: the address behind # says what.

import { el, fault, show, tell, trouble } from "./dom.js";
import { get, logOut, resume, session } from "./api.js";
import { overview } from "./overview.js";
import { workload } from "./workload.js";
import { run, runs } from "./runs.js";
import { drills, evidence, repositories } from "./lists.js";
import { editPlan, plan } from "./plan.js";
import { reports } from "./reports.js";
import { keys } from "./keys.js";
import { restore } from "./restore.js";
import { comeBack, signIn } from "./signin.js";
import { account } from "./account.js";
import { access } from "./access.js";

const pages = [
  ["", "Overview", overview],
  ["runs", "Runs", runs],
  ["drills", "Drills", drills],
  ["repositories", "Repositories", repositories],
  ["plan", "Plan", plan, "Sys.Audit"],
  ["evidence", "Evidence", evidence, "Evidence.Read"],
  ["reports", "Reports", reports, "Evidence.Read"],
  ["keys", "Keys", keys, "Keys.Manage Sys.Audit"],
  ["access", "Access", access],
];
const others = { workload, run, restore, account, "edit-plan": editPlan };
let leave = new AbortController(), shown = false;

function head(current) {
  document.getElementById("head").hidden = session.user === null;
  document.getElementById("who").replaceChildren(session.user ? el("a", { href: "#/account", "aria-current": current === "account" ? "page" : null, title: "Your account" }, session.user) : "");
  const links = pages.filter(([, , , needs]) => !needs || needs.split(" ").some((one) => session.may.includes(one))).map(([name, title]) =>
    el("a", { href: `#/${name}`, "aria-current": name === (current === "edit-plan" ? "plan" : current) ? "page" : null }, title));
  document.getElementById("nav").replaceChildren(...links);
}

// How many requests wait for a decision of this user, beside the link to them.
async function waiting() {
  const link = document.querySelector("#nav a[href='#/access']");
  if (!link || !session.may.includes("Approval.Decide")) return;
  try {
    const { data } = await get("approvals", { waiting: true, limit: 200 });
    const count = data.filter((request) => request["may-decide"]).length;
    link.replaceChildren("Access", count > 0 ? el("span", { class: "count", title: count === 1 ? "1 request waits for you" : `${count} requests wait for you` }, String(count)) : "");
  } catch { /* the list itself tells what is wrong */ }
}

function logInForm(words) {
  leave.abort();
  head(null);
  document.title = "Log in – Relight";
  signIn(navigate, words);
}

async function navigate() {
  if (session.user === null) return logInForm();
  leave.abort();
  leave = new AbortController();
  const here = leave;
  const [address, ...query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = address.split("/");
  const found = pages.find(([page]) => page === name);
  const page = found?.[2] ?? others[name];
  head(name);
  if (!page) return show(el("h1", null, "There is no such page"), el("p", null, el("a", { href: "#/" }, "Overview")));
  try {
    let argument;
    try { argument = decodeURIComponent(rest.join("/")); } catch { argument = rest.join("/"); }
    const content = await page(argument, here.signal, new URLSearchParams(query.join("?")));
    if (here.signal.aborted) return;
    show(content);
    const title = document.querySelector("main h1")?.textContent ?? found?.[1] ?? "";
    document.title = `${title} – Relight`;
    window.scrollTo(0, 0);
    // The next key goes on in what is new, not where the link was.
    if (shown && !document.activeElement?.closest("main")) document.getElementById("main").focus({ preventScroll: true });
    shown = true;
    performance.mark("painted");
    waiting();
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
  try { await logOut(); } catch (error) { trouble(error); }
  logInForm();
});
document.addEventListener("decided", waiting);
window.addEventListener("hashchange", navigate);
try {
  const refused = location.pathname === "/signed-in" ? await comeBack() : null;
  if (refused) logInForm(refused);
  else {
    if (session.user === null) await resume();
    await navigate();
  }
} catch (error) {
  show(fault(error));
}
