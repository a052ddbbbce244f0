import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Code } from "../src/index.js";
import { actionFor } from "../src/retries.js";
import { REPOSITORY } from "./sandbox.js";

interface Row {
  reason: string;
  code: string;
  retry: "yes" | "no" | "with_new_token" | "without_resume_token";
  retry_info: "always" | "sometimes" | "never";
}

const ACTIONS = {
  yes: "retry",
  no: "give-up",
  with_new_token: "renew-token",
  without_resume_token: "drop-resume-token",
} as const;
const CODES = new Map(
  Object.entries(Code).map(([name, code]) => [name.replace(/(?<!^)(?=[A-Z])/g, "_").toUpperCase(), code as Code]),
);

const table = JSON.parse(readFileSync(join(REPOSITORY, "clients/testing/reasons.json"), "utf8")) as Row[];

test("the table has all reasons", () => assert.ok(table.length >= 36));

for (const { reason, code, retry, retry_info } of table) {
  const pauses = { always: [1_000], sometimes: [1_000, undefined], never: [undefined] }[retry_info];
  for (const retryAfterMs of pauses) {
    test(`${reason} ${retryAfterMs ? "with" : "without"} RetryInfo: ${retry}`, () => {
      const found = CODES.get(code);
      assert.ok(found);
      assert.equal(actionFor({ code: found, reason, retryAfterMs }), ACTIONS[retry]);
    });
  }
}

test("an unknown reason is decided by its status", () => {
  const unknown = (code: Code, retryAfterMs?: number) => actionFor({ code, reason: "NEW", retryAfterMs });
  assert.equal(unknown(Code.Unavailable), "retry");
  assert.equal(unknown(Code.Aborted), "retry");
  assert.equal(unknown(Code.ResourceExhausted, 100), "retry");
  assert.equal(unknown(Code.ResourceExhausted), "give-up");
  assert.equal(unknown(Code.Internal), "give-up");
});
