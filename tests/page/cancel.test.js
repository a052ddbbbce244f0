// Cancels from the page: denied, and watched to the end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cancel, fillCancel, finish, sendButton, shoot, startBrowser, state, updateHash } from "./browser.js";
import { startSandbox } from "./sandbox.js";

let sandbox;
let browser;
before(async () => {
  sandbox = await startSandbox();
  browser = await startBrowser(sandbox);
});
after(async () => {
  await browser?.close();
  await sandbox?.stop();
});

test("the check names what a cancel lacks, and nothing is sent", async () => {
  await sandbox.addCluster("prod-lacks");
  const page = await browser.open("oncall", updateHash("prod-lacks"));
  await page.locator("#open-cancel").click();
  const check = page.locator("#check");
  await check.getByText("needs reason and ticket").waitFor();
  await fillCancel(page, { reason: "bad AMI" });
  await check.getByText("needs ticket", { exact: true }).waitFor();
  await check.getByText("A ticket is required by grant oncall-production.").waitFor();
  await check.getByText("Enter a ticket.").waitFor();
  assert.match(await check.locator("dd").first().textContent(), /^[0-9a-f-]{36}$/);
  assert.ok(await sendButton(page).isDisabled());
  await page.keyboard.press("Enter");
  await shoot(page, "check");
  await page.keyboard.press("Escape");
  assert.equal(await page.evaluate(() => document.activeElement.id), "open-cancel");
  assert.deepEqual(await sandbox.cancelsOf("prod-lacks"), []);
  await finish(page);
});

test("a denial shows its reason, decision and rules", async () => {
  const page = await browser.open("viewer", updateHash("prod-1"));
  await cancel(page, { reason: "bad AMI", ticket: "OPS-12" });
  const answer = page.locator("#cancel-result");
  await answer.getByText("POLICY_DENIED").waitFor();
  assert.match(await answer.textContent(), /Decision[0-9a-f-]{36}/);
  assert.match(await answer.textContent(), /Nothing was cancelled/);
  await shoot(page, "denied");
  assert.deepEqual(await sandbox.cancelsOf("prod-1"), []);
  await finish(page);
});

test("a cancel is watched to its end, by keyboard alone", async () => {
  await sandbox.addCluster("prod-end");
  const page = await browser.open("oncall", updateHash("prod-end"));
  await page.locator("#open-cancel").waitFor();
  await page.locator("#open-cancel").focus();
  await page.keyboard.press("Enter");
  await page.keyboard.type("bad AMI");
  await page.keyboard.press("Tab");
  await page.keyboard.type("OPS-12");
  const requestId = await page.locator("#request-id").textContent();
  await page.locator("#send:enabled").waitFor();
  await page.keyboard.press("Enter");
  await state(page, "REQUESTED");
  assert.ok(await page.locator("#open-cancel").isHidden());
  await sandbox.command("advance 130");
  await state(page, "CANCELLING");
  await shoot(page, "cancelling");
  await sandbox.command("advance 700");
  await state(page, "CANCELLED");
  await page.getByText("The update has ended.").waitFor();

  const seen = await page.getByRole("table", { name: "States seen here" }).getByRole("row").allTextContents();
  assert.deepEqual(
    seen.slice(1).map((row) => /(REQUESTED|CANCELLING|CANCELLED)?$/.exec(row)[0]),
    ["", "REQUESTED", "CANCELLING", "CANCELLED"],
  );
  const card = page.getByRole("article");
  await card.getByText("CANCELLED", { exact: true }).waitFor();
  for (const text of ["jwt:sandbox:oncall", "bad AMI", "OPS-12", requestId, "oncall-production"])
    await card.getByText(text, { exact: true }).waitFor();
  assert.equal((await sandbox.cancelsOf("prod-end")).length, 1);
  await shoot(page, "cancelled");
  await finish(page);
});

test("text of a caller is never read as HTML", async () => {
  await sandbox.addCluster("staging-html");
  const page = await browser.open("oncall", updateHash("staging-html"));
  const reason = '<img src=x onerror="document.title=1"><b>bold</b>';
  await cancel(page, { reason });
  await page.getByRole("article").getByText(reason, { exact: true }).waitFor();
  assert.equal(await page.locator("main img, main b").count(), 0);
  await finish(page);
});

test("a cancel that comes too late shows EKS's refusal", async () => {
  const page = await browser.open("oncall", updateHash("prod-2"));
  await page.locator("#open-cancel").click();
  await fillCancel(page, { reason: "bad AMI", ticket: "OPS-12" });
  await page.locator("#check").getByText("EKS would probably refuse a cancel now.").waitFor();
  await page.locator("#send:enabled").click();
  await page.locator("#cancel-result").getByText(/^EKS_/).waitFor();
  await finish(page);
});
