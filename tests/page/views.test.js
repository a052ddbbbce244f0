// The lists, the search, the token, and how the page looks.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cancel, finish, shoot, startBrowser, state, updateHash } from "./browser.js";
import { measureContrast } from "./contrast.js";
import { startSandbox } from "./sandbox.js";

const LONG = `staging-${"x".repeat(92)}`;

let sandbox;
let browser;
before(async () => {
  sandbox = await startSandbox();
  browser = await startBrowser(sandbox);
  for (const name of ["prod-first", "staging-ended"]) {
    await sandbox.addCluster(name);
    const page = await browser.open("oncall", updateHash(name));
    await cancel(page, { reason: `of ${name}`, ticket: "OPS-77" });
    await state(page, "REQUESTED");
    if (name === "staging-ended") {
      await sandbox.command("advance 1000");
      await state(page, "CANCELLED");
    }
    await finish(page);
  }
  await cancelLong();
  await sandbox.addCluster("staging-open");
  const page = await browser.open("oncall", updateHash("staging-open"));
  await cancel(page, { reason: "still under way", ticket: "OPS-78" });
  await state(page, "REQUESTED");
  await finish(page);
});
after(async () => {
  await browser?.close();
  await sandbox?.stop();
});

/** A name, a reason and a ticket as long as the API takes them, without a space. */
async function cancelLong() {
  await sandbox.addCluster(LONG, "rollback-long");
  const page = await browser.open("oncall", updateHash(LONG, "rollback-long"));
  await cancel(page, { reason: "r".repeat(500), ticket: "t".repeat(100) });
  await state(page, "REQUESTED");
  await finish(page);
}

const VIEWS = {
  cancellations: "#/cancellations",
  cancellable: "#/cancellable",
  search: "#/search?caller=jwt%3Asandbox%3Aoncall",
  update: updateHash("staging-open"),
  long: updateHash(LONG, "rollback-long"),
  dialog: updateHash("prod-1"),
};
const settled = {
  cancellations: (page) =>
    page
      .getByText(/^EKS read \d+ s ago$/)
      .first()
      .waitFor(),
  cancellable: (page) => page.getByRole("cell", { name: "allowed" }).first().waitFor(),
  search: (page) => page.getByRole("table").waitFor(),
  update: (page) => page.getByRole("article").waitFor(),
  long: (page) => page.getByRole("article").waitFor(),
  dialog: async (page) => {
    await page.locator("#open-cancel").click();
    await page.locator("#check").getByText("needs reason and ticket").waitFor();
  },
};

test("the first view has what is under way apart from what has ended", async () => {
  const page = await browser.open("oncall", "#/cancellations");
  const open = page
    .getByRole("table", { name: "Cancellations under way" })
    .getByRole("row", { name: /rollback-staging-open/ });
  const text = await open.textContent();
  for (const part of ["jwt:sandbox:oncall", "still under way", "ticket OPS-78", "REQUESTED"])
    assert.ok(text.includes(part), part);
  await open.getByText(/^EKS read \d+ s ago$/).waitFor();
  const ended = page.getByRole("table", { name: "Cancellations lately ended" });
  await ended
    .getByRole("row", { name: /rollback-staging-ended/ })
    .getByText("CANCELLED", { exact: true })
    .waitFor();
  await ended.getByRole("link", { name: "rollback-staging-ended" }).click();
  await state(page, "CANCELLED");
  await finish(page);
});

test("each update that can be cancelled has the check's answer", async () => {
  const page = await browser.open("oncall", "#/cancellable");
  const row = (name) => page.getByRole("row", { name: new RegExp(`rollback-${name} `) });
  await row("prod-1").getByText("needs reason and ticket").waitFor();
  await row("staging-1").getByText("allowed", { exact: true }).waitFor();
  await row("staging-1").getByRole("button", { name: "Cancel rollback-staging-1 of staging-1…" }).click();
  await page.getByRole("dialog").getByText("EKS would probably accept a cancel now.").waitFor();
  await page.keyboard.press("Escape");
  await finish(page);
});

test("a caller without grants sees the denial in place of a list", async () => {
  const page = await browser.open("outsider", "#/cancellable");
  await page.getByText("POLICY_DENIED").waitFor();
  assert.match(await page.locator("main").textContent(), /Decision[0-9a-f-]{36}/);
  await finish(page);
});

test("cluster, caller and ids find cancellations and updates", async () => {
  const page = await browser.open("oncall", "#/search");
  const search = async (label, text) => {
    for (const each of ["Cluster", "Caller", "Id"])
      await page.getByLabel(each, { exact: true }).fill(each === label ? text : "");
    await page.getByRole("button", { name: "Search" }).click();
    await page.waitForFunction(
      (wanted) => new URLSearchParams(location.hash.split("?")[1]).get(wanted[0]) === wanted[1],
      [label.toLowerCase(), text],
    );
    await page.getByRole("heading", { name: "Cancellations" }).waitFor();
    return page.getByRole("table", { name: "Cancellations found" }).getByRole("link").allTextContents();
  };
  assert.deepEqual(await search("Cluster", "staging-open"), ["rollback-staging-open"]);
  await page
    .getByRole("table", { name: "Updates of staging-open" })
    .getByRole("link", { name: "rollback-staging-open" })
    .waitFor();
  assert.deepEqual(await search("Cluster", "111122223333/us-east-1/staging-ended"), ["rollback-staging-ended"]);
  assert.equal((await search("Caller", "jwt:sandbox:oncall")).length, 4);
  assert.deepEqual(await search("Caller", "jwt:sandbox:viewer"), []);
  assert.deepEqual(await search("Id", "rollback-staging-open"), ["rollback-staging-open"]);
  assert.deepEqual(await search("Id", "OPS-78"), ["rollback-staging-open"]);
  await page.getByRole("link", { name: "rollback-staging-open" }).first().click();
  const ids = await page.getByRole("article").locator("code").allTextContents();
  await page.goBack();
  await page.getByRole("heading", { name: "Search" }).waitFor();
  for (const id of ids.slice(0, 2)) assert.deepEqual(await search("Id", id), ["rollback-staging-open"]);
  await finish(page);
});

test("the token stays in memory alone", async () => {
  const page = await browser.open("oncall", "#/cancellable");
  await page.getByText(/oncall · token for/).waitFor();
  assert.ok(!page.url().includes("token"));
  const kept = await page.evaluate(() =>
    JSON.stringify([
      { ...localStorage },
      { ...sessionStorage },
      document.cookie,
      history.state,
      document.documentElement.outerHTML,
    ]),
  );
  assert.ok(!kept.includes(sandbox.info.tokens.oncall));
  assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]), [
    0,
    0,
    "",
  ]);
  await page.reload();
  await page.getByRole("dialog", { name: "Enter a token" }).waitFor();
  assert.match(page.url(), /#\/cancellable$/);
  await page.getByLabel("Bearer token").fill(`Bearer ${sandbox.info.tokens.oncall}\n`);
  await page.keyboard.press("Enter");
  await page.getByRole("table").waitFor();
  await finish(page);
});

test("a refused token is asked for again", async () => {
  const page = await browser.open("oncall", "#/cancellable", { token: "no.such.token" });
  await page.getByText("The gateway refused the token. Enter another one.").waitFor();
  await page.getByLabel("Bearer token").fill(sandbox.info.tokens.oncall);
  await page.keyboard.press("Enter");
  await page.getByRole("table").waitFor();
  await finish(page);
});

for (const [scheme, width] of [
  ["light", 1200],
  ["light", 1000],
  ["light", 800],
  ["dark", 1200],
  ["light", 360],
  ["dark", 360],
]) {
  test(`every view can be read and fits, ${scheme} at ${width} px`, async () => {
    const page = await browser.open("oncall", VIEWS.cancellations, {
      colorScheme: scheme,
      viewport: { width, height: 800 },
    });
    for (const [name, hash] of Object.entries(VIEWS)) {
      await page.evaluate((wanted) => (location.hash = wanted), hash);
      await settled[name](page);
      await shoot(page, `${name}-${scheme}-${width}`);
      assert.deepEqual(await overflowing(page), [], name);
      const { measured, faint } = await measureContrast(page);
      assert.ok(measured > 10);
      assert.deepEqual(faint, [], name);
    }
    await finish(page);
  });
}

/** What is wider than its place: the page, or a table in it. */
function overflowing(page) {
  return page.evaluate(() =>
    [document.documentElement, ...document.querySelectorAll(".table, dialog[open]")]
      .filter((each) => each.scrollWidth > each.clientWidth)
      .map((each) => each.textContent),
  );
}

test("every control has a name, and the page its landmarks", async () => {
  const page = await browser.open("oncall", "#/search");
  await page.getByRole("main").waitFor();
  await page.getByRole("banner").waitFor();
  await page.getByRole("navigation", { name: "Views" }).waitFor();
  assert.equal(await page.getByRole("heading", { level: 1 }).count(), 1);
  const nameless = await page.evaluate(
    () =>
      [...document.querySelectorAll("button, a, input")].filter(
        (each) => !(each.labels?.length || each.textContent.trim() || each.ariaLabel),
      ).length,
  );
  assert.equal(nameless, 0);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "main");
  assert.match(page.url(), /#\/search$/);
  await finish(page);
});
