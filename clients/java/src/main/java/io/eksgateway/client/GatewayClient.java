package io.eksgateway.client;

import io.eksgateway.v1.CancelUpdateAndWatchRequest;
import io.eksgateway.v1.CancelUpdateRequest;
import io.eksgateway.v1.Cancellation;
import io.eksgateway.v1.CancellationServiceGrpc;
import io.eksgateway.v1.UpdateServiceGrpc;
import io.eksgateway.v1.WatchUpdateRequest;
import io.grpc.ChannelCredentials;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import java.io.File;
import java.io.IOException;
import java.time.Duration;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Consumer;

/**
 * The connections to one gateway. It cancels updates of Amazon EKS clusters and watches them until they end, over
 * broken connections and restarts of the gateway. It is safe for use by several threads.
 *
 * <p>Its methods throw {@link GatewayException}; with the code CANCELLED after an interrupt or {@link #close}.
 */
public final class GatewayClient implements AutoCloseable {
  static final Duration CANCEL_TIMEOUT = Duration.ofSeconds(45); // the gateway answers within 30
  private static final Duration FOREVER = Duration.ofSeconds(Long.MAX_VALUE);

  private final Builder options;
  private final Connections connections;
  private final Set<Watch> watches = ConcurrentHashMap.newKeySet();
  private final CountDownLatch closed = new CountDownLatch(1);

  private GatewayClient(Builder options) {
    this.options = options;
    connections = new Connections(options);
  }

  /** For the gateway at host:port or a gRPC target. */
  public static Builder builder(String address) {
    return new Builder(address);
  }

  /** A random id for a cancel. Keep it to repeat the cancel later. */
  public static String newRequestId() {
    return UUID.randomUUID().toString();
  }

  /** Makes the other calls, without retries, with the token and a deadline of 35 s. */
  public UpdateServiceGrpc.UpdateServiceBlockingStub updates() {
    return UpdateServiceGrpc.newBlockingStub(connections.calls.channel);
  }

  /** Makes the other calls, as {@link #updates} does. */
  public CancellationServiceGrpc.CancellationServiceBlockingStub cancellations() {
    return CancellationServiceGrpc.newBlockingStub(connections.calls.channel);
  }

  /** As {@link #cancel(CancelUpdateRequest, Duration)}, within 45 s. */
  public Cancellation cancel(CancelUpdateRequest request) {
    return cancel(request, CANCEL_TIMEOUT);
  }

  /**
   * Calls CancelUpdate with the same request id until it is answered: EKS has accepted the cancel, or a retry is
   * useless. Watch the update to see it end.
   *
   * <p>It generates an absent request id. After UNAVAILABLE, DEADLINE_EXCEEDED and CANCELLED the outcome is
   * unknown: call again with the same id, which has one effect. The timeout covers all attempts.
   */
  public Cancellation cancel(CancelUpdateRequest request, Duration timeout) {
    var identified = request.toBuilder().setRequestId(orNew(request.getRequestId())).build();
    var retries = new Retries(connections.calls, options, timeout);
    for (;;) {
      long nanos = Math.max(1, Math.min(Retries.nanos(CANCEL_TIMEOUT), retries.left()));
      try {
        var stub = updates().withCallCredentials(retries.bearer).withDeadlineAfter(nanos, TimeUnit.NANOSECONDS);
        var answer = stub.cancelUpdate(identified);
        if (answer.hasCancellation()) {
          return answer.getCancellation();
        }
        throw new GatewayException(Status.Code.INTERNAL, "the answer has no cancellation", null);
      } catch (StatusRuntimeException e) {
        retries.await(GatewayException.of(e), closed);
      }
    }
  }

  /** Watches without a timeout. */
  public Watch watch(WatchUpdateRequest request) {
    return watch(request, FOREVER);
  }

  /** Watches an update until it has ended. It resumes over restarts of the gateway, proxies and silence. */
  public Watch watch(WatchUpdateRequest request, Duration timeout) {
    return watch(null, request, timeout);
  }

  /** Cancels and watches without a timeout of the watch. */
  public Watch cancelAndWatch(CancelUpdateAndWatchRequest request) {
    return cancelAndWatch(request, FOREVER);
  }

  /**
   * Cancels an update as {@link #cancel} does, and watches it, in one stream. The first state has only the
   * cancellation. The cancel is repeated for up to 45 s until it is answered, with the same request id.
   */
  public Watch cancelAndWatch(CancelUpdateAndWatchRequest request, Duration timeout) {
    var cancel = request.toBuilder().setRequestId(orNew(request.getRequestId())).build();
    var watched = WatchUpdateRequest.newBuilder().setCluster(request.getCluster()).setUpdateId(request.getUpdateId());
    return watch(cancel, watched.build(), timeout);
  }

  /** {@link #watch} for subscribers. Each gets a watch of its own, which its thread follows as states are requested. */
  public Flow.Publisher<State> watchPublisher(WatchUpdateRequest request) {
    return new WatchPublisher(() -> watch(request));
  }

  /** {@link #cancelAndWatch} for subscribers, with one request id and so with one effect. */
  public Flow.Publisher<State> cancelAndWatchPublisher(CancelUpdateAndWatchRequest request) {
    var identified = request.toBuilder().setRequestId(orNew(request.getRequestId())).build();
    return new WatchPublisher(() -> cancelAndWatch(identified));
  }

  /** Ends all calls and watches. */
  @Override
  public void close() {
    closed.countDown();
    watches.forEach(Watch::close);
    connections.close();
  }

  private Watch watch(CancelUpdateAndWatchRequest cancel, WatchUpdateRequest request, Duration timeout) {
    var connection = connections.borrow();
    var retries = new Retries(connection, options, timeout);
    var watch = new Watch(retries, options, cancel, request, ended -> {
      if (watches.remove(ended)) {
        connections.giveBack(connection);
      }
    });
    watches.add(watch);
    if (closed.getCount() == 0) {
      watch.close();
    }
    return watch;
  }

  private static String orNew(String id) {
    return id.isEmpty() ? newRequestId() : id;
  }

  /** Options of a client. The default is TLS with the JVM's trusted roots, and no token. */
  public static final class Builder {
    final String address;
    Callable<String> token = () -> "";
    Duration maxAge = Duration.ofSeconds(60);
    Duration silence = Duration.ofSeconds(60);
    BiConsumer<GatewayException, Duration> onRetry = (error, delay) -> { };
    Consumer<ManagedChannelBuilder<?>> configuration = builder -> { };
    private final TlsChannelCredentials.Builder tls = TlsChannelCredentials.newBuilder();
    private ChannelCredentials credentials;
    private boolean hasTls;

    private Builder(String address) {
      this.address = address;
    }

    /** Trusts the CAs in the PEM file, in place of the JVM's. */
    public Builder trust(File roots) throws IOException {
      tls.trustManager(roots);
      hasTls = true;
      return this;
    }

    /** Sends a client certificate, from PEM files of the chain and of the unencrypted PKCS 8 key. */
    public Builder certificate(File chain, File key) throws IOException {
      tls.keyManager(chain, key);
      hasTls = true;
      return this;
    }

    /** Connects without TLS, where the network can read the token. */
    public Builder plaintext() {
      return credentials(InsecureChannelCredentials.create());
    }

    /** Other credentials of gRPC, for example with certificates that are renewed. */
    public Builder credentials(ChannelCredentials other) {
      credentials = other;
      return this;
    }

    /** The source of the bearer token, called before each attempt, by several threads. */
    public Builder token(Callable<String> source) {
      token = source;
      return this;
    }

    /**
     * The age from which a watched state is stale, by default 60 s. Below 15 s, the interval of heartbeats, a
     * healthy stream becomes stale in between.
     */
    public Builder maxAge(Duration age) {
      maxAge = age;
      return this;
    }

    /** The time without a message after which a stream is replaced, by default 60 s. */
    public Builder silence(Duration time) {
      silence = time;
      return this;
    }

    /** Gets the cause of each retry and its delay, for a log. */
    public Builder onRetry(BiConsumer<GatewayException, Duration> listener) {
      onRetry = listener;
      return this;
    }

    /** Overrides gRPC's options, for example keepalive. */
    public Builder configure(Consumer<ManagedChannelBuilder<?>> channels) {
      configuration = channels;
      return this;
    }

    /** Connects with the first call. Throws IllegalArgumentException for a malformed address. */
    public GatewayClient build() {
      if (hasTls && credentials != null) {
        throw new IllegalStateException("choose either trust and certificate, or plaintext or other credentials");
      }
      return new GatewayClient(this);
    }

    boolean isPlaintext() {
      return credentials instanceof InsecureChannelCredentials;
    }

    ChannelCredentials channelCredentials() {
      return credentials != null ? credentials : tls.build();
    }
  }
}
