// The token: in memory only. Calls wait here until there is one.

import { byId, setText } from "./dom.js";
import { durationText } from "./times.js";

let token = "";
let waiting = []; // functions that take the next token
const listeners = new Set();

/** Calls `listener` after each new token, until the signal. */
export function onNewToken(signal, listener) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener), { once: true });
}

/** Returns whether it can be one. */
export function setToken(text) {
  const given = text.trim().replace(/^bearer\s+/i, "");
  if (!/^[\x21-\x7e]+$/.test(given)) {
    askForToken("That is no bearer token: it has characters that no token has. Copy it again.");
    return false;
  }
  token = given;
  show();
  byId("sign-in").close();
  const takers = waiting;
  waiting = [];
  for (const take of takers) take(token);
  for (const listener of listeners) listener();
  return true;
}

/** The token, or "". Then the user is asked for one. */
export function takeToken() {
  if (!token && !byId("sign-in").open) askForToken("The gateway takes calls with a token only.");
  return token;
}

/** Waits for one if there is none. */
export async function getToken(signal) {
  if (takeToken()) return token;
  return new Promise((resolve, reject) => {
    waiting.push(resolve);
    signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** After the gateway has refused `used`. A newer token stays. */
export function dropToken(used, reason) {
  if (used !== token) return;
  token = "";
  show();
  const expired = reason === "CREDENTIALS_EXPIRED";
  askForToken(
    expired
      ? "The token has expired. Enter a new one: the page goes on where it was."
      : "The gateway refused the token. Enter another one.",
  );
}

/** `onChange` is called after the user has replaced a token that was good. */
export function startSession(onChange) {
  const dialog = byId("sign-in");
  byId("sign-in-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("token").value;
    byId("token").value = "";
    const isChange = token !== "";
    if (setToken(text) && isChange) onChange();
  });
  byId("sign-in-close").addEventListener("click", () => dialog.close());
  byId("change-token").addEventListener("click", () => askForToken("The view is read again with the new token."));
  dialog.addEventListener("close", () => (byId("token").value = ""));
  setInterval(show, 10_000);
  show();
}

function askForToken(note) {
  setText(byId("sign-in-note"), note);
  if (!byId("sign-in").open) byId("sign-in").showModal();
  byId("token").focus();
}

function show() {
  setText(byId("identity"), token ? describe(token) : "No token");
  setText(byId("change-token"), token ? "Change token" : "Enter a token");
}

/** By the token's own words: only the gateway verifies them. */
function describe(text) {
  try {
    const part = text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(part), (character) => character.codePointAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    const left = claims.exp - Date.now() / 1000;
    const end = left > 0 ? `token for ${durationText(left)}` : "token has ended";
    return [claims.sub, claims.exp ? end : ""].filter(Boolean).join(" · ");
  } catch {
    return "Token given";
  }
}
