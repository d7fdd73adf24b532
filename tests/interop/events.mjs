// Reads requests as CloudEvents, and writes events as Kafka messages, with the official library.
// Input and output as of events.py.
import { createInterface } from "node:readline";

import { CloudEvent, HTTP, Kafka } from "cloudevents";

const encode = (data) => Buffer.from(data).toString("base64");

// The library has members without a value for what an event does not have.
const there = (members) => Object.entries(members).filter(([, value]) => value !== undefined);

const found = (data) => {
  if (typeof data === "string") return { text: data };
  if (ArrayBuffer.isView(data)) return { bytes: encode(Uint8Array.from(data)) };
  return { json: data };
};

const read = async () => {
  for await (const line of createInterface({ input: process.stdin })) {
    const one = JSON.parse(line);
    const bytes = Buffer.from(one.body, "base64");
    const body = one.bytes ? bytes : bytes.toString();
    const { data, data_base64, ...attributes } = HTTP.toEvent({ headers: one.headers, body });
    // The library hands on what is percent-encoded as it is.
    const structured = one.headers["content-type"].startsWith("application/cloudevents");
    const decoded = there(attributes).map(([name, value]) => [
      name,
      structured ? value : decodeURIComponent(value),
    ]);
    const answer = { case: one.name, attributes: Object.fromEntries(decoded), data: found(data) };
    console.log(JSON.stringify(answer));
  }
};

const DATA = {
  json: ["application/json", { amount: 1050, note: "café €" }],
  text: ["text/plain", "café €"],
  bytes: ["image/png", Uint8Array.from({ length: 256 }, (_, n) => n)],
};

const write = () => {
  for (const [name, [datacontenttype, data]] of Object.entries(DATA)) {
    for (const mode of ["binary", "structured"]) {
      const event = new CloudEvent({
        id: "evt_1",
        source: "/sdk",
        type: "payment.captured",
        time: "2023-01-19T00:13:51.000Z",
        datacontenttype,
        tenant: "acme",
        partitionkey: "pay_1",
        currencyname: "Euro € 😀",
        data,
      });
      const message = Kafka[mode](event);
      const headers = there(message.headers).map(([name, value]) => [name, encode(value)]);
      // In binary mode writing the data as bytes is left to who sends it.
      const plain = typeof message.value === "string" || ArrayBuffer.isView(message.value);
      const value = encode(plain ? message.value : JSON.stringify(message.value));
      console.log(JSON.stringify({ mode, data: name, headers: Object.fromEntries(headers), value }));
    }
  }
};

await { read, write }[process.argv[2]]();
