// Reads cancellations of the gateway's ledger.

import { pages } from "./api.js";

const PAGE = 100;
const LONGEST_MS = 8 * 86_400_000; // EKS ends an update within 7 days

/** The newest that pass `isWanted`, of at most `most` pages; `isAll` if there are no more. */
export async function listCancellations(
  filter,
  { signal, most = 10, isWanted = () => true, isEnough = () => false },
) {
  const found = [];
  let isAll = false;
  const request = { ...filter, pageSize: PAGE };
  for await (const answer of pages("CancellationService/ListCancellations", request, { signal, most })) {
    const cancellations = answer.cancellations ?? [];
    found.push(...cancellations.filter(isWanted));
    isAll = !answer.nextPageToken;
    if (isEnough(cancellations)) break;
  }
  return { found, isAll };
}

/** All that can be under way: those of the last 8 days. */
export function listRecent(signal, most) {
  const isOld = (each) => Date.now() - Date.parse(each.createTime) > LONGEST_MS;
  return listCancellations({}, { signal, most, isEnough: (cancellations) => cancellations.some(isOld) });
}

export function listOfUpdate(cluster, updateId, signal) {
  return listCancellations({ cluster }, { signal, most: 5, isWanted: (each) => each.updateId === updateId });
}
