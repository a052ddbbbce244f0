// The sentences of a denial that a reason or a ticket answers.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const read = (name) => readFileSync(new URL(`../../server/eksgateway/edge/page/${name}`, import.meta.url), "utf8");
const url = (source) => `data:text/javascript;base64,${Buffer.from(source).toString("base64")}`;
const source = read("problems.js").replace('"./dom.js"', JSON.stringify(url(read("dom.js"))));
const { lacksFieldsOnly, neededFields } = await import(url(source));

const SENTENCES = [
  ["A ticket is required by grant oncall.", ["ticket"]],
  ["A reason is required by grant oncall.", ["reason"]],
  ["Grant oncall asks for a ticket like OPS-# or INC-#.", ["ticket"]],
  ["Denial stop forbids this: a ticket is required from security.", []],
  ["Grant ci asks for the token's claim ref to be refs/heads/main.", []],
];

for (const [sentence, needed] of SENTENCES) {
  test(sentence, () => {
    assert.deepEqual(neededFields([sentence]), needed);
    assert.equal(lacksFieldsOnly({ reasons: [sentence] }), needed.length > 0);
  });
}

test("all sentences together name each field once", () => {
  assert.deepEqual(neededFields(SENTENCES.map(([sentence]) => sentence)), ["ticket", "reason"]);
});
