// Reads a request per line, {"headers", "body_base64", "secret"}, and prints a verdict per line, which the official
// Standard Webhooks library gives. NODE_PATH names the node_modules that holds it.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const { Webhook } = createRequire(import.meta.url)("standardwebhooks");

function verify({ headers, body_base64, secret }) {
  const body = Buffer.from(body_base64, "base64").toString("utf8");
  try {
    // it also parses the body as JSON, which is not what is asked here
    new Webhook(secret).verify(body, headers, { jsonParse: false });
    return { ok: true, error: null };
  } catch (error) {
    return { ok: false, error: `${error.name}: ${error.message}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(verify(JSON.parse(line))));
}
