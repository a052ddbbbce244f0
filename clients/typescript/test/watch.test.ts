import assert from "node:assert/strict";
import { once } from "node:events";
import { constants } from "node:http2";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";

import { Code, createClient, type ClientOptions, GatewayError, type State, WatchKind } from "../src/index.js";
import { CancellationSchema, CancelUpdateResponseSchema } from "../src/index.js";
import { gatewayError, message, Stub } from "./stub.js";

const { SNAPSHOT, CHANGE, HEARTBEAT, FINAL } = WatchKind;
const UPDATE = { cluster: "c-1", updateId: "u-1" };
const TIMING = { firstBackoffMs: 10, longestBackoffMs: 20, silenceMs: 60_000 };

function clientOf(stub: Stub, options: Partial<ClientOptions> = {}) {
  return createClient({ address: stub.address, plaintext: true, timing: TIMING, ...options } as ClientOptions);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const each of items) found.push(each);
  return found;
}

test("breaking out of the loop cancels the stream", async () => {
  let cancelled: Promise<unknown> | undefined;
  await using stub = await Stub.start({
    async *watchUpdate(_, context) {
      cancelled = once(context.signal, "abort");
      yield message(SNAPSHOT, 1);
      await cancelled;
    },
  });
  await using client = clientOf(stub);
  for await (const known of client.watch(UPDATE)) {
    assert.equal(known.update.id, "u-1");
    break;
  }
  assert.ok(cancelled);
  await cancelled;
});

test("each stream resumes with the last token, heartbeats included", async () => {
  const tokens: string[] = [];
  const streams = [
    [message(SNAPSHOT, 1), message(HEARTBEAT, 1, 0, "token-1-later")],
    [message(HEARTBEAT, 1), message(CHANGE, 2)],
    [message(FINAL, 3)],
  ];
  await using stub = await Stub.start({
    async *watchUpdate(request) {
      tokens.push(request.resumeToken);
      yield* streams[tokens.length - 1] ?? []; // and end with OK, as proxies do
    },
  });
  await using client = clientOf(stub);
  const states = await collect(client.watch({ ...UPDATE, resumeToken: "stored" }));
  assert.deepEqual(tokens, ["stored", "token-1-later", "token-2"]);
  assert.deepEqual(states.map((each) => Number(each.sequence)), [1, 2, 3]);
});

const ENDS = (["NO_ERROR", "INTERNAL_ERROR", "REFUSED_STREAM", "CANCEL", "ENHANCE_YOUR_CALM"] as const).flatMap(
  (name) => [["goAway", name] as const, ["reset", name] as const],
);
for (const [end, name] of ENDS) {
  test(`a watch resumes after ${end} with ${name}`, async () => {
    let count = 0;
    await using stub = await Stub.start({
      async *watchUpdate(_, context) {
        if (++count > 1) return yield message(FINAL, 2);
        yield message(SNAPSHOT, 1);
        await once(context.signal, "abort");
      },
    });
    await using client = clientOf(stub);
    for await (const known of client.watch(UPDATE))
      if (!known.final) stub[end](constants[`NGHTTP2_${name}`]);
    assert.equal(count, 2);
  });
}

test("a refused resume token is dropped", async () => {
  const tokens: string[] = [];
  await using stub = await Stub.start({
    async *watchUpdate({ resumeToken }) {
      tokens.push(resumeToken);
      if (resumeToken) throw gatewayError(Code.InvalidArgument, "RESUME_TOKEN_INVALID");
      yield message(FINAL, 1);
    },
  });
  await using client = clientOf(stub);
  assert.equal((await collect(client.watch({ ...UPDATE, resumeToken: "old" }))).length, 1);
  assert.deepEqual(tokens, ["old", ""]);
});

test("an expired token is replaced once, and refused the second time", async () => {
  const seen: (string | null)[] = [];
  await using stub = await Stub.start({
    async *watchUpdate(_, context) {
      seen.push(context.requestHeader.get("authorization"));
      if (seen.length === 2) yield message(SNAPSHOT, 1);
      throw gatewayError(Code.Unauthenticated, "CREDENTIALS_EXPIRED");
    },
  });
  let count = 0;
  await using client = clientOf(stub, { token: async () => `t${Math.min(++count, 3)}` });
  await assert.rejects(collect(client.watch(UPDATE)), { reason: "CREDENTIALS_EXPIRED" });
  assert.deepEqual(seen, ["Bearer t1", "Bearer t2", "Bearer t3"]);
});

test("an expired token that the source returns again is not sent again", async () => {
  let count = 0;
  await using stub = await Stub.start({
    cancelUpdate() {
      count++;
      throw gatewayError(Code.Unauthenticated, "CREDENTIALS_EXPIRED");
    },
  });
  await using client = clientOf(stub, { token: () => "t1" });
  await assert.rejects(client.cancel(UPDATE), { reason: "CREDENTIALS_EXPIRED" });
  assert.equal(count, 1);
});

test("a state that is old when it comes is reported once, as stale", async () => {
  await using stub = await Stub.start({
    async *watchUpdate() {
      yield message(SNAPSHOT, 1, 90_000);
      await setTimeout(50); // for a repetition that must not come
      yield message(HEARTBEAT, 1, 95_000);
      yield message(FINAL, 2);
    },
  });
  await using client = clientOf(stub);
  const seen: [bigint, boolean][] = [];
  for await (const known of client.watch(UPDATE)) seen.push([known.sequence, known.stale]);
  assert.deepEqual(seen, [[1n, true], [2n, false]]);
});

test("a state that no heartbeat confirms becomes stale, and fresh again", async () => {
  let proceed = () => {};
  const later = new Promise<void>((resolve) => (proceed = resolve));
  await using stub = await Stub.start({
    async *watchUpdate() {
      yield message(SNAPSHOT, 1, 200);
      await later;
      yield message(HEARTBEAT, 1);
      yield message(FINAL, 2);
    },
  });
  await using client = clientOf(stub);
  const seen: [bigint, boolean][] = [];
  let first: State | undefined;
  for await (const known of client.watch({ ...UPDATE, maxAgeMs: 500 })) {
    seen.push([known.sequence, known.stale]);
    if (known.stale) {
      assert.ok(first?.stale, "a state that is kept shows its age");
      proceed();
    }
    first ??= known;
  }
  assert.deepEqual(seen, [[1n, false], [1n, true], [1n, false], [2n, false]]);
});

test("without any state the watch reports that it knows nothing", async () => {
  await using stub = await Stub.start({
    async *watchUpdate(_, context) {
      await once(context.signal, "abort");
      yield message(FINAL, 1);
    },
  });
  await using client = clientOf(stub);
  for await (const known of client.watch({ ...UPDATE, maxAgeMs: 100 })) {
    assert.deepEqual([known.sequence, known.stale, known.final], [0n, true, false]);
    break;
  }
});

test("a refusal ends the watch", async () => {
  await using stub = await Stub.start({
    // eslint-disable-next-line require-yield
    async *watchUpdate() {
      throw gatewayError(Code.PermissionDenied, "POLICY_DENIED");
    },
  });
  await using client = clientOf(stub);
  await assert.rejects(collect(client.watch(UPDATE)), { name: "GatewayError", reason: "POLICY_DENIED" });
});

test("a cancel waits for the pause of RetryInfo", async () => {
  const times: number[] = [];
  await using stub = await Stub.start({
    cancelUpdate() {
      times.push(performance.now());
      if (times.length === 1) throw gatewayError(Code.ResourceExhausted, "OVERLOADED", 300);
      return create(CancelUpdateResponseSchema, { cancellation: {} });
    },
  });
  await using client = clientOf(stub);
  await client.cancel(UPDATE);
  assert.ok(times[1]! - times[0]! > 290);
});

test("a cancel fails at once if the pause is longer than its timeout", async () => {
  await using stub = await Stub.start({
    cancelUpdate() {
      throw gatewayError(Code.ResourceExhausted, "OVERLOADED", 60_000);
    },
  });
  await using client = clientOf(stub);
  await assert.rejects(client.cancel(UPDATE), { reason: "OVERLOADED", retryAfterMs: 60_000 });
});

test("a cancel is not repeated after its timeout", async () => {
  await using stub = await Stub.start({
    cancelUpdate() {
      throw gatewayError(Code.Unavailable, "OUTCOME_UNKNOWN");
    },
  });
  await using client = clientOf(stub);
  const start = performance.now();
  await assert.rejects(client.cancel({ ...UPDATE, timeoutMs: 1_300 }), { reason: "OUTCOME_UNKNOWN" });
  assert.ok(performance.now() - start < 1_300);
});

test("cancelAndWatch repeats its request until the cancellation, and then watches", async () => {
  const seen: string[] = [];
  await using stub = await Stub.start({
    async *cancelUpdateAndWatch({ requestId }) {
      seen.push(requestId);
      if (seen.length === 1) throw gatewayError(Code.Unavailable, "DRAINING");
      yield { event: { case: "cancellation", value: create(CancellationSchema, { requestId }) } };
      yield { event: { case: "watch", value: message(SNAPSHOT, 1) } };
    },
    async *watchUpdate({ resumeToken }) {
      seen.push(resumeToken);
      yield message(FINAL, 2);
    },
  });
  await using client = clientOf(stub);
  const events = await collect(client.cancelAndWatch({ ...UPDATE, requestId: "r-1" }));
  assert.deepEqual(seen, ["r-1", "r-1", "token-1"]);
  assert.deepEqual(events.map((each) => each.case), ["cancellation", "state", "state"]);
});

test("cancelAndWatch without an answer fails at its deadline", async () => {
  await using stub = await Stub.start({
    async *cancelUpdateAndWatch(_, context) {
      await once(context.signal, "abort");
      yield {};
    },
  });
  await using client = clientOf(stub);
  const events = client.cancelAndWatch({ ...UPDATE, timeoutMs: 300 });
  await assert.rejects(events.next(), { name: "GatewayError", code: Code.DeadlineExceeded });
});

test("a cancel is repeated with the same request id", async () => {
  const ids: string[] = [];
  await using stub = await Stub.start({
    cancelUpdate({ requestId }) {
      ids.push(requestId);
      if (ids.length < 3) throw gatewayError(Code.Aborted, "DECISION_STALE");
      return create(CancelUpdateResponseSchema, { cancellation: { requestId } });
    },
  });
  await using client = clientOf(stub);
  const cancellation = await client.cancel(UPDATE);
  assert.deepEqual(ids, Array(3).fill(cancellation.requestId));
});

test("80 watches share a connection, and calls have their own", async () => {
  await using stub = await Stub.start({
    async *watchUpdate(_, context) {
      yield message(SNAPSHOT, 1);
      await once(context.signal, "abort");
    },
    getUpdate: () => ({}),
  });
  await using client = clientOf(stub);
  const watches = Array.from({ length: 81 }, () => client.watch(UPDATE));
  await Promise.all(watches.map((each) => each.next()));
  await client.updates.getUpdate({});
  assert.equal(stub.connections, 3);
  await Promise.all(watches.map((each) => each.return()));
  await Promise.all(watches.map(() => client.watch(UPDATE).next()));
  assert.equal(stub.connections, 3, "the places of watches that have ended are free");
});

test("an error of a proxy alone is given up after some attempts", async () => {
  let count = 0;
  await using stub = await Stub.start({
    // eslint-disable-next-line require-yield
    async *watchUpdate() {
      count++;
      throw new Error("no gateway");
    },
  });
  await using client = clientOf(stub);
  await assert.rejects(collect(client.watch(UPDATE)), (error) => {
    assert.ok(error instanceof GatewayError && /a proxy has answered 7 times/.test(error.hint));
    return true;
  });
  assert.equal(count, 7);
});
