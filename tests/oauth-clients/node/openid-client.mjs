// npm `openid-client`, certified by the OpenID Foundation as a relying party.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import * as jose from 'jose'
import * as client from 'openid-client'
import { Person, judge, world } from './person.mjs'

const insecure = { execute: [client.allowInsecureRequests] } // plain HTTP on loopback
const discover = ({ client_id, client_secret }, authentication) =>
  client.discovery(new URL(world.issuer), client_id, client_secret ?? undefined, authentication, insecure)

async function signIn(config, person, extra = {}, { pushed = false, answers, DPoP } = {}) {
  const verifier = client.randomPKCECodeVerifier()
  const checks = { pkceCodeVerifier: verifier, expectedState: client.randomState(), expectedNonce: client.randomNonce() }
  const parameters = {
    redirect_uri: world.callback,
    scope: 'openid profile email',
    code_challenge: await client.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state: checks.expectedState,
    nonce: checks.expectedNonce,
    ...extra,
  }
  const build = pushed ? client.buildAuthorizationUrlWithPAR : client.buildAuthorizationUrl
  const url = await build(config, parameters, { DPoP })
  if (pushed) assert.ok(url.searchParams.get('request_uri') && !url.searchParams.has('redirect_uri'))
  const back = await person.go(url, answers)
  if (extra.max_age !== undefined) checks.maxAge = Number(extra.max_age)
  return client.authorizationCodeGrant(config, back, checks, undefined, { DPoP })
}

await judge('openid-client', {
  'code flow with PKCE, state, nonce and iss; ID token, user info': async () => {
    const config = await discover(world.web)
    const tokens = await signIn(config, new Person(), { max_age: '300' })
    const claims = tokens.claims()
    assert.equal(claims.iss, world.issuer)
    assert.ok(claims.auth_time && claims.at_hash && claims.acr)
    const info = await client.fetchUserInfo(config, tokens.access_token, claims.sub)
    assert.equal(info.preferred_username, world.username)
    assert.equal(info.email, 'demo@example.com')
  },
  'the signature verifies with the published keys': async () => {
    const config = await discover(world.web)
    client.enableNonRepudiationChecks(config)
    assert.ok((await signIn(config, new Person())).claims().sub)
  },
  'secret in the form, and as HTTP Basic': async () => {
    for (const method of [client.ClientSecretPost, client.ClientSecretBasic]) {
      const config = await discover(world.web, method(world.web.client_secret))
      assert.ok((await signIn(config, new Person())).access_token)
    }
  },
  'a public client, without a secret': async () => {
    const config = await discover(world.native, client.None())
    const tokens = await signIn(config, new Person())
    assert.ok((await client.refreshTokenGrant(config, tokens.refresh_token)).access_token)
  },
  'pushed authorization request': async () => {
    const tokens = await signIn(await discover(world.web), new Person(), {}, { pushed: true })
    assert.ok(tokens.claims().sub)
  },
  'refreshing rotates, and the old token ends everything once its grace is over': async () => {
    const config = await discover(world.web)
    const first = await signIn(config, new Person())
    const second = await client.refreshTokenGrant(config, first.refresh_token)
    assert.notEqual(second.refresh_token, first.refresh_token)
    assert.equal(second.claims().sub, first.claims().sub)
    const third = await client.refreshTokenGrant(config, second.refresh_token)
    await assert.rejects(client.refreshTokenGrant(config, first.refresh_token), { error: 'invalid_grant' })
    await assert.rejects(client.refreshTokenGrant(config, third.refresh_token), { error: 'invalid_grant' })
  },
  'introspection by the client and by a gateway; revocation': async () => {
    const config = await discover(world.web)
    const { access_token } = await signIn(config, new Person())
    const gateway = await discover(world.gateway)
    for (const asker of [config, gateway]) {
      const facts = await client.tokenIntrospection(asker, access_token)
      assert.ok(facts.active && facts.aud.includes(world.audience) && facts.client_id === world.web.client_id)
    }
    const stranger = await discover(world.robot)
    assert.deepEqual(await client.tokenIntrospection(stranger, access_token), { active: false })
    await client.tokenRevocation(config, access_token)
    assert.equal((await client.tokenIntrospection(gateway, access_token)).active, false)
    await assert.rejects(client.fetchUserInfo(config, access_token, client.skipSubjectCheck), (error) => {
      return error.cause?.[0]?.parameters?.error === 'invalid_token'
    })
  },
  'client credentials, for a resource': async () => {
    const config = await discover(world.robot)
    const tokens = await client.clientCredentialsGrant(config, { scope: 'orders', resource: world.audience })
    assert.equal(tokens.scope, 'orders')
    await assert.rejects(client.clientCredentialsGrant(config, { scope: 'admin' }), { error: 'invalid_scope' })
    await assert.rejects(client.clientCredentialsGrant(config, { resource: 'https://other' }), { error: 'invalid_target' })
  },
  'single sign-on, prompt=none and prompt=login': async () => {
    const config = await discover(world.web)
    const person = new Person()
    await assert.rejects(signIn(config, person, { prompt: 'none' }), { error: 'login_required' })
    const first = await signIn(config, person)
    const silent = await signIn(config, person, { prompt: 'none' }, { answers: { stop: true } })
    assert.equal(silent.claims().auth_time, first.claims().auth_time)
    await new Promise((resolve) => setTimeout(resolve, 1100))
    const again = await signIn(config, person, { prompt: 'login' })
    assert.ok(again.claims().auth_time > first.claims().auth_time)
  },
  'a third party asks for consent, once; refusing is access_denied': async () => {
    const config = await discover(world.partner)
    const person = new Person()
    await assert.rejects(signIn(config, person, {}, { answers: { decision: 'deny' } }), { error: 'access_denied' })
    await signIn(config, person)
    await signIn(config, person, { prompt: 'none' }, { answers: { stop: true } })
  },
  'a device without a browser': async () => {
    const config = await discover(world.tv, client.None())
    const device = await client.initiateDeviceAuthorization(config, { scope: 'openid offline_access' })
    const polling = client.pollDeviceAuthorizationGrant(config, { ...device, interval: 1 })
    polling.catch(() => {})
    const page = await new Person().go(device.verification_uri_complete)
    assert.match(page.page, /Your device is connected/)
    const tokens = await polling
    assert.ok(tokens.claims().sub && tokens.refresh_token)
  },
  'a device that is refused': async () => {
    const config = await discover(world.tv, client.None())
    const device = await client.initiateDeviceAuthorization(config, { scope: 'openid' })
    await new Person().go(device.verification_uri, { user_code: device.user_code, decision: 'deny' })
    await assert.rejects(client.pollDeviceAuthorizationGrant(config, { ...device, interval: 1 }), {
      error: 'access_denied',
    })
  },
  'tokens bound to a key: code, pushed request, user info, refresh': async () => {
    const config = await discover(world.native, client.None())
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair())
    const tokens = await signIn(config, new Person(), {}, { pushed: true, DPoP })
    assert.equal(tokens.token_type, 'dpop')
    const { sub } = tokens.claims()
    assert.equal((await client.fetchUserInfo(config, tokens.access_token, sub, { DPoP })).sub, sub)
    const again = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
    const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair())
    await assert.rejects(client.refreshTokenGrant(config, again.refresh_token, undefined, { DPoP: other }), {
      error: 'invalid_dpop_proof',
    })
    const facts = await client.tokenIntrospection(await discover(world.gateway), again.access_token)
    assert.ok(facts.active && facts.token_type === 'DPoP' && facts.cnf.jkt)
  },
  'token exchange: calling on for somebody': async () => {
    const tokens = await signIn(await discover(world.web), new Person())
    const config = await discover(world.service)
    const exchanged = await client.genericGrantRequest(config, 'urn:ietf:params:oauth:grant-type:token-exchange', {
      subject_token: tokens.access_token,
      subject_token_type: 'urn:ietf:params:oauth:token-type:access_token',
      audience: 'next-service',
    })
    const facts = await client.tokenIntrospection(config, exchanged.access_token)
    assert.deepEqual([facts.act, facts.sub, facts.aud], [{ sub: 'service' }, tokens.claims().sub, ['next-service']])
  },
  'back-channel logout: the token verifies and names subject and session': async () => {
    const config = await discover(world.listener)
    const told = new Promise((resolve) => {
      const server = createServer(async (request, response) => {
        let body = ''
        for await (const part of request) body += part
        response.end()
        server.close()
        resolve(new URLSearchParams(body).get('logout_token'))
      }).listen(Number(new URL(world.listener.logout_uri).port), '127.0.0.1')
    })
    const person = new Person()
    const tokens = await signIn(config, person)
    await person.go(client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token }))
    const keys = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri))
    const options = { issuer: world.issuer, audience: world.listener.client_id, typ: 'logout+jwt', maxTokenAge: '2m' }
    const { payload } = await jose.jwtVerify(await told, keys, options)
    assert.deepEqual([payload.sub, payload.sid], [tokens.claims().sub, tokens.claims().sid])
    assert.ok(payload.events['http://schemas.openid.net/event/backchannel-logout'] && !('nonce' in payload))
  },
  'RP-initiated logout comes back with the state': async () => {
    const config = await discover(world.web)
    const person = new Person()
    const tokens = await signIn(config, person)
    const url = client.buildEndSessionUrl(config, {
      id_token_hint: tokens.id_token,
      post_logout_redirect_uri: world.bye,
      state: 'the-state',
    })
    const back = await person.go(url)
    assert.equal(back.href, `${world.bye}?state=the-state`)
    await assert.rejects(signIn(config, person, { prompt: 'none' }), { error: 'login_required' })
    await assert.rejects(client.refreshTokenGrant(config, tokens.refresh_token), { error: 'invalid_grant' })
  },
})
