// A table of cancellations.

import { make } from "./dom.js";
import { badge, clusterPath, isUnderWay, phaseBadge, statusText, updateHash } from "./names.js";
import { Table } from "./tables.js";
import { ageElement } from "./times.js";

export function cancellationTable(caption, empty) {
  return new Table(caption, ["Update", "Phase", "Caller", "Reason", "Begun", "Known"], empty);
}

export function showCancellations(table, cancellations) {
  table.show(cancellations, (each) => each.cancellationId, cells);
}

function cells(each) {
  const link = make("a", { href: updateHash(each.cluster, each.updateId) }, each.updateId);
  return [
    [link, second(clusterPath(each.cluster))],
    [phaseBadge(each.phase), second(each.phaseReason || statusText(each.update))],
    each.caller,
    [
      each.reason ? make("span", { class: "long" }, each.reason) : make("span", { class: "quiet" }, "no reason"),
      each.ticket ? second(`ticket ${each.ticket}`) : "",
    ],
    ageElement(each.createTime),
    known(each),
  ];
}

/** `readAt`, if present, is when EKS was read last: a list knows only when it recorded the state. */
function known(each) {
  if (!isUnderWay(each)) return ageElement(each.updateTime, "ended ");
  if (!each.readAt) return ageElement(each.updateTime, "recorded ");
  return each.isStale
    ? [badge("STALE", "bad"), " ", ageElement(each.readAt, "EKS read ")]
    : ageElement(each.readAt, "EKS read ");
}

const second = (text) => make("span", { class: "second" }, text);
