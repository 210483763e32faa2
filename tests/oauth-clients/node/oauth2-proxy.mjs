// oauth2-proxy, which many clusters have in front of their apps, as a relying party: the real program, built from its module, before a small app
// that says what reaches it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { Person, judge, world } from './person.mjs'

const REFRESH = 1 // seconds, the shortest that its flag takes
const seconds = (many) => new Promise((resolve) => setTimeout(resolve, many * 1000))
const { client_id, client_secret } = world.proxy

const app = createServer((request, response) => {
  const { 'x-forwarded-user': user, 'x-forwarded-email': email, 'x-forwarded-access-token': token } = request.headers
  response.end(JSON.stringify({ user, email, token }))
})
await once(app.listen(0, '127.0.0.1'), 'listening')

async function freePort() {
  const server = createServer()
  await once(server.listen(0, '127.0.0.1'), 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

const proxy = `http://127.0.0.1:${await freePort()}`
const page = `${proxy}/page`
const program = spawn(process.env.OAUTH2_PROXY, [
  '--provider=oidc', `--oidc-issuer-url=${world.issuer}`, `--client-id=${client_id}`, '--code-challenge-method=S256',
  '--insecure-oidc-skip-nonce=false', '--scope=openid email profile', `--redirect-url=${proxy}/oauth2/callback`, '--skip-provider-button',
  `--http-address=${new URL(proxy).host}`, `--upstream=http://127.0.0.1:${app.address().port}/`, '--pass-access-token', '--email-domain=*',
  `--cookie-refresh=${REFRESH}s`, '--cookie-secure=false', '--whitelist-domain=127.0.0.1:*,localhost:*',
], {
  env: { OAUTH2_PROXY_CLIENT_SECRET: client_secret, OAUTH2_PROXY_COOKIE_SECRET: 'a-key-of-thirty-two-bytes-for-it' },
  stdio: ['ignore', 'pipe', 'pipe'],
})
let log = ''
for (const stream of [program.stdout, program.stderr]) stream.on('data', (data) => { log += data })

async function ready() {
  for (let tries = 0; tries < 300; tries++) {
    if (program.exitCode !== null) break
    const up = await fetch(`${proxy}/ping`).catch(() => null)
    if (up?.ok) return
    await seconds(0.1)
  }
  throw new Error(`oauth2-proxy did not get ready: ${log}`)
}

async function signIn() {
  const person = new Person()
  const end = await person.go(page, {}, [page])
  assert.equal(end.href, page, `${JSON.stringify(end)} ${log}`)
  return person
}

// What the app was told; or where the proxy sends the browser instead.
async function visit(person) {
  const response = await person.visit(page)
  if (response.status === 200) return response.json()
  return { status: response.status, location: response.headers.get('location') }
}

// Asks until it is so. Its sessions are as old as whole seconds say.
async function until(holds, person) {
  for (let tries = 0; tries < 50; tries++) {
    const seen = await visit(person)
    if (holds(seen)) return seen
    await seconds(0.2)
  }
  throw new Error(`not within ten seconds: ${log}`)
}

try {
  await ready()
  await judge('oauth2-proxy', {
    'signs somebody in by code with PKCE, and its cookie is good from then on': async () => {
      const person = await signIn()
      const { email, user, token } = await visit(person)
      assert.ok(email === 'demo@example.com' && user && token.startsWith('ca_'), log)
      const stranger = await visit(new Person())
      assert.ok(stranger.status === 302 && new URL(stranger.location).searchParams.get('code_challenge_method') === 'S256')
    },
    'refreshes, again and again': async () => {
      const person = await signIn()
      let { token: last } = await visit(person)
      for (let times = 0; times < 2; times++) {
        const { token } = await until(({ token }) => token !== last, person)
        assert.ok(token, log)
        last = token
      }
    },
    'signing out at the service ends its session at the next refresh': async () => {
      const person = await signIn()
      assert.ok((await visit(person)).token)
      const { page: said } = await person.go(`${world.issuer}/oauth2/logout`)
      assert.match(said, /signed out/i)
      const { location } = await until(({ status }) => status === 302, person)
      assert.ok(location.startsWith(world.issuer), location)
      assert.match(log, /invalid_grant/)
    },
    'signing out at the proxy goes on to the service and comes back': async () => {
      const person = await signIn()
      // The braces are the proxy's: it puts the ID token there.
      const leave = `${world.issuer}/oauth2/logout?id_token_hint={id_token}&post_logout_redirect_uri=${encodeURIComponent(world.bye)}`
      const end = await person.go(`${proxy}/oauth2/sign_out?rd=${encodeURIComponent(leave)}`)
      assert.equal(end.href, world.bye, JSON.stringify(end))
      const { status, location } = await visit(person)
      assert.equal(status, 302)
      const { status: asked, page: form } = await person.go(location, { stop: true })
      assert.ok(asked === 200 && /name="password"/.test(form), 'neither of them knows who it is')
    },
  })
} finally {
  program.kill()
  app.close()
}
