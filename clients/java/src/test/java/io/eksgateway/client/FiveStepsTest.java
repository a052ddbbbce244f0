package io.eksgateway.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.eksgateway.client.example.FiveSteps;
import io.eksgateway.v1.GetUpdateRequest;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

class FiveStepsTest {
  private static Sandbox sandbox;

  @BeforeAll
  static void start() throws Exception {
    sandbox = new Sandbox();
  }

  @AfterAll
  static void stop() throws Exception {
    sandbox.close();
  }

  @Test
  void aDenialHasItsReasonAndDecision() throws Exception {
    try (var outsider = sandbox.connect("grpc", "outsider").build();
        var oncall = sandbox.connect("grpc", "oncall").build()) {
      var withoutGrant = assertThrows(GatewayException.class, () -> outsider.cancel(Sandbox.cancel("prod-1")));
      assertTrue(withoutGrant.reasons().get(0).contains("no grant"), withoutGrant.getMessage());
      var withoutTicket = assertThrows(GatewayException.class, () -> oncall.cancel(Sandbox.cancel("prod-1")));
      assertTrue(withoutTicket.getMessage().contains("ticket is required"), withoutTicket.getMessage());
      for (var denial : List.of(withoutGrant, withoutTicket)) {
        assertEquals(Status.Code.PERMISSION_DENIED, denial.code());
        assertEquals("POLICY_DENIED", denial.reason());
        assertFalse(denial.metadata().get("decision_id").isEmpty());
      }
    }
    assertEquals(0, sandbox.cancelsSent("prod-1"));
  }

  @Test
  void invalidFieldsAreNamed() {
    try (var client = sandbox.connect("grpc", "oncall").build()) {
      var request = Sandbox.cancel("staging-1").toBuilder().setUpdateId("no such/id").build();
      var error = assertThrows(GatewayException.class, () -> client.cancel(request));
      assertEquals("REQUEST_INVALID", error.reason());
      assertEquals(1, error.violations().size());
    }
  }

  @Test
  void aCancelIsWatchedToFinalOverAKillAndADrain() throws Exception {
    String cluster = sandbox.addCluster();
    try (var client = sandbox.connect("grpc", "oncall").build();
        var watch = client.watch(Sandbox.watch(cluster))) {
      client.cancel(Sandbox.cancel(cluster));
      List<String> seen = new ArrayList<>();
      for (State state : watch) {
        String status = state.update().getStatus();
        if (!seen.contains(status)) {
          seen.add(status);
          switch (status) {
            case "InProgress" -> sandbox.run("kill", "advance 200", "start");
            case "Cancelling" -> sandbox.run("drain", "advance 600", "start");
            default -> assertTrue(state.isFinal());
          }
        }
      }
      assertEquals(List.of("InProgress", "Cancelling", "Cancelled"), seen);
    }
  }

  @Test
  void aWatchResumesInAnotherProcessWithItsToken() throws Exception {
    String cluster = sandbox.addCluster();
    String token;
    try (var client = sandbox.connect("grpc", "viewer").build(); var watch = client.watch(Sandbox.watch(cluster))) {
      State first = watch.next();
      assertEquals(1, first.sequence());
      token = first.resumeToken();
    }
    try (var client = sandbox.connect("grpc", "oncall").build()) {
      client.cancel(Sandbox.cancel(cluster));
      sandbox.run("advance 800");
      var request = Sandbox.watch(cluster).toBuilder();
      State last = null;
      for (State state : client.watch(request.setResumeToken(token).build())) {
        last = state;
        assertFalse(state.isStale());
      }
      assertTrue(last.isFinal() && last.sequence() > 1, last.toString());
      for (State state : client.watch(request.setResumeToken("refused").build())) {
        last = state;
      }
      assertTrue(last.isFinal(), last.toString());
    }
  }

  @Test
  void aCancelRepeatedAfterItsDeadlineHasOneEffect() throws Exception {
    String cluster = sandbox.addCluster();
    var request = Sandbox.cancel(cluster).toBuilder().setRequestId(GatewayClient.newRequestId()).build();
    try (var client = sandbox.connect("grpc", "oncall").build()) {
      sandbox.run("pause");
      var late = assertThrows(GatewayException.class, () -> client.cancel(request, Duration.ofMillis(300)));
      sandbox.run("resume");
      assertEquals(Status.Code.DEADLINE_EXCEEDED, late.code());
      var first = client.cancel(request);
      assertEquals(first.getCancellationId(), client.cancel(request).getCancellationId());
      assertEquals(1, sandbox.cancelsSent(cluster));
      var another = request.toBuilder().setReason("another").build();
      var error = assertThrows(GatewayException.class, () -> client.cancel(another));
      assertEquals("REQUEST_ID_REUSED", error.reason());
    }
  }

  @Test
  void aWatchFailsAtItsDeadline() throws Exception {
    String cluster = sandbox.addCluster();
    try (var client = sandbox.connect("grpc", "viewer").build();
        var watch = client.watch(Sandbox.watch(cluster), Duration.ofSeconds(2))) {
      assertEquals(1, watch.next().sequence());
      var error = assertThrows(GatewayException.class, watch::hasNext);
      assertEquals(Status.Code.DEADLINE_EXCEEDED, error.code());
      assertFalse(watch.hasNext());
    }
  }

  @Test
  void aSilentGatewayMakesTheStateStaleUntilItIsReadAgain() throws Exception {
    String cluster = sandbox.addCluster();
    var maxAge = Duration.ofSeconds(3);
    var builder = sandbox.connect("grpc", "viewer").maxAge(maxAge).silence(Duration.ofSeconds(4));
    try (var client = builder.build(); var watch = client.watch(Sandbox.watch(cluster))) {
      State first = watch.next();
      assertFalse(first.isStale());
      sandbox.run("pause");
      State stale = watch.next();
      sandbox.run("resume");
      assertTrue(first.isStale(), "a state that is kept shows its age");
      assertTrue(stale.isStale() && stale.age().compareTo(maxAge) >= 0, stale.toString());
      State fresh = watch.next();
      assertFalse(fresh.isStale());
      assertEquals(1, fresh.sequence());
    }
  }

  @Test
  void theStubsMakeTheOtherCallsWithTheToken() throws Exception {
    String cluster = sandbox.addCluster();
    var request = GetUpdateRequest.newBuilder()
        .setCluster(Sandbox.watch(cluster).getCluster()).setUpdateId("rollback-" + cluster).build();
    try (var viewer = sandbox.connect("grpc", "viewer").build();
        var outsider = sandbox.connect("grpc", "outsider").build()) {
      assertEquals("InProgress", viewer.updates().getUpdate(request).getUpdate().getStatus());
      var error = assertThrows(StatusRuntimeException.class, () -> outsider.updates().getUpdate(request));
      assertEquals("POLICY_DENIED", GatewayException.of(error).reason());
    }
  }

  @Test
  void theExampleDoesItsFiveSteps() throws Exception {
    var printed = new ByteArrayOutputStream();
    try (var own = new Sandbox()) {
      FiveSteps.run(own, new PrintStream(printed, true, StandardCharsets.UTF_8));
    }
    String text = printed.toString(StandardCharsets.UTF_8);
    assertEquals(3, text.split("final", -1).length - 1, text);
    assertTrue(text.contains("ticket is required") && text.contains("DEADLINE_EXCEEDED"), text);
  }
}
