import { randomUUID } from "node:crypto";

import type { MessageInitShape } from "@bufbuild/protobuf";
import { create } from "@bufbuild/protobuf";
import type { Client as ServiceClient, Transport } from "@connectrpc/connect";
import { Code, ConnectError, createClient as createServiceClient } from "@connectrpc/connect";

import type { Endpoint } from "./connections.js";
import { Connections } from "./connections.js";
import { GatewayError } from "./errors.js";
import type { Cancellation } from "./gen/eksgateway/v1/cancellation_pb.js";
import { CancellationService } from "./gen/eksgateway/v1/cancellation_service_pb.js";
import type { ClusterRefSchema } from "./gen/eksgateway/v1/update_pb.js";
import type { CancelUpdateAndWatchResponse } from "./gen/eksgateway/v1/update_service_pb.js";
import { UpdateService, WatchUpdateResponseSchema } from "./gen/eksgateway/v1/update_service_pb.js";
import type { OnRetry, Timing, TokenSource } from "./retries.js";
import { Retries, TIMING } from "./retries.js";
import { State } from "./state.js";

const CANCEL_MS = 45_000; // the gateway answers within 30 s
const CALL_MS = 35_000;
const MAX_AGE_MS = 60_000;

export type ClientOptions = Endpoint & {
  /** Absent for a listener that demands a certificate alone. */
  token?: TokenSource;
  /** Gets the cause of each retry and its delay in milliseconds. */
  onRetry?: OnRetry;
  timing?: Partial<Timing>;
};

export interface UpdateOptions {
  /** The name of a cluster in the gateway's home target, or a reference with account and region. */
  cluster: string | MessageInitShape<typeof ClusterRefSchema>;
  updateId: string;
  /** Ends the call, which then throws `signal.reason`. A cancel that was sent goes on. */
  signal?: AbortSignal;
}

export interface CancelOptions extends UpdateOptions {
  /** Store it before the call to repeat the cancel later, with one effect. Random if absent. */
  requestId?: string;
  reason?: string;
  ticket?: string;
  /** Of all attempts until EKS has accepted the cancel, in milliseconds; 45,000 if absent. */
  timeoutMs?: number;
}

export interface WatchOptions extends UpdateOptions {
  /** A state that was read from EKS longer ago is stale; 60,000 if absent. Heartbeats come every 15,000. */
  maxAgeMs?: number;
  /** Of the last message that an earlier watch of this update received. */
  resumeToken?: string;
}

/** An event of cancelAndWatch: first the cancellation, then each state of the update. */
export type WatchEvent = { case: "cancellation"; value: Cancellation } | { case: "state"; value: State };

type Message = CancelUpdateAndWatchResponse["event"];

/** Opens no connection yet. Throws TypeError for a malformed address. */
export function createClient(options: ClientOptions): Client {
  return new Client(options);
}

/** Connections to one gateway. `cancel`, `watch` and `cancelAndWatch` throw GatewayError. */
export class Client implements AsyncDisposable {
  /**
   * For service clients of your own: adds the token, and a deadline of 35 s to unary calls. Throws ConnectError:
   * see GatewayError.from.
   */
  readonly transport: Transport;
  readonly updates: ServiceClient<typeof UpdateService>;
  readonly cancellations: ServiceClient<typeof CancellationService>;
  readonly #options: ClientOptions;
  readonly #timing: Timing;
  readonly #connections: Connections;
  readonly #closed = new AbortController();

  /** @internal */
  constructor(options: ClientOptions) {
    this.#options = options;
    this.#timing = { ...TIMING, ...options.timing };
    this.#connections = new Connections(options, this.#timing, (next) => async (request) => {
      this.#closed.signal.throwIfAborted();
      if (!request.header.has("authorization"))
        for (const [name, value] of Object.entries(await this.#retries().headers())) request.header.set(name, value);
      return next(request);
    });
    const { unary, stream } = this.#connections.calls.transport;
    this.transport = { stream, unary: (method, signal, ms = CALL_MS, ...rest) => unary(method, signal, ms, ...rest) };
    this.updates = createServiceClient(UpdateService, this.transport);
    this.cancellations = createServiceClient(CancellationService, this.transport);
  }

  /**
   * Cancels an update; returns once EKS has accepted the cancel. All attempts have the same request id.
   *
   * After UNAVAILABLE or DEADLINE_EXCEEDED the outcome is unknown: call again with the same `requestId`.
   */
  async cancel(options: CancelOptions): Promise<Cancellation> {
    const signal = this.#signal(options);
    const request = cancelRequest(options);
    const retries = this.#retries(options.timeoutMs ?? CANCEL_MS);
    for (;;) {
      const headers = await retries.headers();
      const timeoutMs = Math.ceil(Math.max(1, Math.min(CANCEL_MS, retries.left)));
      try {
        const { cancellation } = await this.updates.cancelUpdate(request, { headers, signal, timeoutMs });
        if (cancellation) return cancellation;
        throw new ConnectError("the answer has no cancellation", Code.Internal);
      } catch (error) {
        signal.throwIfAborted();
        await retries.wait(GatewayError.from(error), this.#connections.calls, signal);
      }
    }
  }

  /**
   * Yields each state of an update once, until it has ended. Breaking out of the loop ends the stream.
   *
   * Yields a state again when it becomes stale, and when EKS is read again.
   */
  async *watch(options: WatchOptions): AsyncGenerator<State, void, void> {
    for await (const event of this.#events(options, this.#retries()))
      if (event.case === "state") yield event.value;
  }

  /** `cancel` and `watch` in one: yields the cancellation first, and then the states. */
  cancelAndWatch(options: CancelOptions & WatchOptions): AsyncGenerator<WatchEvent, void, void> {
    return this.#events(options, this.#retries(options.timeoutMs ?? CANCEL_MS), cancelRequest(options));
  }

  /** Ends all calls and watches. */
  async close(): Promise<void> {
    this.#closed.abort(new ConnectError("the client is closed", Code.FailedPrecondition));
    this.#connections.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async *#events(
    options: WatchOptions,
    retries: Retries,
    cancel?: CancelRequest,
  ): AsyncGenerator<WatchEvent, void, void> {
    const left = new AbortController();
    const messages = this.#messages(options, retries, AbortSignal.any([this.#signal(options), left.signal]), cancel);
    const nothing = create(WatchUpdateResponseSchema);
    let known = new State(nothing, performance.now(), options.maxAgeMs ?? MAX_AGE_MS);
    let next: Promise<IteratorResult<Message>> | undefined;
    try {
      for (let stale = false; !known.final; ) {
        next ??= messages.next();
        if (!(await settles(next, stale ? Infinity : known.maxAgeMs - known.ageMs))) {
          stale = known.stale; // a timer may be early
          if (stale) yield { case: "state", value: known };
          continue;
        }
        const event = (await next).value as Message;
        next = undefined;
        if (event.case === "cancellation") yield event;
        if (event.case !== "watch") continue;
        const [before, wasStale] = [known, stale];
        known = known.apply(event.value);
        stale = known.stale;
        if (known !== before || (wasStale && !stale)) yield { case: "state", value: known };
      }
    } finally {
      left.abort();
      next?.catch(() => {});
      await messages.return();
    }
  }

  /** The messages of as many streams as needed, including heartbeats. */
  async *#messages(
    options: WatchOptions,
    retries: Retries,
    signal: AbortSignal,
    cancel?: CancelRequest,
  ): AsyncGenerator<Message, void, void> {
    const watch = { cluster: clusterRef(options), updateId: options.updateId, resumeToken: options.resumeToken ?? "" };
    for (;;) {
      const headers = await retries.headers();
      const attempt = new AbortController();
      const connection = this.#connections.reserve();
      const calls = createServiceClient(UpdateService, connection.transport);
      const call = { headers, signal: AbortSignal.any([signal, attempt.signal]) };
      const stream = cancel ? calls.cancelUpdateAndWatch(cancel, call) : calls.watchUpdate(watch, call);
      const end = (ms: number, code: Code) => {
        attempt.abort(new ConnectError(`no message came for ${Math.round(ms) / 1000} s`, code));
        if (code === Code.Unavailable) connection.abort();
      };
      let error = new ConnectError("the stream ended too early", Code.Unavailable);
      try {
        for (const messages = stream[Symbol.asyncIterator](); ; ) {
          const { silenceMs } = this.#timing;
          const late = retries.left < silenceMs;
          const ms = late ? Math.max(0, retries.left) : silenceMs;
          const timer = setTimeout(end, ms, ms, late ? Code.DeadlineExceeded : Code.Unavailable);
          const { value, done } = await messages.next().finally(() => clearTimeout(timer));
          if (done) break;
          retries.recordSuccess();
          const event: Message = "event" in value ? value.event : { case: "watch", value };
          if (event.case === "cancellation") [cancel, retries.deadline] = [undefined, Infinity];
          if (event.case === "watch") watch.resumeToken = event.value.resumeToken;
          yield event;
        }
      } catch (caught) {
        signal.throwIfAborted();
        error = ConnectError.from(caught);
      } finally {
        attempt.abort();
        connection.streams--;
      }
      const failure = new GatewayError(error);
      if (failure.reason === "RESUME_TOKEN_INVALID" && watch.resumeToken) watch.resumeToken = "";
      else await retries.wait(failure, connection, signal);
    }
  }

  #signal({ signal }: UpdateOptions): AbortSignal {
    const both = AbortSignal.any([this.#closed.signal, ...(signal ? [signal] : [])]);
    both.throwIfAborted();
    return both;
  }

  #retries(timeoutMs = Infinity): Retries {
    const { token = () => "", onRetry } = this.#options;
    return new Retries(token, this.#timing, onRetry, timeoutMs);
  }
}

type CancelRequest = ReturnType<typeof cancelRequest>;

function cancelRequest(options: CancelOptions) {
  const { updateId, requestId, reason = "", ticket = "" } = options;
  return { cluster: clusterRef(options), updateId, requestId: requestId || randomUUID(), reason, ticket };
}

function clusterRef({ cluster }: UpdateOptions) {
  return typeof cluster === "string" ? { name: cluster } : cluster;
}

/** Waits at most `ms`. Returns whether the promise is settled. */
async function settles(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    if (ms < 2 ** 31) timer = setTimeout(resolve, Math.ceil(ms), false);
  });
  const settled = promise.then(() => true);
  return Promise.race([settled, late]).finally(() => clearTimeout(timer));
}
