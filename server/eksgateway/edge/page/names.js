// Names of clusters, phases and views.

import { make } from "./dom.js";

/** ACCOUNT/REGION/NAME, or NAME alone. */
export const clusterPath = (cluster) =>
  [cluster.accountId, cluster.region, cluster.name].filter(Boolean).join("/");

export function parseCluster(text) {
  const parts = text.trim().split("/");
  return parts.length === 3 ? { accountId: parts[0], region: parts[1], name: parts[2] } : { name: text.trim() };
}

export const updateHash = (cluster, id) =>
  `#/updates/${[...clusterPath(cluster).split("/"), id].map(encodeURIComponent).join("/")}`;

export const phaseName = (phase) => (phase ?? "").replace("CANCELLATION_PHASE_", "").replace("UNSPECIFIED", "");

const PHASES = {
  NOT_FORWARDED: ["bad", "EKS never judged the cancel. The update goes on."],
  TOO_LATE: ["bad", "EKS refused: the control plane had begun. The update goes on."],
  REJECTED: ["bad", "EKS refused. The update goes on."],
  CANCELLED: ["good", "EKS reports the update as Cancelled."],
  COMPLETED_ANYWAY: ["bad", "EKS reports the update as Successful: the cancel did not stop it."],
  UPDATE_FAILED: ["bad", "EKS reports the update as Failed."],
  CANCELLING: ["busy", "EKS is cancelling. A node that is being replaced finishes first."],
  CANCELLATION_FAILED: ["bad", "EKS reports that the cancellation failed. The update goes on."],
  REQUESTED: ["busy", "EKS accepted the cancel. That does not promise that the update stops."],
  OUTCOME_UNKNOWN: [
    "warn",
    "It is not known whether EKS received the cancel. The gateway reads the update until it is.",
  ],
};
const UNDER_WAY = ["CANCELLING", "CANCELLATION_FAILED", "REQUESTED", "OUTCOME_UNKNOWN", ""];

export const isUnderWay = (cancellation) => UNDER_WAY.includes(phaseName(cancellation.phase));
export const phaseSentence = (phase) => PHASES[phaseName(phase)]?.[1] ?? "";

export function phaseBadge(phase) {
  const name = phaseName(phase);
  return name ? badge(name, PHASES[name]?.[0]) : "";
}

export const badge = (text, kind = "plain") => make("span", { class: `badge ${kind}` }, text);

export const statusText = (update) =>
  [update?.status, update?.cancellation ? `cancellation ${update.cancellation.status}` : ""]
    .filter(Boolean)
    .join(", ");

export const hasEnded = (update) => ["Cancelled", "Successful", "Failed"].includes(update?.status);
