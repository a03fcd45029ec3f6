// Draws what a probe found beside the lines.
//
// Invariants: all words come from the server; colour never says anything alone, every label begins with a symbol
// and what is stale is slanted as well as dim.

import * as vscode from "vscode";
import { STATES, type ProbeView, type State } from "./messages";
import { Changes, moved, type Change } from "./moving";

/** One label as it is drawn. */
export interface Drawn {
  readonly line: number;
  readonly label: string;
  readonly state: State;
  readonly stale: boolean;
}

interface Shown {
  readonly view: ProbeView;
  /** Where each row of the view is now. */
  places: vscode.Position[];
}

const COLOURS: Record<State | "stale", string> = {
  live: "gradsight.live",
  zero: "gradsight.zero",
  nonfinite: "gradsight.nonfinite",
  cut: "gradsight.cut",
  "cut-upstream": "gradsight.cutUpstream",
  constant: "gradsight.constant",
  none: "gradsight.none",
  stale: "gradsight.stale",
};
// What is as it should be needs no mark in the overview ruler.
const MARKED: readonly State[] = ["zero", "nonfinite", "cut", "cut-upstream", "none"];

export class ProbeViews implements vscode.Disposable {
  private readonly types = new Map<State | "stale", vscode.TextEditorDecorationType>();
  private readonly shown = new Map<string, Shown>();
  private readonly changes = new Map<string, Changes>();
  private readonly listeners: vscode.Disposable[];

  constructor() {
    for (const state of [...STATES, "stale"] as const) {
      const color = new vscode.ThemeColor(COLOURS[state]);
      const type: vscode.DecorationRenderOptions = {
        rangeBehavior: vscode.DecorationRangeBehavior.ClosedOpen,
        after: {
          color,
          margin: "0 0 0 2em",
          ...(state === "stale" ? { fontStyle: "italic" } : {}),
        },
      };
      if (state !== "stale" && MARKED.includes(state)) {
        type.overviewRulerColor = color;
        type.overviewRulerLane = vscode.OverviewRulerLane.Right;
      }
      this.types.set(state, vscode.window.createTextEditorDecorationType(type));
    }
    this.listeners = [
      vscode.workspace.onDidChangeTextDocument((event) => this.edited(event)),
      vscode.workspace.onDidCloseTextDocument((document) => this.changes.delete(document.uri.toString())),
      vscode.window.onDidChangeVisibleTextEditors((editors) => editors.forEach((editor) => this.draw(editor))),
    ];
  }

  /** Draws a view in place of the document's last one; one without rows clears it. */
  show(view: ProbeView): void {
    // The editor writes some URIs otherwise than the server does.
    const key = vscode.Uri.parse(view.uri).toString();
    if (view.rows.length) {
      const since = view.version === null ? [] : (this.changes.get(key)?.since(view.version) ?? []);
      const starts = view.rows.map((row) => new vscode.Position(row.range.start.line, row.range.start.character));
      this.shown.set(key, { view, places: starts.map((place) => after(place, since)) });
    } else {
      this.shown.delete(key);
    }
    this.redraw(key);
    this.tell();
  }

  /** Clears everything, as when the server is gone. */
  clear(): void {
    const keys = [...this.shown.keys()];
    this.shown.clear();
    keys.forEach((key) => this.redraw(key));
    this.tell();
  }

  /** What a document shows now, in the order of its lines. */
  drawn(uri: vscode.Uri): readonly Drawn[] {
    const shown = this.shown.get(uri.toString());
    if (!shown) return [];
    const stale = shown.view.stale;
    return shown.view.rows
      .map((row, index) => ({
        line: shown.places[index]?.line ?? row.range.start.line,
        label: row.label,
        state: row.state,
        stale,
      }))
      .sort((one, other) => one.line - other.line);
  }

  dispose(): void {
    this.listeners.forEach((each) => each.dispose());
    this.types.forEach((type) => type.dispose());
  }

  private edited(event: vscode.TextDocumentChangeEvent): void {
    if (!event.contentChanges.length || event.document.languageId !== "python") return;
    const key = event.document.uri.toString();
    const changes = event.contentChanges.map(({ range, text }) => ({ start: range.start, end: range.end, text }));
    let kept = this.changes.get(key);
    if (!kept) this.changes.set(key, (kept = new Changes()));
    kept.add(event.document.version, changes);
    const shown = this.shown.get(key);
    if (!shown) return;
    shown.places = shown.places.map((place) => after(place, changes));
    this.redraw(key);
  }

  private redraw(key: string): void {
    for (const editor of vscode.window.visibleTextEditors) {
      if (editor.document.uri.toString() === key) this.draw(editor);
    }
  }

  private draw(editor: vscode.TextEditor): void {
    const { document } = editor;
    const shown = this.shown.get(document.uri.toString());
    const options = new Map<State | "stale", vscode.DecorationOptions[]>();
    shown?.view.rows.forEach((row, index) => {
      const place = shown.places[index];
      if (place === undefined || place.line >= document.lineCount) return;
      const end = document.lineAt(place.line).range.end;
      const kind = shown.view.stale ? "stale" : row.state;
      const known = options.get(kind) ?? [];
      known.push({
        range: new vscode.Range(new vscode.Position(place.line, Math.min(place.character, end.character)), end),
        hoverMessage: new vscode.MarkdownString(row.tooltip),
        renderOptions: { after: { contentText: row.label } },
      });
      options.set(kind, known);
    });
    this.types.forEach((type, kind) => editor.setDecorations(type, options.get(kind) ?? []));
  }

  private tell(): void {
    void vscode.commands.executeCommand("setContext", "gradsight.hasProbeResults", this.shown.size > 0);
  }
}

function after(place: vscode.Position, changes: readonly Change[]): vscode.Position {
  const now = changes.reduce<{ line: number; character: number }>(moved, place);
  return new vscode.Position(now.line, now.character);
}
