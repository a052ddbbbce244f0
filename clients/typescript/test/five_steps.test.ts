import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { CancellationPhase, Code, GatewayError, type State, type WatchEvent } from "../src/index.js";
import { Sandbox } from "./sandbox.js";

let sandbox: Sandbox;
before(async () => void (sandbox = await Sandbox.start()));
after(() => sandbox[Symbol.asyncDispose]());

test("a denial has its reason, decision id and rules", async () => {
  await using client = sandbox.client("oncall");
  const denied = client.cancel({ cluster: "prod-1", updateId: "rollback-prod-1", reason: "bad AMI" });
  await assert.rejects(denied, (error) => {
    assert.ok(error instanceof GatewayError);
    assert.equal(error.code, Code.PermissionDenied);
    assert.equal(error.reason, "POLICY_DENIED");
    assert.deepEqual(error.reasons, ["A ticket is required by grant oncall-production."]);
    assert.equal(error.metadata["rule_ids"], "oncall-production");
    assert.match(String(error.metadata["decision_id"]), /^[0-9a-f-]{36}$/);
    return true;
  });
});

test("a cancel is watched to FINAL, and its repetition has one effect", async () => {
  await using oncall = sandbox.client("oncall");
  await using viewer = sandbox.client("viewer");
  const update = { cluster: "prod-1", updateId: "rollback-prod-1" };
  const options = { ...update, requestId: "ts-1", reason: "bad AMI", ticket: "OPS-1" };
  const cancellation = await oncall.cancel(options);
  assert.equal(cancellation.requestId, "ts-1");
  assert.equal(cancellation.phase, CancellationPhase.REQUESTED);
  assert.equal((await oncall.cancel(options)).cancellationId, cancellation.cancellationId);

  const states: State[] = [];
  for await (const known of viewer.watch(update)) {
    assert.ok(!known.stale);
    states.push(known);
    if (!known.final) await sandbox.command("advance 700");
  }
  assert.equal(states.at(0)?.update.status, "InProgress");
  assert.equal(states.at(-1)?.update.status, "Cancelled");
  assert.equal(states.at(-1)?.phase, CancellationPhase.CANCELLED);
  assert.deepEqual(
    states.map((each) => each.sequence),
    states.map((_, index) => BigInt(index + 1)),
  );
});

test("cancelAndWatch yields the cancellation, then the states to FINAL", async () => {
  await sandbox.addCluster("staging-ts");
  await using client = sandbox.client("oncall");
  const events: WatchEvent[] = [];
  for await (const event of client.cancelAndWatch({ cluster: "staging-ts", updateId: "rollback-staging-ts" })) {
    events.push(event);
    await sandbox.command("advance 700");
  }
  assert.equal(events[0]?.case, "cancellation");
  const last = events.at(-1);
  assert.ok(last?.case === "state" && last.value.final && last.value.update.status === "Cancelled");
});

test("a refused cancelAndWatch throws before any event", async () => {
  await using client = sandbox.client("outsider");
  const events = client.cancelAndWatch({ cluster: "staging-1", updateId: "rollback-staging-1" });
  await assert.rejects(events.next(), { name: "GatewayError", reason: "POLICY_DENIED" });
});

test("a call that is not answered fails at its deadline", async () => {
  await using client = sandbox.client("oncall", { address: sandbox.info.proxy });
  await client.updates.getUpdate({ cluster: { name: "staging-1" }, updateId: "rollback-staging-1" });
  await sandbox.command("silence");
  const start = performance.now();
  const late = client.cancel({ cluster: "staging-1", updateId: "rollback-staging-1", timeoutMs: 500 });
  await assert.rejects(late, { name: "GatewayError", code: Code.DeadlineExceeded });
  assert.ok(performance.now() - start < 5_000);
});

test("the other RPCs have the token, and errors that GatewayError parses", async () => {
  await using client = sandbox.client("viewer");
  const { updates } = await client.updates.listCancellableUpdates({});
  assert.ok(updates.some((each) => each.cluster?.name === "staging-2"));
  const call = client.updates.getUpdate({ cluster: { name: "staging-1" }, updateId: "no/id" });
  const error = await call.catch((reason: unknown) => GatewayError.from(reason));
  assert.ok(error instanceof GatewayError);
  assert.equal(error.reason, "REQUEST_INVALID");
  assert.equal(error.violations[0]?.field, "update_id");
});

test("a signal ends a watch and a cancel with its reason", async () => {
  await using client = sandbox.client("oncall");
  const update = { cluster: "staging-1", updateId: "rollback-staging-1" };
  const controller = new AbortController();
  const states = client.watch({ ...update, signal: controller.signal });
  await states.next();
  const next = states.next();
  controller.abort(new Error("enough"));
  await assert.rejects(next, /enough/);
  await assert.rejects(client.cancel({ ...update, signal: controller.signal }), /enough/);
});

test("closing the client ends its watches", async () => {
  const client = sandbox.client("viewer");
  const states = client.watch({ cluster: "staging-1", updateId: "rollback-staging-1" });
  await states.next();
  const next = states.next();
  await client.close();
  await assert.rejects(next, /client is closed/);
  await assert.rejects(client.watch({ cluster: "a", updateId: "b" }).next(), /client is closed/);
  await assert.rejects(client.updates.listCancellableUpdates({}), /client is closed/);
});
