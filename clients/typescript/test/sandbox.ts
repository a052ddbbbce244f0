import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { createClient, type Client, type ClientOptions } from "../src/index.js";

/** The repository's top folder, from dist/test. */
export const REPOSITORY = fileURLToPath(new URL("../../../..", import.meta.url));

interface Info {
  grpc: string;
  proxy: string;
  timeout_proxy: string;
  http: string;
  simulator: string;
  tokens: Record<"oncall" | "viewer" | "outsider", string>;
}

/** See clients/testing/README.md. */
export class Sandbox implements AsyncDisposable {
  private constructor(
    readonly info: Info,
    private readonly process: ChildProcess,
    private readonly lines: AsyncIterator<string>,
    private readonly folder: string,
  ) {}

  /** At speed 1 a cancelled update stays InProgress until `advance`. */
  static async start(...options: string[]): Promise<Sandbox> {
    const folder = await mkdtemp(join(tmpdir(), "ts-client-"));
    const program = join(REPOSITORY, "clients/testing/run_sandbox");
    const process = spawn(program, [folder, "--speed", "1", ...options], { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface(process.stdout)[Symbol.asyncIterator]();
    const { value, done } = await lines.next();
    if (done) throw new Error("the sandbox did not start");
    return new Sandbox(JSON.parse(await readFile(value, "utf8")) as Info, process, lines, folder);
  }

  async command(line: string): Promise<void> {
    this.process.stdin?.write(`${line}\n`);
    const { value } = await this.lines.next();
    if (value !== "ok") throw new Error(`${line}: ${value}`);
  }

  /** Adds a cluster with an update, `rollback-NAME`, that oncall may cancel without a ticket. */
  async addCluster(name: string): Promise<void> {
    const durations = { node_phase_s: 6e5, timeout_minutes: 10080, cancel_delay_s: 120, node_replacing_s: 600 };
    const update = { id: `rollback-${name}`, ...durations };
    const target = { account_id: "111122223333", region: "us-east-1", tags: { environment: "staging" } };
    const answer = await fetch(`${this.info.simulator}/_simulator/clusters`, {
      method: "POST",
      body: JSON.stringify({ name, ...target, updates: [update] }),
    });
    if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  }

  client(caller: keyof Info["tokens"], options: Partial<ClientOptions> = {}): Client {
    const own = { address: this.info.grpc, plaintext: true, token: () => this.info.tokens[caller] };
    return createClient({ ...own, ...options } as ClientOptions);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.process.once("exit", resolve));
    this.process.stdin?.end();
    await ended;
    await rm(this.folder, { recursive: true });
  }
}
