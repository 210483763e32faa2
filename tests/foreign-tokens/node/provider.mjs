// Another issuer: `oidc-provider` with two APIs, one whose access tokens are opaque and one whose are JWTs. Beside it a port by which the
// suite has tokens made and revoked. Usage: provider.mjs <issuer's port> <control port>
import http from 'node:http';
import * as jose from 'jose';
import { Provider } from 'oidc-provider';

const [port, control] = process.argv.slice(2).map(Number);
const issuer = `http://127.0.0.1:${port}`;
const { publicKey, privateKey } = await jose.generateKeyPair('ES256', { extractable: true });
const jwk = { ...(await jose.exportJWK(privateKey)), kid: 'k1', use: 'sig', alg: 'ES256' };
const resources = { 'urn:orders:opaque': 'opaque', 'urn:orders:jwt': 'jwt', 'urn:other:opaque': 'opaque', 'urn:other:jwt': 'jwt' };
const robot = { client_id: 'robot', client_secret: 'robot-secret-of-the-suite' };
const asker = { client_id: 'cloakroom', client_secret: 'asker-secret-of-the-suite' };

const provider = new Provider(issuer, {
  jwks: { keys: [jwk] },
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  scopes: ['openid', 'orders'],
  clients: [
    { ...robot, grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'orders' },
    { ...asker, grant_types: [], redirect_uris: [], response_types: [] },
  ],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, client) => client.clientId === asker.client_id },
    revocation: { enabled: true },
    dPoP: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope: 'orders',
        audience: resource,
        accessTokenFormat: resources[resource],
        accessTokenTTL: 600,
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
provider.listen(port, '127.0.0.1');

const basic = ({ client_id, client_secret }) => `Basic ${Buffer.from(`${client_id}:${client_secret}`).toString('base64')}`;

async function call(path, form, headers = {}) {
  const answer = await fetch(issuer + path, {
    method: 'POST',
    headers: { authorization: basic(robot), 'content-type': 'application/x-www-form-urlencoded', ...headers },
    body: new URLSearchParams(form),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : {};
}

async function dpop() {
  const pair = await jose.generateKeyPair('ES256');
  return new jose.SignJWT({ htm: 'POST', htu: `${issuer}/token`, jti: String(Math.random()) })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: await jose.exportJWK(pair.publicKey) })
    .setIssuedAt()
    .sign(pair.privateKey);
}

function signed(claims, header = {}, key = privateKey) {
  return new jose.SignJWT({ client_id: 'robot', scope: 'orders', ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'k1', typ: 'at+jwt', ...header })
    .setIssuer(issuer).setSubject('ann').setAudience('urn:orders:jwt').setIssuedAt().setExpirationTime('5m')
    .sign(key);
}

const made = {
  token: async ({ resource }) => (await call('/token', { grant_type: 'client_credentials', scope: 'orders', resource })).access_token,
  bound: async ({ resource }) =>
    (await call('/token', { grant_type: 'client_credentials', scope: 'orders', resource }, { dpop: await dpop() })).access_token,
  revoke: async ({ token }) => { await call('/token/revocation', { token }); return ''; },
  person: () => signed({ auth_time: Math.floor(Date.now() / 1000) }),
  id_token: () => signed({ nonce: 'n', at_hash: 'x' }, { typ: 'JWT' }),
  stranger: async () => signed({}, {}, (await jose.generateKeyPair('ES256')).privateKey),
  hmac: async () => signed({}, { alg: 'HS256' }, new TextEncoder().encode(JSON.stringify(await jose.exportJWK(publicKey)))),
};

http.createServer(async (request, response) => {
  const url = new URL(request.url, 'http://control');
  try {
    response.end(await made[url.pathname.slice(1)](Object.fromEntries(url.searchParams)));
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(control, '127.0.0.1');
