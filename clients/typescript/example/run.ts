// The five steps of a client: a denial, a cancel watched to its end, a resumed watch, a deadline, both calls in one.
//
// It starts a sandbox of its own (`npm run example`), and kills its gateway in step 3.
import { CancellationPhase, Code, createClient, GatewayError, type State } from "../src/index.js";
import { Sandbox } from "../test/sandbox.js";

await using sandbox = await Sandbox.start();
await using client = createClient({
  address: sandbox.info.grpc,
  plaintext: true,
  token: () => sandbox.info.tokens.oncall,
  onRetry: (error, delayMs) => console.log(`   ${error.message}; again in ${Math.round(delayMs)} ms`),
});
const prod = { cluster: "prod-1", updateId: "rollback-prod-1", reason: "bad AMI" };
const staging = { cluster: "staging-1", updateId: "rollback-staging-1" };

console.log("1. Without a ticket the policy denies the cancel.");
try {
  await client.cancel(prod);
} catch (error) {
  if (!(error instanceof GatewayError) || error.reason !== "POLICY_DENIED") throw error;
  console.log(`   ${error.reasons.join(" ")} (decision ${error.metadata["decision_id"]})`);
}

console.log("2. With one, the update is cancelled and watched to its end.");
const cancellation = await client.cancel({ ...prod, ticket: "OPS-12" });
console.log(`   ${CancellationPhase[cancellation.phase]}, request id ${cancellation.requestId}`);
for await (const known of client.watch(prod)) {
  show(known);
  await sandbox.command("advance 400"); // simulated seconds
}

console.log("3. A watch resumes after the gateway was killed.");
await client.cancel(staging);
for await (const known of client.watch(staging)) {
  show(known);
  for (const command of known.sequence === 1n ? ["kill", "start", "advance 800"] : []) await sandbox.command(command);
}

console.log("4. A call ends at its deadline.");
await sandbox.command("pause");
try {
  await client.cancel({ ...staging, timeoutMs: 500 });
} catch (error) {
  if (!(error instanceof GatewayError) || error.code !== Code.DeadlineExceeded) throw error;
  console.log(`   ${error.message}`);
}
await sandbox.command("resume");

console.log("5. cancelAndWatch is both calls in one. This update completes in spite of the cancel.");
for await (const event of client.cancelAndWatch({ cluster: "staging-2", updateId: "rollback-staging-2" })) {
  if (event.case === "state") show(event.value);
  else console.log(`   cancellation ${event.value.cancellationId}`);
  await sandbox.command("advance 200000"); // its cancellation fails
}

function show(known: State): void {
  const { sequence, update, phase, ageMs, stale } = known;
  const age = `${stale ? "stale" : "fresh"}, ${(ageMs / 1000).toFixed(1)} s old`;
  console.log(`   ${sequence}. ${update.status}, ${CancellationPhase[phase]} (${age})`);
}
