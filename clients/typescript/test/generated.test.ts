import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { REPOSITORY } from "./sandbox.js";

const CLIENT = join(REPOSITORY, "clients/typescript");

function readFiles(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("generating the code again changes nothing", (context) => {
  const out = mkdtempSync(join(tmpdir(), "ts-generated-"));
  context.after(() => rmSync(out, { recursive: true }));
  execFileSync("sh", [join(CLIENT, "generate.sh"), out], { stdio: "inherit" });
  const [now, committed] = [readFiles(out), readFiles(join(CLIENT, "src/gen"))];
  assert.deepEqual(Object.keys(now), Object.keys(committed));
  const changed = Object.keys(now).filter((name) => now[name] !== committed[name]);
  assert.deepEqual(changed, [], "run: npm run generate");
});
