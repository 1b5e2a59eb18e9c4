// The keys that open the repositories, and recovery keys for the safe, which are shown once.

import { el, paged, show, svg, table } from "./dom.js";
import { get, post, session } from "./api.js";
import { refusal } from "./approval.js";
import { time } from "./words.js";

export async function keys(_, signal) {
  const { data } = await get("keys", {}, signal);
  const may = session.may.includes("Keys.Manage");
  const one = (repository, at) => [el("h2", null, repository.repository), el("p", { class: "dim" }, `The server opens it with its ${repository["opened-with"]}.`),
    repository.failure ? el("p", { class: "fault" }, repository.failure) : null,
    !repository.failure && !repository.recovery ? el("p", { class: "note" }, "There is no recovery key: if the passphrase or key file is lost, so are the backups. Make one, and keep it on paper.") : null,
    table(`Keys of ${repository.repository}`, [["Id", (key) => key.id, "name"], ["Kind", (key) => key.kind], ["Made", (key) => key.created ? time(key.created) : null], ["Label", (key) => key.label, "name"], ["Fingerprint", (key) => key.fingerprint, "name"]], repository.keys).element,
    may && !repository.failure ? ask(repository.repository, at) : null];
  return [el("h1", null, "Keys"), data.repositories.map(one), el("h2", null, "What was done with keys"), await paged("The newest records", [
    ["When", (record) => time(record.time)], ["Who", (record) => record.who ?? "the server", "name"], ["What", (record) => record.what, "name"], ["Outcome", (record) => record.outcome],
  ], async () => ({ rows: data.records, next: null }), "Nothing yet.")].flat(3);
}

// Asks for a recovery key. Where that needs a second person, the same is asked again once it is approved.
function ask(repository, at) {
  const label = el("input", { id: `label-${at}`, value: "recovery key", maxlength: 128, required: true });
  const told = el("div", { "aria-live": "assertive" }), go = el("button", { class: "do" }, "Make a recovery key");
  return el("form", { class: "bar", on: { submit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    told.replaceChildren();
    try { given((await post(`keys/${encodeURIComponent(repository)}/recovery`, { label: label.value })).data); } catch (error) { told.replaceChildren(refusal(error)); }
    go.disabled = false;
  } } }, el("label", { for: `label-${at}` }, "Called", label), go, told);
}

function given(made) {
  const side = made.qr.side + 8;
  const picture = svg("svg", { viewBox: `-4 -4 ${side} ${side}`, class: "qr", role: "img", "aria-label": "QR code with the recovery key; the same as text is above" },
    svg("rect", { x: -4, y: -4, width: side, height: side, class: "qr-back" }), svg("path", { d: made.qr.path, class: "qr-dark" }));
  const file = URL.createObjectURL(new Blob([made.page], { type: "text/plain" }));
  const done = el("button", { type: "button", class: "do", on: { click: async () => {
    URL.revokeObjectURL(file);
    show(await keys());
  } } }, "I have kept it");
  // Not on the button: a key pressed too often must not take it away.
  const heading = el("h1", { tabindex: "-1" }, `Recovery key of ${made.repository}`);
  show(heading,
    el("p", { class: "note" }, "It is shown only now. Whoever has it and access to the storage can read every backup: print it, keep it in a safe away from the repository, and try it once with relight key test --recovery-key-file."),
    el("dl", { class: "facts" }, el("dt", null, "Called"), el("dd", null, made.label), el("dt", null, "Id"), el("dd", null, made.id), el("dt", null, "Fingerprint"), el("dd", null, made.fingerprint)),
    el("p", null, el("code", { class: "secret" }, made.key)), picture,
    el("p", { class: "buttons" }, el("button", { type: "button", class: "quiet", on: { click: () => window.print() } }, "Print"),
      el("a", { class: "quiet", download: `recovery-key-${made.fingerprint}.txt`, href: file }, "As a file"), done));
  heading.focus();
}
