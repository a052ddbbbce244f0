import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { type Client, type ClientOptions, Code, type GatewayError } from "../src/index.js";
import { Sandbox } from "./sandbox.js";

// The same client over the Connect protocol, to the gateway's HTTP edge.
let sandbox: Sandbox;
before(async () => void (sandbox = await Sandbox.start()));
after(() => sandbox[Symbol.asyncDispose]());

const TIMING = { firstBackoffMs: 50, longestBackoffMs: 200 };

function edgeClient(options: Partial<ClientOptions> = {}): Client {
  const address = new URL(sandbox.info.http).host;
  const own = { address, protocol: "connect", timing: TIMING, ...options };
  return sandbox.client("oncall", own as Partial<ClientOptions>);
}

test("a denial by the edge has its reason", async () => {
  await using client = edgeClient();
  const denied = client.cancel({ cluster: "prod-1", updateId: "rollback-prod-1", reason: "bad AMI" });
  await assert.rejects(denied, (error: GatewayError) => {
    assert.deepEqual([error.code, error.reason], [Code.PermissionDenied, "POLICY_DENIED"]);
    assert.deepEqual(error.reasons, ["A ticket is required by grant oncall-production."]);
    return true;
  });
});

test("cancelAndWatch by the edge reaches FINAL, although the gateway is killed", async () => {
  let note = () => {};
  const retried = new Promise<void>((resolve) => (note = resolve));
  await using client = edgeClient({ onRetry: () => note() });
  const seen: string[] = [];
  for await (const event of client.cancelAndWatch({ cluster: "staging-1", updateId: "rollback-staging-1" })) {
    seen.push(event.case === "state" ? event.value.update.status : event.case);
    if (event.case === "state" && event.value.sequence === 1n) {
      await sandbox.command("kill");
      await sandbox.command("start");
      void retried.then(() => sandbox.command("advance 800"));
    }
  }
  assert.deepEqual([seen[0], seen[1], seen.at(-1)], ["cancellation", "InProgress", "Cancelled"]);
});

test("a call by the edge ends at its deadline", async () => {
  await using client = edgeClient();
  await sandbox.command("pause");
  const late = client.cancel({ cluster: "staging-2", updateId: "rollback-staging-2", timeoutMs: 500 });
  await assert.rejects(late, { name: "GatewayError", code: Code.DeadlineExceeded });
  await sandbox.command("resume");
});
