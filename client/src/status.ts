// What the status bar says.

import type { Status } from "./messages";

/** What the client knows without its server. */
export type Phase = "off" | "starting" | "ready" | "stopped";

export interface Label {
  readonly text: string;
  /** Plain text; the first line is also what a screen reader says. */
  readonly tooltip: string;
  readonly warns: boolean;
}

const PROBE: Record<Status["probe"], string> = {
  none: "No probe has run.",
  starting: "A probe is starting.",
  running: "A probe is running.",
  warming: "The next probe's process is warming up.",
  ready: "A warm process waits for the next probe.",
};

const BUSY: readonly Status["probe"][] = ["starting", "running"];

/** The label, and what the tooltip adds: why there is no server, or what is missing for fixes. */
export function label(phase: Phase, status: Status | null, notes: readonly string[]): Label {
  if (phase === "off" || phase === "stopped") {
    const first = phase === "off" ? "Gradsight is not running." : "Gradsight's server has stopped.";
    return { text: "Gradsight $(warning)", tooltip: [first, ...notes].join("\n"), warns: true };
  }
  const starting = phase === "starting" || status?.phase === "starting";
  const device = status?.device ? ` ${status.device}` : "";
  const spins = starting || (status !== null && BUSY.includes(status.probe));
  const probe = status === null || starting ? [] : [PROBE[status.probe]];
  return {
    text: `Gradsight${device}${spins ? " $(sync~spin)" : notes.length ? " $(info)" : ""}`,
    tooltip: [
      starting ? "Gradsight is starting." : "Gradsight is ready.",
      ...probe,
      ...(status?.device ? [`Device: ${status.device}`] : []),
      ...(status?.message ? [status.message] : []),
      ...notes,
      "Click for the output.",
    ].join("\n"),
    warns: false,
  };
}
