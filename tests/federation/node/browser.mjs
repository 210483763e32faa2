// A browser without a window: cookies by origin, links and forms by what they say, redirects one at a time.

import http from "node:http";

// Not fetch, which says of itself that it is a script.
function exchange(url, method, headers, body) {
  const type = body && { "content-type": "application/x-www-form-urlencoded", "content-length": Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method, headers: { ...headers, ...type } }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks).toString() }));
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

const text = (html) => html.replaceAll("&amp;", "&").replaceAll("&#38;", "&").replaceAll("&quot;", '"');

export class Browser {
  cookies = new Map();

  async send(url, { method = "GET", form } = {}) {
    const { origin } = new URL(url);
    const jar = this.cookies.get(origin) ?? new Map();
    this.cookies.set(origin, jar);
    const headers = { accept: "text/html", "sec-fetch-mode": "navigate", cookie: [...jar].map(([name, value]) => `${name}=${value}`).join("; ") };
    const answer = await exchange(url, method, headers, form && new URLSearchParams(form).toString());
    for (const cookie of answer.headers["set-cookie"] ?? []) {
      const [pair, ...attributes] = cookie.split(";");
      const at = pair.indexOf("=");
      const over = attributes.some((one) => /^ *(max-age=0|expires=thu, 01 jan 1970)/i.test(one));
      if (over) jar.delete(pair.slice(0, at));
      else jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const { location } = answer.headers;
    return { status: answer.status, location: location && new URL(location, url).href, url, body: answer.body };
  }

  // Until a page that is no redirect.
  async open(url, options) {
    let page = await this.send(url, options);
    for (let hops = 0; page.location; hops++) {
      if (hops > 20) throw new Error(`round and round: ${page.location}`);
      page = await this.send(page.location);
    }
    return page;
  }

  follow(page, label) {
    const link = [...page.body.matchAll(/<a [^>]*href="([^"]*)"[^>]*>([^<]*)<\/a>/g)].find((found) => text(found[2]).trim() === label);
    if (!link) throw new Error(`no link ${label} on ${page.url}: ${page.body}`);
    return this.open(new URL(text(link[1]), page.url).href);
  }

  // The form that has all these fields, with what it brings and these on top.
  submit(page, fields, button) {
    for (const [form, inside] of page.body.matchAll(/<form[^>]*>([\s\S]*?)<\/form>/g)) {
      const tags = [...inside.matchAll(/<(?:input|button)[^>]*>/g)].map(([tag]) => tag);
      const of = (tag, name) => text(tag.match(new RegExp(` ${name}="([^"]*)"`))?.[1] ?? "");
      const names = tags.map((tag) => of(tag, "name"));
      if (button ? !tags.some((tag) => of(tag, "name") === button[0] && of(tag, "value") === button[1]) : !Object.keys(fields).every((name) => names.includes(name))) continue;
      const hidden = tags.filter((tag) => of(tag, "type") === "hidden").map((tag) => [of(tag, "name"), of(tag, "value")]);
      const action = text(form.match(/ action="([^"]*)"/)?.[1] ?? page.url);
      return this.open(new URL(action, page.url).href, {
        method: "POST",
        form: { ...Object.fromEntries(hidden), ...fields, ...(button ? { [button[0]]: button[1] } : {}) },
      });
    }
    throw new Error(`no such form on ${page.url}: ${page.body}`);
  }
}
