package io.eksgateway.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.DynamicTest.dynamicTest;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import io.eksgateway.client.GatewayException.Retry;
import io.grpc.Status;
import java.io.IOException;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

class RetriesTest {
  private static final Map<String, Retry> ACTIONS = Map.of("yes", Retry.YES, "no", Retry.NO,
      "with_new_token", Retry.WITH_NEW_TOKEN, "without_resume_token", Retry.WITHOUT_RESUME_TOKEN);
  private static final Duration SECOND = Duration.ofSeconds(1);

  @TestFactory
  List<DynamicTest> theRuleFollowsTheTableOfReasons() throws IOException {
    var table = new Gson().fromJson(Files.readString(Sandbox.TESTING.resolve("reasons.json")), JsonArray.class);
    assertTrue(table.size() >= 36);
    List<DynamicTest> tests = new ArrayList<>();
    for (var each : table) {
      var row = each.getAsJsonObject();
      String reason = row.get("reason").getAsString();
      Retry expected = ACTIONS.get(row.get("retry").getAsString());
      var code = Status.Code.valueOf(row.get("code").getAsString());
      Duration[] pauses = switch (row.get("retry_info").getAsString()) {
        case "always" -> new Duration[] {SECOND};
        case "sometimes" -> new Duration[] {SECOND, null};
        case "never" -> new Duration[] {null};
        default -> throw new IOException(row.toString());
      };
      for (Duration pause : pauses) {
        tests.add(dynamicTest(reason + " after " + pause, () -> {
          var found = GatewayException.of(Stub.error(code, reason, pause));
          assertEquals(reason, found.reason());
          assertEquals(pause, found.retryAfter().orElse(null));
          assertEquals(expected, found.retry());
        }));
      }
    }
    return tests;
  }

  @Test
  void anUnknownReasonIsDecidedByItsStatus() {
    for (var code : Status.Code.values()) {
      if (code != Status.Code.OK) {
        boolean retried = code == Status.Code.UNAVAILABLE || code == Status.Code.ABORTED;
        assertEquals(retried ? Retry.YES : Retry.NO, GatewayException.of(Stub.error(code, "NEWER", null)).retry());
      }
    }
    var paused = GatewayException.of(Stub.error(Status.Code.RESOURCE_EXHAUSTED, "NEWER", Duration.ZERO));
    assertEquals(Retry.YES, paused.retry());
  }

  @Test
  void anErrorWithoutReasonIsRetriedIfAConnectionBreaksSo() {
    var broken = List.of(Status.Code.UNAVAILABLE, Status.Code.CANCELLED, Status.Code.INTERNAL, Status.Code.UNKNOWN,
        Status.Code.DEADLINE_EXCEEDED);
    Arrays.stream(Status.Code.values()).filter(each -> each != Status.Code.OK).forEach(code -> {
      var found = GatewayException.of(Status.fromCode(code).asRuntimeException());
      assertEquals(broken.contains(code) ? Retry.YES : Retry.NO, found.retry(), code.toString());
    });
  }

  @Test
  void theBackoffDoublesUpToHalfAMinute() {
    assertEquals(TimeUnit.MILLISECONDS.toNanos(500), Retries.backoff(0, 1));
    assertEquals(TimeUnit.MILLISECONDS.toNanos(1000), Retries.backoff(1, 1));
    assertEquals(TimeUnit.SECONDS.toNanos(30), Retries.backoff(60, 1));
    assertEquals(0, Retries.backoff(60, 0));
  }
}
