// Verifies requests with libraries that others wrote. Input and output as of verify.py.
import "@shopify/shopify-api/adapters/node";

import { createHash, createPublicKey } from "node:crypto";
import { createInterface } from "node:readline";

import { verify as octokit } from "@octokit/webhooks-methods";
import { shopifyApi } from "@shopify/shopify-api";
import { verifySlackRequest } from "@slack/bolt";
import { createVerifier, httpbis } from "http-message-signatures";
import { flattenedVerify } from "jose";
import { Webhook as StandardWebhook } from "standardwebhooks";
import Stripe from "stripe";
import { Webhook as SvixWebhook } from "svix";
import nacl from "tweetnacl";

const shared = (secret) => Buffer.from(secret.replace(/^whsec_/, ""), "base64");

const throwsNot = async (verify) => {
  try {
    return (await verify()) !== false;
  } catch {
    return false;
  }
};

const standard = (Webhook) => (one, body) =>
  throwsNot(() => new Webhook(one.secret).verify(body.toString(), one.headers) || true);

const withNacl = (one, body) => {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": sent } = one.headers;
  const signed = Buffer.concat([Buffer.from(`${id}.${at}.`), body]);
  const key = Buffer.from(one.public.replace(/^whpk_/, ""), "base64");
  return nacl.sign.detached.verify(signed, Buffer.from(sent.slice(4), "base64"), key);
};

const withStripe = (one, body) => {
  const stripe = new Stripe("sk_test_none");
  const header = one.headers["stripe-signature"];
  const { signature } = stripe.webhooks;
  return throwsNot(() => signature.verifyHeader(body.toString(), header, one.secret, 300));
};

const withShopify = async (one, body) => {
  const shopify = shopifyApi({
    apiKey: "none",
    apiSecretKey: one.secret,
    apiVersion: "2026-01",
    hostName: "merchant.example",
    isEmbeddedApp: false,
    logger: { log: () => {} },
  });
  const headers = {
    ...one.headers,
    "X-Shopify-Topic": "orders/create",
    "X-Shopify-Shop-Domain": "merchant.myshopify.com",
    "X-Shopify-API-Version": "2026-01",
    "X-Shopify-Webhook-Id": "1",
  };
  const rawRequest = { method: "POST", url: one.url, headers };
  const checked = await shopify.webhooks.validate({ rawBody: body.toString(), rawRequest });
  return checked.valid;
};

const withBolt = (one, body) =>
  throwsNot(() =>
    verifySlackRequest({
      signingSecret: one.secret,
      body: body.toString(),
      headers: {
        "x-slack-signature": one.headers["x-slack-signature"],
        "x-slack-request-timestamp": Number(one.headers["x-slack-request-timestamp"]),
      },
    }),
  );

const byHandCorefy = (one, body) => {
  const hash = createHash("sha1").update(one.secret).update(body).update(one.secret);
  return hash.digest("base64") === one.headers["x-signature"];
};

const MESSAGE_ALGORITHMS = {
  shared: "hmac-sha256",
  ed25519: "ed25519",
  p256: "ecdsa-p256-sha256",
  rsa: "rsa-pss-sha512",
};

const withMessageSignatures = (one, body) => {
  const alg = MESSAGE_ALGORITHMS[one.kind];
  const key = one.kind === "shared" ? shared(one.secret) : createPublicKey(one.public);
  const keyLookup = async ({ keyid }) =>
    keyid === one.key_id && { id: keyid, algs: [alg], verify: createVerifier(key, alg) };
  const digest = createHash("sha256").update(body).digest("base64");
  if (one.headers["content-digest"] !== `sha-256=:${digest}:`) return false;
  const request = { method: "POST", url: one.url, headers: one.headers };
  return throwsNot(async () => (await httpbis.verifyMessage({ keyLookup }, request)) === true);
};

const withJose = (one, body) => {
  const [header, signature] = one.headers["x-jws-signature"].split("..");
  const key = one.kind === "shared" ? shared(one.secret) : createPublicKey(one.public);
  const unencoded = one.unencoded;
  const payload = unencoded ? body : body.toString("base64url");
  const crit = Object.fromEntries(
    ["iat", "iss", "tan"].map((name) => [`http://openbanking.org.uk/${name}`, true]),
  );
  return throwsNot(() => flattenedVerify({ protected: header, payload, signature }, key, { crit }));
};

const libraries = {
  standard: { standardwebhooks: standard(StandardWebhook), svix: standard(SvixWebhook) },
  "standard-ed25519": { tweetnacl: withNacl },
  stripe: { stripe: withStripe },
  github: {
    "@octokit/webhooks-methods": (one, body) =>
      octokit(one.secret, body.toString(), one.headers["x-hub-signature-256"]),
  },
  shopify: { "@shopify/shopify-api": withShopify },
  slack: { "@slack/bolt": withBolt },
  corefy: { "node:crypto": byHandCorefy },
  rfc9421: { "http-message-signatures": withMessageSignatures },
  jws: { jose: withJose },
  "jws-unencoded": { jose: withJose },
  "jws-open-banking": { jose: withJose },
};

for await (const line of createInterface({ input: process.stdin })) {
  const one = JSON.parse(line);
  const [body, other] = ["body", "other_body"].map((name) => Buffer.from(one[name], "base64"));
  for (const [name, verify] of Object.entries(libraries[one.scheme])) {
    const verdict = {
      case: one.name,
      library: `Node: ${name}`,
      accepts: await verify(one, body),
      refuses: !(await verify(one, other)),
    };
    console.log(JSON.stringify(verdict));
  }
}
