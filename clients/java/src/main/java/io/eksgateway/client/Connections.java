package io.eksgateway.client;

import io.grpc.Status;
import java.util.ArrayList;
import java.util.List;

/** One connection for calls, and one more for every 80 watches. */
final class Connections {
  private static final int WATCHES_PER_CONNECTION = 80; // gRPC queues more than 100 calls without an error

  final Connection calls;
  private final GatewayClient.Builder options;
  private final List<Connection> watches = new ArrayList<>();
  private boolean closed;

  Connections(GatewayClient.Builder options) {
    this.options = options;
    calls = new Connection(options);
  }

  /** Returns a connection with room for one more watch, until it is given back. */
  synchronized Connection borrow() {
    if (closed) {
      throw new GatewayException(Status.Code.CANCELLED, "the client is closed", null);
    }
    var found = watches.stream().filter(each -> each.watches < WATCHES_PER_CONNECTION).findFirst().orElse(null);
    if (found == null) {
      found = new Connection(options);
      watches.add(found);
    }
    found.watches++;
    return found;
  }

  synchronized void giveBack(Connection connection) {
    connection.watches--;
  }

  synchronized void close() {
    closed = true;
    calls.channel.shutdownNow();
    watches.forEach(each -> each.channel.shutdownNow());
  }
}
