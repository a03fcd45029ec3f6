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

const BUSY: readonly Status["probe"][] = ["starting", "running"];

/**
 * The label. `waits`: something is open that has no findings yet, so that the server's "starting" is meant; without
 * that it has nothing to start with. `notes`: why there is no server, or what is missing for fixes.
 */
export function label(phase: Phase, status: Status | null, waits: boolean, notes: readonly string[]): Label {
  if (phase === "off" || phase === "stopped") {
    const first = phase === "off" ? "Gradsight is not running." : "Gradsight's server has stopped.";
    return { text: "Gradsight $(warning)", tooltip: [first, ...notes].join("\n"), warns: true };
  }
  const starting = phase === "starting" || (waits && status?.phase === "starting");
  const spins = starting || (status !== null && BUSY.includes(status.probe));
  const said = status?.phase === "ready" && status.message ? status.message : "Gradsight is ready";
  const device = status?.device ?? null;
  return {
    text: `Gradsight${device ? ` ${device}` : ""}${spins ? " $(sync~spin)" : notes.length ? " $(info)" : ""}`,
    tooltip: [
      starting ? "Gradsight is starting" : said,
      ...(device ? [`Device of the last probe: ${device}`] : []),
      ...notes,
      "Click for the output",
    ].join("\n"),
    warns: false,
  };
}
