// The page's rule for retries is the table of error reasons.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (path) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const source = Buffer.from(read("server/eksgateway/edge/page/retries.js")).toString("base64");
const { mayRetry } = await import(`data:text/javascript;base64,${source}`);
const table = JSON.parse(read("clients/testing/reasons.json"));

test("the table has all reasons", () => assert.ok(table.length >= 36));

for (const { reason, code, retry, retry_info: retryInfo } of table) {
  test(`${reason}: ${retry}`, () => {
    const hasRetryInfo = retryInfo === "always";
    assert.equal(mayRetry({ reason, code: code.toLowerCase(), hasRetryInfo }), retry === "yes");
  });
}
