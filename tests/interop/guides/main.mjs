// Verifies each request of standard input with the code of docs/guides/verify/node.md.

import { readFileSync } from "node:fs";

import { NotVerified, verify } from "./webhook.mjs";

for (const line of readFileSync(0, "utf8").trimEnd().split("\n")) {
  const [secret, body, ...fields] = line.split("\t");
  const headers = Object.fromEntries(fields.map((field) => field.split(": ", 2)));
  try {
    verify(secret, headers, Buffer.from(body, "base64"));
    console.log("accepted");
  } catch (error) {
    if (!(error instanceof NotVerified)) throw error;
    console.log("refused");
  }
}
