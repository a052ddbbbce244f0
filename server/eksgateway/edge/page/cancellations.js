// The view of cancellations under way and lately ended, of all targets.

import { cancellationTable, showCancellations } from "./cancellation_table.js";
import { everySecond, make } from "./dom.js";
import { listRecent } from "./ledger.js";
import { isUnderWay } from "./names.js";
import { Polling } from "./polling.js";
import { parseDuration, refreshAges, startStopwatch } from "./times.js";
import { MAX_AGE_S, readState } from "./watch.js";

const POLL_S = 5;
const WHOLE_S = 60; // else only the newest page is read
const STATES_S = 10;
const STATES = 10; // read at once, for the newest

export const title = "Cancellations";

export function show(main, _, signal) {
  const underWay = cancellationTable("Cancellations under way", "None is under way.");
  const ended = cancellationTable("Cancellations lately ended", "None has ended in the last days.");
  const known = new Map(); // by cancellation id
  const states = new States(signal);
  let sinceWhole = null;

  const polling = new Polling(POLL_S, async () => {
    const isWhole = !sinceWhole || sinceWhole() > WHOLE_S;
    const { found } = await listRecent(signal, isWhole ? 10 : 1);
    if (isWhole) {
      known.clear();
      sinceWhole = startStopwatch();
    }
    for (const each of found) known.set(each.cancellationId, each);
    render();
  });
  const render = () => {
    const newest = [...known.values()].sort((a, b) => b.createTime.localeCompare(a.createTime));
    const open = newest.filter(isUnderWay);
    showCancellations(
      underWay,
      open.map((each) => states.addTo(each)),
    );
    showCancellations(
      ended,
      newest.filter((each) => !isUnderWay(each)),
    );
    states.read(open.slice(0, STATES), render);
  };

  main.append(
    make("p", { class: "lead" }, "Of all clusters whose history you may read, newest first."),
    polling.element,
    make(
      "section",
      { "aria-labelledby": "under-way" },
      make("h2", { id: "under-way" }, "Under way"),
      underWay.element,
    ),
    make("section", { "aria-labelledby": "ended" }, make("h2", { id: "ended" }, "Lately ended"), ended.element),
  );
  everySecond(signal, () => refreshAges(main));
  polling.run(signal);
}

/** When EKS was read for each cancellation under way. The gateway reads for all watchers together. */
class States {
  #readAt = new Map();
  #sinceRead = null;
  #signal;

  constructor(signal) {
    this.#signal = signal;
  }

  addTo(cancellation) {
    const readAt = this.#readAt.get(cancellation.cancellationId);
    return readAt
      ? { ...cancellation, readAt: new Date(readAt).toISOString(), isStale: Date.now() - readAt > MAX_AGE_S * 1000 }
      : cancellation;
  }

  /** One after the other: a browser has six connections for each origin. */
  async read(cancellations, done) {
    if (this.#sinceRead && this.#sinceRead() < STATES_S) return;
    this.#sinceRead = startStopwatch();
    for (const each of cancellations) {
      try {
        const message = await readState({ cluster: each.cluster, updateId: each.updateId }, this.#signal);
        if (message) this.#readAt.set(each.cancellationId, Date.now() - parseDuration(message.age) * 1000);
      } catch {
        if (this.#signal.aborted) return; // a caller that may not watch sees when the state was recorded
      }
    }
    if (cancellations.length) done();
  }
}
