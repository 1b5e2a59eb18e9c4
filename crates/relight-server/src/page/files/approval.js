// What needs a second person, where it was asked for: the request is followed until somebody has decided.

import { el, fault } from "./dom.js";
import { get, post, session } from "./api.js";

const EVERY = 3000;

// What is shown when a call was refused. `ready` is called when somebody has approved it.
export function refusal(error, ready) {
  const told = error.request ? waiting(error, ready) : fault(error);
  requestAnimationFrame(() => told.scrollIntoView({ block: "nearest" }));
  return told;
}

function waiting(error, ready) {
  const number = error.request;
  const link = (words) => el("a", { href: "#/access" }, words);
  if (error.status !== 409) return el("div", { class: "fault", role: "alert" }, el("p", null, error.message), el("p", null, link(`Request ${number} under Access`)));
  const standing = el("div", { role: "status" }, el("p", null, el("b", null, `This waits for a second person: request ${number}.`)),
    el("p", null, "Somebody else has to approve it, on the page under ", link("Access"), ". Leave this open: it tells you when that is done. Then you do it once more."));
  const why = el("input", { id: `why-${number}`, maxlength: "1000", required: true });
  const said = el("p", { class: "dim", "aria-live": "polite" });
  const form = el("form", { class: "row", on: { submit: async (event) => {
    event.preventDefault();
    try {
      await post(`approvals/${number}/reason`, { reason: why.value });
      said.textContent = "Whoever decides reads that.";
    } catch (problem) { said.textContent = problem.message; }
  } } }, el("label", { for: why.id, class: "wide" }, "Why you ask, for whoever decides", why), el("button", { class: "quiet" }, "Say why"));
  const note = el("div", { class: "note" }, standing, form, said);
  const follow = async () => {
    if (!note.isConnected || session.user === null) return;
    try {
      const { data } = await get(`approvals/${number}`);
      if (data.standing === "approved" || data.standing === "denied" || data.standing === "expired") {
        const by = data.decision ? ` by ${data.decision.by}${data.decision.remark ? `: ${data.decision.remark}` : ""}` : "";
        const good = data.standing === "approved";
        note.className = good ? "note well" : "fault";
        standing.replaceChildren(el("p", null, el("b", null, `Request ${number} is ${data.standing}${by}.`)), good ? el("p", null, "You can do it now, once.") : "");
        form.remove();
        said.remove();
        if (good) ready?.();
        return;
      }
    } catch { /* asked again */ }
    setTimeout(follow, EVERY);
  };
  setTimeout(follow, EVERY);
  return note;
}

// What a request is about. What would change in the plan stands below its first line, line by line.
export function subject(request) {
  const [first, ...lines] = request.subject.split("\n");
  return el("div", null, first, lines.length > 0 ? el("pre", { class: "plan diff", tabindex: "0", "aria-label": `what request ${request.number} changes` },
    lines.map((line) => el("span", { class: `line ${line.startsWith("-") ? "gone" : line.startsWith("+") ? "come" : ""}` }, line || " "))) : null,
  request.reason ? el("p", { class: "dim" }, `Why: ${request.reason}`) : null);
}
