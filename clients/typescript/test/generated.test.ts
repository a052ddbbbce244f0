import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { REPOSITORY } from "./sandbox.js";

const CODE = "clients/typescript/src/gen";

function readFiles(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return Object.fromEntries(files.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("generating the code again changes nothing", (context) => {
  const out = mkdtempSync(join(tmpdir(), "ts-generated-"));
  context.after(() => rmSync(out, { recursive: true }));
  const environment = { ...process.env, PATH: `${join(REPOSITORY, ".venv/bin")}:${process.env["PATH"]}` };
  const program = join(REPOSITORY, "scripts/generate_clients.py");
  execFileSync("python", [program, "typescript", out], { stdio: "inherit", env: environment });
  const [now, committed] = [readFiles(join(out, CODE)), readFiles(join(REPOSITORY, CODE))];
  assert.deepEqual(Object.keys(now), Object.keys(committed));
  const changed = Object.keys(now).filter((name) => now[name] !== committed[name]);
  assert.deepEqual(changed, [], "run: npm run generate");
});
