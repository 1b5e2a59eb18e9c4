// One's own account: the second factor.

import { el, fault, show, tell, trouble } from "./dom.js";
import { call, enter, get, post } from "./api.js";
import { code, codes, secret } from "./signin.js";
import { time } from "./words.js";

const password = () => el("input", { id: "password", name: "password", type: "password", autocomplete: "current-password", required: true });

// A form with what it tells. `submit` throws what is to be told.
function form(title, submit, ...parts) {
  const told = el("div", { "aria-live": "assertive" }), go = el("button", { class: "do" }, title);
  return el("form", { class: "narrow", on: { submit: async (event) => {
    event.preventDefault();
    go.disabled = true;
    told.replaceChildren();
    try { await submit(); } catch (error) { told.replaceChildren(fault(error)); }
    go.disabled = false;
  } } }, told, parts, go);
}

const back = async () => show(await account());

export async function account(_, signal) {
  const { data } = await get("account", {}, signal);
  const factor = data["second-factor"];
  const facts = el("dl", { class: "facts" }, el("dt", null, "User"), el("dd", null, data.user), el("dt", null, "Second factor"),
    el("dd", null, factor ? ["an app since ", time(factor.since), `, ${factor["recovery-codes"]} recovery codes left`] : data.required ? "none yet; the server wants one" : "none"));
  return [el("h1", null, "Your account"), facts, el("h2", null, "Second factor"), !data.password ? el("p", { class: "dim" }, "You do not log in here with a password of this server.") : factor ? change(data.required) : begin()];
}

function begin() {
  const word = password();
  return [el("p", null, "With a second factor, a stolen password lets nobody in."), form("Set up an app", async () => {
    const { data } = await post("account/second-factor", { password: word.value });
    const otp = code("otp");
    show(el("h1", null, "Set up an app"), secret(data), form("Switch it on", async () => {
      const entered = enter((await call("PUT", "account/second-factor", { body: { otp: otp.value } })).data);
      show(codes(entered["recovery-codes"], back));
    }, el("label", { for: "otp" }, "First code of the app", otp)));
    otp.focus();
  }, el("label", { for: "password" }, "Your password", word))];
}

function change(required) {
  const word = password(), otp = code("otp");
  const proof = () => ({ password: word.value, otp: otp.value });
  const remove = el("button", { type: "button", class: "quiet", hidden: required, on: { click: async () => {
    try {
      enter((await post("account/second-factor/remove", proof())).data);
      tell("You log in without a second factor from now on.");
      await back();
    } catch (error) { trouble(error); }
  } } }, "Take the second factor away");
  return form("New recovery codes", async () => {
    const { data } = await post("account/recovery-codes", proof());
    show(codes(data["recovery-codes"], back));
  }, el("label", { for: "password" }, "Your password", word), el("label", { for: "otp" }, "Code of your app, or a recovery code", otp), remove);
}
