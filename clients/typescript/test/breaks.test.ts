import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { CancellationPhase, Code } from "../src/index.js";
import type { ClientOptions, GatewayError, State, Timing } from "../src/index.js";
import { Sandbox } from "./sandbox.js";

// One sandbox for all: each test leaves the gateway running, and has a cluster of its own.
let sandbox: Sandbox;
before(async () => void (sandbox = await Sandbox.start("--proxy-timeout", "1")));
after(() => sandbox[Symbol.asyncDispose]());

let count = 0;
async function newUpdate() {
  const cluster = `staging-ts-${++count}`;
  await sandbox.addCluster(cluster);
  return { cluster, updateId: `rollback-${cluster}` };
}

const PINGS = { pingIntervalMs: 500, pingTimeoutMs: 500, silenceMs: 60_000 };

/** A client with short delays that notes each retry. */
function patientClient(address: string, more: Partial<Timing> = {}) {
  const retries: GatewayError[] = [];
  let note = () => {};
  const retried = new Promise<void>((resolve) => (note = resolve));
  const timing = { firstBackoffMs: 50, longestBackoffMs: 200, silenceMs: 1_500, ...more };
  const onRetry = (error: GatewayError) => {
    retries.push(error);
    note();
  };
  const client = sandbox.client("oncall", { address, onRetry, timing } as Partial<ClientOptions>);
  return { client, retries, retried };
}

async function run(commands: string[]): Promise<void> {
  for (const command of commands) await sandbox.command(command);
}

/** Breaks the watch of a cancelled update at its first state, mends it after the first retry, and follows it. */
async function cancelAcross(address: string, breaking: string[], mending: string[] = [], more: Partial<Timing> = {}) {
  const { client, retries, retried } = patientClient(address, more);
  await using _ = client;
  const update = await newUpdate();
  await client.cancel(update);
  const states: State[] = [];
  for await (const known of client.watch(update)) {
    states.push(known);
    if (known.sequence > 1n) continue;
    void retried.then(() => run([...mending, "advance 800"]));
    await run(breaking);
  }
  assert.deepEqual([...states.keys()].map((index) => BigInt(index + 1)), states.map((each) => each.sequence));
  assert.ok(states.length > 1 && states.at(-1)?.final);
  assert.equal(states.at(-1)?.update.status, "Cancelled");
  return retries;
}

test("a watch resumes after the gateway was killed", async () => {
  const retries = await cancelAcross(sandbox.info.grpc, ["kill", "start"]);
  assert.ok(retries.every((each) => each.reason === ""));
});

test("a watch resumes after the gateway has drained", async () => {
  const retries = await cancelAcross(sandbox.info.grpc, ["drain", "start"]);
  assert.equal(retries[0]?.reason, "DRAINING");
});

test("a watch resumes after its connection has become silent", async () => {
  const retries = await cancelAcross(sandbox.info.proxy, ["silence"]);
  assert.match(String(retries[0]?.message), /no message came for 1.5 s/);
  assert.equal(retries.length, 1, "the next stream must not use the dead connection");
});

test("a watch resumes after the pings of its connection were not answered", async () => {
  const retries = await cancelAcross(sandbox.info.proxy, ["silence"], [], PINGS);
  assert.match(String(retries[0]?.message), /PING timed out/);
});

test("a client can be closed while a connection fails", async () => {
  const { client, retried } = patientClient(sandbox.info.proxy, PINGS);
  const states = client.watch(await newUpdate());
  await states.next();
  const next = states.next();
  await sandbox.command("silence");
  await retried;
  await client.close(); // before the connection's error is emitted, which would end the process
  await assert.rejects(next, /client is closed/);
});

test("a watch resumes after the gateway has hung", async () => {
  await cancelAcross(sandbox.info.grpc, ["pause"], ["resume"]);
});

test("a watch resumes after its connection was reset", async () => {
  await cancelAcross(sandbox.info.proxy, ["cut"]);
});

test("a watch resumes each time a proxy's timeout cuts it", async () => {
  await cancelAcross(sandbox.info.timeout_proxy, []);
});

test("a watch resumes behind a proxy after the gateway was killed", async () => {
  await cancelAcross(sandbox.info.timeout_proxy, ["kill", "start"]);
});

test("cancelAndWatch goes on as a watch after the gateway was killed", async () => {
  const { client, retried } = patientClient(sandbox.info.grpc);
  await using _ = client;
  const cases: string[] = [];
  for await (const event of client.cancelAndWatch(await newUpdate())) {
    cases.push(event.case);
    if (event.case === "cancellation") {
      await run(["kill", "start"]);
      void retried.then(() => run(["advance 800"]));
    } else if (event.value.final) assert.equal(event.value.update.status, "Cancelled");
  }
  assert.ok(cases.length > 1);
  assert.deepEqual(cases.indexOf("cancellation"), cases.lastIndexOf("cancellation"));
});

test("a cancel that meets no gateway is repeated with one effect", async () => {
  const { client, retried } = patientClient(sandbox.info.grpc);
  await using _ = client;
  const { cluster, updateId } = await newUpdate();
  await sandbox.command("kill");
  const cancelling = client.cancel({ cluster, updateId, requestId: "ts-repeated" });
  await retried;
  await sandbox.command("start");
  const cancellation = await cancelling;
  const { cancellations } = await client.cancellations.listCancellations({ cluster: { name: cluster } });
  assert.deepEqual(
    cancellations.map((each) => [each.cancellationId, each.requestId]),
    [[cancellation.cancellationId, "ts-repeated"]],
  );
});

test("a cancel on a connection that has become silent is repeated on another", async () => {
  const { client, retries } = patientClient(sandbox.info.proxy, PINGS);
  await using _ = client;
  const update = await newUpdate();
  await client.updates.listUpdates({ cluster: { name: update.cluster } });
  await sandbox.command("silence");
  const { phase } = await client.cancel(update);
  assert.equal(phase, CancellationPhase.REQUESTED);
  assert.ok(retries.length > 0);
});

test("a cancel that meets no gateway fails after its timeout", async () => {
  const { client } = patientClient("127.0.0.1:1");
  await using _ = client;
  const cancelling = client.cancel({ cluster: "staging-1", updateId: "rollback-staging-1", timeoutMs: 1_500 });
  await assert.rejects(cancelling, { name: "GatewayError", code: Code.Unavailable, reason: "" });
});
