// Errors and decisions for people: what is wrong, by which decision, and what would help.

import { code, fields, make } from "./dom.js";

const HELP = {
  CREDENTIALS_MISSING: "Enter a token.",
  CREDENTIALS_INVALID: "Get a token of an issuer and for an audience that this gateway accepts.",
  CREDENTIALS_EXPIRED: "Enter a new token.",
  TARGET_NOT_CONFIGURED:
    "Correct the account and the region. “Cancellable now” lists clusters that the gateway serves.",
  REQUEST_ID_REUSED: "Close this dialog and open it again: it then has another request id.",
  UPDATE_FINISHED: "There is nothing to cancel.",
  EKS_INVALID_STATE: "It may be too late. The update's view shows how it ends.",
  EKS_RESOURCE_IN_USE: "Open this dialog again once the cluster is free: it then has another request id.",
  EKS_NOT_FOUND: "Correct the cluster or the id. “Cancellable now” lists what can be cancelled.",
  CANCELLATION_NOT_FOUND: "Correct the id. The list shows those that you may read.",
  OUTCOME_UNKNOWN: "Send again with the same request id to learn the outcome.",
  OVERLOADED: "Wait a moment.",
  DRAINING: "The page connects again by itself.",
  UPSTREAM_CREDENTIALS: "Report it: the gateway's own AWS role must change.",
  INTERNAL: "Report it with the time of the call.",
};
// The policy of this project writes "A ticket is required by grant …" and "Grant … asks for a ticket like …"; the
// pattern fits others' words too. A denial's reason may hold any words.
const REQUIRED =
  /^(?!Denial )(?:.*\b(ticket|reason)\b.*\b(?:required|needed|missing)\b|.*\basks for a (ticket) like )/i;

/** The fields that would turn the denial into an answer: of "reason" and "ticket". */
export function neededFields(sentences) {
  const matches = sentences.map((each) => REQUIRED.exec(each)).filter(Boolean);
  return [...new Set(matches.map((match) => (match[1] ?? match[2]).toLowerCase()))];
}

/** Whether nothing but reason and ticket is missing. */
export const lacksFieldsOnly = (decision) =>
  Boolean(decision.reasons?.length) && decision.reasons.every((each) => REQUIRED.test(each));

export function sentencesOf(error) {
  const reasons = error.metadata.reasons?.split("\n") ?? [];
  return [...reasons, ...error.violations.map((each) => `${each.field}: ${each.description}`)];
}

export function problemBox(error, note = "") {
  const rules = error.metadata.rule_ids?.replaceAll(",", ", ");
  return make(
    "div",
    { class: "box bad" },
    make("p", {}, make("strong", {}, error.reason || error.code.toUpperCase()), " ", error.message),
    sentenceList(sentencesOf(error)),
    fields([
      ["Decision", code(error.metadata.decision_id)],
      ["Rules", rules],
      ["EKS's code", code(error.metadata.eks_code)],
      ["Cancellation", code(error.metadata.cancellation_id)],
    ]),
    ...helpFor(error).map((text) => make("p", { class: "help" }, text)),
    note && make("p", {}, note),
  );
}

function helpFor(error) {
  if (HELP[error.reason]) return [HELP[error.reason]];
  const needed = neededFields(sentencesOf(error));
  if (needed.length) return [needText(needed)];
  if (error.reason === "POLICY_DENIED") return ["Give the decision's id to those who keep the policy's grants."];
  return error.reason ? [] : ["Check that the gateway runs and can be reached."];
}

export const needText = (needed) => `Enter a ${needed.join(" and a ")}.`;

export const sentenceList = (sentences) =>
  sentences?.length
    ? make(
        "ul",
        { class: "sentences" },
        sentences.map((each) => make("li", {}, each)),
      )
    : "";

export function decisionFields(decision) {
  return fields([
    ["Decision", code(decision.decisionId)],
    ["Rules", (decision.ruleIds ?? []).join(", ")],
    ["Policy", code(decision.policyRevision?.slice(0, 19))],
  ]);
}
