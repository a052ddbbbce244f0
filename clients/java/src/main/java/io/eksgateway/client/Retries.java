package io.eksgateway.client;

import io.grpc.Context;
import io.grpc.Status;
import java.time.Duration;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;

/** Decides whether and when the attempts of one call or watch are repeated: see docs/clients.md. */
final class Retries {
  private static final long FIRST_BACKOFF = TimeUnit.MILLISECONDS.toNanos(500);
  private static final long LONGEST_BACKOFF = TimeUnit.SECONDS.toNanos(30);
  private static final long LONGEST_PAUSE = TimeUnit.MINUTES.toNanos(10); // that RetryInfo may ask for
  private static final long LAST_ATTEMPT = TimeUnit.SECONDS.toNanos(1);

  // Attempts in a row after which a call fails:
  private static final int UNREACHED_ATTEMPTS = 3; // at an address that looks wrong, if no gateway has answered so far
  private static final int FOREIGN_ANSWERS = 7; // of a proxy, if no gateway has answered so far
  private static final int FOREIGN_ANSWERS_SINCE = 40; // of a proxy, if one has: it may be restarting behind the proxy

  final Connection connection;
  final Bearer bearer;
  private final BiConsumer<GatewayException, Duration> onRetry;
  GatewayException last;
  long end; // by System.nanoTime()
  private int failures; // in a row
  private int foreignAnswers; // of those, from a proxy
  private boolean reached; // whether a gateway has ever answered
  private boolean renewed; // the token, since the last success

  Retries(Connection connection, GatewayClient.Builder options, Duration timeout) {
    this.connection = connection;
    bearer = new Bearer(options.token);
    onRetry = options.onRetry;
    end = endOf(timeout);
  }

  /** Nanoseconds until the timeout. */
  long left() {
    return end - System.nanoTime();
  }

  void succeed() {
    failures = foreignAnswers = 0;
    reached = true;
    renewed = false;
  }

  /** The nanoseconds to wait before the next attempt. Throws the error if a retry is useless, or none fits. */
  long delay(GatewayException error) {
    last = error;
    if (Context.current().isCancelled()) {
      throw error;
    }
    check(error);
    long pause = Math.min(error.retryAfter().map(Retries::nanos).orElse(0L), LONGEST_PAUSE);
    long longest = left() - LAST_ATTEMPT;
    if (longest <= 0 || pause > longest) {
      throw error;
    }
    long backoff = backoff(failures++, ThreadLocalRandom.current().nextDouble());
    long delay = Math.min(pause + backoff, longest);
    onRetry.accept(error, Duration.ofNanos(delay));
    return delay;
  }

  /** Waits before the next attempt, for the time of {@link #delay}, unless the client is closed. */
  void await(GatewayException error, CountDownLatch closed) {
    try {
      if (closed.getCount() == 0 || closed.await(delay(error), TimeUnit.NANOSECONDS)) {
        throw new GatewayException(Status.Code.CANCELLED, "the client is closed", error);
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new GatewayException(Status.Code.CANCELLED, "the thread was interrupted", e);
    }
  }

  /** A random part of 0.5 s, doubled after each failure up to 30 s; in nanoseconds. */
  static long backoff(int failures, double random) {
    return (long) (random * Math.min(LONGEST_BACKOFF, FIRST_BACKOFF << Math.min(failures, 10)));
  }

  private void check(GatewayException error) {
    switch (error.retry()) {
      case NO, WITHOUT_RESUME_TOKEN -> throw error; // the watch has no token to drop
      case WITH_NEW_TOKEN -> {
        if (renewed) {
          throw error;
        }
        renewed = true;
        bearer.expire(error);
      }
      case YES -> { }
    }
    if (!error.reason().isEmpty()) {
      reached = true;
      foreignAnswers = 0;
    } else if (connection.isReady()) {
      if (++foreignAnswers >= (reached ? FOREIGN_ANSWERS_SINCE : FOREIGN_ANSWERS)) {
        throw error.withHint("a proxy has answered " + foreignAnswers + " times, and no gateway");
      }
    } else if (!reached && failures + 1 >= UNREACHED_ATTEMPTS && connection.looksWrong(error)) {
      throw error.withHint("no gateway answers there so: correct the address, or the builder's trust or plaintext");
    }
  }

  static long endOf(Duration timeout) {
    return System.nanoTime() + nanos(timeout);
  }

  static long nanos(Duration duration) {
    try {
      return Math.min(duration.toNanos(), Long.MAX_VALUE / 4); // so that times can be subtracted
    } catch (ArithmeticException tooLong) {
      return Long.MAX_VALUE / 4;
    }
  }
}
