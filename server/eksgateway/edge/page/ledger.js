// Reads cancellations of the gateway's ledger.

import { call } from "./api.js";

const PAGE = 100;
const LONGEST_MS = 8 * 86_400_000; // EKS ends an update within 7 days

/** The newest that pass `isWanted`, of at most `pages` pages; `isAll` if there are no more. */
export async function listCancellations(
  filter,
  { signal, pages = 10, isWanted = () => true, isEnough = () => false },
) {
  const found = [];
  let pageToken = "";
  for (let page = 0; page < pages; page++) {
    const answer = await call(
      "CancellationService/ListCancellations",
      { ...filter, pageSize: PAGE, pageToken },
      { signal },
    );
    const cancellations = answer.cancellations ?? [];
    found.push(...cancellations.filter(isWanted));
    pageToken = answer.nextPageToken ?? "";
    if (!pageToken) return { found, isAll: true };
    if (isEnough(cancellations)) break;
  }
  return { found, isAll: false };
}

/** All that can be under way: those of the last 8 days. */
export function listRecent(signal, pages) {
  const isOld = (each) => Date.now() - Date.parse(each.createTime) > LONGEST_MS;
  return listCancellations({}, { signal, pages, isEnough: (cancellations) => cancellations.some(isOld) });
}

export function listOfUpdate(cluster, updateId, signal) {
  return listCancellations({ cluster }, { signal, pages: 5, isWanted: (each) => each.updateId === updateId });
}
