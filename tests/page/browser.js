// A real Chromium with the page in it. Screenshots go to build/page/.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const SHOTS = fileURLToPath(new URL("../../build/page", import.meta.url));
const WAIT_MS = 20_000;

export const updateHash = (name, id = `rollback-${name}`) => `#/updates/111122223333/us-east-1/${name}/${id}`;

export function findChromium() {
  const names = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome"].filter(Boolean);
  for (const name of names) {
    try {
      return execFileSync("/bin/sh", ["-c", 'command -v "$1"', "sh", name], { encoding: "utf8" }).trim();
    } catch {} // the next one
  }
  throw new Error("no Chromium: apt-get install chromium, or set CHROMIUM to its path");
}

export async function startBrowser(sandbox) {
  const browser = await chromium.launch({ executablePath: findChromium(), args: ["--no-sandbox"] });
  return new Browser(browser, sandbox);
}

class Browser {
  constructor(browser, sandbox) {
    Object.assign(this, { browser, sandbox });
  }

  /** A page in a context of its own. Without a token it is that of `caller`. `faults` are errors of its scripts. */
  async open(caller, hash, { token, withClock = false, ...options } = {}) {
    const context = await this.browser.newContext({
      viewport: { width: 1200, height: 800 },
      reducedMotion: "reduce",
      ...options,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    page.faults = [];
    page.on("pageerror", (error) => page.faults.push(error.stack));
    page.on(
      "console",
      (message) => /Content Security Policy|Uncaught/.test(message.text()) && page.faults.push(message.text()),
    );
    if (withClock) await page.clock.install();
    const given = token ?? this.sandbox.info.tokens[caller];
    await page.goto(`${this.sandbox.info.http}/#token=${given}&${hash.slice(1)}`);
    return page;
  }

  async close() {
    await this.browser.close();
  }
}

/** Every page ends so: without faults of its scripts. */
export async function finish(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

export async function shoot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: join(SHOTS, `${name}.png`) });
}

export const state = (page, name) => page.locator(".state", { hasText: new RegExp(`^${name}$`) }).waitFor();

export async function fillCancel(page, { reason = "", ticket = "" }) {
  await page.getByLabel("Reason", { exact: true }).fill(reason);
  await page.getByLabel("Ticket", { exact: true }).fill(ticket);
}

export const sendButton = (page) => page.locator("#send");

/** Clicks when the check has answered, as a user would. */
export async function cancel(page, values) {
  await page.locator("#open-cancel").click();
  await fillCancel(page, values);
  await page.locator("#send:enabled").click();
}
