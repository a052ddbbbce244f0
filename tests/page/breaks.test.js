// What breaks while the page is open: the gateway, the connection, the token.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { cancel, finish, fillCancel, shoot, startBrowser, state, updateHash } from "./browser.js";
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

/** The requests of a page for streams. */
function watchesOf(page) {
  const found = [];
  page.on("request", (request) => request.url().endsWith("/WatchUpdate") && found.push(request.postDataJSON()));
  return found;
}

for (const [command, how] of [
  ["kill", "the gateway was killed"],
  ["drain", "the gateway was drained"],
]) {
  test(`a watch resumes where it was after ${how}`, async () => {
    await sandbox.addCluster(`staging-${command}`);
    const page = await browser.open("oncall", updateHash(`staging-${command}`));
    await cancel(page, { reason: "bad AMI" });
    await state(page, "REQUESTED");
    await page.locator("#cancel").waitFor({ state: "hidden" });
    const watches = watchesOf(page);
    await sandbox.command(command);
    await page.getByText("The connection is lost; trying again").waitFor();
    await shoot(page, command);
    await sandbox.command("advance 130");
    await sandbox.command("start");
    await state(page, "CANCELLING");
    assert.ok(watches.length >= 1 && watches.every((each) => each.resumeToken));
    await sandbox.command("advance 700");
    await state(page, "CANCELLED");
    const seen = await page.getByRole("table", { name: "States seen here" }).getByRole("row").count();
    assert.equal(seen, 1 + 4);
    await page.getByRole("article").getByText("CANCELLED", { exact: true }).waitFor();
    await finish(page);
  });
}

test("a cancel is sent again with the same request id until the gateway is back", async () => {
  await sandbox.addCluster("staging-again");
  const page = await browser.open("oncall", updateHash("staging-again"));
  await page.locator("#open-cancel").click();
  await fillCancel(page, { reason: "bad AMI" });
  await page.locator("#send:enabled").waitFor();
  const requestIds = new Set();
  page.on(
    "request",
    (request) => request.url().endsWith("/CancelUpdate") && requestIds.add(request.postDataJSON().requestId),
  );
  const shown = await page.locator("#request-id").textContent();
  await sandbox.command("kill");
  await page.locator("#send").click();
  await page.getByText("Sending again with the same request id").waitFor();
  assert.ok(await page.getByLabel("Reason", { exact: true }).evaluate((input) => input.readOnly));
  await shoot(page, "sending-again");
  await sandbox.command("start");
  await state(page, "REQUESTED");
  assert.deepEqual([...requestIds], [shown]);
  assert.equal((await sandbox.cancelsOf("staging-again")).length, 1);
  await finish(page);
});

test("a cancel of unknown outcome keeps its request id and its values until it is answered", async () => {
  await sandbox.addCluster("staging-lost");
  const page = await browser.open("oncall", updateHash("staging-lost"), { withClock: true });
  const requestIds = [];
  let lose = (route) => route.abort();
  await page.route("**/CancelUpdate", (route) => {
    requestIds.push(route.request().postDataJSON().requestId);
    return lose(route);
  });
  await cancel(page, { reason: "bad AMI" });
  const note = page.getByText("It is not known here whether EKS received this cancel.");
  while (!(await note.isVisible())) await page.clock.runFor(10_000);
  await shoot(page, "outcome-unknown");
  await page.keyboard.press("Escape");

  await page.locator("#open-cancel").click();
  const reason = page.getByLabel("Reason", { exact: true });
  assert.equal(await reason.inputValue(), "bad AMI");
  assert.ok(await reason.evaluate((input) => input.readOnly));
  let lost = 0;
  lose = async (route) => {
    const response = await route.fetch();
    return lost++ ? route.fulfill({ response }) : route.abort(); // the gateway has answered
  };
  await page.getByRole("button", { name: "Send again" }).click();
  await page.locator("#cancel").waitFor({ state: "hidden" });
  await state(page, "REQUESTED");
  assert.equal(lost, 2);
  assert.equal(new Set(requestIds).size, 1);
  assert.equal((await sandbox.cancelsOf("staging-lost")).length, 1);
  await finish(page);
});

test("an expired token is asked for again, and the watch goes on where it was", async () => {
  await sandbox.addCluster("staging-token");
  const token = await sandbox.command("token oncall 12");
  const page = await browser.open("oncall", updateHash("staging-token"), { token });
  await cancel(page, { reason: "bad AMI" });
  await state(page, "REQUESTED");
  const watches = watchesOf(page);
  await page.getByText("The token has expired. Enter a new one").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  await shoot(page, "token-expired");
  await sandbox.command("advance 130");
  await page.keyboard.type(sandbox.info.tokens.viewer);
  await page.keyboard.press("Enter");
  await state(page, "CANCELLING");
  assert.ok(watches.length === 1 && watches[0].resumeToken);
  assert.match(page.url(), /#\/updates\/.*staging-token$/);
  await finish(page);
});

test("a token that expires before the cancel sends nothing, and the check is made anew", async () => {
  await sandbox.addCluster("staging-late");
  const token = await sandbox.command("token oncall 8");
  const page = await browser.open("oncall", updateHash("staging-late"), { token });
  await page.locator("#open-cancel").click();
  await fillCancel(page, { reason: "bad AMI" });
  await page.getByText("The token has expired. Enter a new one").waitFor();
  await page.keyboard.type(sandbox.info.tokens.viewer);
  await page.keyboard.press("Enter");
  await page.locator("#check").getByText("POLICY_DENIED").waitFor();
  assert.equal(await page.getByLabel("Reason", { exact: true }).inputValue(), "bad AMI");
  assert.deepEqual(await sandbox.cancelsOf("staging-late"), []);
  await finish(page);
});

test("a silent gateway makes the state stale, and its stream is opened again", async () => {
  await sandbox.addCluster("staging-silent");
  const page = await browser.open("oncall", updateHash("staging-silent"), { withClock: true });
  await state(page, "InProgress");
  const watches = watchesOf(page);
  await sandbox.command("pause");
  try {
    await page.clock.fastForward(62_000);
    await page.getByText(/^STALE: EKS was read 6\d s ago$/).waitFor();
    await shoot(page, "stale");
    await page.getByText("The connection is lost; trying again").waitFor();
  } finally {
    await sandbox.command("resume");
  }
  await page.clock.fastForward(40_000);
  await page.getByText("Live", { exact: true }).waitFor();
  await page.getByText(/^EKS was read \d s ago$/).waitFor();
  assert.ok(watches.length >= 1 && watches.every((each) => each.resumeToken));
  await finish(page);
});
