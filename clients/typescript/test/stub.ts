import { once } from "node:events";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";

import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import { UpdateService, WatchKind, WatchUpdateResponseSchema } from "../src/index.js";
import { ErrorInfoSchema, RetryInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";

/** A gRPC server for what a real gateway does too rarely for a test. */
export class Stub implements AsyncDisposable {
  /** Of all connections. */
  connections = 0;

  private constructor(
    readonly address: string,
    private readonly server: http2.Http2Server,
    private readonly sessions: Set<http2.ServerHttp2Session>,
    private readonly streams: Set<http2.ServerHttp2Stream>,
  ) {}

  static async start(
    service: Partial<ServiceImpl<typeof UpdateService>>,
    tls?: { cert: Buffer; key: Buffer },
  ): Promise<Stub> {
    const handler = connectNodeAdapter({ routes: (router) => router.service(UpdateService, service) });
    const server = tls ? http2.createSecureServer(tls, handler) : http2.createServer(handler);
    const sessions = new Set<http2.ServerHttp2Session>();
    const streams = new Set<http2.ServerHttp2Stream>();
    server.on("stream", (stream) => streams.add(stream.once("close", () => streams.delete(stream))));
    await once(server.listen(0, "127.0.0.1"), "listening");
    const stub = new Stub(`127.0.0.1:${(server.address() as AddressInfo).port}`, server, sessions, streams);
    server.on("session", (session) => {
      stub.connections++;
      sessions.add(session.once("close", () => sessions.delete(session)));
    });
    return stub;
  }

  /** Sends RST_STREAM with an HTTP/2 error code to each call. */
  reset(code: number): void {
    for (const stream of this.streams) stream.close(code);
  }

  /** Sends GOAWAY with an HTTP/2 error code, and closes each connection. */
  goAway(code: number): void {
    for (const session of this.sessions) {
      session.goaway(code);
      session.destroy(undefined, code);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.sessions) session.destroy();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

export function message(kind: WatchKind, sequence: number, ageMs = 0, resumeToken = `token-${sequence}`) {
  const age = durationFromMs(ageMs);
  const update = { id: "u-1" };
  return create(WatchUpdateResponseSchema, { kind, sequence: BigInt(sequence), age, resumeToken, update });
}

/** `pauseMs` is for RetryInfo. */
export function gatewayError(code: Code, reason: string, pauseMs?: number): ConnectError {
  const info = { desc: ErrorInfoSchema, value: { domain: "eksgateway", reason } };
  const retry = { desc: RetryInfoSchema, value: { retryDelay: durationFromMs(pauseMs ?? 0) } };
  return new ConnectError(reason, code, undefined, pauseMs === undefined ? [info] : [info, retry]);
}
