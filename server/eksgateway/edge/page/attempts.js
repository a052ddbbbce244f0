// One cancel with one request id, sent until it is answered.

import { call } from "./api.js";
import { Backoff, mayRetry, pause } from "./retries.js";
import { startStopwatch } from "./times.js";

const CANCEL_S = 45; // the gateway answers within 30
const MAY_BE_SENT = ["", "OUTCOME_UNKNOWN", "OUTCOME_UNRECORDED", "EKS_UNAVAILABLE", "INTERNAL"];

export class Attempt {
  reason = "";
  ticket = "";
  requestId = newId();
  isUncertain = false; // EKS may have received it, and no answer is known
  #wasSent = false;

  constructor(target) {
    this.target = target;
  }

  /** Other values are another request. */
  prepare({ reason, ticket }) {
    const isOther = reason !== this.reason || ticket !== this.ticket;
    if (isOther && this.#wasSent) this.requestId = newId();
    this.#wasSent = true;
    Object.assign(this, { reason, ticket });
  }
}

/** The cancellation that EKS accepted. Throws CallError; `onRetry` gets the errors before it. */
export async function sendCancel(attempt, onRetry) {
  const { target, requestId, reason, ticket } = attempt;
  const backoff = new Backoff();
  const elapsed = startStopwatch();
  for (;;) {
    const wasUncertain = attempt.isUncertain;
    attempt.isUncertain = true; // the dialog may be closed and opened meanwhile
    try {
      const timeoutMs = Math.max(1, CANCEL_S - elapsed()) * 1000;
      const answer = await call(
        "UpdateService/CancelUpdate",
        { ...target, requestId, reason, ticket },
        { timeoutMs, repeat: false },
      );
      attempt.isUncertain = false;
      return answer.cancellation;
    } catch (error) {
      attempt.isUncertain = (wasUncertain && !isOfRecord(error)) || mayBeSent(error);
      const seconds = backoff.next(error);
      if (!mayRetry(error) || elapsed() + seconds > CANCEL_S) throw error;
      onRetry(error, seconds);
      await pause(seconds, new AbortController().signal);
    }
  }
}

function mayBeSent(error) {
  const isRefused = ["unauthenticated", "permission_denied"].includes(error.code);
  return MAY_BE_SENT.includes(error.reason) && !isRefused;
}

/** Whether the answer is the recorded outcome of this request id, or makes it irrelevant. */
const isOfRecord = (error) => Boolean(error.metadata.phase) || error.reason === "UPDATE_FINISHED";

/** crypto.randomUUID is for secure contexts alone. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `page-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
