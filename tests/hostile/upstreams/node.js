// An app on Node's http that tells, one JSON line a request, what it was sent.
"use strict";
const fs = require("fs");
const http = require("http");
const path = require("path");

const [port, files] = process.argv.slice(2);

// As many small servers do it: decode, normalise, read; and without regard to case, as Express routes and some file systems look up.
function serveFile(request, response) {
  let name;
  try {
    name = path.normalize(decodeURIComponent(request.url.split("?")[0])).toLowerCase();
    response.end(fs.readFileSync(path.join(files, name)));
  } catch {
    response.statusCode = 404;
    response.end("no such file");
  }
}

http.createServer((request, response) => {
  if (request.headers["x-static"]) return serveFile(request, response);
  const chunks = [];
  let told = false;
  const tell = (whole) => {
    if (told) return;
    told = true;
    const headers = [];
    for (const raw of [request.rawHeaders, request.rawTrailers]) {
      for (let at = 0; at < raw.length; at += 2) headers.push([raw[at].toLowerCase(), raw[at + 1]]);
    }
    const body = Buffer.concat(chunks).toString("latin1");
    fs.writeSync(1, JSON.stringify({ method: request.method, target: request.url, headers, body, whole }) + "\n");
  };
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("error", () => tell(false));
  request.on("close", () => tell(request.complete));
  request.on("end", () => {
    tell(true);
    const answer = "you asked for " + request.url;
    response.setHeader("Content-Length", answer.length);
    response.end(answer);
  });
}).listen(Number(port), "127.0.0.1");
