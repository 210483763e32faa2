// What people do with another provider, from the app's page to signing out over there.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";

import { Browser } from "./browser.mjs";
import { startOtherProvider } from "./other_provider.mjs";
import { startProvider } from "./provider.mjs";

const work = fs.mkdtempSync(path.join(os.tmpdir(), "cloakroom-federation-"));
let passed = 0;
let failed = 0;
let world;

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function until(what, holds) {
  for (let tries = 0; tries < 600; tries++) {
    const value = await holds();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`in a minute not: ${what}`);
}

async function start() {
  const port = await freePort();
  const ours = `http://localhost:${port}`;
  const [provider, other] = await Promise.all([startProvider(ours), startOtherProvider(ours)]);
  fs.writeFileSync(path.join(work, "secret"), `${provider.secret}\n`);
  fs.writeFileSync(path.join(work, "other-secret"), other.secret);
  const settings = {
    providers: [
      {
        id: "node", name: "Example Corp", issuer: provider.issuer, client_id: "cloakroom", client_secret_file: path.join(work, "secret"),
        scopes: ["profile", "email", "groups"], create: true, claims: { groups: "groups" }, group_map: { "/staff": "staff" }, sign_out: true,
      },
      {
        id: "go", name: "Partner", issuer: other.issuer, client_id: "cloakroom", client_secret_file: path.join(work, "other-secret"),
        scopes: ["profile", "email"], create: true,
      },
    ],
  };
  fs.writeFileSync(path.join(work, "auth.yaml"), JSON.stringify(settings));
  const ready = path.join(work, "ready.json");
  const log = fs.openSync(path.join(work, "log"), "w");
  const local = ["local", "--app-port", "0", "--internal-port", "0", "--auth-port", String(port)];
  const files = ["--auth-config", path.join(work, "auth.yaml"), "--ready-file", ready];
  const process_ = spawn(process.env.CLOAKROOM_BIN, [...local, ...files], { stdio: ["ignore", log, log] });
  await until("cloakroom local is ready", () => process_.exitCode !== null || fs.existsSync(ready));
  assert.ok(fs.existsSync(ready), fs.readFileSync(path.join(work, "log"), "utf8"));
  return { provider, other, process: process_, ...JSON.parse(fs.readFileSync(ready, "utf8")) };
}

// The pages of the provider, until it sends the browser back.
async function signInThere(browser, page, who) {
  assert.ok(page.url.startsWith(world.provider.issuer), page.url);
  let next = await browser.submit(page, { login: who, password: "whatever" });
  if (next.url.startsWith(world.provider.issuer)) next = await browser.submit(next, {}, undefined);
  return next;
}

async function signIn(browser, who) {
  const page = await browser.open(`${world.app_url}/echo`);
  assert.ok(page.url.startsWith(`${world.auth_url}/sign-in`), page.url);
  return signInThere(browser, await browser.follow(page, "Continue with Example Corp"), who);
}

// The same at the other one.
async function toOther(browser) {
  const page = await browser.open(`${world.app_url}/echo`);
  const there = await browser.follow(page, "Continue with Partner");
  assert.ok(there.url.startsWith(world.other.issuer), there.url);
  return there;
}

async function signInWithOther(browser, username) {
  return browser.submit(await toOther(browser), { username, password: "verysecure" });
}

function jwt(echo) {
  const authorization = JSON.parse(echo.body).headers.find(([name]) => name === "authorization")[1];
  return JSON.parse(Buffer.from(authorization.split(".")[1], "base64url"));
}

const admin = async (target) => {
  const answer = await fetch(`${world.internal_url}/admin/v1${target}`, { headers: { authorization: `Bearer ${world.admin_token}` } });
  assert.equal(answer.status, 200);
  return answer.json();
};

async function isSignedIn(browser) {
  const page = await browser.send(`${world.app_url}/echo`);
  return page.status === 200;
}

async function signOutThere(browser) {
  const page = await browser.open(`${world.provider.issuer}/session/end`);
  // Its button stands outside of its form.
  const xsrf = page.body.match(/name="xsrf" value="([^"]*)"/)[1];
  const done = await browser.send(`${world.provider.issuer}/session/end/confirm`, { method: "POST", form: { xsrf, logout: "yes" } });
  assert.equal(done.status, 303, done.body);
}

const cases = {
  async "a person signs in over there, and the app learns what the provider says"() {
    const browser = new Browser();
    const echo = await signIn(browser, "ann");
    assert.equal(echo.url, `${world.app_url}/echo`);
    const claims = jwt(echo);
    assert.deepEqual([claims.amr, claims.acr, claims.groups], [["fed"], "pwd", ["staff"]]);
    const [user] = (await admin("/users?username=ann")).items;
    assert.equal(user.id, claims.sub);
    assert.deepEqual([user.email, user.email_verified, user.name, user.has_password], ["ann@example.com", true, "Ann Example", false]);
  },

  async "whoever is signed in there already has to type nothing, and is the same person"() {
    const browser = new Browser();
    const before = jwt(await signIn(browser, "ann"));
    browser.cookies.delete(world.auth_url);
    browser.cookies.delete(world.app_url);
    const page = await browser.open(`${world.app_url}/echo`);
    const echo = await browser.follow(page, "Continue with Example Corp");
    const after = jwt(echo);
    assert.equal(after.sub, before.sub);
    assert.notEqual(after.sid, before.sid);
  },

  async "signing out there ends the session here, and nobody else's"() {
    const [ann, eve] = [new Browser(), new Browser()];
    await signIn(ann, "ann");
    await signIn(eve, "eve");
    assert.ok((await isSignedIn(ann)) && (await isSignedIn(eve)));
    await signOutThere(ann);
    await until("the session here ends", async () => !(await isSignedIn(ann)));
    assert.ok(await isSignedIn(eve));
  },

  async "whoever cancels there can choose another way here"() {
    const browser = new Browser();
    const page = await browser.open(`${world.app_url}/echo`);
    const there = await browser.follow(page, "Continue with Example Corp");
    const back = await browser.open(`${there.url}/abort`);
    assert.ok(back.url.startsWith(`${world.auth_url}/sign-in`) && back.body.includes("You did not sign in there"), back.body);
    const echo = await browser.submit(back, { username: world.username, password: world.password });
    assert.equal(echo.url, `${world.app_url}/echo`);
  },

  async "an account is connected from its own page, and entered by it from then on"() {
    const browser = new Browser();
    const page = await browser.open(`${world.auth_url}/account/connections`);
    const list = await browser.submit(page, { username: world.username, password: world.password });
    const there = await browser.submit(list, {}, ["provider", "node"]);
    const done = await signInThere(browser, there, "bob");
    assert.ok(done.body.includes("is connected with your account"), done.body);
    const other = new Browser();
    const claims = jwt(await signIn(other, "bob"));
    const [user] = (await admin(`/users?username=${world.username}`)).items;
    assert.equal(claims.sub, user.id);
    const identities = await admin(`/users/${user.id}/identities`);
    assert.deepEqual(identities.items.map((one) => [one.provider, one.sub, one.made_account]), [["node", "bob", false]]);
    const without = await browser.submit(await browser.open(`${world.auth_url}/account/connections`), {}, ["provider", "node"]);
    assert.ok(without.body.includes("not connected with your account any more"), without.body);
    assert.equal(await isSignedIn(other), false, "whoever came in by it is out");
  },

  async "whoever signs out here can sign out there as well, and comes back"() {
    const browser = new Browser();
    await signIn(browser, "ann");
    const account = await browser.open(`${world.auth_url}/account`);
    const out = await browser.submit(account, {}, ["what", "here"]);
    assert.ok(out.url.startsWith(`${world.auth_url}/signed-out`), out.url);
    const question = await browser.follow(out, "Sign out there, too");
    assert.ok(question.url.startsWith(world.provider.issuer), question.url);
    const xsrf = question.body.match(/name="xsrf" value="([^"]*)"/)[1];
    const done = await browser.open(`${world.provider.issuer}/session/end/confirm`, { method: "POST", form: { xsrf, logout: "yes" } });
    assert.equal(done.url.split("?")[0], `${world.auth_url}/signed-out`);
    const again = await browser.follow(await browser.open(`${world.app_url}/echo`), "Continue with Example Corp");
    assert.ok(again.url.startsWith(world.provider.issuer), "it asks who it is");
  },

  async "a provider of another make is as good: its claims come from userinfo, and its subject stays one person"() {
    const claims = jwt(await signInWithOther(new Browser(), "carol"));
    assert.deepEqual([claims.amr, claims.acr], [["fed"], "pwd"]);
    const [user] = (await admin("/users?username=carol")).items;
    assert.deepEqual([user.id, user.email, user.email_verified, user.name], [claims.sub, "carol@example.com", true, "Carol Example"]);
    const again = jwt(await signInWithOther(new Browser(), "carol"));
    assert.equal(again.sub, claims.sub);
  },

  async "a verified address over there opens nobody else's account"() {
    const carol = jwt(await signInWithOther(new Browser(), "carol"));
    const mallory = jwt(await signInWithOther(new Browser(), "mallory"));
    assert.notEqual(mallory.sub, carol.sub);
  },

  async "what one provider answers is no answer of the other's"() {
    const browser = new Browser();
    // One redirect at a time, up to the one that leads back to us.
    const page = await toOther(browser);
    let step = await browser.send(`${world.other.issuer}login/username`, {
      method: "POST",
      form: { id: new URL(page.url).searchParams.get("authRequestID"), username: "carol", password: "verysecure" },
    });
    while (!step.location.startsWith(world.auth_url)) step = await browser.send(step.location);
    const mixed = await browser.open(step.location.replace("/sign-in/from/go", "/sign-in/from/node"));
    assert.notEqual(mixed.url, `${world.app_url}/echo`);
    assert.equal(await isSignedIn(browser), false);
  },

  async "a provider that is gone is missed by name, and the others still sign people in"() {
    world.other.close();
    const browser = new Browser();
    const page = await browser.open(`${world.app_url}/echo`);
    // What is known of it may be kept; its own address answers nothing.
    const said = await browser.follow(page, "Continue with Partner").then(({ body }) => body, ({ code }) => code);
    assert.ok(said === "ECONNREFUSED" || said.includes("Partner cannot be reached"), said);
    assert.equal((await signIn(new Browser(), "ann")).url, `${world.app_url}/echo`);
  },
};

try {
  world = await start();
  for (const [sentence, holds] of Object.entries(cases)) {
    try {
      await holds();
      passed++;
      console.log(`ok ${sentence}`);
    } catch (error) {
      failed++;
      console.log(`FAILED ${sentence}\n${error.stack}`);
    }
  }
} catch (error) {
  failed++;
  console.log(`FAILED to start\n${error.stack}`);
}
if (failed) console.log(fs.readFileSync(path.join(work, "log"), "utf8").split("\n").slice(-40).join("\n"));
world?.process.kill();
world?.provider.close();
world?.other.close();
fs.rmSync(work, { recursive: true, force: true });
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
