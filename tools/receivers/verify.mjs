// Reads a request per line, {"headers", "body_base64", "secret"}, and prints a verdict per line. The signature is judged
// by the official Standard Webhooks library, the event is read by the CloudEvents SDK. NODE_PATH names the node_modules
// that holds both.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(import.meta.url);
const { Webhook } = require("standardwebhooks");
const { HTTP } = require("cloudevents");

function verify(headers, body, secret) {
  try {
    // it also parses the body as JSON, which is not what is asked here
    new Webhook(secret).verify(body.toString("utf8"), headers, { jsonParse: false });
    return { ok: true, error: null };
  } catch (error) {
    return { ok: false, error: `${error.name}: ${error.message}` };
  }
}

// What web frameworks hand on: JSON and texts as a string, other bodies as bytes.
function parse(headers, body) {
  const isText = /json|^text\//.test(headers["content-type"] ?? "");
  try {
    const event = HTTP.toEvent({ headers, body: isText ? body.toString("utf8") : body });
    event.validate();
    const { id, type, source, time, datacontenttype, tenantid, data, data_base64 } = event;
    const seconds = Math.floor(Date.parse(time) / 1000);
    const shown = { id, type, source, time: seconds, datacontenttype, tenantid, data: data_base64 ?? data };
    return { event: shown, event_error: null };
  } catch (error) {
    return { event: null, event_error: `${error.name}: ${error.message}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { headers, body_base64, secret } = JSON.parse(line);
  const body = Buffer.from(body_base64, "base64");
  console.log(JSON.stringify({ ...verify(headers, body, secret), ...parse(headers, body) }));
}
