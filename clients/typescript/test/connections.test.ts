import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { createClient, type ClientOptions, GatewayError, WatchKind } from "../src/index.js";
import { message, Stub } from "./stub.js";

const UPDATE = { cluster: "c-1", updateId: "u-1" };
const TIMING = { firstBackoffMs: 10, longestBackoffMs: 20 };
const SERVICE = {
  async *watchUpdate() {
    yield message(WatchKind.FINAL, 1);
  },
};

function makeCertificate(): { cert: Buffer; key: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), "ts-tls-"));
  const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const subject = ["-subj", "/CN=gateway", "-addext", "subjectAltName=IP:127.0.0.1"];
  const form = ["-x509", "-nodes", "-days", "1", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
  try {
    execFileSync("openssl", ["req", ...form, ...subject, "-keyout", key, "-out", cert], { stdio: "ignore" });
    return { cert: readFileSync(cert), key: readFileSync(key) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function watch(options: ClientOptions): Promise<bigint | undefined> {
  await using client = createClient({ timing: TIMING, ...options } as ClientOptions);
  let last: bigint | undefined;
  for await (const known of client.watch(UPDATE)) last = known.sequence;
  return last;
}

function withHint(hint: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof GatewayError);
    assert.match(error.hint, hint);
    assert.equal(error.reason, "");
    return true;
  };
}

test("TLS with the CA that issued the certificate works", async () => {
  const pair = makeCertificate();
  await using stub = await Stub.start(SERVICE, pair);
  assert.equal(await watch({ address: stub.address, tls: { ca: pair.cert } }), 1n);
});

test("an unknown CA is reported after some attempts", async () => {
  await using stub = await Stub.start(SERVICE, makeCertificate());
  await assert.rejects(watch({ address: stub.address }), withHint(/tls or plaintext/));
});

test("TLS to a gateway in plaintext is reported after some attempts", async () => {
  await using stub = await Stub.start(SERVICE);
  await assert.rejects(watch({ address: stub.address }), withHint(/tls or plaintext/));
});

test("plaintext to a gateway with TLS is reported after some attempts", async () => {
  await using stub = await Stub.start(SERVICE, makeCertificate());
  await assert.rejects(watch({ address: stub.address, plaintext: true }), withHint(/tls or plaintext/));
});

test("an unknown host is reported after some attempts", async () => {
  await assert.rejects(watch({ address: "gateway.invalid:50051" }), withHint(/check the address/));
});

for (const address of ["", "gateway", "http://gateway:1", "gateway:0", "gateway:70000", "a b:1", "::1:1"]) {
  test(`the address "${address}" is refused`, () => {
    assert.throws(() => createClient({ address }), TypeError);
  });
}

test("a token with a line break is refused", async () => {
  const token = () => "a\nb";
  await assert.rejects(watch({ address: "127.0.0.1:1", plaintext: true, token }), /no bearer token/);
});
