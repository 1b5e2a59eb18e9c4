// What would be done, and the word that it is to be done just so. What needs a second person is done by the same button, once that
// one has approved it.

import { el } from "./dom.js";
import { refusal } from "./approval.js";

// `act` does it. `kind` is the look of its button: "do", or "gone" for what cannot be undone. `back` leaves it undone.
export function confirmation({ title, words, kind, act, back }, ...parts) {
  const told = el("div", { class: "told", "aria-live": "assertive" });
  const go = el("button", { type: "button", class: kind ?? "do", on: { click: async () => {
    go.disabled = true;
    told.replaceChildren();
    try { await act(); } catch (error) { go.disabled = false; told.replaceChildren(refusal(error)); }
  } } }, words);
  return el("section", { class: "review", "aria-label": title }, el("h2", { tabindex: "-1" }, title), parts, told,
    el("p", { class: "buttons" }, go, back ? el("button", { type: "button", class: "quiet", on: { click: back } }, "Leave it") : null));
}

// Shows it where it belongs; who works by the keyboard goes on there.
export function ask(place, what, ...parts) {
  place.replaceChildren(confirmation(what, ...parts));
  place.querySelector("h2").focus();
}
