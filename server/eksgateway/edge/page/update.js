// The view of one update: live, with the states seen, its cancellations and their decisions.

import { openCancelDialog } from "./cancel_dialog.js";
import { announce, code, everySecond, fields, make, setText } from "./dom.js";
import { listOfUpdate } from "./ledger.js";
import { badge, clusterPath, hasEnded, phaseBadge, phaseName, phaseSentence, statusText } from "./names.js";
import { decisionFields, problemBox } from "./problems.js";
import { mayRetry } from "./retries.js";
import { Table } from "./tables.js";
import { ageElement, clockText, durationText, refreshAges, timeText } from "./times.js";
import { follow, Knowledge } from "./watch.js";

export const titleOf = ({ updateId }) => updateId;

export function show(main, target, signal) {
  const view = new UpdateView(target, signal);
  main.append(view.element);
  everySecond(signal, () => view.showAges());
  view.run();
}

class UpdateView {
  #target;
  #signal;
  #knowledge = new Knowledge();
  #seen = []; // the states, with the time of each
  #historyIsOld = false;
  #now = make("section", { class: "now", "aria-label": "State" }, make("p", { class: "quiet" }, "Reading…"));
  #age = make("p", { class: "age" });
  #connection = make("p", { class: "quiet", role: "status" });
  #problem = make("div", { role: "status" });
  #cancel;
  #states = new Table("States seen here", ["Since", "For", "Update", "Phase"], "None yet.");
  #history = make("div");

  constructor(target, signal) {
    this.#target = target;
    this.#signal = signal;
    const open = () => openCancelDialog(target, () => this.#readHistory());
    this.#cancel = make(
      "button",
      { type: "button", class: "danger", id: "open-cancel", hidden: true, click: open },
      "Cancel this update…",
    );
    this.element = make(
      "div",
      {},
      make("p", { class: "lead" }, `Update of ${clusterPath(target.cluster)}`),
      this.#now,
      make("div", { class: "live" }, this.#age, this.#connection),
      this.#problem,
      make("p", {}, this.#cancel),
      make(
        "section",
        { "aria-labelledby": "states" },
        make("h2", { id: "states" }, "States seen here"),
        this.#states.element,
      ),
      make(
        "section",
        { "aria-labelledby": "history" },
        make("h2", { id: "history" }, "Cancellations and decisions"),
        this.#history,
      ),
    );
  }

  async run() {
    this.#readHistory();
    try {
      await follow(this.#target, {
        signal: this.#signal,
        onMessage: (message) => this.#apply(message),
        onBreak: (error) => this.#break(error),
      });
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#now.hidden = !this.#knowledge.message;
      this.#cancel.hidden = true;
      this.#showConnection("", "quiet");
      this.#problem.replaceChildren(problemBox(error, "The update is not watched. Reload the page to try again."));
    }
  }

  #apply(message) {
    const isNew = this.#knowledge.apply(message);
    this.#problem.replaceChildren();
    this.#showConnection(this.#knowledge.isFinal ? "The update has ended." : "Live", "quiet");
    if (isNew) this.#showState(message);
    else if (this.#historyIsOld) this.#readHistory();
    this.showAges();
  }

  #break(error) {
    this.#historyIsOld = true;
    if (error?.reason) this.#problem.replaceChildren(problemBox(error));
    const isRefused = error?.code === "unauthenticated";
    this.#showConnection(isRefused ? "Waiting for a token" : "The connection is lost; trying again", "badge warn");
  }

  #showConnection(text, kind) {
    this.#connection.className = kind;
    setText(this.#connection, text);
  }

  #showState(message) {
    const { update, phase } = message;
    const name = phaseName(phase);
    const last = this.#seen.at(-1);
    if (last?.update !== statusText(update) || last.phase !== phase) {
      this.#seen.push({ since: new Date(), update: statusText(update), phase });
    }
    const errors = (update.errors ?? []).map((each) => [`Error ${each.errorCode}`, each.errorMessage]);
    this.#now.replaceChildren(
      make("p", { class: "state" }, phaseBadge(phase) || badge(update.status, hasEnded(update) ? "good" : "busy")),
      make("p", {}, message.phaseReason || phaseSentence(phase) || "No cancellation is known."),
      fields([
        ["Status", update.status],
        [
          "EKS's cancellation",
          [update.cancellation?.status, update.cancellation?.reason].filter(Boolean).join(": "),
        ],
        ["Type", update.type],
        ...(update.params ?? []).map((each) => [each.type, each.value]),
        ["Begun", ageElement(update.createdAt)],
        ...errors,
      ]),
    );
    const isAsked = ["REQUESTED", "CANCELLING"].includes(name) || update.cancellation?.status === "InProgress";
    this.#cancel.hidden = hasEnded(update) || isAsked;
    announce(`${name ? `Phase ${name}, ` : ""}update ${statusText(update)}`);
    if (name || this.#historyIsOld) this.#readHistory();
  }

  showAges() {
    refreshAges(this.element);
    this.#showStates();
    const known = this.#knowledge;
    if (!known.message) return;
    const age = `EKS was read ${durationText(known.ageS)} ago`;
    this.#age.classList.toggle("stale", known.isStale);
    this.#age.hidden = known.isFinal;
    setText(this.#age, known.isStale ? `STALE: ${age}` : age);
  }

  #showStates() {
    const starts = this.#seen.map((each) => each.since);
    const rows = this.#seen.map((each, index) => {
      const end = starts[index + 1] ?? (this.#knowledge.isFinal ? null : new Date());
      return { ...each, index, lasts: end ? durationText((end - each.since) / 1000) : "" };
    });
    this.#states.show(
      rows,
      (each) => each.index,
      (each) => [clockText(each.since), each.lasts, each.update, phaseBadge(each.phase)],
    );
  }

  async #readHistory() {
    this.#historyIsOld = false;
    try {
      const { found } = await listOfUpdate(this.#target.cluster, this.#target.updateId, this.#signal);
      this.#history.replaceChildren(
        ...(found.length
          ? found.map(cancellationCard)
          : [make("p", { class: "quiet" }, "None that you may read.")]),
      );
    } catch (error) {
      if (this.#signal.aborted) return;
      this.#historyIsOld = mayRetry(error); // read again with the next message
      if (!this.#historyIsOld) this.#history.replaceChildren(problemBox(error));
    }
  }
}

function cancellationCard(each) {
  return make(
    "article",
    { class: "box" },
    make("p", {}, phaseBadge(each.phase), " ", each.phaseReason),
    fields([
      ["Caller", each.caller],
      ["Reason", each.reason],
      ["Ticket", each.ticket],
      ["Asked", timeText(each.createTime)],
      ["Answered", timeText(each.forwardTime)],
      ["Recorded", timeText(each.updateTime)],
      ["Request", code(each.requestId)],
      ["Cancellation", code(each.cancellationId)],
    ]),
    decisionFields(each.decision ?? {}),
  );
}
