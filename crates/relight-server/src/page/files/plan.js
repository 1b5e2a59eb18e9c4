// The plan with what the checker remarks, beside the lines it is about; and an editor that checks while one types.

import { el, fault, table, tell, trouble } from "./dom.js";
import { refusal } from "./approval.js";
import { call, get, session } from "./api.js";

const kinds = { error: "bad", warning: "warn", advice: "" };

const remarks = (data, jump) => data.findings.length > 0 ? table(`${data["total-findings"]} remarks of the checker, the worst first`, [
  ["Line", (finding) => jump(finding.line), "number"], ["Kind", (finding) => el("span", { class: `tag ${kinds[finding.severity] ?? ""}` }, finding.severity)], ["Code", (finding) => finding.code],
  ["About", (finding) => finding.subject, "name"], ["Why", (finding) => finding.reason, "name"], ["Fix", (finding) => el("code", null, finding.fix), "name"],
], data.findings).element : data.problems.length === 0 ? el("p", { class: "dim" }, "The checker finds nothing.") : null;

// The worst remark of each line.
function worstByLine(data) {
  const worst = new Map();
  for (const finding of [...data.findings].reverse()) if (!worst.has(finding.line) || finding.severity !== "advice") worst.set(finding.line, finding);
  for (const problem of data.problems) worst.set(problem.line, { severity: "error", reason: problem.message, fix: "" });
  return worst;
}

export async function plan(_, signal) {
  const { data, next } = await get("plan", {}, signal);
  const worst = worstByLine(data);
  const line = (text, at) => {
    const found = worst.get(at);
    return el("span", { class: `line ${found?.severity ?? ""}`, id: `line-${at}`, title: found ? `${found.reason} ${found.fix ? `Fix: ${found.fix}` : ""}` : null }, el("i", null, String(at)), text || " ");
  };
  const text = el("pre", { class: "plan", tabindex: "0", "aria-label": "text of the plan" }, data.lines.map((one, at) => line(one, at + data["first-line"])));
  let from = next;
  const more = el("button", { type: "button", class: "quiet", hidden: !from, on: { click: async () => {
    try {
      const found = await get("plan", { "from-line": from }, signal);
      text.append(...found.data.lines.map((one, at) => line(one, at + found.data["first-line"])));
      from = found.next;
      more.hidden = !from;
    } catch (error) { trouble(error); }
  } } }, "Show more lines");
  const jump = (at) => el("button", { type: "button", class: "quiet", "aria-label": `show line ${at}`, on: { click: () => document.getElementById(`line-${at}`)?.scrollIntoView({ block: "center" }) } }, String(at));
  const broken = data.problems.length > 0 ? el("div", { class: "fault", role: "alert" }, el("p", null, "This text cannot be understood; the server goes on with the plan from before."),
    data.problems.map((problem) => el("p", null, `Line ${problem.line}: ${problem.message}`))) : null;
  const edit = session.may.includes("Sys.Modify") ? el("a", { class: "do", href: "#/edit-plan" }, "Edit the plan") : null;
  return [el("h1", null, "Plan"), broken, edit ? el("p", null, edit) : null, remarks(data, jump), el("h2", null, "Text"), text, el("p", { class: "more" }, more)];
}

// All of the text, however many pages it has; read again if it changes meanwhile.
async function whole(signal) {
  const lines = [];
  let from, digest;
  do {
    const { data, next } = await get("plan", { "from-line": from }, signal);
    if (digest !== undefined && digest !== data.digest) return whole(signal);
    digest = data.digest;
    lines.push(...data.lines);
    from = next;
  } while (from);
  return { text: `${lines.join("\n")}\n`, digest };
}

// What was typed and not saved when another page was shown, by whom, and the plan that it changes.
let unsaved = null;

export async function editPlan(_, signal) {
  let { text, digest } = await whole(signal);
  const who = session.user, before = unsaved?.who === who ? unsaved : null;
  unsaved = null;
  const area = el("textarea", { id: "plan-text", spellcheck: "false", autocapitalize: "none", wrap: "off", "aria-describedby": "plan-told" });
  area.value = before?.digest === digest ? before.text : text;
  const numbers = el("pre", { class: "numbers", "aria-hidden": "true" });
  const told = el("div", { id: "plan-told", "aria-live": "polite" }), found = el("div");
  const review = el("button", { type: "button", class: "do", disabled: true }, "Review the changes");
  let worst = new Map(), checked = null, soon, turn = 0;

  const number = () => {
    const count = area.value.split("\n").length;
    numbers.replaceChildren(...Array.from({ length: count }, (_, at) => el("span", { class: worst.get(at + 1)?.severity, title: worst.get(at + 1)?.reason }, String(at + 1))));
    numbers.scrollTop = area.scrollTop;
  };
  const jump = (at) => el("button", { type: "button", class: "quiet", "aria-label": `go to line ${at}`, on: { click: () => {
    const before = area.value.split("\n").slice(0, at - 1).join("\n").length + (at > 1 ? 1 : 0);
    area.focus();
    area.setSelectionRange(before, before + (area.value.split("\n")[at - 1] ?? "").length);
    area.scrollTop = Math.max(0, (at - 8) * parseFloat(getComputedStyle(area).lineHeight));
  } } }, String(at));
  async function check() {
    const mine = ++turn, now = area.value;
    try {
      const { data } = await call("POST", "plan/check", { body: { text: now }, signal });
      if (mine !== turn) return;
      checked = { data, text: now };
      worst = worstByLine(data);
      number();
      told.replaceChildren(data.problems.length > 0 ? el("div", { class: "fault" }, data.problems.slice(0, 20).map((problem) => el("p", null, jump(problem.line), ` ${problem.message}`)))
        : el("p", { class: "dim" }, data.differs ? "It can be saved." : "Nothing is changed yet."));
      found.replaceChildren(...[remarks(data, jump)].filter(Boolean));
      review.disabled = data.problems.length > 0 || !data.differs;
    } catch (error) { if (error.name !== "AbortError" && mine === turn) told.replaceChildren(fault(error)); }
  }
  area.addEventListener("input", () => { review.disabled = true; number(); clearTimeout(soon); soon = setTimeout(check, 400); });
  area.addEventListener("scroll", () => { numbers.scrollTop = area.scrollTop; });
  const leave = (event) => { if (area.value !== text) event.preventDefault(); };
  window.addEventListener("beforeunload", leave);
  signal.addEventListener("abort", () => {
    window.removeEventListener("beforeunload", leave);
    if (area.value !== text) unsaved = { who, text: area.value, digest };
  });

  const editor = el("div", null, el("label", { for: "plan-text" }, "Text of the plan. What is secret in addresses is not shown (…); such lines stay as they are."),
    el("div", { class: "editor" }, numbers, area), told, el("p", { class: "buttons" }, review, el("a", { class: "quiet", href: "#/plan", on: { click: () => { area.value = text; } } }, "Leave it as it was")), found);
  const second = el("div", { hidden: true });
  review.addEventListener("click", () => {
    const lines = checked.data.difference;
    const answer = el("div", { "aria-live": "assertive" });
    const count = (sign, one, many) => { const found = lines.filter((line) => line.sign === sign).length; return found === 1 ? `1 line ${one}` : `${found} lines ${many}`; };
    const save = el("button", { type: "button", class: "do", on: { click: async () => {
      save.disabled = true;
      try {
        const { data } = await call("PUT", "plan", { body: { text: checked.text, "based-on": digest } });
        text = area.value;
        digest = data.digest;
        tell("The plan is written; the server takes it within seconds.");
        location.hash = "#/plan";
      } catch (error) { answer.replaceChildren(refusal(error)); save.disabled = false; }
    } } }, "Save the plan");
    const back = el("button", { type: "button", class: "quiet", on: { click: () => { second.hidden = true; editor.hidden = false; area.focus(); } } }, "Go on editing");
    second.replaceChildren(el("h2", { tabindex: "-1" }, `What changes: ${count("-", "goes", "go")}, ${count("+", "comes", "come")}`),
      el("pre", { class: "plan diff", tabindex: "0", "aria-label": "what changes" }, lines.map((one) => el("span", { class: `line ${one.sign === "-" ? "gone" : "come"}` }, el("i", null, String(one.line)), `${one.sign} ${one.text}`))),
      answer, el("p", { class: "buttons" }, save, back));
    editor.hidden = true;
    second.hidden = false;
    second.querySelector("h2").focus();
  });
  number();
  check();
  if (before) tell(before.digest === digest ? "What you had typed and not saved is here again." : "The plan was changed meanwhile: what you had typed and not saved is gone.");
  return [el("h1", null, "Edit the plan"), editor, second];
}
