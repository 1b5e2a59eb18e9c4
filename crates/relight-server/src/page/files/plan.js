// The plan with what the checker remarks, beside the lines it is about.

import { el, table, tell } from "./dom.js";
import { get } from "./api.js";

const kinds = { error: "bad", warning: "warn", advice: "" };

export async function plan(_, signal) {
  const { data, next } = await get("plan", {}, signal);
  const worst = new Map();
  for (const finding of [...data.findings].reverse()) if (!worst.has(finding.line) || finding.severity !== "advice") worst.set(finding.line, finding);
  for (const problem of data.problems) worst.set(problem.line, { severity: "error", reason: problem.message, fix: "" });
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
    } catch (error) { tell(error.message); }
  } } }, "Show more lines");
  const jump = (at) => el("button", { type: "button", class: "quiet", "aria-label": `show line ${at}`, on: { click: () => document.getElementById(`line-${at}`)?.scrollIntoView({ block: "center" }) } }, String(at));
  const broken = data.problems.length > 0 ? el("div", { class: "fault", role: "alert" }, el("p", null, "This text cannot be understood; the server goes on with the plan from before."),
    data.problems.map((problem) => el("p", null, `Line ${problem.line}: ${problem.message}`))) : null;
  const found = data.findings.length > 0 ? table(`${data["total-findings"]} remarks of the checker, the worst first`, [
    ["Line", (finding) => jump(finding.line), "number"], ["Kind", (finding) => el("span", { class: `tag ${kinds[finding.severity] ?? ""}` }, finding.severity)], ["Code", (finding) => finding.code],
    ["About", (finding) => finding.subject, "name"], ["Why", (finding) => finding.reason, "name"], ["Fix", (finding) => el("code", null, finding.fix), "name"],
  ], data.findings).element : data.problems.length === 0 ? el("p", { class: "dim" }, "The checker finds nothing.") : null;
  return [el("h1", null, "Plan"), broken, found, el("h2", null, "Text"), text, el("p", { class: "more" }, more)];
}
