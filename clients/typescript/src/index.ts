/** Cancels and watches updates of EKS clusters through an eksgateway. */
export { Code, ConnectError } from "@connectrpc/connect";

export type { CancelOptions, Client, ClientOptions, UpdateOptions, WatchEvent, WatchOptions } from "./client.js";
export { createClient } from "./client.js";
export type { Reason } from "./errors.js";
export { GatewayError } from "./errors.js";
export * from "./gen/eksgateway/v1/cancellation_pb.js";
export * from "./gen/eksgateway/v1/cancellation_service_pb.js";
export * from "./gen/eksgateway/v1/error_reason_pb.js";
export * from "./gen/eksgateway/v1/update_pb.js";
export * from "./gen/eksgateway/v1/update_service_pb.js";
export type { Timing, TokenSource } from "./retries.js";
export type { State } from "./state.js";
