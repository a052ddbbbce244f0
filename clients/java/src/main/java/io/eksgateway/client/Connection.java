package io.eksgateway.client;

import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ConnectivityState;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.UnknownHostException;
import java.security.cert.CertificateException;
import java.util.concurrent.TimeUnit;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** A connection to a gateway, which is replaced when it breaks. */
final class Connection implements ClientInterceptor {
  private static final int PROBE_MS = 2_000;

  final ManagedChannel channel;
  int watches; // guarded by Connections
  private final GatewayClient.Builder options;
  private final Bearer bearer;

  Connection(GatewayClient.Builder options) {
    this.options = options;
    bearer = new Bearer(options.token);
    var builder = Grpc.newChannelBuilder(options.address, options.channelCredentials())
        .keepAliveTime(15, TimeUnit.SECONDS) // the gateway permits a ping every 10 s, also without calls
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true);
    options.configuration.accept(builder);
    channel = builder.intercept(this).build();
  }

  @Override
  public <Q, R> ClientCall<Q, R> interceptCall(MethodDescriptor<Q, R> method, CallOptions call, Channel next) {
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      replace(); // gRPC would wait for up to 2 minutes
    }
    if (call.getCredentials() == null) {
      call = call.withCallCredentials(bearer);
    }
    if (call.getDeadline() == null && method.getType() == MethodDescriptor.MethodType.UNARY) {
      call = call.withDeadlineAfter(35, TimeUnit.SECONDS);
    }
    return next.newCall(method, call);
  }

  /** Makes the next calls open another connection. */
  void replace() {
    channel.enterIdle();
  }

  /** Whether something has answered, the gateway or a proxy. */
  boolean isReady() {
    return channel.getState(false) == ConnectivityState.READY;
  }

  /** Whether the address or the credentials look wrong, after an error without a connection. */
  boolean looksWrong(GatewayException error) {
    return has(error, SSLException.class) || has(error, UnknownHostException.class)
        || options.isPlaintext() && speaksTls();
  }

  private boolean speaksTls() {
    var uri = URI.create("tls://" + options.address);
    if (uri.getHost() == null || uri.getPort() < 0) { // another kind of target
      return false;
    }
    try (var socket = (SSLSocket) SSLSocketFactory.getDefault().createSocket()) { // sends no token
      socket.connect(new InetSocketAddress(uri.getHost(), uri.getPort()), PROBE_MS);
      socket.setSoTimeout(PROBE_MS);
      socket.startHandshake();
      return true;
    } catch (IOException e) {
      return has(e, CertificateException.class);
    }
  }

  private static boolean has(Throwable error, Class<? extends Exception> kind) {
    for (Throwable each = error; each != null; each = each.getCause()) {
      if (kind.isInstance(each)) {
        return true;
      }
    }
    return false;
  }
}
