package io.eksgateway.client;

import io.eksgateway.v1.CancelUpdateAndWatchRequest;
import io.eksgateway.v1.CancelUpdateAndWatchResponse;
import io.eksgateway.v1.UpdateServiceGrpc;
import io.eksgateway.v1.WatchKind;
import io.eksgateway.v1.WatchUpdateRequest;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.concurrent.BlockingDeque;
import java.util.concurrent.LinkedBlockingDeque;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * The states of an update, each once, until it has ended, over as many streams as needed.
 *
 * <p>{@link #hasNext} waits for the next state. It also returns the last state when that becomes stale, and when
 * it is fresh again. It throws GatewayException once, where a retry is useless; with the code CANCELLED after an
 * interrupt of its thread or {@link #close}. One thread may iterate at a time; any may close. The update goes on.
 */
public final class Watch implements Iterator<State>, Iterable<State>, AutoCloseable {
  private final Retries retries;
  private final long end;
  private final long silence;
  private final Consumer<Watch> onClose;
  private final BlockingDeque<Event> events = new LinkedBlockingDeque<>(); // of all attempts
  private CancelUpdateAndWatchRequest cancel; // null without one, and once it is answered
  private WatchUpdateRequest request; // with the last resume token
  private Attempt<?, ?> attempt; // null between attempts; written under this, for close
  private long retryTime = System.nanoTime();
  private State state;
  private boolean stale; // as returned last
  private State next;
  private boolean ended;
  private volatile boolean closed;

  Watch(Retries retries, GatewayClient.Builder options, CancelUpdateAndWatchRequest cancel,
      WatchUpdateRequest request, Consumer<Watch> onClose) {
    this.retries = retries;
    end = retries.end;
    if (cancel != null) {
      retries.end = Math.min(end, Retries.endOf(GatewayClient.CANCEL_TIMEOUT));
    }
    this.silence = Retries.nanos(options.silence);
    this.onClose = onClose;
    this.cancel = cancel;
    this.request = request;
    state = new State(options.maxAge);
  }

  @Override
  public boolean hasNext() {
    if (next == null && !ended) {
      ended = true; // if an exception is thrown
      try {
        next = advance();
        ended = next.isFinal();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new GatewayException(Status.Code.CANCELLED, "the thread was interrupted", e);
      } finally {
        if (ended) {
          close();
        }
      }
    }
    return next != null;
  }

  @Override
  public State next() {
    if (!hasNext()) {
      throw new NoSuchElementException();
    }
    State found = next;
    next = null;
    return found;
  }

  /** Returns this: the states can be iterated once. */
  @Override
  public Iterator<State> iterator() {
    return this;
  }

  /** Ends the stream. */
  @Override
  public synchronized void close() {
    if (!closed) {
      closed = true;
      if (attempt != null) {
        attempt.call.cancel("the watch was closed", null);
      }
      events.add(new Event(null, null, null, 0)); // wakes advance
      onClose.accept(this);
    }
  }

  private State advance() throws InterruptedException {
    for (;;) {
      open();
      Event event = events.poll(nanosToWait(), TimeUnit.NANOSECONDS);
      State found = event == null ? checkTimes() : event.attempt == attempt ? apply(event) : null;
      if (found != null) {
        return found;
      }
    }
  }

  private synchronized void open() {
    if (closed) {
      throw new GatewayException(Status.Code.CANCELLED, "the watch was closed", null);
    }
    if (attempt == null && System.nanoTime() - retryTime >= 0) {
      attempt = cancel == null
          ? new Attempt<>(UpdateServiceGrpc.getWatchUpdateMethod(), request,
              message -> CancelUpdateAndWatchResponse.newBuilder().setWatch(message).build())
          : new Attempt<>(UpdateServiceGrpc.getCancelUpdateAndWatchMethod(), cancel, Function.identity());
    }
  }

  private long nanosToWait() {
    long change = attempt == null ? retryTime - System.nanoTime() : silence - attempt.silentFor();
    long becomesStale = stale ? Long.MAX_VALUE : state.nanosUntilStale();
    return Math.min(Math.min(change, becomesStale), retries.left());
  }

  private State checkTimes() {
    if (retries.left() <= 0) {
      String what = cancel == null ? "the update has not ended in time" : "the cancel was not answered in time";
      throw new GatewayException(Status.Code.DEADLINE_EXCEEDED, what, retries.last);
    }
    if (!stale && state.isStale()) {
      stale = true;
      return state;
    }
    if (attempt != null && attempt.silentFor() >= silence) {
      retries.connection.replace();
      long seconds = TimeUnit.NANOSECONDS.toSeconds(silence);
      retry(new GatewayException(Status.Code.UNAVAILABLE, "no message came for " + seconds + " s", null));
    }
    return null;
  }

  private State apply(Event event) {
    if (event.message == null) {
      retry(event.failure());
      return null;
    }
    retries.succeed();
    if (event.message.hasCancellation()) {
      cancel = null;
      retries.end = end;
      state = state.with(event.message.getCancellation());
      return state;
    }
    var message = event.message.getWatch();
    request = request.toBuilder().setResumeToken(message.getResumeToken()).build();
    State before = state;
    boolean wasStale = stale;
    state = before.apply(message, event.arrivalTime);
    stale = state.isStale();
    return state != before || stale != wasStale ? state : null;
  }

  private void retry(GatewayException error) {
    attempt.call.cancel("the stream is replaced", null);
    synchronized (this) {
      attempt = null;
    }
    boolean withoutToken = error.retry() == GatewayException.Retry.WITHOUT_RESUME_TOKEN;
    if (withoutToken && !request.getResumeToken().isEmpty()) {
      request = request.toBuilder().clearResumeToken().build();
    } else {
      retryTime = System.nanoTime() + retries.delay(error);
    }
  }

  /** A message, or the end of a stream. */
  private record Event(Attempt<?, ?> attempt, CancelUpdateAndWatchResponse message, Throwable error, long arrivalTime) {
    GatewayException failure() {
      return error != null
          ? GatewayException.of(error)
          : new GatewayException(Status.Code.INTERNAL, "the stream ended before the update", null);
    }

    boolean isHeartbeat() {
      return message != null && message.getWatch().getKind() == WatchKind.WATCH_KIND_HEARTBEAT;
    }
  }

  /** One stream. Messages are read as they come, so that their age is known. */
  private final class Attempt<Q, R> extends ClientCall.Listener<R> {
    final ClientCall<Q, R> call;
    private final Function<R, CancelUpdateAndWatchResponse> wrap;
    private volatile long lastTime = System.nanoTime(); // of a message

    Attempt(MethodDescriptor<Q, R> method, Q request, Function<R, CancelUpdateAndWatchResponse> wrap) {
      this.wrap = wrap;
      call = retries.connection.channel.newCall(method, CallOptions.DEFAULT.withCallCredentials(retries.bearer));
      call.start(this, new Metadata());
      call.request(2);
      call.sendMessage(request);
      call.halfClose();
    }

    long silentFor() {
      return System.nanoTime() - lastTime;
    }

    @Override
    public void onMessage(R message) {
      lastTime = System.nanoTime();
      add(new Event(this, wrap.apply(message), null, lastTime));
      call.request(1);
    }

    @Override
    public void onClose(Status status, Metadata trailers) {
      add(new Event(this, null, status.isOk() ? null : status.asRuntimeException(trailers), System.nanoTime()));
    }

    /** A heartbeat replaces one that was not taken yet, so that a slow reader costs no memory. */
    private void add(Event event) {
      Event last = events.peekLast();
      if (last != null && last.isHeartbeat() && event.isHeartbeat() && last.attempt == this) {
        events.removeLastOccurrence(last);
      }
      events.add(event);
    }
  }
}
