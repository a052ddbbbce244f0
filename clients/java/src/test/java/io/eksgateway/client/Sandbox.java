package io.eksgateway.client;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import io.eksgateway.v1.CancelUpdateAndWatchRequest;
import io.eksgateway.v1.CancelUpdateRequest;
import io.eksgateway.v1.ClusterRef;
import io.eksgateway.v1.WatchUpdateRequest;
import java.io.BufferedReader;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;

/** A clients/testing/run_sandbox. At speed 1 a cancelled update stays InProgress until `advance`. */
public final class Sandbox implements AutoCloseable {
  static final Path TESTING = Path.of("../testing").toAbsolutePath().normalize();

  private final Path folder = Files.createTempDirectory("java-client-");
  private final AtomicInteger clusters = new AtomicInteger();
  private final Process process;
  private final BufferedReader lines;
  private final JsonObject info;

  public Sandbox(String... options) throws IOException {
    String program = TESTING.resolve("run_sandbox").toString();
    var command = new ArrayList<>(List.of(program, folder.toString(), "--speed", "1"));
    command.addAll(List.of(options));
    process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
    lines = process.inputReader();
    String path = lines.readLine();
    if (path == null) {
      throw new IOException("the sandbox did not start");
    }
    info = new Gson().fromJson(Files.readString(Path.of(path)), JsonObject.class);
  }

  /** A field of the info file, for example grpc, the gateway's address. */
  public String get(String field) {
    return info.get(field).getAsString();
  }

  public String token(String caller) {
    return info.getAsJsonObject("tokens").get(caller).getAsString();
  }

  public synchronized void run(String... commands) {
    try {
      for (String command : commands) {
        process.outputWriter().append(command).append('\n').flush();
        String answer = lines.readLine();
        if (!"ok".equals(answer)) {
          throw new IllegalStateException(command + ": " + answer);
        }
      }
    } catch (IOException e) {
      throw new IllegalStateException(e);
    }
  }

  GatewayClient.Builder connect(String field, String caller) {
    return GatewayClient.builder(get(field)).plaintext().token(() -> token(caller));
  }

  /** Adds a cluster with an update, rollback-NAME, that oncall may cancel without a ticket. Returns its name. */
  String addCluster() throws IOException, InterruptedException {
    String name = "staging-java-" + clusters.incrementAndGet();
    String body = """
        {"name": "%1$s", "account_id": "111122223333", "region": "us-east-1", "tags": {"environment": "staging"},
         "updates": [{"id": "rollback-%1$s", "node_phase_s": 600000, "timeout_minutes": 10080,
                      "cancel_delay_s": 120, "node_replacing_s": 600}]}""".formatted(name);
    var uri = URI.create(get("simulator") + "/_simulator/clusters");
    var request = HttpRequest.newBuilder(uri).POST(HttpRequest.BodyPublishers.ofString(body)).build();
    var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    if (answer.statusCode() != 200) {
      throw new IOException(answer.statusCode() + ": " + answer.body());
    }
    return name;
  }

  /** The number of CancelUpdate calls for a cluster that the simulated EKS received. */
  long cancelsSent(String cluster) throws IOException, InterruptedException {
    var request = HttpRequest.newBuilder(URI.create(get("simulator") + "/_simulator/calls")).build();
    String body = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    long sent = 0;
    for (var call : new Gson().fromJson(body, JsonObject.class).getAsJsonArray("calls")) {
      String text = call.toString();
      sent += text.contains("\"CancelUpdate\"") && text.contains("rollback-" + cluster + "\"") ? 1 : 0;
    }
    return sent;
  }

  public static CancelUpdateRequest cancel(String cluster) {
    return CancelUpdateRequest.newBuilder().setCluster(ClusterRef.newBuilder().setName(cluster))
        .setUpdateId("rollback-" + cluster).setReason("bad AMI").build();
  }

  public static WatchUpdateRequest watch(String cluster) {
    return WatchUpdateRequest.newBuilder().setCluster(ClusterRef.newBuilder().setName(cluster))
        .setUpdateId("rollback-" + cluster).build();
  }

  public static CancelUpdateAndWatchRequest cancelAndWatch(String cluster) {
    return CancelUpdateAndWatchRequest.newBuilder().setCluster(ClusterRef.newBuilder().setName(cluster))
        .setUpdateId("rollback-" + cluster).setReason("bad AMI").build();
  }

  @Override
  public void close() throws IOException {
    process.outputWriter().close();
    try {
      process.waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    Files.delete(folder);
  }
}
