// The messages that are Gradsight's own: what the language protocol has no words for.
//
// The mirror of server/gradsight_server/messages.py, in its order. A test compares the two field by field.

/** Server command: run what is selected. One argument, a `RunProbe`; answers with a `ProbeView`. */
export const RUN_PROBE = "gradsight.runProbe";
/** Server command: forget results. One argument, a `ClearProbe`. */
export const CLEAR_PROBE = "gradsight.clearProbe";
/** Server command: probe, fix, probe again. One argument, a `FixAndProbe`; answers with a `FixProbed`. */
export const FIX_AND_PROBE = "gradsight.fixAndProbe";
/** Server to client: what one document (of a notebook: one cell) shows of a probe now, a `ProbeView`. */
export const PROBE = "gradsight/probe";
/** Server to client: how far the server and its probe are, a `Status`. */
export const STATUS = "gradsight/status";
/** Client to server: whether the workspace is trusted has changed, a `Trusted`. */
export const TRUSTED = "gradsight/trusted";

export const STATES = ["live", "zero", "nonfinite", "cut", "cut-upstream", "constant", "none"] as const;
/** What autograd did to a value. The words for it are the server's: `ProbeRow.label`. */
export type State = (typeof STATES)[number];

export interface Position {
  readonly line: number;
  readonly character: number;
}

export interface Range {
  readonly start: Position;
  readonly end: Position;
}

export interface InitializationOptions {
  readonly decorations: boolean;
  readonly trusted: boolean;
  readonly settings: unknown;
}

export interface Trusted {
  readonly trusted: boolean;
}

/** An empty range is a cursor: the server takes the function that it stands in. */
export interface RunProbe {
  readonly uri: string;
  readonly range: Range | null;
  readonly call: string | null;
  readonly python: string | null;
  readonly check: string | null;
}

export interface ClearProbe {
  readonly uri: string | null;
}

/** Without `token` and `offer`: the best fix of what was found at `range`. */
export interface FixAndProbe {
  readonly uri: string;
  readonly token: string | null;
  readonly offer: string | null;
  readonly version: number | null;
  readonly range: Range | null;
  readonly python: string | null;
}

export interface GradientChange {
  readonly name: string;
  readonly before: string;
  readonly after: string;
}

export interface FixProbed {
  readonly uri: string;
  readonly applied: boolean;
  readonly summary: string;
  readonly restored: readonly GradientChange[];
  readonly lost: readonly GradientChange[];
}

export interface ProbeRow {
  readonly range: Range;
  readonly label: string;
  readonly state: State;
  readonly tooltip: string;
}

export interface ProbeParameter {
  readonly name: string;
  readonly gradient: string | null;
  readonly norm: number | null;
}

export interface ProbeError {
  readonly message: string;
  readonly row: number | null;
}

export interface ProbeView {
  readonly uri: string;
  readonly version: number | null;
  readonly stale: boolean;
  readonly device: string | null;
  readonly torch: string | null;
  readonly summary: string;
  readonly error: ProbeError | null;
  readonly rows: readonly ProbeRow[];
  readonly parameters: readonly ProbeParameter[];
}

export interface Status {
  readonly phase: "starting" | "ready";
  readonly probe: "none" | "starting" | "running" | "warming" | "ready";
  readonly device: string | null;
  readonly message: string;
}
