// Where a place is after the text was edited. A view of the server speaks of one version of the text; by the time
// it arrives the editor may show a later one.

import type { Position } from "./messages";

export interface Change {
  readonly start: Position;
  readonly end: Position;
  readonly text: string;
}

/** The place in the text after the change. What was inside of the replaced text is where that began. */
export function moved(place: Position, change: Change): Position {
  if (before(place, change.start)) return place;
  if (before(place, change.end)) return change.start;
  const lines = change.text.split(/\r\n|\r|\n/);
  const last = lines.at(-1) ?? "";
  const line = place.line + lines.length - 1 - (change.end.line - change.start.line);
  if (place.line !== change.end.line) return { line, character: place.character };
  const origin = lines.length === 1 ? change.start.character : 0;
  return { line, character: origin + last.length + place.character - change.end.character };
}

function before(one: Position, other: Position): boolean {
  return one.line < other.line || (one.line === other.line && one.character < other.character);
}

/** The last changes of a document, by the version that each led to. */
export class Changes {
  private readonly kept: { readonly version: number; readonly changes: readonly Change[] }[] = [];
  private oldest: number | null = null;

  constructor(private readonly bound = 200) {}

  /** Notes what led to `version`, in the order in which the editor says it. */
  add(version: number, changes: readonly Change[]): void {
    this.oldest ??= version - 1;
    this.kept.push({ version, changes });
    if (this.kept.length > this.bound) this.oldest = this.kept.shift()?.version ?? this.oldest;
  }

  /** What came after `version`, or null where that is not known any more. */
  since(version: number): readonly Change[] | null {
    if (this.oldest === null) return [];
    if (version < this.oldest) return null;
    return this.kept.filter((each) => each.version > version).flatMap((each) => each.changes);
  }
}
