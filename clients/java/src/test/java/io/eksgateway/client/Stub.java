package io.eksgateway.client;

import com.google.protobuf.Any;
import com.google.protobuf.Timestamp;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.eksgateway.v1.CancelUpdateRequest;
import io.eksgateway.v1.CancelUpdateResponse;
import io.eksgateway.v1.Cancellation;
import io.eksgateway.v1.Update;
import io.eksgateway.v1.UpdateServiceGrpc;
import io.eksgateway.v1.WatchKind;
import io.eksgateway.v1.WatchUpdateRequest;
import io.eksgateway.v1.WatchUpdateResponse;
import io.grpc.Attributes;
import io.grpc.Grpc;
import io.grpc.InsecureServerCredentials;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerCredentials;
import io.grpc.ServerInterceptor;
import io.grpc.ServerTransportFilter;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;
import java.util.function.Function;
import java.util.logging.Level;
import java.util.logging.Logger;

/** A gRPC server for what a real gateway does too rarely for a test. */
final class Stub extends UpdateServiceGrpc.UpdateServiceImplBase implements AutoCloseable {
  final List<WatchUpdateRequest> watched = new CopyOnWriteArrayList<>();
  final List<CancelUpdateRequest> cancelled = new CopyOnWriteArrayList<>();
  final List<String> tokens = new CopyOnWriteArrayList<>();
  final AtomicInteger connections = new AtomicInteger();
  /** Whether a client has left a watch. */
  final CountDownLatch left = new CountDownLatch(1);
  /** Answers the watch of an index; it stays open until the function ends it. */
  BiConsumer<Integer, StreamObserver<WatchUpdateResponse>> watch = (index, stream) -> { };
  /** Returns the error of the cancel of an index, or null for success. */
  Function<Integer, StatusRuntimeException> cancel = index -> null;
  private static final Logger GRPC = Logger.getLogger("io.grpc");
  private final Server server;

  static {
    GRPC.setLevel(Level.SEVERE); // else it logs each connection that breaks
  }

  Stub() throws IOException {
    this(InsecureServerCredentials.create());
  }

  Stub(ServerCredentials credentials) throws IOException {
    server = Grpc.newServerBuilderForPort(0, credentials).addService(this).intercept(new ServerInterceptor() {
      @Override
      public <Q, R> ServerCall.Listener<Q> interceptCall(
          ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
        tokens.add("" + headers.get(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER)));
        return next.startCall(call, headers);
      }
    }).addTransportFilter(new ServerTransportFilter() {
      @Override
      public Attributes transportReady(Attributes attributes) {
        connections.incrementAndGet();
        return attributes;
      }
    }).build().start();
  }

  String address() {
    return "localhost:" + server.getPort();
  }

  GatewayClient.Builder connect() {
    return GatewayClient.builder(address()).plaintext();
  }

  @Override
  public void watchUpdate(WatchUpdateRequest request, StreamObserver<WatchUpdateResponse> stream) {
    ((ServerCallStreamObserver<WatchUpdateResponse>) stream).setOnCancelHandler(left::countDown);
    int index;
    synchronized (this) {
      index = watched.size();
      watched.add(request);
    }
    watch.accept(index, stream);
  }

  @Override
  public void cancelUpdate(CancelUpdateRequest request, StreamObserver<CancelUpdateResponse> answer) {
    int index;
    synchronized (this) {
      index = cancelled.size();
      cancelled.add(request);
    }
    var error = cancel.apply(index);
    if (error != null) {
      answer.onError(error);
    } else {
      var cancellation = Cancellation.newBuilder().setRequestId(request.getRequestId());
      answer.onNext(CancelUpdateResponse.newBuilder().setCancellation(cancellation).build());
      answer.onCompleted();
    }
  }

  @Override
  public void close() {
    server.shutdownNow();
  }

  static WatchUpdateResponse message(WatchKind kind, long sequence, Duration age) {
    return WatchUpdateResponse.newBuilder().setKind(kind).setSequence(sequence)
        .setUpdate(Update.newBuilder().setId("u-1")).setResumeToken("token-" + kind.getNumber() + "-" + sequence)
        .setObserveTime(Timestamp.newBuilder().setSeconds(1)) // of a gateway whose clock is wrong
        .setAge(com.google.protobuf.Duration.newBuilder().setSeconds(age.getSeconds()).setNanos(age.getNano())).build();
  }

  static WatchUpdateResponse message(WatchKind kind, long sequence) {
    return message(kind, sequence, Duration.ZERO);
  }

  static StatusRuntimeException error(Status.Code code, String reason, Duration pause) {
    var status = com.google.rpc.Status.newBuilder().setCode(code.value()).setMessage("refused")
        .addDetails(Any.pack(ErrorInfo.newBuilder().setDomain("eksgateway").setReason(reason).build()));
    if (pause != null) {
      var delay = com.google.protobuf.Duration.newBuilder().setSeconds(pause.getSeconds()).setNanos(pause.getNano());
      status.addDetails(Any.pack(RetryInfo.newBuilder().setRetryDelay(delay).build()));
    }
    return StatusProto.toStatusRuntimeException(status.build());
  }
}
