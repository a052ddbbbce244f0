import { once } from "node:events";
import * as tls from "node:tls";

import type { Interceptor, Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import type { Timing } from "./retries.js";

/** How to reach a gateway: with TLS, or in so many words without. */
export type Endpoint = {
  /** host:port, for example "gateway.example:50051" or "[::1]:50051". */
  address: string;
  /**
   * The protocol: gRPC over HTTP/2 to the gateway (the default), or Connect over HTTP/1.1 to its edge.
   */
  protocol?: "grpc" | "connect";
} & (
  | {
      /** PEM. Without `ca` the system's roots and Node's own apply; `cert` and `key` are the client's. */
      tls?: Pick<tls.ConnectionOptions, "ca" | "cert" | "key" | "servername">;
      plaintext?: false;
    }
  | { tls?: never; plaintext: true }
);

// A connection carries 100 calls. Node queues further ones without an error.
const WATCHES_PER_CONNECTION = 80;
const PROBE_MS = 2_000;

// Connect stops listening to a session that it replaces: an error after that would end the process.
class SessionManager extends Http2SessionManager {
  override async request(...args: Parameters<Http2SessionManager["request"]>) {
    const stream = await super.request(...args);
    if (stream.session && !stream.session.listeners("error").includes(ignore)) stream.session.on("error", ignore);
    return stream;
  }
}

function ignore(): void {}

export class Connection {
  readonly transport: Transport;
  streams = 0;
  readonly #session: SessionManager | undefined;
  readonly #plaintext: { host: string; port: number } | undefined;

  constructor(endpoint: Endpoint, timing: Timing, interceptor: Interceptor) {
    const match = /^(\[[0-9A-Fa-f:.]+\]|[^\s:/[\]]+):([0-9]{1,5})$/.exec(endpoint.address);
    if (!match || !(Number(match[2]) >= 1 && Number(match[2]) <= 65535))
      throw new TypeError(`${endpoint.address} is not an address: write it as host:port`);
    if (endpoint.plaintext) this.#plaintext = { host: match[1]!.replace(/[[\]]/g, ""), port: Number(match[2]) };
    const baseUrl = `${endpoint.plaintext ? "http" : "https"}://${endpoint.address}`;
    const nodeOptions = endpoint.plaintext ? {} : { ca: systemRoots(), ...endpoint.tls };
    const common = { baseUrl, interceptors: [interceptor] };
    if (endpoint.protocol === "connect") {
      this.transport = createConnectTransport({ httpVersion: "1.1", nodeOptions, ...common });
    } else {
      this.#session = new SessionManager(baseUrl, timing, nodeOptions);
      this.transport = createGrpcTransport({ sessionManager: this.#session, ...common });
    }
  }

  /** Whether the peer still speaks HTTP/2, so that it or a proxy has answered; undefined if that is unknown. */
  get open(): boolean | undefined {
    return this.#session && ["open", "idle", "verifying"].includes(this.#session.state());
  }

  /** Whether the peer speaks TLS although this connection is in plaintext. */
  async needsTls(): Promise<boolean> {
    if (!this.#plaintext) return false;
    const { host, port } = this.#plaintext;
    const socket = tls.connect({ host, port, rejectUnauthorized: false, timeout: PROBE_MS }); // sends nothing
    socket.on("timeout", () => socket.destroy());
    const answers = [once(socket, "secureConnect").then(() => true), once(socket, "close").then(() => false)];
    return Promise.race(answers)
      .catch(() => false)
      .finally(() => socket.destroy());
  }

  /** Ends all calls. The next call opens another connection. */
  abort(): void {
    this.#session?.abort();
  }
}

/** One connection for calls, and one more for every 80 watches. */
export class Connections {
  readonly calls: Connection;
  readonly #watches: Connection[] = [];
  readonly #open: () => Connection;

  /** Throws TypeError for a malformed address. */
  constructor(endpoint: Endpoint, timing: Timing, interceptor: Interceptor) {
    this.#open = () => new Connection(endpoint, timing, interceptor);
    this.calls = this.#open();
  }

  /** A connection with room for one more watch; decrement its `streams` afterwards. */
  reserve(): Connection {
    let found = this.#watches.find((each) => each.streams < WATCHES_PER_CONNECTION);
    if (!found) this.#watches.push((found = this.#open()));
    found.streams++;
    return found;
  }

  close(): void {
    for (const each of [this.calls, ...this.#watches]) each.abort();
  }
}

// Node 20 has no access to the system's roots: there, set NODE_EXTRA_CA_CERTS or --use-openssl-ca.
function systemRoots(): string[] | undefined {
  const { getCACertificates } = tls as { getCACertificates?: (type: "default" | "system") => string[] };
  return getCACertificates && [...getCACertificates("default"), ...getCACertificates("system")];
}
