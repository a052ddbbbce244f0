// Calls of the gateway: JSON over HTTP, and streams as JSON lines. docs/http.md has the protocol.

import { dropToken, getToken, takeToken } from "./session.js";
import { parseDuration, startStopwatch } from "./times.js";

const UNARY_MS = 30_000;
const SILENCE_S = 60; // heartbeats come every 15 s

/** `reason` and `metadata` are of ErrorInfo. They are empty if the error is not the gateway's own. */
export class CallError extends Error {
  constructor(status, body) {
    super(body.message || "No gateway answered.");
    this.code = body.code || codeOfHttp(status);
    const details = Object.fromEntries((body.details ?? []).map((each) => [each.type, each.debug ?? {}]));
    const info = details["google.rpc.ErrorInfo"] ?? {};
    this.reason = info.reason ?? "";
    this.metadata = info.metadata ?? {};
    this.violations = details["google.rpc.BadRequest"]?.fieldViolations ?? [];
    this.retryS = parseDuration(details["google.rpc.RetryInfo"]?.retryDelay);
    this.hasRetryInfo = "google.rpc.RetryInfo" in details;
  }
}

function codeOfHttp(status) {
  const codes = { 400: "internal", 401: "unauthenticated", 403: "permission_denied", 404: "unimplemented" };
  return codes[status] ?? ([0, 429, 502, 503, 504].includes(status) ? "unavailable" : "unknown");
}

/** The answer of a unary call. It waits for a token; without `repeat`, a missing or refused one is an error. */
export async function call(method, request, { signal, timeoutMs = UNARY_MS, repeat = true } = {}) {
  for (;;) {
    const token = repeat ? await getToken(signal) : takeToken();
    if (!token) throw new CallError(401, { message: "There is no token." });
    try {
      const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs + 2000), ...(signal ? [signal] : [])]);
      const response = await send(method, request, token, limit, {
        "connect-timeout-ms": String(Math.round(timeoutMs)),
      });
      return await response.json();
    } catch (error) {
      const known = translate(error, signal);
      if (known.code !== "unauthenticated") throw known;
      dropToken(token, known.reason);
      if (!repeat) throw known;
    }
  }
}

/** The answers of a list, page by page, `most` at most. Each but the last has a `nextPageToken`. */
export async function* pages(method, request, { signal, most }) {
  let pageToken = "";
  for (let page = 0; page < most; page++) {
    const answer = await call(method, { ...request, pageToken }, { signal });
    yield answer;
    pageToken = answer.nextPageToken ?? "";
    if (!pageToken) return;
  }
}

/** The messages of one stream. It throws when the stream is silent for too long. */
export async function* stream(method, request, { signal }) {
  const token = await getToken(signal);
  const silence = new AbortController();
  let sinceData = startStopwatch();
  const timer = setInterval(
    () => sinceData() > SILENCE_S && silence.abort(new CallError(0, { message: "The stream was silent." })),
    1000,
  );
  try {
    const response = await send(method, request, token, AbortSignal.any([signal, silence.signal]));
    for await (const line of lines(response.body)) {
      sinceData = startStopwatch();
      const message = JSON.parse(line);
      if (message.error) throw new CallError(200, message.error);
      yield message;
    }
  } catch (error) {
    const known = translate(error, signal);
    if (known.code === "unauthenticated") dropToken(token, known.reason);
    throw known;
  } finally {
    clearInterval(timer);
    silence.abort();
  }
}

async function send(method, request, token, signal, headers = {}) {
  const response = await fetch(`/eksgateway.v1.${method}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${token}`, ...headers },
    body: JSON.stringify(request),
    credentials: "omit",
    cache: "no-store",
    signal,
  });
  if (!response.ok) throw new CallError(response.status, await response.json().catch(() => ({})));
  return response;
}

/** Whole lines only: a broken stream may end within one. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts.filter((line) => line.trim());
  }
}

/** What `fetch` throws for a lost connection or an exceeded time, as a CallError. An abort of the caller stays. */
function translate(error, signal) {
  if (signal?.aborted) throw signal.reason;
  if (error instanceof CallError) return error;
  if (error.name === "TimeoutError") return new CallError(504, { message: "No answer came in time." });
  return new CallError(0, {});
}
