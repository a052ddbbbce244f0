// A sandbox for one test file: see clients/testing/README.md.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../../clients/testing/run_sandbox", import.meta.url));

/** At speed 1 a cancelled update stays InProgress until `advance`. */
export async function startSandbox() {
  const folder = await mkdtemp(join(tmpdir(), "page-"));
  const child = spawn(PROGRAM, [folder, "--speed", "1"], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const { value: path, done } = await lines.next();
  if (done) throw new Error("the sandbox did not start");
  return new Sandbox(JSON.parse(await readFile(path, "utf8")), child, lines, folder);
}

class Sandbox {
  constructor(info, child, lines, folder) {
    Object.assign(this, { info, child, lines, folder });
  }

  /** Returns what the sandbox answers after `ok`. */
  async command(line) {
    this.child.stdin.write(`${line}\n`);
    const { value } = await this.lines.next();
    if (!/^ok\b/.test(value)) throw new Error(`${line}: ${value}`);
    return value.slice(3);
  }

  /** A cluster with an update. Its prefix, prod- or staging-, decides what a cancel needs. */
  async addCluster(name, id = `rollback-${name}`) {
    const update = {
      id,
      node_phase_s: 6e5,
      timeout_minutes: 10080,
      cancel_delay_s: 120,
      node_replacing_s: 600,
    };
    const tags = { environment: name.startsWith("prod-") ? "production" : "staging" };
    const body = JSON.stringify({
      name,
      account_id: "111122223333",
      region: "us-east-1",
      tags,
      updates: [update],
    });
    const answer = await fetch(`${this.info.simulator}/_simulator/clusters`, { method: "POST", body });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }

  /** The calls of CancelUpdate that EKS has received for a cluster. */
  async cancelsOf(name) {
    const answer = await (await fetch(`${this.info.simulator}/_simulator/calls`)).json();
    return answer.calls.filter((each) => each.operation === "CancelUpdate" && each.cluster === name);
  }

  async stop() {
    const ended = new Promise((resolve) => this.child.once("exit", resolve));
    this.child.stdin.end();
    await ended;
    await rm(this.folder, { recursive: true });
  }
}
