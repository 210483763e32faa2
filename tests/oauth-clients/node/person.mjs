// A person at a browser: keeps cookies, follows redirects, fills in our real forms; and the frame that judges report in.
import { readFileSync } from 'node:fs'

export const world = JSON.parse(readFileSync(process.argv[2], 'utf8'))

export class Person {
  #cookies = new Map()

  async #ask(url, body) {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const headers = { accept: 'text/html', ...(cookie && { cookie }) }
    const response = await fetch(url, { method: body ? 'POST' : 'GET', body, headers, redirect: 'manual' })
    for (const set of response.headers.getSetCookie()) {
      const [pair] = set.split(';')
      const at = pair.indexOf('=')
      if (/max-age=0/i.test(set)) this.#cookies.delete(pair.slice(0, at))
      else this.#cookies.set(pair.slice(0, at), pair.slice(at + 1))
    }
    return response
  }

  // One request, wherever it leads.
  visit(url) {
    return this.#ask(url)
  }

  // Goes on until the browser is sent to one of `ends`, or to a page without a form to answer.
  async go(start, answers = {}, ends = [world.callback, world.bye]) {
    let url = new URL(start)
    let response = await this.#ask(url)
    for (let steps = 0; steps < 12; steps++) {
      const location = response.headers.get('location')
      if (location) {
        url = new URL(location, url)
        if (ends.some((end) => url.href.startsWith(end))) return url
        response = await this.#ask(url)
        continue
      }
      const page = await response.text()
      const form = answers.stop ? null : fill(page, { username: world.username, password: world.password, ...answers })
      if (!form) return { status: response.status, page }
      url = new URL(form.action, url)
      response = await this.#ask(url, form.body)
    }
    throw new Error(`no end after ${url}`)
  }
}

function fill(page, answers) {
  const form = page.match(/<form method="post" action="([^"]*)">([\s\S]*?)<\/form>/)
  if (!form) return null
  const body = new URLSearchParams()
  for (const [tag] of form[2].matchAll(/<(?:input|button)[^>]*>/g)) {
    const attribute = (name) => tag.match(new RegExp(`\\s${name}="([^"]*)"`))?.[1]
    const name = attribute('name')
    if (!name || body.has(name)) continue
    const value = answers[name] ?? attribute('value') ?? ''
    body.set(name, value)
  }
  return { action: form[1], body }
}

export async function judge(library, cases) {
  for (const [sentence, run] of Object.entries(cases)) {
    try {
      await run()
      console.log(`ok ${library}: ${sentence}`)
    } catch (error) {
      const cause = error.cause ? ` | ${error.cause.stack ?? JSON.stringify(error.cause)}` : ''
      console.log(`FAILED ${library}: ${sentence}: ${error.stack}${cause}`)
    }
  }
  console.log('done')
}
