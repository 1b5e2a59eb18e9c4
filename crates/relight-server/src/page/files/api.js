// Calls of the server, and the session.

export const session = { user: null, csrf: null, may: [] };

export class Fault extends Error {
  constructor(status, message, request) { super(message); this.status = status; this.request = request; }
}

export async function call(method, path, { query, body, signal } = {}) {
  const url = new URL("/api/v1/" + path, location.origin);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const headers = {};
  if (method !== "GET" && session.csrf) headers.CSRFPreventionToken = session.csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(url, { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault(0, "The server cannot be reached. Look whether it runs and whether the network is there; then load the page again.");
  }
  let told = null;
  try { told = await answer.json(); } catch { /* said below */ }
  if (!answer.ok) {
    if (answer.status === 401 && !path.startsWith("session")) document.dispatchEvent(new Event("logged-out"));
    throw new Fault(answer.status, told?.error?.message ?? `The server answered ${answer.status}.`, Number(answer.headers.get("Relight-Approval")) || null);
  }
  if (told === null) throw new Fault(answer.status, "The server's answer cannot be read.");
  return told;
}

export const get = (path, query, signal) => call("GET", path, { query, signal });
export const post = (path, body) => call("POST", path, { body: body ?? {} });

export async function resume() {
  Object.assign(session, (await get("session")).data);
  return session.user !== null;
}

// Takes over what a log-in answered.
export function enter(data) {
  const { user, csrf, may } = data;
  Object.assign(session, { user, csrf, may });
  return data;
}

export async function logOut() {
  try { await call("DELETE", "session"); } finally { Object.assign(session, { user: null, csrf: null, may: [] }); }
}
