// Durations and times as people read them.

import { make } from "./dom.js";

/** Seconds since the call. Sleep of the machine counts: one of the two clocks may stop for it. */
export function startStopwatch() {
  const monotonic = performance.now();
  const wall = Date.now();
  return () => Math.max(0, performance.now() - monotonic, Date.now() - wall) / 1000;
}

/** For example 5 s, 3 min, 2 h or 4 d. */
export function durationText(seconds) {
  if (seconds >= 2 * 86400) return `${Math.floor(seconds / 86400)} d`;
  if (seconds >= 2 * 3600) return `${Math.floor(seconds / 3600)} h`;
  if (seconds >= 120) return `${Math.floor(seconds / 60)} min`;
  return `${Math.max(0, Math.floor(seconds))} s`;
}

/** Of a google.protobuf.Duration in JSON, such as "1.5s". */
export const parseDuration = (text) => Number.parseFloat(text ?? "0") || 0;

/** The age of a time, by this machine's clock; the time itself is in the tooltip. */
export function ageElement(timestamp, before = "") {
  if (!timestamp) return "";
  const time = make("time", {
    datetime: timestamp,
    title: new Date(timestamp).toLocaleString(),
    "data-before": before,
  });
  showAge(time);
  return time;
}

export function refreshAges(container) {
  for (const time of container.querySelectorAll("time[data-before]")) showAge(time);
}

function showAge(time) {
  const seconds = (Date.now() - Date.parse(time.dateTime)) / 1000;
  const text = `${time.dataset.before}${durationText(seconds)} ago`;
  if (time.textContent !== text) time.textContent = text;
}

export function timeText(timestamp) {
  return timestamp ? new Date(timestamp).toLocaleString() : "";
}

export const clockText = (date) => date.toLocaleTimeString();
