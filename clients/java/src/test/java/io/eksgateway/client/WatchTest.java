package io.eksgateway.client;

import static io.eksgateway.v1.WatchKind.WATCH_KIND_CHANGE;
import static io.eksgateway.v1.WatchKind.WATCH_KIND_FINAL;
import static io.eksgateway.v1.WatchKind.WATCH_KIND_HEARTBEAT;
import static io.eksgateway.v1.WatchKind.WATCH_KIND_SNAPSHOT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.eksgateway.v1.WatchUpdateRequest;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class WatchTest {
  private static final WatchUpdateRequest REQUEST = Sandbox.watch("c-1");

  private Stub stub;

  @BeforeEach
  void start() throws IOException {
    stub = new Stub();
  }

  @AfterEach
  void stop() {
    stub.close();
  }

  private static List<State> collect(Iterable<State> states) {
    List<State> found = new ArrayList<>();
    states.forEach(found::add);
    return found;
  }

  private static GatewayException errorOf(CompletableFuture<?> call) {
    return (GatewayException) assertThrows(ExecutionException.class, call::get).getCause();
  }

  @Test
  void closingAWatchCancelsItsStream() throws Exception {
    stub.watch = (index, stream) -> stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
    try (var client = stub.connect().build()) {
      try (var watch = client.watch(REQUEST)) {
        assertEquals("u-1", watch.next().update().getId());
      }
      stub.left.await();
    }
  }

  @Test
  void closingWakesAThreadThatWaits() throws Exception {
    var opened = new CompletableFuture<Void>();
    stub.watch = (index, stream) -> opened.complete(null);
    var client = stub.connect().build();
    var first = client.watch(REQUEST);
    var second = client.watch(REQUEST);
    var waiting = List.of(first, second).stream().map(each -> CompletableFuture.supplyAsync(each::hasNext)).toList();
    opened.get();
    first.close();
    client.close();
    for (var each : waiting) {
      assertEquals(Status.Code.CANCELLED, errorOf(each).code());
    }
    assertEquals(Status.Code.CANCELLED, assertThrows(GatewayException.class, () -> client.watch(REQUEST)).code());
    assertThrows(GatewayException.class, () -> client.cancel(Sandbox.cancel("c-1")));
  }

  @Test
  void anInterruptEndsAWatchAndACancel() throws Exception {
    stub.watch = (index, stream) -> stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
    stub.cancel = index -> Stub.error(Status.Code.UNAVAILABLE, "DRAINING", Duration.ofSeconds(20));
    var retrying = new CompletableFuture<Void>();
    try (var client = stub.connect().onRetry((error, delay) -> retrying.complete(null)).build()) {
      var watch = client.watch(REQUEST);
      watch.next();
      Thread.currentThread().interrupt();
      assertEquals(Status.Code.CANCELLED, assertThrows(GatewayException.class, watch::hasNext).code());
      assertTrue(Thread.interrupted());
      stub.left.await();
      var ended = new CompletableFuture<Void>();
      var thread = new Thread(() -> {
        try {
          client.cancel(Sandbox.cancel("c-1"));
        } catch (GatewayException e) {
          ended.completeExceptionally(e);
        }
      });
      thread.start();
      retrying.get();
      thread.interrupt();
      assertEquals(Status.Code.CANCELLED, errorOf(ended).code());
    }
  }

  @Test
  void aCancelledContextOfGrpcEndsAWatch() {
    stub.watch = (index, stream) -> stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
    try (var client = stub.connect().build(); var context = Context.current().withCancellation()) {
      context.run(() -> {
        var watch = client.watch(REQUEST);
        watch.next();
        context.cancel(null);
        assertEquals(Status.Code.CANCELLED, assertThrows(GatewayException.class, watch::hasNext).code());
      });
    }
  }

  @Test
  void eachStreamResumesWithTheLastTokenHeartbeatsIncluded() {
    stub.watch = (index, stream) -> {
      switch (index) {
        case 0 -> {
          stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
          stream.onNext(Stub.message(WATCH_KIND_HEARTBEAT, 1));
        }
        case 1 -> {
          stream.onNext(Stub.message(WATCH_KIND_HEARTBEAT, 1));
          stream.onNext(Stub.message(WATCH_KIND_CHANGE, 2));
        }
        default -> stream.onNext(Stub.message(WATCH_KIND_FINAL, 3));
      }
      stream.onCompleted(); // as proxies do
    };
    try (var client = stub.connect().build()) {
      var states = collect(client.watch(REQUEST.toBuilder().setResumeToken("stored").build()));
      assertEquals(List.of(1L, 2L, 3L), states.stream().map(State::sequence).toList());
    }
    assertEquals(List.of("stored", "token-3-1", "token-2-2"),
        stub.watched.stream().map(WatchUpdateRequest::getResumeToken).toList());
  }

  @Test
  void aRefusedResumeTokenIsDropped() {
    stub.watch = (index, stream) -> {
      if (index == 0) {
        stream.onError(Stub.error(Status.Code.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID", null));
      } else {
        stream.onNext(Stub.message(WATCH_KIND_FINAL, 1));
      }
    };
    try (var client = stub.connect().build()) {
      assertEquals(1, collect(client.watch(REQUEST.toBuilder().setResumeToken("old").build())).size());
    }
    assertEquals(List.of("old", ""), stub.watched.stream().map(WatchUpdateRequest::getResumeToken).toList());
  }

  @Test
  void anExpiredTokenIsReplacedOnce() {
    stub.watch = (index, stream) -> {
      if (index == 1) {
        stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
      }
      stream.onError(Stub.error(Status.Code.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", null));
    };
    var count = new AtomicInteger();
    try (var client = stub.connect().token(() -> "t" + Math.min(3, count.incrementAndGet())).build()) {
      var error = assertThrows(GatewayException.class, () -> collect(client.watch(REQUEST)));
      assertEquals("CREDENTIALS_EXPIRED", error.reason());
    }
    assertEquals(List.of("Bearer t1", "Bearer t2", "Bearer t3"), stub.tokens);
  }

  @Test
  void anExpiredTokenIsNotSentAgain() {
    stub.cancel = index -> Stub.error(Status.Code.UNAUTHENTICATED, "CREDENTIALS_EXPIRED", null);
    try (var client = stub.connect().token(() -> "t1\n").build()) {
      var error = assertThrows(GatewayException.class, () -> client.cancel(Sandbox.cancel("c-1")));
      assertEquals("CREDENTIALS_EXPIRED", error.reason());
    }
    assertEquals(List.of("Bearer t1"), stub.tokens);
  }

  @Test
  void aTokenSourceThatFailsEndsTheCall() {
    try (var client = stub.connect().token(() -> { throw new IOException("no file"); }).build()) {
      var error = assertThrows(GatewayException.class, () -> client.watch(REQUEST).hasNext());
      assertEquals(Status.Code.UNAUTHENTICATED, error.code());
      assertTrue(error.getCause().getCause() instanceof IOException);
    }
    assertEquals(List.of(), stub.tokens);
  }

  @Test
  void aStateThatIsOldWhenItComesIsStale() {
    stub.watch = (index, stream) -> {
      stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1, Duration.ofSeconds(90)));
      stream.onNext(Stub.message(WATCH_KIND_HEARTBEAT, 1, Duration.ofSeconds(95)));
      stream.onNext(Stub.message(WATCH_KIND_FINAL, 2));
    };
    try (var client = stub.connect().build()) {
      var states = collect(client.watch(REQUEST));
      assertEquals(List.of(1L, 2L), states.stream().map(State::sequence).toList());
      assertEquals(List.of(true, false), states.stream().map(State::isStale).toList());
    }
  }

  @Test
  void aStateThatNoHeartbeatConfirmsBecomesStaleAndFreshAgain() {
    var opened = new CompletableFuture<StreamObserver<io.eksgateway.v1.WatchUpdateResponse>>();
    stub.watch = (index, stream) -> {
      stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1, Duration.ofMillis(200)));
      opened.complete(stream);
    };
    try (var client = stub.connect().maxAge(Duration.ofMillis(800)).build(); var watch = client.watch(REQUEST)) {
      State first = watch.next();
      assertFalse(first.isStale());
      assertTrue(watch.next().isStale());
      assertTrue(first.isStale(), "a state that is kept shows its age");
      opened.join().onNext(Stub.message(WATCH_KIND_HEARTBEAT, 1));
      assertFalse(watch.next().isStale());
      opened.join().onNext(Stub.message(WATCH_KIND_FINAL, 2));
      assertTrue(watch.next().isFinal());
      assertFalse(watch.hasNext());
    }
  }

  @Test
  void theAgeCountsFromTheArrivalAndNotFromTheReading() {
    stub.watch = (index, stream) -> {
      stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
      stream.onNext(Stub.message(WATCH_KIND_CHANGE, 2));
    };
    try (var client = stub.connect().maxAge(Duration.ofMillis(500)).build(); var watch = client.watch(REQUEST)) {
      State first = watch.next();
      while (first.age().compareTo(Duration.ofMillis(1500)) < 0) {
        Thread.onSpinWait();
      }
      State second = watch.next();
      assertTrue(second.sequence() == 2 && second.isStale(), second.toString());
    }
  }

  @Test
  void withoutAnyStateTheWatchReportsThatItKnowsNothing() {
    try (var client = stub.connect().maxAge(Duration.ofMillis(100)).build(); var watch = client.watch(REQUEST)) {
      State nothing = watch.next();
      assertEquals(0, nothing.sequence());
      assertTrue(nothing.isStale());
    }
  }

  @Test
  void aRefusalEndsTheWatch() {
    stub.watch = (index, stream) -> stream.onError(Stub.error(Status.Code.PERMISSION_DENIED, "POLICY_DENIED", null));
    try (var client = stub.connect().build(); var watch = client.watch(REQUEST)) {
      assertEquals("POLICY_DENIED", assertThrows(GatewayException.class, watch::hasNext).reason());
      assertFalse(watch.hasNext());
    }
  }

  @Test
  void aCancelWaitsForThePauseOfRetryInfoAndKeepsItsRequestId() {
    var overloaded = Stub.error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofMillis(600));
    stub.cancel = index -> index > 0 ? null : overloaded;
    List<Duration> delays = new ArrayList<>();
    try (var client = stub.connect().onRetry((error, delay) -> delays.add(delay)).build()) {
      var answer = client.cancel(Sandbox.cancel("c-1"));
      assertEquals(2, stub.cancelled.size());
      stub.cancelled.forEach(each -> assertEquals(answer.getRequestId(), each.getRequestId()));
      assertFalse(answer.getRequestId().isEmpty());
    }
    assertTrue(delays.get(0).toMillis() >= 600, "the back-off alone is at most 500 ms: " + delays);
  }

  @Test
  void aPauseBeyondTheTimeoutFailsAtOnce() {
    stub.cancel = index -> Stub.error(Status.Code.RESOURCE_EXHAUSTED, "OVERLOADED", Duration.ofMinutes(1));
    try (var client = stub.connect().build()) {
      var error = assertThrows(GatewayException.class, () -> client.cancel(Sandbox.cancel("c-1")));
      assertEquals("OVERLOADED", error.reason());
    }
    assertEquals(1, stub.cancelled.size());
  }

  @Test
  void eightyWatchesShareAConnectionAndCallsHaveTheirOwn() {
    stub.watch = (index, stream) -> stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
    try (var client = stub.connect().build()) {
      for (int round = 0; round < 2; round++) {
        List<Watch> watches = new ArrayList<>();
        for (int i = 0; i < 81; i++) {
          watches.add(client.watch(REQUEST));
        }
        watches.forEach(Watch::next);
        client.cancel(Sandbox.cancel("c-1"));
        assertEquals(3, stub.connections.get(), "the places of watches that have ended are free");
        watches.forEach(Watch::close);
      }
    }
  }

  @Test
  void errorsOfAProxyAloneAreGivenUpAfterSomeAttempts() {
    stub.watch = (index, stream) -> stream.onError(Status.UNAVAILABLE.asRuntimeException());
    try (var client = stub.connect().build()) {
      var error = assertThrows(GatewayException.class, () -> client.watch(REQUEST).hasNext());
      assertTrue(error.getMessage().contains("a proxy has answered 7 times"), error.getMessage());
    }
    assertEquals(7, stub.watched.size());
  }
}
