package io.eksgateway.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.eksgateway.v1.CancellationPhase;
import io.eksgateway.v1.ClusterRef;
import io.eksgateway.v1.ListUpdatesRequest;
import io.grpc.Status;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** One sandbox for all: each test leaves the gateway running, and has a cluster of its own. */
class BreaksTest {
  private static Sandbox sandbox;

  @BeforeAll
  static void start() throws Exception {
    sandbox = new Sandbox("--proxy-timeout", "1");
  }

  @AfterAll
  static void stop() throws Exception {
    sandbox.close();
  }

  private final List<GatewayException> retries = new CopyOnWriteArrayList<>();
  private final CompletableFuture<Void> retried = new CompletableFuture<>();

  private GatewayClient.Builder connect(String field) {
    return sandbox.connect(field, "oncall").silence(Duration.ofMillis(1500)).onRetry((error, delay) -> {
      retries.add(error);
      retried.complete(null);
    });
  }

  private static CompletableFuture<Void> runAfter(CompletableFuture<Void> event, String... commands) {
    return event.thenRunAsync(() -> sandbox.run(commands));
  }

  /** Breaks a watch at its first state, mends it after its first retry, and follows it to the end. */
  private void followAcross(Watch watch, List<String> breaking, String... mending) {
    CompletableFuture<Void> mended = null;
    List<Long> sequences = new ArrayList<>();
    State last = null;
    for (State state : watch) {
      last = state;
      if (state.sequence() == 0 || sequences.contains(state.sequence())) {
        continue; // the cancellation, or a change of stale
      }
      sequences.add(state.sequence());
      if (mended == null) {
        mended = runAfter(retried, mending);
        sandbox.run(breaking.toArray(String[]::new));
      }
    }
    mended.join();
    assertTrue(last.isFinal());
    assertEquals("Cancelled", last.update().getStatus());
    for (int i = 0; i < sequences.size(); i++) {
      assertEquals(i + 1, sequences.get(i));
    }
    assertTrue(sequences.size() > 1);
  }

  private void cancelAcross(GatewayClient.Builder builder, List<String> breaking, String... mending) throws Exception {
    String cluster = sandbox.addCluster();
    try (var client = builder.build()) {
      client.cancel(Sandbox.cancel(cluster));
      followAcross(client.watch(Sandbox.watch(cluster)), breaking, mending);
    }
    assertEquals(1, sandbox.cancelsSent(cluster));
  }

  @Test
  void aWatchResumesAfterTheGatewayWasKilled() throws Exception {
    cancelAcross(connect("grpc"), List.of("kill", "start"), "advance 800");
    assertEquals("", retries.get(0).reason());
  }

  @Test
  void aWatchResumesAfterTheGatewayHasDrained() throws Exception {
    cancelAcross(connect("grpc"), List.of("drain", "start"), "advance 800");
    assertEquals("DRAINING", retries.get(0).reason());
  }

  @Test
  void aWatchLeavesAConnectionThatIsSilent() throws Exception {
    cancelAcross(connect("proxy"), List.of("silence"), "advance 800");
    assertTrue(retries.get(0).getMessage().contains("no message came"), retries.toString());
    assertEquals(1, retries.size(), "the next stream must not use the silent connection");
  }

  @Test
  void aWatchResumesAfterTheGatewayHasHung() throws Exception {
    cancelAcross(connect("grpc"), List.of("pause"), "resume", "advance 800");
  }

  @Test
  void aWatchResumesAfterItsConnectionWasReset() throws Exception {
    cancelAcross(connect("proxy"), List.of("cut"), "advance 800");
  }

  @Test
  void aWatchResumesEachTimeThatAProxyTimesOut() throws Exception {
    cancelAcross(connect("timeout_proxy"), List.of(), "advance 800");
  }

  @Test
  void aWatchResumesBehindAProxyAfterTheGatewayWasKilled() throws Exception {
    cancelAcross(connect("timeout_proxy"), List.of("kill", "start"), "advance 800");
  }

  @Test
  void cancelAndWatchIsOneCancelOverAKill() throws Exception {
    String cluster = sandbox.addCluster();
    try (var client = connect("grpc").build()) {
      var watch = client.cancelAndWatch(Sandbox.cancelAndWatch(cluster));
      State first = watch.next();
      assertEquals(0, first.sequence());
      assertTrue(first.cancellation().isPresent());
      followAcross(watch, List.of("kill", "start"), "advance 800");
    }
    assertEquals(1, sandbox.cancelsSent(cluster));
  }

  @Test
  void aCancelWaitsForAGatewayThatIsDown() throws Exception {
    String cluster = sandbox.addCluster();
    sandbox.run("kill");
    try (var client = connect("grpc").build()) {
      var started = runAfter(retried, "start");
      var answer = client.cancel(Sandbox.cancel(cluster).toBuilder().setRequestId("java-" + cluster).build());
      started.join();
      assertEquals("java-" + cluster, answer.getRequestId());
    }
    assertEquals(1, sandbox.cancelsSent(cluster));
  }

  @Test
  void aCancelLeavesAConnectionThatIsSilent() throws Exception {
    String cluster = sandbox.addCluster();
    try (var client = connect("proxy").build()) {
      client.updates().listUpdates(
          ListUpdatesRequest.newBuilder().setCluster(ClusterRef.newBuilder().setName(cluster)).build());
      sandbox.run("silence");
      var answer = client.cancel(Sandbox.cancel(cluster));
      assertEquals(CancellationPhase.CANCELLATION_PHASE_REQUESTED, answer.getPhase());
      assertTrue(!retries.isEmpty());
    }
  }

  @Test
  void aCancelThatMeetsNoGatewayFailsAfterItsTimeout() {
    try (var client = GatewayClient.builder("127.0.0.1:1").plaintext().build()) {
      var request = Sandbox.cancel("staging-1");
      var error = assertThrows(GatewayException.class, () -> client.cancel(request, Duration.ofMillis(1500)));
      assertEquals(Status.Code.UNAVAILABLE, error.code());
    }
  }
}
