package io.eksgateway.client;

import io.grpc.CallCredentials;
import io.grpc.Metadata;
import io.grpc.Status;
import java.util.concurrent.Callable;
import java.util.concurrent.Executor;

/** Adds a token of the source to each attempt of a call. */
final class Bearer extends CallCredentials {
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  private final Callable<String> source;
  private String last = "";
  private GatewayException expired; // the refusal of the last token; null if it was not refused

  Bearer(Callable<String> source) {
    this.source = source;
  }

  /** Refuses the last token from now on. */
  synchronized void expire(GatewayException error) {
    expired = error;
  }

  @Override
  public void applyRequestMetadata(RequestInfo info, Executor executor, MetadataApplier applier) {
    executor.execute(() -> {
      try {
        var headers = new Metadata();
        String token = next();
        if (!token.isEmpty()) {
          headers.put(AUTHORIZATION, "Bearer " + token);
        }
        applier.apply(headers);
      } catch (Exception | Error e) { // else the call would wait for its deadline
        applier.fail(Status.UNAUTHENTICATED.withDescription("the source returned no bearer token").withCause(e));
      }
    });
  }

  private String next() throws Exception {
    String token = source.call();
    return check(token == null ? "" : token.strip());
  }

  private synchronized String check(String token) throws GatewayException {
    if (!token.chars().allMatch(each -> each > ' ' && each < 127)) {
      throw new IllegalArgumentException("the token has characters that no bearer token has");
    }
    if (expired != null && token.equals(last)) {
      throw expired;
    }
    expired = null;
    last = token;
    return token;
  }
}
