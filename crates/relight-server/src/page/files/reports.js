// What the evidence proves: controls, claims, files.

import { el, fault, table } from "./dom.js";
import { get } from "./api.js";
import { exactTime } from "./words.js";

const verdicts = { satisfied: "good", "partly-satisfied": "warn", "not-satisfied": "warn", contradicted: "bad", supported: "good", "partly-supported": "warn", "no-evidence": "warn" };
const tag = (word) => el("span", { class: `tag ${verdicts[word] ?? verdicts[word.replace(/ /g, "-")] ?? ""}` }, word.replace(/-/g, " "));
const iso = (date) => `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;

export async function reports(_, signal) {
  const today = new Date();
  const from = el("input", { id: "from", type: "date", required: true, value: iso(new Date(today.getFullYear(), today.getMonth(), 1)) });
  const to = el("input", { id: "to", type: "date", required: true, value: iso(today) });
  const go = el("button", { class: "do" }, "Make the report");
  const content = el("div", { "aria-live": "polite" }, el("p", { class: "dim" }, "All of the evidence is read for it. Of years of a large estate, that takes a while."));
  const submit = async (event) => {
    event.preventDefault();
    go.disabled = true;
    content.replaceChildren(el("p", { class: "dim" }, "Reading the evidence…"));
    try { content.replaceChildren(...shown((await get("reports/compliance", { from: from.value, to: to.value }, signal)).data, from.value, to.value)); }
    catch (error) { if (!signal.aborted) content.replaceChildren(fault(error)); }
    go.disabled = false;
  };
  return [el("h1", null, "Reports"), el("form", { class: "bar", on: { submit } }, el("label", { for: "from" }, "From", from), el("label", { for: "to" }, "To", to), go), content];
}

function shown(data, from, to) {
  const file = (format, words) => el("a", { class: "quiet", download: "", href: `/api/v1/reports/compliance/download?from=${from}&to=${to}&format=${format}` }, words);
  return [
    el("p", { class: data.whole ? "dim" : "fault" }, data.whole ? `${data.records} records from ${exactTime(data.from)} to ${exactTime(data.to)}; the log is whole.` : "The log of evidence is not whole: do not rely on this report."),
    el("p", { class: "buttons" }, "As a file: ", file("html", "HTML"), file("pdf", "PDF"), file("json", "JSON"), file("oscal", "OSCAL")),
    data.remarks.map((remark) => el("p", { class: "note" }, remark)),
    el("h2", null, "Claims"), table("What the evidence says", [
      ["Claim", (claim) => claim.says, "name"], ["State", (claim) => tag(claim.state)], ["Why", (claim) => claim.reason, "name"],
      ["Not for", (claim) => claim.contradictions.length === 0 ? null : el("details", null, el("summary", null, String(claim.fails)), el("ul", null, claim.contradictions.map((one) => el("li", null, `${one.subject}: ${one.why}`)))), "name"],
    ], data.claims).element,
    el("h2", null, "Controls"), table("What follows for controls of common frameworks", [
      ["Framework", (control) => control.framework], ["Control", (control) => el("span", null, el("b", null, control.id), ` ${control.title}`), "name"],
      ["Verdict", (control) => tag(control.verdict)], ["Why", (control) => control.reason, "name"],
    ], data.controls).element,
  ].flat();
}
