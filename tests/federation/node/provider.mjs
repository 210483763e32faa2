// The other provider: npm's oidc-provider with its own pages, people who need no password, and back-channel logout.

import http from "node:http";
import { generateKeyPairSync } from "node:crypto";

// It advises whoever runs it for good.
console.info = console.warn = () => {};
const { Provider } = await import("oidc-provider");

const PEOPLE = {
  ann: { preferred_username: "ann", name: "Ann Example", email: "ann@example.com", email_verified: true, groups: ["/staff", "admins"] },
  eve: { preferred_username: "eve", name: "Eve Example", email: "eve@example.com", email_verified: true },
};

// Listens first, since its issuer has the port in it.
export async function startProvider(ours) {
  const server = http.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const keys = [
    { ...generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" }), kid: "r", alg: "RS256", use: "sig" },
  ];
  const provider = new Provider(issuer, {
    jwks: { keys },
    cookies: { keys: ["nobody outside of this test"] },
    claims: { openid: ["sub"], profile: ["name", "preferred_username"], email: ["email", "email_verified"], groups: ["groups"] },
    features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub, ...PEOPLE[sub] }) }),
    clients: [
      {
        client_id: "cloakroom",
        client_secret: "between & us: a secret",
        redirect_uris: [`${ours}/sign-in/from/node`],
        response_types: ["code"],
        grant_types: ["authorization_code"],
        post_logout_redirect_uris: [`${ours}/signed-out`],
        backchannel_logout_uri: `${ours}/sign-in/from/node/backchannel-logout`,
        backchannel_logout_session_required: true,
      },
    ],
    // It tells nobody on its own machine of a sign-out, and here is nothing else.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    pkce: { required: () => true },
  });
  for (const event of ["backchannel.error", "server_error"]) provider.on(event, (_, error) => console.error(event, error));
  server.on("request", provider.callback());
  return { issuer, secret: "between & us: a secret", close: () => server.close() };
}
