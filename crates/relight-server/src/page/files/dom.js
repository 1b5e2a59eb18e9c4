// Elements. Whatever comes from the server becomes text, never markup.

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const el = (name, attributes, ...children) => make(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => make(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

export function show(...children) {
  document.getElementById("main").replaceChildren(...children.flat(4).filter(Boolean));
}

let quiet;
export function tell(text) {
  const told = document.getElementById("told");
  told.replaceChildren(el("p", null, text));
  clearTimeout(quiet);
  quiet = setTimeout(() => told.replaceChildren(), 6000);
}

// What went wrong on the way. Nobody waits any more for what was broken off because another page is shown.
export const trouble = (error) => { if (error.name !== "AbortError") tell(error.message); };

export const fault = (error) => el("div", { class: "fault", role: "alert" },
  el("p", null, error.status === 403 && error.message === "permission check failed." ? "You may not see or do this. Ask an administrator for the privilege (relight acl set)." : error.message));

// Who works by the keyboard goes on in `place` when what had the focus is gone.
export function keepFocus(place) {
  if (document.activeElement === document.body) (place.querySelector(".scroll") ?? document.getElementById("main")).focus({ preventScroll: true });
}

// A table whose rows become cards on narrow screens. Columns: [heading, cell of a row, class].
export function table(caption, columns, rows) {
  const row = (item) => el("tr", null, columns.map(([heading, cell, kind]) => {
    const content = cell(item);
    const empty = content === null || content === undefined || content === "";
    return el("td", { "data-label": heading, class: [kind ?? "", empty ? "empty" : ""].join(" ").trim() || null }, empty ? "" : content);
  }));
  const body = el("tbody", null, rows.map(row));
  const element = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "fold" }, el("caption", null, caption),
      el("thead", null, el("tr", null, columns.map(([heading, , kind]) => el("th", { scope: "col", class: kind }, heading)))), body));
  return { element, add: (more) => body.append(...more.map(row)) };
}

// A list that is read page by page: `page(from)` gives {rows, next}.
export async function paged(caption, columns, page, none) {
  const first = await page(undefined);
  if (first.rows.length === 0 && !first.next) return el("p", { class: "dim" }, none);
  const list = table(caption, columns, first.rows);
  let next = first.next;
  const more = el("button", { type: "button", class: "quiet", hidden: !next, on: { click: async () => {
    more.disabled = true;
    try {
      const found = await page(next);
      list.add(found.rows);
      next = found.next;
      more.hidden = !next;
    } catch (error) { trouble(error); }
    more.disabled = false;
  } } }, "Show more");
  return el("div", null, list.element, el("p", { class: "more" }, more));
}
