import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";

import { UpdateSchema } from "./gen/eksgateway/v1/update_pb.js";
import type { WatchUpdateResponse } from "./gen/eksgateway/v1/update_service_pb.js";
import { WatchKind } from "./gen/eksgateway/v1/update_service_pb.js";

const STATES: readonly WatchKind[] = [WatchKind.SNAPSHOT, WatchKind.CHANGE, WatchKind.FINAL];

/**
 * The latest state of an update. Before the first one `sequence` is 0n, and the age counts from the start.
 *
 * `ageMs` and `stale` are computed when they are read: a state that is kept becomes stale by itself.
 */
export class State {
  #readTime: number;

  /** @internal `readTime` is when EKS was read, by performance.now(). */
  constructor(
    /** The message that brought the state; `resumeToken` is in it. */
    readonly message: WatchUpdateResponse,
    readTime: number,
    readonly maxAgeMs: number,
  ) {
    this.#readTime = readTime;
  }

  get update() {
    return this.message.update ?? create(UpdateSchema);
  }

  /** May be a number that this version has no name for. */
  get phase() {
    return this.message.phase;
  }

  get sequence() {
    return this.message.sequence;
  }

  /** Whether the update has ended. */
  get final(): boolean {
    return this.message.kind === WatchKind.FINAL;
  }

  /** Milliseconds since the gateway read the update from EKS. */
  get ageMs(): number {
    return performance.now() - this.#readTime;
  }

  /** Whether it is older than `maxAgeMs`. */
  get stale(): boolean {
    return this.ageMs >= this.maxAgeMs;
  }

  /** @internal Returns itself, with a new age, if the message repeats the state. */
  apply(message: WatchUpdateResponse): State {
    const age = message.age ? Math.max(0, durationMs(message.age)) : Infinity;
    const readTime = Math.max(performance.now() - age, this.sequence > 0n ? this.#readTime : -Infinity);
    // An unknown kind with the same sequence repeats the state, as a heartbeat does.
    if (STATES.includes(message.kind) || message.sequence !== this.sequence)
      return new State(message, readTime, this.maxAgeMs);
    this.#readTime = readTime;
    return this;
  }
}
