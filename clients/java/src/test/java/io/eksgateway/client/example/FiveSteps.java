package io.eksgateway.client.example;

import io.eksgateway.client.GatewayClient;
import io.eksgateway.client.GatewayException;
import io.eksgateway.client.Sandbox;
import io.eksgateway.client.State;
import java.io.PrintStream;
import java.time.Duration;

/**
 * The five steps of a client: a denial, a cancel watched to its end, a resumed watch, a deadline, both calls in one.
 *
 * <p>It starts a sandbox of its own, and kills its gateway in step 3.
 */
public final class FiveSteps {
  private FiveSteps() { }

  public static void main(String[] arguments) throws Exception {
    try (var sandbox = new Sandbox()) {
      run(sandbox, System.out);
    }
  }

  public static void run(Sandbox sandbox, PrintStream out) {
    try (var client = GatewayClient.builder(sandbox.get("grpc"))
        .plaintext() // without this line: TLS with the JVM's roots
        .token(() -> sandbox.token("oncall"))
        .onRetry((error, delay) -> out.println("   " + error.getMessage() + "; again in " + delay.toMillis() + " ms"))
        .build()) {
      var prod = Sandbox.cancel("prod-1");
      out.println("1. Without a ticket the policy denies the cancel.");
      try {
        client.cancel(prod);
        throw new IllegalStateException("not denied");
      } catch (GatewayException e) {
        out.println("   " + e.reason() + " " + e.reasons() + " " + e.metadata().get("decision_id"));
      }

      out.println("2. With one, the update is cancelled and watched to its end.");
      var answer = client.cancel(prod.toBuilder().setTicket("OPS-12").build());
      out.println("   " + answer.getPhase() + ", request id " + answer.getRequestId());
      try (var watch = client.watch(Sandbox.watch("prod-1"))) {
        for (State state : watch) {
          out.println("   " + state);
          sandbox.run("advance 400"); // simulated seconds
        }
      }

      out.println("3. A watch resumes after the gateway was killed.");
      client.cancel(Sandbox.cancel("staging-1"));
      boolean killed = false;
      for (State state : client.watch(Sandbox.watch("staging-1"))) {
        out.println("   " + state);
        if (!killed) {
          killed = true;
          sandbox.run("kill", "start", "advance 800");
        }
      }

      out.println("4. A call ends at its deadline.");
      sandbox.run("pause");
      try {
        client.cancel(Sandbox.cancel("staging-2"), Duration.ofMillis(500));
        throw new IllegalStateException("no deadline");
      } catch (GatewayException e) {
        out.println("   " + e.code());
      } finally {
        sandbox.run("resume");
      }

      out.println("5. cancelAndWatch is both calls in one.");
      for (State state : client.cancelAndWatch(Sandbox.cancelAndWatch("staging-2"))) {
        out.println("   " + state + state.cancellation().map(each -> " " + each.getCancellationId()).orElse(""));
        sandbox.run("advance 200000"); // this update's cancellation fails: it completes anyway
      }
    }
  }
}
