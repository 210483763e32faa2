// npm `oauth4webapi`: the low-level library beneath; strict about every header and parameter.
import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { Person, judge, world } from './person.mjs'

const insecure = { [oauth.allowInsecureRequests]: true }

async function discover(algorithm) {
  const issuer = new URL(world.issuer)
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm, ...insecure }))
}

async function code(as, client, person, extra = {}) {
  const verifier = oauth.generateRandomCodeVerifier()
  const [state, nonce] = [oauth.generateRandomState(), oauth.generateRandomNonce()]
  const url = new URL(as.authorization_endpoint)
  const parameters = {
    client_id: client.client_id,
    redirect_uri: world.callback,
    response_type: 'code',
    scope: 'openid email',
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    state,
    nonce,
    ...extra,
  }
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
  const back = await person.go(url)
  return { parameters: oauth.validateAuthResponse(as, client, back, state), verifier, nonce }
}

async function redeem(as, client, authentication, { parameters, verifier, nonce }) {
  const response = await oauth.authorizationCodeGrantRequest(
    as, client, authentication, parameters, world.callback, verifier, insecure,
  )
  const result = await oauth.processAuthorizationCodeResponse(as, client, response, {
    expectedNonce: nonce, requireIdToken: true,
  })
  await oauth.validateApplicationLevelSignature(as, response, insecure)
  return result
}

await judge('oauth4webapi', {
  'both discovery documents': async () => {
    assert.deepEqual(await discover('oidc'), await discover('oauth2'))
  },
  'code flow, signature over the ID token, user info': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.web.client_id, require_auth_time: true, default_max_age: 300 }
    const tokens = await redeem(as, client, oauth.ClientSecretBasic(world.web.client_secret),
      await code(as, client, new Person(), { max_age: '300' }))
    const claims = oauth.getValidatedIdTokenClaims(tokens)
    const response = await oauth.userInfoRequest(as, client, tokens.access_token, insecure)
    const info = await oauth.processUserInfoResponse(as, client, claims.sub, response)
    assert.equal(info.email, 'demo@example.com')
  },
  'a public client': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.native.client_id }
    assert.ok((await redeem(as, client, oauth.None(), await code(as, client, new Person()))).access_token)
  },
  'a wrong secret is invalid_client with a challenge': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.robot.client_id }
    const response = await oauth.clientCredentialsGrantRequest(as, client, oauth.ClientSecretBasic('wrong'), {}, insecure)
    await assert.rejects(oauth.processClientCredentialsResponse(as, client, response), (error) => {
      assert.ok(error instanceof oauth.WWWAuthenticateChallengeError)
      return error.status === 401 && error.cause[0].scheme === 'basic'
    })
  },
  'a client with a key signs for itself': async () => {
    const as = await discover('oauth2')
    for (const algorithm of ['ES256', 'PS256', 'RS256']) {
      const { publicKey, privateKey } = await oauth.generateKeyPair(algorithm)
      const jwk = { ...await crypto.subtle.exportKey('jwk', publicKey), kid: algorithm, alg: algorithm }
      const settings = { grant_types: ['client_credentials'], audiences: [world.audience], scopes: ['orders'], jwks: { keys: [jwk] } }
      const made = await fetch(`${world.internal_url}/admin/v1/clients`, {
        method: 'POST', body: JSON.stringify(settings),
        headers: { authorization: `Bearer ${world.admin_token}`, 'content-type': 'application/json' },
      })
      const client = await made.json()
      assert.equal(made.status, 201, JSON.stringify(client))
      const signed = oauth.PrivateKeyJwt({ key: privateKey, kid: algorithm })
      const response = await oauth.clientCredentialsGrantRequest(as, client, signed, { scope: 'orders' }, insecure)
      assert.ok((await oauth.processClientCredentialsResponse(as, client, response)).access_token)
    }
  },
  'a code is good once, and its second use takes back what the first gave': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.web.client_id }
    const authentication = oauth.ClientSecretPost(world.web.client_secret)
    const answer = await code(as, client, new Person())
    const tokens = await redeem(as, client, authentication, answer)
    await assert.rejects(redeem(as, client, authentication, answer), { error: 'invalid_grant', status: 400 })
    const response = await oauth.introspectionRequest(as, client, authentication, tokens.access_token, insecure)
    assert.equal((await oauth.processIntrospectionResponse(as, client, response)).active, false)
  },
  'another verifier is invalid_grant': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.native.client_id }
    const answer = await code(as, client, new Person())
    const other = { ...answer, verifier: oauth.generateRandomCodeVerifier() }
    await assert.rejects(redeem(as, client, oauth.None(), other), { error: 'invalid_grant' })
  },
  'an answer of another issuer is noticed (RFC 9207)': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.native.client_id }
    await assert.rejects(code({ ...as, issuer: 'https://other.example' }, client, new Person()), /iss/)
  },
  'pushed request, refused in the RFC\'s words': async () => {
    const as = await discover('oidc')
    const client = { client_id: world.native.client_id }
    const push = async (parameters) => oauth.processPushedAuthorizationResponse(as, client,
      await oauth.pushedAuthorizationRequest(as, client, oauth.None(), parameters, insecure))
    const good = {
      redirect_uri: world.callback, response_type: 'code', scope: 'openid', code_challenge_method: 'S256',
      code_challenge: await oauth.calculatePKCECodeChallenge(oauth.generateRandomCodeVerifier()),
    }
    assert.ok((await push(good)).request_uri)
    await assert.rejects(push({ ...good, response_type: 'token' }), { error: 'unsupported_response_type' })
    await assert.rejects(push({ ...good, scope: 'other' }), { error: 'invalid_scope' })
    await assert.rejects(push({ ...good, redirect_uri: 'https://evil.example/' }), { error: 'invalid_request' })
    await assert.rejects(push({ ...good, code_challenge_method: 'plain' }), { error: 'invalid_request' })
  },
})
