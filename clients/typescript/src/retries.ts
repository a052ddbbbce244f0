import { setTimeout as sleep } from "node:timers/promises";

import { Code } from "@connectrpc/connect";

import type { Connection } from "./connections.js";
import { GatewayError } from "./errors.js";

/** Returns a bearer token. It is called before each attempt. */
export type TokenSource = () => string | Promise<string>;

/** Gets the cause of a retry and its delay in milliseconds. */
export type OnRetry = (error: GatewayError, delayMs: number) => void;

export interface Timing {
  /** A retry waits a random part of this time, doubled after each failure, besides the requested pause. */
  firstBackoffMs: number;
  longestBackoffMs: number;
  /** A stream without a message for this long is dead. Heartbeats come every 15 s. */
  silenceMs: number;
  /** HTTP/2 pings; the gateway permits one every 10 s. A connection without an answer is replaced. */
  pingIntervalMs: number;
  pingTimeoutMs: number;
}

export const TIMING: Timing = {
  firstBackoffMs: 500,
  longestBackoffMs: 30_000,
  silenceMs: 60_000,
  pingIntervalMs: 15_000,
  pingTimeoutMs: 10_000,
};

// Of broken streams and connections. Connect has CANCELED and ABORTED where other clients have UNAVAILABLE.
const BROKEN = [Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown, Code.DeadlineExceeded];
// Node's codes where a gateway may just be unavailable.
const UNREACHABLE = /^(ECONNREFUSED|ECONNRESET|ETIMEDOUT|EPIPE|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN)$/;
const UNREACHED_ATTEMPTS = 3; // in a row, at an address that looks wrong
const FOREIGN_ANSWERS = 7; // in a row, of a proxy, if no gateway has answered so far
const FOREIGN_ANSWERS_SINCE = 40; // if one has: it may be restarting behind the proxy
const LAST_ATTEMPT_MS = 1_000;
const LONGEST_PAUSE_MS = 600_000;

/** What to do after an error of the gateway, as the comments of ErrorReason document it. */
export function actionFor({ code, reason, retryAfterMs }: Pick<GatewayError, "code" | "reason" | "retryAfterMs">) {
  if (reason === "CREDENTIALS_EXPIRED") return "renew-token";
  if (reason === "RESUME_TOKEN_INVALID") return "drop-resume-token";
  const paused = retryAfterMs !== undefined || reason === "WATCHER_TOO_SLOW";
  if (code === Code.ResourceExhausted) return paused ? "retry" : "give-up";
  return code === Code.Unavailable || code === Code.Aborted ? "retry" : "give-up";
}

/** The attempts of one call or watch. */
export class Retries {
  /** By performance.now(). */
  deadline: number;
  #failures = 0; // in a row
  #foreignAnswers = 0; // in a row, not from a gateway
  #reached = false; // whether a gateway has ever answered
  #token = ""; // of the last attempt
  #expired: GatewayError | undefined; // since the last success

  constructor(
    private readonly source: TokenSource,
    private readonly timing: Timing,
    private readonly onRetry: OnRetry = () => {},
    timeoutMs = Infinity,
  ) {
    this.deadline = performance.now() + timeoutMs;
  }

  /** Milliseconds until the deadline. */
  get left(): number {
    return this.deadline - performance.now();
  }

  /** The headers of the next attempt, with a new token. */
  async headers(): Promise<Record<string, string>> {
    const token = (await this.source()).trim();
    if (/[^\x21-\x7e]/.test(token)) throw new TypeError("the token source returned no bearer token");
    if (this.#expired && token === this.#token) throw this.#expired;
    this.#token = token;
    return this.#token ? { authorization: `Bearer ${this.#token}` } : {};
  }

  recordSuccess(): void {
    this.#failures = this.#foreignAnswers = 0;
    this.#reached = true;
    this.#expired = undefined;
  }

  /** Waits before the next attempt. Throws the error if no retry helps, or none fits before the deadline. */
  async wait(error: GatewayError, connection: Connection, signal: AbortSignal): Promise<void> {
    if (error.reason) this.#checkGatewayError(error);
    else await this.#checkForeignError(error, connection);
    const pause = Math.min(error.retryAfterMs ?? 0, LONGEST_PAUSE_MS);
    const backoff = Math.min(this.timing.longestBackoffMs, this.timing.firstBackoffMs * 2 ** this.#failures++);
    const longest = this.left - LAST_ATTEMPT_MS;
    if (longest <= 0 || pause > longest) throw error;
    const delay = Math.min(pause + Math.random() * backoff, longest);
    this.onRetry(error, delay);
    await sleep(delay, undefined, { signal }).catch(() => signal.throwIfAborted());
  }

  #checkGatewayError(error: GatewayError): void {
    this.#reached = true;
    this.#foreignAnswers = 0;
    const action = actionFor(error);
    if (action === "renew-token" && !this.#expired) this.#expired = error;
    else if (action !== "retry") throw error;
  }

  async #checkForeignError(error: GatewayError, connection: Connection): Promise<void> {
    if (!BROKEN.includes(error.code)) throw error;
    const nodeCode = findNodeCode(error);
    if (connection.open ?? nodeCode === undefined) {
      if (++this.#foreignAnswers >= (this.#reached ? FOREIGN_ANSWERS_SINCE : FOREIGN_ANSWERS))
        throw new GatewayError(error.cause, `a proxy has answered ${this.#foreignAnswers} times, and no gateway`);
    } else if (!this.#reached && this.#failures + 1 >= UNREACHED_ATTEMPTS) {
      const wrong = nodeCode && !UNREACHABLE.test(nodeCode);
      if (wrong || (await connection.needsTls()))
        throw new GatewayError(error.cause, "no gateway answers there so: check the address, and tls or plaintext");
    }
  }
}

function findNodeCode(error: unknown): string | undefined {
  for (let each = error; each instanceof Error; each = each.cause)
    if ("code" in each && typeof each.code === "string") return each.code;
  return undefined;
}
