// The view that finds cancellations and updates by cluster, caller and id.

import { call, pages } from "./api.js";
import { cancellationTable, showCancellations } from "./cancellation_table.js";
import { announce, everySecond, make } from "./dom.js";
import { listCancellations } from "./ledger.js";
import { clusterPath, parseCluster, statusText, updateHash } from "./names.js";
import { problemBox } from "./problems.js";
import { Table } from "./tables.js";
import { ageElement, refreshAges } from "./times.js";

export const title = "Search";

const FIELDS = [
  ["cluster", "Cluster", "prod-1, or account/region/prod-1"],
  ["caller", "Caller", "jwt:corp:deploy-bot"],
  ["id", "Id", "update, request, cancellation, ticket"],
];

/** `parameters` are URLSearchParams of the view's address. */
export function show(main, parameters, signal) {
  const inputs = FIELDS.map(([name, label, placeholder]) => ({
    name,
    label: make("label", { for: `search-${name}` }, label),
    input: make("input", {
      id: `search-${name}`,
      placeholder,
      value: parameters.get(name) ?? "",
      autocomplete: "off",
      spellcheck: "false",
      autocapitalize: "none",
    }),
  }));
  const submit = (event) => {
    event.preventDefault();
    const wanted = inputs
      .filter(({ input }) => input.value.trim())
      .map(({ name, input }) => [name, input.value.trim()]);
    location.hash = `#/search?${new URLSearchParams(wanted)}`;
  };
  const form = make(
    "form",
    { class: "search", role: "search", submit },
    inputs.map(({ label, input }) => make("div", {}, label, input)),
    make("button", { class: "primary" }, "Search"),
  );
  const results = make("div");
  main.append(form, results);
  everySecond(signal, () => refreshAges(results));
  const wanted = Object.fromEntries(FIELDS.map(([name]) => [name, (parameters.get(name) ?? "").trim()]));
  if (wanted.cluster || wanted.caller || wanted.id) search(results, wanted, signal);
}

async function search(results, wanted, signal) {
  const cluster = wanted.cluster ? parseCluster(wanted.cluster) : undefined;
  const parts = [showFound(wanted, cluster, signal)];
  if (cluster) parts.push(showUpdates(wanted, cluster, signal));
  else if (wanted.id) parts.push(showCancellable(wanted.id, signal));
  results.replaceChildren(make("p", { class: "quiet" }, "Searching…"));
  const shown = await Promise.all(
    parts.map((part) => part.catch((error) => (signal.aborted ? "" : problemBox(error)))),
  );
  if (!signal.aborted) results.replaceChildren(...shown);
}

async function showFound(wanted, cluster, signal) {
  const isWanted = (each) =>
    !wanted.id || [each.cancellationId, each.requestId, each.updateId, each.ticket].includes(wanted.id);
  const { found, isAll } = await listCancellations({ cluster, caller: wanted.caller }, { signal, isWanted });
  if (wanted.id && !found.length) found.push(...(await getByIds(wanted, cluster, signal)));
  const table = cancellationTable("Cancellations found", "No cancellation was found.");
  showCancellations(table, found);
  announce(`${found.length} cancellations found`);
  const note = isAll ? "" : make("p", { class: "quiet" }, "The newest 1000 were searched.");
  return section("Cancellations", table.element, note);
}

/** The gateway finds older ones by their ids. */
async function getByIds({ id, caller }, cluster, signal) {
  const keys = [{ cancellationId: id }, { requestId: id }];
  const read = (key) => call("CancellationService/GetCancellation", key, { signal }).catch(() => ({}));
  const found = (await Promise.all(keys.map(read))).map((answer) => answer.cancellation);
  const isWanted = (each) =>
    each && (!caller || each.caller === caller) && (!cluster || each.cluster.name === cluster.name);
  return found.filter(isWanted).slice(0, 1);
}

async function showUpdates({ id }, cluster, signal) {
  const updates = [];
  for await (const answer of pages("UpdateService/ListUpdates", { cluster }, { signal, most: Infinity })) {
    updates.push(...(answer.updates ?? []));
    if (updates.length >= 50) break;
  }
  const shown = id ? updates.filter((each) => each.id === id) : updates;
  return updateSection(
    `Updates of ${cluster.name}`,
    shown.map((update) => ({ cluster, update })),
  );
}

async function showCancellable(id, signal) {
  const answer = await call("UpdateService/ListCancellableUpdates", {}, { signal });
  return updateSection(
    "Updates that can be cancelled now",
    (answer.updates ?? []).filter((each) => each.update.id === id),
  );
}

function updateSection(heading, found) {
  const table = new Table(heading, ["Update", "Type", "Status", "Begun"], "No update was found.");
  table.show(
    found,
    (each) => `${clusterPath(each.cluster)}/${each.update.id}`,
    ({ cluster, update }) => [
      [
        make("a", { href: updateHash(cluster, update.id) }, update.id),
        make("span", { class: "second" }, clusterPath(cluster)),
      ],
      update.type,
      statusText(update),
      ageElement(update.createdAt),
    ],
  );
  return section(heading, table.element);
}

const section = (heading, ...content) =>
  make("section", { "aria-label": heading }, make("h2", {}, heading), ...content);
