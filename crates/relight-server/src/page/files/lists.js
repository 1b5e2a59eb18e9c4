// Drills, repositories and evidence.

import { el, paged, table } from "./dom.js";
import { get } from "./api.js";
import { growth } from "./chart.js";
import { ago, bytes, outcome, runLink, time, workloadLink } from "./words.js";

const list = (path, query, signal) => async (from) => {
  const { data, next } = await get(path, { limit: 50, before: from, ...query }, signal);
  return { rows: data, next };
};

const verdicts = { met: "good", missed: "bad", "not-measured": "warn" };

export async function drills(_, signal) {
  return [el("h1", null, "Drills"), await paged("Recovery tests, newest first", [
    ["When", (record) => time(record.time)],
    ["Workload", (record) => record.detail.workload ? workloadLink(record.detail.workload) : "everything", "name"],
    ["Outcome", (record) => el("span", { class: `tag ${record.detail.measured ? "good" : "bad"}` }, record.detail.measured ? "came back" : "did not come back")],
    ["Measured", (record) => record.detail.measured, "number"], ["Promised", (record) => record.detail.promised, "number"],
    ["RTO", (record) => { const verdict = record.detail.verdict?.verdict; return verdict ? el("span", { class: `tag ${verdicts[verdict] ?? ""}` }, { met: "kept", missed: "missed", "not-measured": "not measured", "not-promised": "not promised" }[verdict] ?? verdict) : null; }],
    ["Brought back", (record) => record.detail.point ? time(record.detail.point) : null], ["Size", (record) => bytes(record.detail.size), "number"],
    ["What went wrong", (record) => record.detail.message, "name"], ["Run", (record) => record.detail.run ? runLink(record.detail.run) : null, "number"],
  ], list("drills", {}, signal), "No recovery was ever tested. Give policies a drill (docs/drills.md), or ask for one on a workload's page.")];
}

export async function repositories(_, signal) {
  const { data } = await get("repositories", {}, signal);
  if (data.length === 0) return [el("h1", null, "Repositories"), el("p", { class: "dim" }, "There is none that you may see.")];
  const full = (repository) => repository.total ? el("div", null, el("progress", { max: repository.total, value: repository.used, "aria-label": `how full ${repository.name} is` }),
    el("span", { class: "dim" }, `${bytes(repository.used)} of ${bytes(repository.total)}`)) : null;
  const last = (run) => run ? el("span", null, outcome(run), " ", time(run.started)) : null;
  return [el("h1", null, "Repositories"), table("Repositories", [
    ["Name", (repository) => el("span", null, repository.name, repository.comment ? el("span", { class: "dim" }, ` ${repository.comment}`) : ""), "name"], ["Storage", full],
    ["Groups", (repository) => repository.groups === null ? null : String(repository.groups), "number"], ["Snapshots", (repository) => repository.snapshots === null ? null : String(repository.snapshots), "number"],
    ["Last forget", (repository) => last(repository["last-forget"])], ["Last collection", (repository) => last(repository["last-collect"])],
    ["Grows", (repository) => repository["growth-a-day"] === null ? null : el("span", null, `${repository["growth-a-day"] < 0 ? "−" : ""}${bytes(Math.abs(repository["growth-a-day"]))} a day`, repository.full ? [", full ", el("b", { class: "bad" }, ago(repository.full))] : "")],
    ["Verified", (repository) => el("span", null, repository["never-verified"] > 0 ? el("span", { class: "warn" }, `${repository["never-verified"]} workloads never${repository.verified ? ", the others since " : ""}`) : "", repository.verified ? time(repository.verified) : "")],
    ["Parity", (repository) => repository["parity-percent"] === null ? null : repository["parity-percent"] === 0 ? "none" : `${repository["parity-percent"]} %`],
    ["What is wrong", (repository) => repository.failure ? el("span", { class: "bad" }, repository.failure) : null, "name"],
  ], data).element, data.map((repository) => { const drawn = growth(repository.sizes, repository.total); return drawn ? [el("h2", null, `Growth of ${repository.name}`), drawn] : null; })].flat(2);
}

export async function evidence(_, signal) {
  return [el("h1", null, "Evidence"), await paged("Records, newest first", [
    ["Number", (record) => String(record.sequence), "number"], ["When", (record) => time(record.time)], ["Kind", (record) => record.kind],
    ["Who", (record) => record.who, "name"], ["What", (record) => record.what, "name"],
    ["Outcome", (record) => el("span", { class: `tag ${{ done: "good", failed: "bad", denied: "warn" }[record.outcome] ?? ""}` }, record.outcome)],
  ], list("evidence", {}, signal), "Nothing is written down yet.")];
}
