package io.eksgateway.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
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
  void aDenialHasItsReasonAndDecision() {
    try (var client = sandbox.connect("grpc", "oncall").build()) {
      var denial = assertThrows(GatewayException.class, () -> client.cancel(Sandbox.cancel("prod-1")));
      assertEquals(Status.Code.PERMISSION_DENIED, denial.code());
      assertEquals("POLICY_DENIED", denial.reason());
      assertTrue(denial.reasons().get(0).contains("ticket is required"), denial.getMessage());
      assertTrue(!denial.metadata().get("decision_id").isEmpty());
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
}
