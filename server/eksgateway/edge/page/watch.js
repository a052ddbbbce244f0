// Follows one update to its end over whatever breaks, and keeps what is known of it with its age.

import { stream } from "./api.js";
import { Backoff, mayRetry, pause } from "./retries.js";
import { parseDuration, startStopwatch } from "./times.js";

export const MAX_AGE_S = 60; // a state that was read from EKS longer ago is stale
const STATES = ["WATCH_KIND_SNAPSHOT", "WATCH_KIND_CHANGE", "WATCH_KIND_FINAL"];

/** What the gateway last reported. `ageS` is the time since it read EKS. */
export class Knowledge {
  message = null;
  #sinceMessage = startStopwatch();
  #ageThen = Infinity;

  get ageS() {
    return this.#ageThen + this.#sinceMessage();
  }

  get isFinal() {
    return this.message?.kind === "WATCH_KIND_FINAL";
  }

  get isStale() {
    return !this.isFinal && this.ageS > MAX_AGE_S;
  }

  /** Whether the state is new. A heartbeat repeats it, with another age. */
  apply(message) {
    const isNew = STATES.includes(message.kind) || message.sequence !== this.message?.sequence;
    this.message = message;
    this.#ageThen = parseDuration(message.age);
    this.#sinceMessage = startStopwatch();
    return isNew;
  }
}

/**
 * Calls `onMessage` with each message until FINAL, and `onBreak` with the error, or null, before the pause to the
 * next stream. Throws what no repeat can mend, and the signal's reason.
 */
export async function follow(target, { signal, onMessage, onBreak }) {
  const backoff = new Backoff();
  let resumeToken = "";
  for (;;) {
    let error = null;
    try {
      for await (const message of stream("UpdateService/WatchUpdate", { ...target, resumeToken }, { signal })) {
        backoff.reset();
        resumeToken = message.resumeToken;
        onMessage(message);
        if (message.kind === "WATCH_KIND_FINAL") return;
      }
    } catch (thrown) {
      if (signal.aborted) throw thrown;
      error = thrown;
    }
    const seconds = pauseBefore(error, resumeToken, backoff);
    if (error?.reason === "RESUME_TOKEN_INVALID") resumeToken = "";
    onBreak(error);
    if (seconds) await pause(seconds, signal);
  }
}

function pauseBefore(error, resumeToken, backoff) {
  if (error?.code === "unauthenticated") return 0; // the next stream waits for a new token
  if (error?.reason === "RESUME_TOKEN_INVALID" && resumeToken) return 0;
  if (error && !mayRetry(error)) throw error;
  return backoff.next(error);
}

/** The state of an update now, by the first message of a watch. */
export async function readState(target, signal) {
  const one = new AbortController();
  try {
    for await (const message of stream("UpdateService/WatchUpdate", target, {
      signal: AbortSignal.any([signal, one.signal]),
    })) {
      return message;
    }
    return null;
  } finally {
    one.abort();
  }
}
