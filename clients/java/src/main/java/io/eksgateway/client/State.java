package io.eksgateway.client;

import io.eksgateway.v1.Cancellation;
import io.eksgateway.v1.CancellationPhase;
import io.eksgateway.v1.Update;
import io.eksgateway.v1.WatchKind;
import io.eksgateway.v1.WatchUpdateResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.Optional;

/**
 * A state of an update. Before the first one {@link #sequence} is 0, and the age counts from the start.
 *
 * <p>{@link #age} and {@link #isStale} are computed when they are called: a state that is kept becomes stale by
 * itself. While it is the latest state, each message of the gateway that confirms it renews it.
 */
public final class State {
  private final WatchUpdateResponse message;
  private final Optional<Cancellation> cancellation;
  private final Duration maxAge;
  private volatile long readTime; // of EKS, by System.nanoTime()
  private volatile String resumeToken;

  private State(WatchUpdateResponse message, Optional<Cancellation> cancellation, Duration maxAge, long readTime) {
    this.message = message;
    this.cancellation = cancellation;
    this.maxAge = maxAge;
    this.readTime = readTime;
    resumeToken = message.getResumeToken();
  }

  State(Duration maxAge) {
    this(WatchUpdateResponse.getDefaultInstance(), Optional.empty(), maxAge, System.nanoTime());
  }

  /** The message that brought the state. */
  public WatchUpdateResponse message() {
    return message;
  }

  public Update update() {
    return message.getUpdate();
  }

  /** Of the newest cancellation. UNRECOGNIZED if it is newer than this client: the message has its number. */
  public CancellationPhase phase() {
    return message.getPhase();
  }

  public long sequence() {
    return message.getSequence();
  }

  /** Whether the update has ended. It is the last state. */
  public boolean isFinal() {
    return message.getKind() == WatchKind.WATCH_KIND_FINAL;
  }

  /** The answer to the cancel, in each state of cancelAndWatch. */
  public Optional<Cancellation> cancellation() {
    return cancellation;
  }

  /** The time since the gateway read the update from EKS. It does not depend on this machine's clock. */
  public Duration age() {
    return Duration.ofNanos(System.nanoTime() - readTime);
  }

  /** Whether the age has reached the client's maxAge. */
  public boolean isStale() {
    return age().compareTo(maxAge) >= 0;
  }

  /** Resumes the watch after this state, also in another process. */
  public String resumeToken() {
    return resumeToken;
  }

  @Override
  public String toString() {
    return "%d %s%s %s, %d ms old%s".formatted(sequence(), update().getStatus(), isFinal() ? " final" : "",
        phase(), age().toMillis(), isStale() ? " (stale)" : "");
  }

  long nanosUntilStale() {
    return Retries.nanos(maxAge.minus(age()));
  }

  State with(Cancellation answer) {
    return new State(message, Optional.of(answer), maxAge, readTime);
  }

  /** Returns itself, renewed, if the message that came at that time repeats the state. */
  State apply(WatchUpdateResponse next, long arrivalTime) {
    long read = arrivalTime - Math.max(0, Retries.nanos(ageOf(next)));
    if (sequence() > 0 && readTime - read > 0) {
      read = readTime;
    }
    boolean isState = switch (next.getKind()) {
      case WATCH_KIND_SNAPSHOT, WATCH_KIND_CHANGE, WATCH_KIND_FINAL -> true;
      default -> next.getSequence() != sequence(); // an unknown kind repeats a state as a heartbeat does
    };
    if (isState) {
      return new State(next, cancellation, maxAge, read);
    }
    readTime = read;
    resumeToken = next.getResumeToken();
    return this;
  }

  private static Duration ageOf(WatchUpdateResponse message) {
    if (message.hasAge()) {
      return Duration.ofSeconds(message.getAge().getSeconds(), message.getAge().getNanos());
    }
    var observed = message.getObserveTime(); // by both clocks, for a gateway of version 0.1
    return Duration.between(Instant.ofEpochSecond(observed.getSeconds(), observed.getNanos()), Instant.now());
  }
}
