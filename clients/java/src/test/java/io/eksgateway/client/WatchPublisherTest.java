package io.eksgateway.client;

import static io.eksgateway.v1.WatchKind.WATCH_KIND_CHANGE;
import static io.eksgateway.v1.WatchKind.WATCH_KIND_FINAL;
import static io.eksgateway.v1.WatchKind.WATCH_KIND_SNAPSHOT;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.io.IOException;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.Flow;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

class WatchPublisherTest {
  private Stub stub;
  private GatewayClient client;

  @BeforeEach
  void start() throws IOException {
    stub = new Stub();
    client = stub.connect().build();
  }

  @AfterEach
  void stop() {
    client.close();
    stub.close();
  }

  /** Notes all signals. */
  private static final class Subscriber implements Flow.Subscriber<State> {
    final BlockingQueue<Object> signals = new LinkedBlockingQueue<>();
    Flow.Subscription subscription;

    @Override
    public void onSubscribe(Flow.Subscription given) {
      subscription = given;
      signals.add("subscribed");
    }

    @Override
    public void onNext(State state) {
      signals.add(state.sequence());
    }

    @Override
    public void onError(Throwable error) {
      signals.add(error);
    }

    @Override
    public void onComplete() {
      signals.add("complete");
    }
  }

  private Subscriber subscribe() throws InterruptedException {
    var subscriber = new Subscriber();
    client.watchPublisher(Sandbox.watch("c-1")).subscribe(subscriber);
    assertEquals("subscribed", subscriber.signals.take());
    return subscriber;
  }

  @Test
  void statesComeAsRequestedUpToTheFinalOne() throws Exception {
    stub.watch = (index, stream) -> {
      stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
      stream.onNext(Stub.message(WATCH_KIND_CHANGE, 2));
      stream.onNext(Stub.message(WATCH_KIND_FINAL, 3));
    };
    var subscriber = subscribe();
    subscriber.subscription.request(2);
    assertEquals(1L, subscriber.signals.take());
    assertEquals(2L, subscriber.signals.take());
    assertNull(subscriber.signals.poll(300, TimeUnit.MILLISECONDS), "a state that was not requested");
    subscriber.subscription.request(1);
    assertEquals(3L, subscriber.signals.take());
    assertEquals("complete", subscriber.signals.take());
  }

  @Test
  void eachSubscriptionIsAWatchWhichCancelEnds() throws Exception {
    stub.watch = (index, stream) -> stream.onNext(Stub.message(WATCH_KIND_SNAPSHOT, 1));
    var first = subscribe();
    var second = subscribe();
    for (var each : new Subscriber[] {first, second}) {
      each.subscription.request(Long.MAX_VALUE);
      assertEquals(1L, each.signals.take());
    }
    assertEquals(2, stub.watched.size());
    first.subscription.cancel();
    stub.left.await();
    client.close();
    assertTrue(second.signals.take() instanceof GatewayException);
    assertEquals(0, first.signals.size());
  }

  @Test
  void aSubscriptionToAClosedClientFails() throws Exception {
    client.close();
    var subscriber = subscribe();
    assertEquals(Status.Code.CANCELLED, ((GatewayException) subscriber.signals.take()).code());
  }

  @Test
  void errorsEndASubscription() throws Exception {
    stub.watch = (index, stream) -> stream.onError(Stub.error(Status.Code.PERMISSION_DENIED, "POLICY_DENIED", null));
    var denied = subscribe();
    denied.subscription.request(1);
    assertEquals("POLICY_DENIED", ((GatewayException) denied.signals.take()).reason());
    var misused = subscribe();
    misused.subscription.request(0);
    assertTrue(misused.signals.take() instanceof IllegalArgumentException);
  }
}
