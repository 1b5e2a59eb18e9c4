// A provider of OpenID Connect for scripts/signin-test: FOLDER with its certificate, PORT. The package is in CACHE.
// A log-in as any of the users below is good without a password: it is the client that is tested.

import { generateKeyPairSync } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { pathToFileURL } from "node:url";

const [cache, folder, port] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(createRequire(`${cache}/x.js`).resolve("oidc-provider")).href);
const issuer = `https://127.0.0.1:${port}`;
const users = {
  jane: { preferred_username: "Jane", groups: ["backup-admins", "all"], email: "jane@example.org", email_verified: true },
  joe: { preferred_username: "joe", groups: ["all"], email: "joe@example.org", email_verified: false },
  // Another account that has taken a name.
  thief: { preferred_username: "jane", groups: ["backup-admins"], email: "thief@example.org", email_verified: true },
};
const client = (id, more) => ({ client_id: id, client_secret: "a/secret: of+client", redirect_uris: [`https://localhost:${process.env.RELIGHT_PORT}/signed-in`], grant_types: ["authorization_code"], response_types: ["code"], ...more });
const key = (kind, options, alg) => ({ ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }), alg, use: "sig", kid: `${alg} ${Date.now()}` });
const provider = new Provider(issuer, {
  clients: [client("relight"), client("relight-es", { id_token_signed_response_alg: "ES256" }), client("relight-public", { client_secret: undefined, token_endpoint_auth_method: "none" })],
  jwks: { keys: [key("rsa", { modulusLength: 2048 }, "RS256"), key("ec", { namedCurve: "P-256" }, "ES256")] },
  claims: { openid: ["sub"], profile: ["preferred_username", "groups"], email: ["email", "email_verified"] },
  // Claims of scopes only where users are told of, as the standard has it; the other client finds them in the token.
  conformIdTokenClaims: true,
  pkce: { required: () => true },
  features: { devInteractions: { enabled: true } },
  findAccount: (_, id) => users[id] && { accountId: id, claims: () => ({ sub: id, ...users[id] }) },
  cookies: { keys: ["of the test"] },
});
createServer({ key: readFileSync(`${folder}/server.key`), cert: readFileSync(`${folder}/server.pem`) }, provider.callback()).listen(Number(port), "127.0.0.1");
