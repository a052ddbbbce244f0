import { durationMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import type { ErrorReason } from "./gen/eksgateway/v1/error_reason_pb.js";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** A name of ErrorReason, a newer gateway's, or "" if the error comes from the connection or a proxy. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED"> | "" | (string & {});

/** An error of a call. Decide by `reason`, or by `code` if the reason is unknown; `message` is for people. */
export class GatewayError extends Error {
  override readonly name = "GatewayError";
  readonly code: Code;
  readonly reason: Reason;
  /** For example `decision_id`: the comments of ErrorReason name them. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The policy's sentences about a denial. */
  readonly reasons: readonly string[];
  /** The invalid fields of a request. */
  readonly violations: readonly { field: string; description: string }[];
  /** The pause that the gateway requests before a retry, in milliseconds. */
  readonly retryAfterMs: number | undefined;

  /** `hint` is what to correct if no retry helps. */
  constructor(
    override readonly cause: ConnectError,
    readonly hint = "",
  ) {
    const info = cause.findDetails(ErrorInfoSchema).find((each) => each.domain === "eksgateway");
    const name = [Code[cause.code], info?.reason].filter(Boolean).join(" ");
    super(`${name}: ${cause.rawMessage}${hint && `; ${hint}`}`);
    const delay = info && cause.findDetails(RetryInfoSchema)[0]?.retryDelay;
    this.code = cause.code;
    this.reason = info?.reason ?? "";
    this.metadata = info?.metadata ?? {};
    this.reasons = this.metadata["reasons"]?.split("\n") ?? [];
    this.violations = cause.findDetails(BadRequestSchema).flatMap((each) => each.fieldViolations);
    this.retryAfterMs = delay && Math.max(0, durationMs(delay));
  }

  static from(error: unknown): GatewayError {
    return error instanceof GatewayError ? error : new GatewayError(ConnectError.from(error));
  }
}
