// Clients that register themselves: by two libraries, and by the authorization client of npm `@modelcontextprotocol/sdk`, which knows nothing but
// the address of an app.
import assert from 'node:assert/strict'
import { auth, extractWWWAuthenticateParams, registerClient } from '@modelcontextprotocol/sdk/client/auth.js'
import * as oauth from 'oauth4webapi'
import * as client from 'openid-client'
import { Person, judge, world } from './person.mjs'

const insecure = { [oauth.allowInsecureRequests]: true }
const api = `${world.app_url}/orders/1`

async function discover() {
  const issuer = new URL(world.issuer)
  return oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }))
}

const registered = async (as, metadata, options = {}) =>
  oauth.processDynamicClientRegistrationResponse(await oauth.dynamicClientRegistrationRequest(as, metadata, { ...options, ...insecure }))

// What an MCP client keeps between its steps.
class Keeper {
  redirectUrl = world.callback
  clientMetadata = {
    client_name: 'An agent', redirect_uris: [world.callback], token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'], response_types: ['code'],
  }
  clientInformation = () => this.information
  saveClientInformation = (information) => { this.information = information }
  tokens = () => this.kept
  saveTokens = (tokens) => { this.kept = tokens }
  saveCodeVerifier = (verifier) => { this.verifier = verifier }
  codeVerifier = () => this.verifier
  redirectToAuthorization = (url) => { this.url = url }
}

await judge('registration', {
  'oauth4webapi: a public client registers, signs somebody in and calls the app': async () => {
    const as = await discover()
    const own = await registered(as, { redirect_uris: [world.callback], token_endpoint_auth_method: 'none', client_name: 'A tool', scope: 'openid orders' })
    const verifier = oauth.generateRandomCodeVerifier()
    const url = new URL(as.authorization_endpoint)
    const parameters = {
      client_id: own.client_id, redirect_uri: world.callback, response_type: 'code', scope: own.scope, resource: world.app_url,
      code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    }
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value)
    const answer = oauth.validateAuthResponse(as, own, await new Person().go(url), oauth.expectNoState)
    const response = await oauth.authorizationCodeGrantRequest(as, own, oauth.None(), answer, world.callback, verifier, insecure)
    const tokens = await oauth.processAuthorizationCodeResponse(as, own, response)
    assert.equal((await fetch(api, { headers: { authorization: `Bearer ${tokens.access_token}` } })).status, 200)
  },
  'oauth4webapi: with a token, and refused with another': async () => {
    const as = await discover()
    const metadata = { redirect_uris: ['https://partner.example.com/cb'], backchannel_logout_uri: 'https://partner.example.com/bye' }
    const own = await registered(as, metadata, { initialAccessToken: world.registration_token })
    assert.ok(own.client_secret && own.client_secret_expires_at === 0 && own.backchannel_logout_uri)
    await assert.rejects(registered(as, metadata, { initialAccessToken: 'x'.repeat(65) }), (error) => {
      assert.ok(error instanceof oauth.WWWAuthenticateChallengeError)
      return error.status === 401 && error.cause[0].parameters.error === 'invalid_token'
    })
  },
  'oauth4webapi: errors are the RFC\'s': async () => {
    const as = await discover()
    await assert.rejects(registered(as, { redirect_uris: ['http://app.example.com/'] }), { error: 'invalid_redirect_uri', status: 400 })
    await assert.rejects(registered(as, { redirect_uris: [world.callback], scope: 'unknown' }), { error: 'invalid_client_metadata' })
  },
  'openid-client: a confidential client registers, reads and removes itself': async () => {
    const metadata = { redirect_uris: [world.callback], client_name: 'A site', token_endpoint_auth_method: 'client_secret_post' }
    const config = await client.dynamicClientRegistration(new URL(world.issuer), metadata, undefined, { execute: [client.allowInsecureRequests] })
    const own = config.clientMetadata()
    const [verifier, state] = [client.randomPKCECodeVerifier(), client.randomState()]
    const url = client.buildAuthorizationUrl(config, {
      redirect_uri: world.callback, scope: 'openid', state,
      code_challenge: await client.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
    })
    const tokens = await client.authorizationCodeGrant(config, await new Person().go(url), { pkceCodeVerifier: verifier, expectedState: state })
    assert.ok(tokens.claims().sub)
    const headers = { authorization: `Bearer ${own.registration_access_token}` }
    assert.equal((await (await fetch(own.registration_client_uri, { headers })).json()).client_name, 'A site')
    assert.equal((await fetch(own.registration_client_uri, { headers, method: 'DELETE' })).status, 204)
    const { active } = await client.tokenIntrospection(await client.discovery(new URL(world.issuer), world.gateway.client_id, world.gateway.client_secret, undefined,
      { execute: [client.allowInsecureRequests] }), tokens.access_token)
    assert.equal(active, false)
  },
  'an MCP client finds its way from the app\'s address alone, and refreshes': async () => {
    const refused = await fetch(api)
    assert.equal(refused.status, 401)
    const { resourceMetadataUrl } = extractWWWAuthenticateParams(refused)
    const keeper = new Keeper()
    assert.equal(await auth(keeper, { serverUrl: api, resourceMetadataUrl }), 'REDIRECT')
    assert.deepEqual(keeper.information.grant_types, ['authorization_code', 'refresh_token'])
    const back = await new Person().go(keeper.url)
    const authorizationCode = back.searchParams.get('code')
    assert.equal(await auth(keeper, { serverUrl: api, resourceMetadataUrl, authorizationCode }), 'AUTHORIZED')
    const call = () => fetch(api, { headers: { authorization: `Bearer ${keeper.kept.access_token}` } })
    assert.equal((await call()).status, 200)
    const before = keeper.kept.access_token
    assert.equal(await auth(keeper, { serverUrl: api, resourceMetadataUrl }), 'AUTHORIZED')
    assert.ok(keeper.kept.access_token !== before && (await call()).status === 200)
  },
  'an MCP client is told why it cannot register': async () => {
    const metadata = { ...new Keeper().clientMetadata, redirect_uris: ['javascript:alert(1)'] }
    const as = await discover()
    await assert.rejects(registerClient(world.issuer, { metadata: as, clientMetadata: metadata }))
  },
})
