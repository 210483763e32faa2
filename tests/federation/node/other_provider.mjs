// The provider of ../go as a process of its own.

import { spawn } from "node:child_process";
import readline from "node:readline";

export async function startOtherProvider(ours) {
  const child = spawn(process.env.FEDERATION_GO, [`${ours}/sign-in/from/go`], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const issuer of readline.createInterface({ input: child.stdout })) {
    return { issuer, secret: "secret", close: () => child.kill() };
  }
  throw new Error("the provider in Go ended before it had an address");
}
