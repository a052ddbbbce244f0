package io.eksgateway.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import io.grpc.TlsServerCredentials;
import io.grpc.testing.TlsTesting;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** With gRPC's own test certificates. */
class TlsTest {
  @TempDir
  private Path folder;

  private File file(String name) throws IOException {
    Files.copy(TlsTesting.loadCert(name), folder.resolve(name), StandardCopyOption.REPLACE_EXISTING);
    return folder.resolve(name).toFile();
  }

  private Stub listen(TlsServerCredentials.ClientAuth clientAuth) throws IOException {
    return new Stub(TlsServerCredentials.newBuilder().keyManager(file("server1.pem"), file("server1.key"))
        .trustManager(file("ca.pem")).clientAuth(clientAuth).build());
  }

  private static GatewayClient.Builder connect(Stub stub) {
    return GatewayClient.builder(stub.address()).token(() -> "t1")
        .configure(builder -> builder.overrideAuthority("foo.test.google.fr")); // which the certificate names
  }

  private static GatewayException fail(GatewayClient.Builder builder) {
    try (var client = builder.build()) {
      return assertThrows(GatewayException.class, () -> client.watch(Sandbox.watch("c-1")).hasNext());
    }
  }

  @Test
  void aCaOfOnesOwnIsTrusted() throws Exception {
    try (var stub = listen(TlsServerCredentials.ClientAuth.NONE);
        var client = connect(stub).trust(file("ca.pem")).build()) {
      client.cancel(Sandbox.cancel("c-1"));
      assertEquals("Bearer t1", stub.tokens.get(0));
    }
  }

  @Test
  void aClientCertificateIsSent() throws Exception {
    try (var stub = listen(TlsServerCredentials.ClientAuth.REQUIRE);
        var client = connect(stub).trust(file("ca.pem")).certificate(file("client.pem"), file("client.key")).build()) {
      client.cancel(Sandbox.cancel("c-1"));
    }
  }

  @Test
  void wrongAddressesAreReportedAfterSomeAttempts() throws Exception {
    try (var tls = listen(TlsServerCredentials.ClientAuth.NONE); var plaintext = new Stub()) {
      for (var builder : new GatewayClient.Builder[] {
          connect(tls), connect(tls).plaintext(), connect(plaintext), connect(tls).trust(file("client.pem")),
          GatewayClient.builder("gateway.invalid:443")}) {
        var error = fail(builder);
        assertEquals(Status.Code.UNAVAILABLE, error.code());
        assertTrue(error.getMessage().contains("correct the address"), error.getMessage());
      }
      assertEquals(0, tls.tokens.size() + plaintext.tokens.size());
    }
  }

  @Test
  void plaintextExcludesCertificates() throws Exception {
    var builder = GatewayClient.builder("localhost:1").trust(file("ca.pem")).plaintext();
    assertThrows(IllegalStateException.class, builder::build);
  }
}
