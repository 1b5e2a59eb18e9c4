// Times, sizes and states in words.

import { el } from "./dom.js";

export function bytes(count) {
  if (count === null || count === undefined) return "";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let at = 0;
  while (count >= 1024 && at < units.length - 1) { count /= 1024; at += 1; }
  return `${at === 0 || count >= 100 ? Math.round(count) : count.toPrecision(3)} ${units[at]}`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 1) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  seconds = Math.round(seconds);
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).map(([size, name]) => {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    return count > 0 ? `${count} ${name}` : "";
  }).filter(Boolean).join(" ");
}

const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" });
const short = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
export const seconds = (from, to) => (new Date(to) - new Date(from)) / 1000;

export function time(text) {
  if (!text) return "";
  const at = new Date(text);
  return el("time", { datetime: text, title: exact.format(at) }, (at.getFullYear() === new Date().getFullYear() ? short : day).format(at));
}

export const exactTime = (text) => exact.format(new Date(text));

export function ago(text, now) {
  const gone = seconds(text, now ?? new Date());
  return gone < 0 ? `in ${span(-gone)}` : `${span(gone)} ago`;
}

export const healths = {
  unprotected: ["Not protected", "bad", "The plan does not say how this is protected."],
  exposed: ["Too much to lose", "bad", "More would be lost now than was promised, or there is no recovery point."],
  "too-slow": ["Too slow to recover", "bad", "Recovery was measured and takes longer than promised."],
  failing: ["Last backup failed", "warn", "The last backup did not end well, or changed suspiciously. Promises still hold."],
  unproven: ["Not proven", "warn", "Nothing is wrong, but no drill has measured the recovery."],
  good: ["Good", "good", "Everything promised is proven to be kept."],
  excluded: ["Left out", "", "Meant not to be protected."],
};
export const health = (name) => {
  const [word, kind, why] = healths[name] ?? [name, "", ""];
  return el("span", { class: `tag ${kind}`, title: why }, word);
};

const outcomes = { good: "good", incomplete: "warn", failed: "bad", cancelled: "", interrupted: "" };
export const outcome = (run) => run.ended
  ? el("span", { class: `tag ${outcomes[run.outcome] ?? ""}` }, run.outcome)
  : el("span", { class: "tag run" }, "running");

export const workloadLink = (name) => el("a", { href: `#/workload/${encodeURIComponent(name)}` }, name);
export const runLink = (number) => el("a", { href: `#/run/${number}` }, String(number));
export const took = (run) => run.ended ? span(seconds(run.started, run.ended)) : span(seconds(run.started, new Date()));

export function progress(run) {
  if (run.ended || !run.progress) return null;
  const { done, total } = run.progress;
  const known = total > 0;
  return el("div", null, el("progress", { max: known ? total : 1, value: known ? Math.min(done, total) : null, "aria-label": `progress of run ${run.number}` }),
    el("span", { class: "dim" }, known ? `${bytes(done)} of ${bytes(total)}` : bytes(done)));
}
