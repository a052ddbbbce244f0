// Shows the view that the address names after `#`. `#token=…` gives a token and is removed at once.

import * as cancellable from "./cancellable.js";
import * as cancellations from "./cancellations.js";
import { byId, make } from "./dom.js";
import * as search from "./search.js";
import { setToken, startSession } from "./session.js";
import * as update from "./update.js";

const VIEWS = { "/cancellations": cancellations, "/cancellable": cancellable, "/search": search };
const FIRST = "#/cancellations";

let shown = new AbortController();

function route() {
  takeToken();
  const [path, query] = location.hash.slice(1).split("?");
  const target = parseUpdate(path);
  const view = VIEWS[path];
  if (!view && !target) {
    history.replaceState(null, "", FIRST);
    return route();
  }
  shown.abort();
  shown = new AbortController();
  if (byId("cancel").open) byId("cancel").close();
  const title = target ? update.titleOf(target) : view.title;
  document.title = `${title} · eksgateway`;
  const main = byId("main");
  main.replaceChildren(make("h1", { tabindex: -1 }, title));
  markNavigation(path);
  if (target) update.show(main, target, shown.signal);
  else view.show(main, new URLSearchParams(query), shown.signal);
}

/** From `#token=…`, or `#token=…&` with the rest of the address, which is kept. */
function takeToken() {
  if (!location.hash.startsWith("#token=")) return;
  const [token, ...rest] = location.hash.slice("#token=".length).split("&");
  history.replaceState(null, "", rest.length ? `#${rest.join("&")}` : FIRST);
  setToken(decode(token));
}

/** Of /updates/[ACCOUNT/REGION/]CLUSTER/ID. */
function parseUpdate(path) {
  const parts = path.split("/").slice(1);
  if (parts[0] !== "updates" || ![3, 5].includes(parts.length)) return null;
  const values = parts.slice(1).map(decode);
  const updateId = values.pop();
  const name = values.pop();
  const [accountId, region] = values;
  return { cluster: { accountId, region, name }, updateId };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // the gateway refuses it
  }
}

function markNavigation(path) {
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash.slice(1) === path) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

byId("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address after # names the view
  byId("main").focus();
});
addEventListener("hashchange", () => {
  route();
  document.querySelector("h1").focus();
});
startSession(route);
route();
