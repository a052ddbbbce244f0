// Whether and when a call is made again, by the table in docs/clients.md.

const FIRST_S = 0.5;
const LONGEST_S = 30;
const OF_CONNECTIONS = ["unavailable", "internal", "unknown", "canceled", "deadline_exceeded"];

export function mayRetry(error) {
  if (!error.reason) return OF_CONNECTIONS.includes(error.code);
  if (error.code === "resource_exhausted") return error.hasRetryInfo || error.reason === "WATCHER_TOO_SLOW";
  return error.code === "unavailable" || error.code === "aborted";
}

export class Backoff {
  failures = 0;

  reset() {
    this.failures = 0;
  }

  /** Seconds: as long as the gateway asks, and a random part of a time that doubles. */
  next(error) {
    const longest = Math.min(LONGEST_S, FIRST_S * 2 ** Math.min(this.failures, 10));
    this.failures += 1;
    return Math.min(error?.retryS ?? 0, 600) + Math.random() * longest;
  }
}

/** Ends early when the browser is online again. Throws the signal's reason. */
export function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const end = (settle, value) => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      signal.removeEventListener("abort", abort);
      settle(value);
    };
    const wake = () => end(resolve);
    const abort = () => end(reject, signal.reason);
    const timer = setTimeout(wake, seconds * 1000);
    addEventListener("online", wake);
    signal.addEventListener("abort", abort);
    if (signal.aborted) abort();
  });
}
