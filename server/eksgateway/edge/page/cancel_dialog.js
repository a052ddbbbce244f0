// The dialog that cancels: the check first, then one request id until there is an answer.

import { call } from "./api.js";
import { Attempt, sendCancel } from "./attempts.js";
import { byId, make, setText } from "./dom.js";
import { badge, clusterPath, updateHash } from "./names.js";
import { decisionFields, lacksFieldsOnly, needText, neededFields, problemBox, sentenceList } from "./problems.js";
import { mayRetry } from "./retries.js";
import { onNewToken } from "./session.js";

const TYPING_MS = 400;
const AGAIN_MS = 5000;
const attempts = new Map(); // by update: those whose outcome is not known

/** Calls `onAnswer` when a cancel is answered or refused. Focus goes to the dialog, and back at its end. */
export function openCancelDialog(target, onAnswer = () => {}) {
  new CancelDialog(target, onAnswer).open();
}

class CancelDialog {
  #target;
  #onAnswer;
  #key;
  #attempt;
  #ended = new AbortController();
  #checking = new AbortController();
  #timer; // of the next check
  #isSending = false;
  #mayTry = false;

  constructor(target, onAnswer) {
    this.#target = target;
    this.#onAnswer = onAnswer;
    this.#key = `${clusterPath(target.cluster)}/${target.updateId}`;
    this.#attempt = attempts.get(this.#key) ?? new Attempt(target);
  }

  open() {
    const { signal } = this.#ended;
    const dialog = byId("cancel");
    setText(byId("cancel-target"), `${this.#target.updateId} of ${clusterPath(this.#target.cluster)}`);
    byId("reason").value = this.#attempt.reason;
    byId("ticket").value = this.#attempt.ticket;
    byId("cancel-result").replaceChildren();
    byId("check").replaceChildren();
    const changed = () => {
      this.#checking.abort();
      this.#setMayTry(false);
      byId("cancel-result").replaceChildren();
      this.#checkIn(TYPING_MS);
    };
    byId("reason").addEventListener("input", changed, { signal });
    byId("ticket").addEventListener("input", changed, { signal });
    byId("cancel-form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        this.#send();
      },
      { signal },
    );
    byId("cancel-close").addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener(
      "close",
      () => {
        clearTimeout(this.#timer);
        this.#ended.abort();
      },
      { signal },
    );
    onNewToken(signal, () => this.#check());
    this.#showAttempt();
    dialog.showModal();
    byId("reason").focus();
    this.#check();
  }

  #checkIn(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#check(), milliseconds);
  }

  async #check() {
    if (this.#isSending) return;
    clearTimeout(this.#timer);
    this.#checking.abort();
    this.#checking = new AbortController();
    const signal = AbortSignal.any([this.#checking.signal, this.#ended.signal]);
    this.#setMayTry(false);
    const { reason, ticket } = this.#values();
    if (!byId("check").hasChildNodes()) byId("check").replaceChildren(make("p", { class: "quiet" }, "Checking…"));
    let shown;
    try {
      const answer = await call(
        "UpdateService/CheckCancelUpdate",
        { ...this.#target, reason, ticket },
        { signal },
      );
      shown = checkBox(answer);
      // The outcome of a cancel that was sent can be learned whatever the policy allows by now.
      this.#setMayTry(answer.decision.allowed || this.#attempt.isUncertain);
    } catch (error) {
      if (signal.aborted) return;
      shown = problemBox(error, "The check could not be made. The cancel itself is decided anew.");
      this.#setMayTry(true);
      if (mayRetry(error)) this.#checkIn(AGAIN_MS);
    }
    byId("check").replaceChildren(shown);
  }

  async #send() {
    if (!this.#mayTry || this.#isSending) return;
    this.#isSending = true;
    clearTimeout(this.#timer);
    this.#attempt.prepare(this.#values());
    attempts.set(this.#key, this.#attempt);
    this.#showAttempt();
    byId("check").replaceChildren();
    this.#answer(make("p", {}, "Sending…"));
    try {
      const onRetry = (error, seconds) =>
        this.#answer(problemBox(error, `Sending again with the same request id in ${Math.ceil(seconds)} s.`));
      const cancellation = await sendCancel(this.#attempt, onRetry);
      attempts.delete(this.#key);
      this.#accepted(cancellation);
    } catch (error) {
      if (!this.#attempt.isUncertain) attempts.delete(this.#key);
      this.#answer(
        problemBox(
          error,
          this.#attempt.isUncertain
            ? "It is not known here whether EKS received this cancel. Send again: the request id is the same, so it has one effect."
            : "Nothing was cancelled.",
        ),
      );
    } finally {
      this.#isSending = false;
      this.#showAttempt();
      this.#onAnswer();
    }
  }

  #accepted(cancellation) {
    if (this.#ended.signal.aborted) return; // closed meanwhile
    byId("cancel").close();
    const hash = updateHash(cancellation.cluster ?? this.#target.cluster, this.#target.updateId);
    if (!location.hash.endsWith(encodeURIComponent(this.#target.updateId))) location.hash = hash;
    document.querySelector("h1").focus();
  }

  #answer(content) {
    if (!this.#ended.signal.aborted) byId("cancel-result").replaceChildren(content);
  }

  /** What was sent cannot be changed while its outcome is not known. */
  #showAttempt() {
    if (this.#ended.signal.aborted) return;
    const isFixed = this.#isSending || this.#attempt.isUncertain;
    byId("reason").readOnly = isFixed;
    byId("ticket").readOnly = isFixed;
    setText(byId("request-id"), this.#attempt.requestId);
    setText(byId("send"), this.#attempt.isUncertain && !this.#isSending ? "Send again" : "Cancel the update");
    byId("send").disabled = this.#isSending || !this.#mayTry;
  }

  #setMayTry(mayTry) {
    this.#mayTry = mayTry;
    this.#showAttempt();
  }

  #values() {
    return { reason: byId("reason").value.trim(), ticket: byId("ticket").value.trim() };
  }
}

function checkBox({ decision, cancellability }) {
  const needed = lacksFieldsOnly(decision) ? neededFields(decision.reasons) : [];
  const verdict = decision.allowed
    ? badge("allowed", "good")
    : needed.length
      ? badge(`needs ${needed.join(" and ")}`, "warn")
      : badge("denied", "bad");
  const kind = decision.allowed && (!cancellability || cancellability.cancellableNow) ? "good" : "warn";
  return make(
    "div",
    { class: `box ${!decision.allowed && !needed.length ? "bad" : kind}` },
    make("p", {}, make("strong", {}, "Check: "), verdict),
    sentenceList(decision.reasons),
    needed.length ? make("p", { class: "help" }, needText(needed)) : "",
    cancellability ? advice(cancellability) : "",
    decisionFields(decision),
  );
}

function advice({ cancellableNow, explanation, nextStep }) {
  const heading = cancellableNow
    ? "EKS would probably accept a cancel now."
    : "EKS would probably refuse a cancel now.";
  return make("p", {}, [heading, explanation, nextStep].filter(Boolean).join(" "));
}
