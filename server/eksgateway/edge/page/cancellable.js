// The view of updates that can be cancelled now, each with the answer of the check.

import { call, pages } from "./api.js";
import { openCancelDialog } from "./cancel_dialog.js";
import { everySecond, make } from "./dom.js";
import { badge, clusterPath, updateHash } from "./names.js";
import { Polling } from "./polling.js";
import { lacksFieldsOnly, neededFields, sentenceList, sentencesOf } from "./problems.js";
import { Table } from "./tables.js";
import { ageElement, refreshAges, startStopwatch } from "./times.js";

const POLL_S = 15; // the gateway's list is up to 30 s old
const PAGES = 10;
const CHECKS = 25;
const CHECK_S = 60;

export const title = "Cancellable now";

export function show(main, _, signal) {
  const table = new Table(
    "Updates that can be cancelled now",
    ["Update", "Type", "State", "Begun", "Check", "Cancel"],
    "No update can be cancelled now.",
  );
  const unreachable = make("div");
  const checks = new Checks(signal);
  const polling = new Polling(POLL_S, async () => {
    const found = await list(signal);
    unreachable.replaceChildren(...found.unreachable.map(unreachableBox));
    const render = () =>
      table.show(
        found.updates.map((each) => ({ ...each, check: checks.of(each) })),
        keyOf,
        cells,
      );
    render();
    checks.run(found.updates.slice(0, CHECKS), render);
  });
  main.append(
    make(
      "p",
      { class: "lead" },
      "Of all clusters that you may list. The check is made with your token, without a reason and a ticket. It is advice: EKS decides.",
    ),
    polling.element,
    unreachable,
    table.element,
  );
  everySecond(signal, () => refreshAges(main));
  polling.run(signal);
}

async function list(signal) {
  const found = { updates: [], unreachable: [] };
  for await (const answer of pages("UpdateService/ListCancellableUpdates", {}, { signal, most: PAGES })) {
    found.updates.push(...(answer.updates ?? []));
    found.unreachable.push(...(answer.unreachable ?? []));
  }
  return found;
}

const keyOf = (each) => `${clusterPath(each.cluster)}/${each.update.id}`;

function cells(each) {
  const { cluster, update } = each;
  const link = make("a", { href: updateHash(cluster, update.id) }, update.id);
  const cancel = () => openCancelDialog({ cluster, updateId: update.id });
  return [
    [link, make("span", { class: "second" }, clusterPath(cluster))],
    update.type,
    [update.status, make("span", { class: "second" }, each.explanation)],
    ageElement(update.createdAt),
    checkCell(each.check),
    make(
      "button",
      {
        type: "button",
        class: "danger small",
        "aria-label": `Cancel ${update.id} of ${cluster.name}…`,
        click: cancel,
      },
      "Cancel…",
    ),
  ];
}

function checkCell(check) {
  if (!check) return make("span", { class: "quiet" }, "not checked yet");
  if (check.problem) return [badge("not checked"), make("span", { class: "second" }, check.problem)];
  const { decision, cancellability } = check;
  if (decision.allowed) {
    return cancellability && !cancellability.cancellableNow
      ? [badge("allowed, EKS would refuse", "warn"), make("span", { class: "second" }, cancellability.explanation)]
      : badge("allowed", "good");
  }
  if (lacksFieldsOnly(decision))
    return [
      badge(`needs ${neededFields(decision.reasons).join(" and ")}`, "warn"),
      sentenceList(decision.reasons),
    ];
  return [badge("denied", "bad"), sentenceList(decision.reasons)];
}

function unreachableBox(target) {
  const text = `${target.accountId}/${target.region} could not be read whole: ${target.message || target.reason}. Updates there may be missing.`;
  return make("p", { class: "box warn" }, text);
}

class Checks {
  #answers = new Map();
  #sinceRun = null;
  #signal;

  constructor(signal) {
    this.#signal = signal;
  }

  of(each) {
    return this.#answers.get(keyOf(each));
  }

  async run(updates, done) {
    const isNew = updates.some((each) => !this.of(each));
    if (!isNew && this.#sinceRun && this.#sinceRun() < CHECK_S) return;
    this.#sinceRun = startStopwatch();
    for (const each of updates) {
      try {
        const request = { cluster: each.cluster, updateId: each.update.id };
        this.#answers.set(
          keyOf(each),
          await call("UpdateService/CheckCancelUpdate", request, { signal: this.#signal }),
        );
      } catch (error) {
        if (this.#signal.aborted) return;
        this.#answers.set(keyOf(each), { problem: sentencesOf(error).join(" ") || error.message });
      }
      done();
    }
  }
}
