package io.eksgateway.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.MethodDescriptor;
import java.util.concurrent.TimeUnit;

/** A connection to a gateway, which is replaced when it breaks. */
final class Connection implements ClientInterceptor {
  int watches;
  private final ManagedChannel channel;
  private final Bearer bearer;

  Connection(ManagedChannelBuilder<?> builder, Bearer bearer) {
    this.bearer = bearer;
    channel = builder.intercept(this).build();
  }

  ManagedChannel channel() {
    return channel;
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions options, Channel next) {
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      replace(); // gRPC would wait for up to 2 minutes
    }
    if (options.getCredentials() == null) {
      options = options.withCallCredentials(bearer);
    }
    if (options.getDeadline() == null && method.getType() == MethodDescriptor.MethodType.UNARY) {
      options = options.withDeadlineAfter(35, TimeUnit.SECONDS);
    }
    return next.newCall(method, options);
  }

  /** Makes the next calls open another connection. */
  void replace() {
    channel.enterIdle();
  }
}
