package io.eksgateway.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * An error of a call. Decide by {@link #reason}, or by {@link #code} if the reason is unknown.
 *
 * <p>An error with a reason comes from the gateway, one without from the connection, a proxy, or this client.
 */
public final class GatewayException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** Whether the same call may succeed later, and with what change. */
  public enum Retry { NO, YES, WITH_NEW_TOKEN, WITHOUT_RESUME_TOKEN }

  private final Status.Code code;
  private final String reason;
  private final transient Map<String, String> metadata;
  private final transient List<BadRequest.FieldViolation> violations;
  private final Duration retryAfter;

  private GatewayException(
      Status.Code code, String text, Throwable cause, ErrorInfo info, RetryInfo pause, BadRequest fields) {
    super(describe(code, text, info, fields), cause);
    this.code = code;
    reason = info.getReason();
    metadata = info.getMetadataMap();
    violations = fields.getFieldViolationsList();
    retryAfter = pause == null ? null : positive(pause.getRetryDelay());
  }

  GatewayException(Status.Code code, String text, Throwable cause) {
    this(code, text, cause, ErrorInfo.getDefaultInstance(), null, BadRequest.getDefaultInstance());
  }

  private GatewayException(String hint, GatewayException error) {
    super(error.getMessage() + "; " + hint, error.getCause());
    code = error.code;
    reason = error.reason;
    metadata = error.metadata;
    violations = error.violations;
    retryAfter = error.retryAfter;
  }

  /** Converts an error of a call by your own stubs, a StatusRuntimeException or StatusException. */
  public static GatewayException of(Throwable error) {
    if (error instanceof GatewayException known) {
      return known;
    }
    if (error.getCause() instanceof GatewayException known) { // of the call's credentials
      return known;
    }
    Status status = Status.fromThrowable(error);
    var info = ErrorInfo.getDefaultInstance();
    RetryInfo pause = null;
    var fields = BadRequest.getDefaultInstance();
    if (error instanceof StatusRuntimeException || error instanceof StatusException) {
      for (Any detail : StatusProto.fromThrowable(error).getDetailsList()) {
        try {
          if (detail.is(ErrorInfo.class) && detail.unpack(ErrorInfo.class).getDomain().equals("eksgateway")) {
            info = detail.unpack(ErrorInfo.class);
          } else if (detail.is(RetryInfo.class)) {
            pause = detail.unpack(RetryInfo.class);
          } else if (detail.is(BadRequest.class)) {
            fields = detail.unpack(BadRequest.class);
          }
        } catch (InvalidProtocolBufferException malformed) {
          error.addSuppressed(malformed);
        }
      }
    }
    return new GatewayException(status.getCode(), textOf(status), error, info, pause, fields);
  }

  private static Duration positive(com.google.protobuf.Duration delay) {
    var found = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
    return found.isNegative() ? Duration.ZERO : found;
  }

  GatewayException withHint(String hint) {
    return new GatewayException(hint, this);
  }

  public Status.Code code() {
    return code;
  }

  /** The name of an ErrorReason without its prefix, for example POLICY_DENIED; empty if the gateway gave none. */
  public String reason() {
    return reason;
  }

  /** Of the ErrorInfo, for example decision_id and rule_ids of a denial. */
  public Map<String, String> metadata() {
    return metadata;
  }

  /** The policy's sentences about a denial. */
  public List<String> reasons() {
    return metadata.getOrDefault("reasons", "").lines().toList();
  }

  /** The invalid fields of a REQUEST_INVALID. */
  public List<BadRequest.FieldViolation> violations() {
    return violations;
  }

  /** The pause that the gateway asks for before a retry. */
  public Optional<Duration> retryAfter() {
    return Optional.ofNullable(retryAfter);
  }

  /** The rule of docs/clients.md, by reason and code alone. */
  public Retry retry() {
    switch (reason) {
      case "CREDENTIALS_EXPIRED":
        return Retry.WITH_NEW_TOKEN;
      case "RESUME_TOKEN_INVALID":
        return Retry.WITHOUT_RESUME_TOKEN;
      case "WATCHER_TOO_SLOW":
        return Retry.YES;
      default:
        boolean retry = switch (code) {
          case UNAVAILABLE -> true;
          case ABORTED -> !reason.isEmpty();
          case RESOURCE_EXHAUSTED -> !reason.isEmpty() && retryAfter != null;
          case INTERNAL, UNKNOWN, CANCELLED, DEADLINE_EXCEEDED -> reason.isEmpty(); // from gRPC, or a proxy
          default -> false;
        };
        return retry ? Retry.YES : Retry.NO;
    }
  }

  /** Of a broken connection the description has little, and further lines that are for gRPC's developers. */
  private static String textOf(Status status) {
    String text = status.getDescription() == null ? "" : status.getDescription();
    Throwable cause = status.getCause();
    while (cause != null && cause.getCause() != null) {
      cause = cause.getCause();
    }
    return cause == null ? text : text.lines().findFirst().orElse("") + " (" + cause + ")";
  }

  private static String describe(Status.Code code, String text, ErrorInfo info, BadRequest fields) {
    var all = new StringBuilder((code + " " + info.getReason()).strip() + ": " + text);
    for (String key : List.of("reasons", "decision_id")) {
      if (info.containsMetadata(key)) {
        all.append(" ").append(key).append(": ").append(info.getMetadataOrThrow(key).replace('\n', ' '));
      }
    }
    fields.getFieldViolationsList().forEach(
        each -> all.append(" ").append(each.getField()).append(": ").append(each.getDescription()));
    return all.toString();
  }
}
