// A restore in two steps: what would be done, and the word that it is to be done just so.

import { el, fault } from "./dom.js";
import { confirmation } from "./confirm.js";
import { post } from "./api.js";
import { bytes, exactTime, span } from "./words.js";

// Shows in `told` what would be done. What is wanted has a goal where a cluster is restored.
export async function propose(told, wanted) {
  const path = wanted.goal ? "restores/cluster" : "restores";
  told.replaceChildren(el("p", { class: "dim" }, "Counting…"));
  try {
    const { data } = await post(`${path}/plan`, wanted);
    told.replaceChildren(review(data, wanted, path));
    told.querySelector("h2").focus();
  } catch (error) { told.replaceChildren(fault(error)); }
}

// Where may be restored to, if anywhere.
export const nowhere = () => el("div", { class: "note" }, el("p", null, "The server has no place to restore to. An administrator names folders in its configuration and restarts it:"),
  el("pre", null, "[restore]\nroots = [\"/srv/restore\"]"), el("p", null, "Until then, download what you need, or restore with `relight restore` on the machine itself."));

export const folder = (about, name) => `${about.roots[0]}/${name.replace(/[^A-Za-z0-9._-]+/g, "-")}-${about.time.slice(0, 10)}`;

const row = (words, value) => [el("dt", null, words), el("dd", null, value)];

function ofFiles(plan) {
  const { survey } = plan, least = survey.complete ? "" : "at least ";
  return [row("From", `${plan.workload} as of ${exactTime(plan.time)}, repository ${plan.repository}`), row("To", plan.to),
    row("How much", `${least}${survey.files} ${survey.files === 1 ? "file" : "files"} and ${survey.folders} ${survey.folders === 1 ? "folder" : "folders"}, ${bytes(survey.bytes)}`),
    row("In its way", survey.existing === 0 ? "nothing" : `${survey.existing}: ${survey.names.slice(0, 5).join(", ")}${survey.existing > 5 ? " …" : ""}`)];
}

const goals = { latest: "the end of the log", immediate: "the end of the base backup" };

function ofCluster(plan, wanted) {
  return [row("Cluster", `${plan.workload}, repository ${plan.repository}`), row("Up to", goals[wanted.goal] ?? exactTime(wanted.goal)),
    row("Window", plan.window ? `any moment from ${exactTime(plan.window.from)} to ${exactTime(plan.window.to)}` : "none: the base backup alone"),
    row("Begins with", `the base backup of ${exactTime(plan.time)}`), row("To", plan.to),
    row("How much", `${plan.files} files, ${bytes(plan.bytes)}, and up to ${bytes(plan["log-bytes"])} of the log`)];
}

function review(plan, wanted, path) {
  const act = async () => {
    const { data } = await post(path, { ...wanted, digest: plan.digest });
    location.hash = `#/run/${data.run}`;
  };
  return confirmation({ title: "This would be done", words: "Restore now", act },
    el("dl", { class: "facts" }, wanted.goal ? ofCluster(plan, wanted) : ofFiles(plan), row("Free there", plan.free === null ? "not known" : bytes(plan.free)),
      row("Expected time", plan["forecast-seconds"] === null ? "not known: nothing of it was ever measured" : `about ${span(plan["forecast-seconds"])}, by ${plan["forecast-rests-on"]} that were measured`)),
    plan.warnings.length > 0 ? el("ul", { class: "note" }, plan.warnings.map((warning) => el("li", null, warning))) : null);
}
