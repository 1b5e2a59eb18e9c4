// From a recovery point back to its files: pick a day, look or search, download or restore.

import { el, fault, keepFocus, table, tell, trouble } from "./dom.js";
import { cluster } from "./cluster.js";
import { folder, nowhere, propose } from "./planned.js";
import { get } from "./api.js";
import { ago, bytes, exactTime, span, time, workloadLink } from "./words.js";

const kinds = { directory: "folder", file: "file", symlink: "link", image: "disk image", stream: "stream", fifo: "pipe", socket: "socket", "block-device": "device", "character-device": "device" };
const base = (name) => `workloads/${encodeURIComponent(name)}/recovery-points`;

// Where the browser gets something: an address that it saves, with the ticket in the cookie.
const download = (name, snapshot, path, format) => {
  const url = new URL(`/api/v1/${base(name)}/${snapshot}/download`, location.origin);
  url.searchParams.set("path", path);
  if (format) url.searchParams.set("format", format);
  return url.href;
};

export async function restore(argument, signal, query) {
  // The address is `restore/WORKLOAD?point=…&path=…`: it can be kept and sent.
  const name = argument;
  const state = { point: query.get("point"), path: query.get("path") ?? "", search: "" };
  const content = el("div"), whole = el("div");
  const picked = new Map();
  const points = await get(base(name), { limit: 200 }, signal);
  if (points.data.length === 0) return [el("h1", null, `Restore ${name}`), el("p", { class: "note" }, "There is no recovery point yet, so there is nothing to restore.")];
  let known = points.data;
  const choose = el("select", { id: "point", on: { change: () => go({ point: choose.value }) } });
  const day = el("input", { id: "day", type: "date", on: { change: () => byDay().catch(trouble) } });

  function options() {
    choose.replaceChildren(...known.map((point) => el("option", { value: point.snapshot, selected: point.snapshot === state.point }, `${exactTime(point.time)} (${ago(point.time)})${point.damaged ? " – damaged" : point.complete ? "" : " – not complete"}`)));
  }
  // The newest point of that day, or the last one before it.
  async function byDay() {
    if (!day.value) return;
    const end = new Date(`${day.value}T23:59:59.999`);
    const found = await get(base(name), { until: end.toISOString(), limit: 1 }, signal);
    if (found.data.length === 0) return tell("There is no recovery point that old.");
    const [point] = found.data;
    if (!known.some((other) => other.snapshot === point.snapshot)) known = [...known, point].sort((a, b) => b.time.localeCompare(a.time));
    if (new Date(point.time) < new Date(`${day.value}T00:00:00`)) tell("There is none of that day; this is the last one before it.");
    go({ point: point.snapshot });
  }
  function go(change) {
    Object.assign(state, change);
    if (change.point) picked.clear();
    const address = new URLSearchParams({ point: state.point });
    if (state.path) address.set("path", state.path);
    history.replaceState(null, "", `#/restore/${encodeURIComponent(name)}?${address}`);
    options();
    look().then(() => keepFocus(content)).catch((error) => { if (!signal.aborted) content.replaceChildren(fault(error)); });
  }
  const basket = el("div", { class: "basket", "aria-live": "polite" });
  function fillBasket(about) {
    const count = picked.size;
    const clear = el("button", { type: "button", class: "quiet", on: { click: () => { picked.clear(); for (const box of content.querySelectorAll("input[type=checkbox]")) box.checked = false; fillBasket(about); } } }, "Clear");
    basket.replaceChildren(count > 0 ? el("span", null, `${count} chosen: `, el("b", null, [...picked.values()].slice(0, 3).join(", "), count > 3 ? " …" : "")) : el("span", { class: "dim" }, "Nothing is chosen: tick what is to be restored together, or take one thing at once with the buttons beside it."),
      el("span", { class: "buttons" }, count > 0 ? [clear, el("button", { type: "button", class: "do", on: { click: () => target(about, [...picked.keys()], [...picked.values()]) } }, "Restore what is chosen")] : null));
  }
  function target(about, paths, shown) {
    planner(content, name, about, paths, shown, () => go({}));
  }

  async function look() {
    const about = (await get(`${base(name)}/${state.point}`, {}, signal)).data;
    // Once: what was entered there stays, whatever is looked at below.
    if (about.readable && about.kind === "postgres" && !whole.firstChild) whole.replaceChildren(await cluster(name, about, signal), el("h2", null, "Files of a base backup"));
    if (!about.readable) return content.replaceChildren(el("p", { class: "note" }, about.remark));
    const search = el("input", { type: "search", id: "search", autocomplete: "off", value: state.search, placeholder: "report, *.pdf" });
    const list = el("div"), crumbs = el("nav", { class: "crumbs", "aria-label": "Folder" });
    let soon, turn = 0;
    search.addEventListener("input", () => { state.search = search.value; clearTimeout(soon); soon = setTimeout(() => fill().catch(trouble), 300); });
    const open = (path) => { state.search = ""; search.value = ""; go({ path }); };
    const pick = (entry) => {
      const box = el("input", { type: "checkbox", checked: picked.has(entry.path), "aria-label": `choose ${entry.name}` });
      box.addEventListener("change", () => { if (box.checked) picked.set(entry.path, entry.name); else picked.delete(entry.path); fillBasket(about); });
      return box;
    };
    const isFolder = (entry) => entry.kind === "directory";
    const nameOf = (entry) => isFolder(entry) ? el("button", { type: "button", class: "link", on: { click: () => open(entry.path) } }, `${entry.name}/`)
      : el("span", null, entry.name, entry.target ? el("span", { class: "dim" }, ` → ${entry.target}`) : null);
    const has = (entry) => ["directory", "file", "image", "stream"].includes(entry.kind);
    const actions = (entry) => el("span", { class: "buttons" },
      has(entry) ? el("a", { class: "quiet", href: download(name, state.point, entry.path), download: "", "aria-label": `download ${entry.name}${isFolder(entry) ? " as tar" : ""}` }, isFolder(entry) ? "tar" : "Download") : null,
      isFolder(entry) ? el("a", { class: "quiet", href: download(name, state.point, entry.path, "zip"), download: "", "aria-label": `download ${entry.name} as zip` }, "zip") : null,
      el("button", { type: "button", class: "quiet", "aria-label": `restore ${entry.name}`, on: { click: () => target(about, [entry.path], [entry.name]) } }, "Restore"));
    async function fill() {
      const mine = ++turn;
      const searched = state.search, query = { path: state.path, search: searched, limit: 100 };
      const { data, next } = await get(`${base(name)}/${state.point}/files`, query, signal);
      if (mine !== turn) return;
      crumbs.replaceChildren(...trail(data, open));
      const columns = [["Choose", pick], ["Name", nameOf, "name"], ["Kind", (entry) => kinds[entry.kind] ?? entry.kind], ["Size", (entry) => bytes(entry.size), "number"], ["Modified", (entry) => entry.modified ? time(entry.modified) : null], ["", actions]];
      const caption = searched ? `What has “${searched}” in its name` : "What is in it";
      const found = table(caption, columns, data.entries);
      let from = next;
      const more = el("button", { type: "button", class: "quiet", hidden: !from, on: { click: async () => {
        try {
          const page = await get(`${base(name)}/${state.point}/files`, { ...query, from }, signal);
          found.add(page.data.entries);
          from = page.next;
          more.hidden = !from;
        } catch (error) { trouble(error); }
      } } }, "Show more");
      list.replaceChildren(data.entries.length > 0 ? found.element : el("p", { class: "dim" }, searched ? "Nothing here has that in its name. Try the folder above, or another day." : "It is empty."),
        data.complete ? "" : el("p", { class: "note" }, "The search took too long and ended before it had seen everything. Search in a folder below."), el("p", { class: "more" }, more));
    }
    await fill();
    fillBasket(about);
    content.replaceChildren(...[about.remark ? el("p", { class: "note" }, about.remark) : null,
      about.complete ? null : el("p", { class: "note" }, "This backup was not complete: some files could not be read when it was made."),
      about.damaged ? el("p", { class: "fault" }, "A verification found damage here. Another day may be better.") : null,
      el("div", { class: "bar" }, el("label", { for: "search", class: "wide" }, "Search by name in this folder and below", search)), crumbs, basket, list].filter(Boolean));
    // What was typed while this was read was typed elsewhere.
    if (search.value !== state.search) { search.value = state.search; await fill(); }
  }
  if (!known.some((point) => point.snapshot === state.point)) state.point = state.point && (await get(`${base(name)}/${state.point}`, {}, signal)).data.snapshot || known[0].snapshot;
  options();
  await look();
  return [el("h1", null, `Restore ${name}`), whole, el("div", { class: "bar" }, el("label", { for: "day" }, "As it was on", day), el("label", { for: "point" }, "Recovery point", choose), el("p", null, workloadLink(name))), content];
}

// The folders above, as links.
function trail(data, open) {
  const step = (path, words) => el("button", { type: "button", class: "link", on: { click: () => open(path) } }, words);
  const parts = data.path.split("/").filter(Boolean), shown = data.shown.split("/").filter(Boolean);
  return [step("", "Recovery point"), ...parts.flatMap((_, at) => [" / ", at === parts.length - 1 ? el("b", null, shown[at] ?? parts[at]) : step(parts.slice(0, at + 1).join("/"), shown[at] ?? parts[at])])];
}

const existings = [["skip", "Leave them as they are"], ["keep-newer", "Replace them only where they are older"], ["overwrite", "Replace them"]];

// Where to, and what becomes of what is there.
function planner(content, name, about, paths, shown, back) {
  const told = el("div", { "aria-live": "polite" });
  const leave = el("button", { type: "button", class: "quiet", on: { click: back } }, "Back to the files");
  const what = el("p", null, "To be restored: ", el("b", null, shown.slice(0, 5).join(", "), shown.length > 5 ? ` and ${shown.length - 5} more` : ""), ` as of ${exactTime(about.time)}.`);
  if (about.roots.length === 0) {
    content.replaceChildren(el("h2", { tabindex: "-1" }, "Restore"), what, nowhere(), el("p", null, leave));
    return content.querySelector("h2").focus();
  }
  const to = el("input", { id: "to", required: true, spellcheck: "false", value: folder(about, name), list: "roots" });
  const existing = el("select", { id: "existing" }, existings.map(([value, words]) => el("option", { value }, words)));
  const asked = () => ({ workload: name, snapshot: about.snapshot, paths, to: to.value.trim(), existing: existing.value });
  const see = el("button", { class: "do" }, "Show what would be done");
  const submit = async (event) => {
    event.preventDefault();
    see.disabled = true;
    await propose(told, asked());
    see.disabled = false;
  };
  for (const field of [to, existing]) field.addEventListener("input", () => told.replaceChildren());
  content.replaceChildren(el("h2", { tabindex: "-1" }, "Where to"), what,
    el("form", { class: "plain", on: { submit } }, el("label", { for: "to" }, "Folder on the server", to, el("span", { class: "dim" }, `At or below ${about.roots.join(", ")}. It is made if it is not there.`)),
      el("label", { for: "existing" }, "Files that are there already", existing), el("p", { class: "buttons" }, see, leave)), told);
  content.querySelector("h2").focus();
}
