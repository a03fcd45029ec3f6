// "Run Probe": from the editor or a lens to the server, with progress and cancel.
//
// Invariants: nothing is asked of the server, and no interpreter is looked for, in a workspace that is not trusted;
// nothing is saved, the server has the text as it stands in the editor.

import * as vscode from "vscode";
import { ExecuteCommandRequest, WorkDoneProgress } from "vscode-languageserver-protocol";
import type { LanguageClient } from "vscode-languageclient/node";
import * as messages from "./messages";
import { chosenInterpreter, probePython, THIS_MACHINE, type PythonExtension } from "./python";
import { text } from "./settings";

// A warm probe answers sooner than this: it needs no notification that comes and goes.
const PATIENCE = 500;
const PYTHON_EXTENSION = "ms-python.python";

export class Probing {
  /** The interpreter that went with the last request; undefined before the first. */
  python: string | null | undefined;

  private runs = 0;

  /** What is selected: text; a cursor, which means the function around it; a notebook's cell. Null: no Python. */
  selected(): messages.RunProbe | null {
    const { activeTextEditor: editor, activeNotebookEditor: notebook } = vscode.window;
    const document =
      notebook && !notebook.selection.isEmpty
        ? notebook.notebook.cellAt(notebook.selection.start).document
        : editor?.document;
    if (document?.languageId !== "python") return null;
    // A cell that is selected from outside has no cursor: all of it is meant.
    const whole = new vscode.Range(0, 0, document.lineCount, 0);
    return toRunProbe(document, editor?.document === document ? editor.selection : whole);
  }

  /** Runs a probe. The rows come by notification; here the user is told what went wrong. */
  async run(client: LanguageClient, asked: messages.RunProbe): Promise<messages.ProbeView | null> {
    const view = await this.ask<messages.ProbeView>(client, messages.RUN_PROBE, asked);
    const error = view?.error;
    // Where its line has a label, that says it already.
    if (view && error && !view.rows.some((row) => row.range.start.line === error.row)) {
      const line = error.row === null ? "" : ` (line ${error.row + 1})`;
      void vscode.window.showWarningMessage(`Gradsight: ${error.message}${line}`);
    }
    return view;
  }

  /** Makes a fix between two probes, and tells the user what both saw. */
  async fix(client: LanguageClient, asked: messages.FixAndProbe): Promise<messages.FixProbed | null> {
    const done = await this.ask<messages.FixProbed>(client, messages.FIX_AND_PROBE, asked);
    if (done?.applied) void vscode.window.showInformationMessage(`Gradsight: ${done.summary}`);
    else if (done) void vscode.window.showWarningMessage(`Gradsight: ${done.summary}`);
    return done;
  }

  /** What the server answers to a command that runs the user's program; null where the user was told why not. */
  private async ask<Answer>(
    client: LanguageClient,
    command: string,
    asked: messages.RunProbe | messages.FixAndProbe,
  ): Promise<Answer | null> {
    if (!vscode.workspace.isTrusted) {
      void refuse();
      return null;
    }
    const uri = vscode.Uri.parse(asked.uri);
    this.python = asked.python ?? (await this.interpreter(uri));
    const cancel = new vscode.CancellationTokenSource();
    try {
      return (await this.request(client, command, { ...asked, python: this.python }, cancel)) as Answer;
    } catch (error) {
      if (!cancel.token.isCancellationRequested) {
        void vscode.window.showErrorMessage(`Gradsight: ${error instanceof Error ? error.message : String(error)}`);
      }
      return null;
    } finally {
      cancel.dispose();
    }
  }

  private async request(
    client: LanguageClient,
    command: string,
    argument: messages.RunProbe | messages.FixAndProbe,
    cancel: vscode.CancellationTokenSource,
  ): Promise<unknown> {
    const workDoneToken = `gradsight/probe/${++this.runs}`;
    let said = "";
    let report: (message: string) => void = () => undefined;
    const progress = client.onProgress(WorkDoneProgress.type, workDoneToken, (value) => {
      said = value.message ?? said;
      report(said);
    });
    const answer = client.sendRequest(
      ExecuteCommandRequest.type,
      { command, arguments: [argument], workDoneToken },
      cancel.token,
    );
    const patience = setTimeout(() => {
      void vscode.window.withProgress(
        { location: vscode.ProgressLocation.Notification, title: "Gradsight probe", cancellable: true },
        async (notification, token) => {
          token.onCancellationRequested(() => cancel.cancel());
          report = (message) => notification.report({ message });
          report(said);
          await answer.catch(() => undefined);
        },
      );
    }, PATIENCE);
    try {
      return await answer;
    } finally {
      clearTimeout(patience);
      progress.dispose();
    }
  }

  private interpreter(uri: vscode.Uri): Promise<string | null> {
    const section = vscode.workspace.getConfiguration("gradsight", uri);
    const folder = vscode.workspace.getWorkspaceFolder(uri) ?? vscode.workspace.workspaceFolders?.[0];
    const folders = folder ? [folder.uri.fsPath] : [];
    return probePython(text(section, "probe.python"), folders, THIS_MACHINE, () =>
      chosenInterpreter(vscode.extensions.getExtension<PythonExtension>(PYTHON_EXTENSION), uri),
    );
  }
}

function toRunProbe(document: vscode.TextDocument, selection: vscode.Range): messages.RunProbe {
  const { start, end } = document.validateRange(selection);
  const range = {
    start: { line: start.line, character: start.character },
    end: { line: end.line, character: end.character },
  };
  return { uri: document.uri.toString(), range, call: null, python: null, check: null };
}

/** What the user sees instead of a probe where the workspace is not trusted. */
async function refuse(): Promise<void> {
  const why = "Gradsight runs no code of a workspace that is not trusted.";
  const manage = "Manage Workspace Trust";
  if ((await vscode.window.showWarningMessage(why, manage)) === manage) {
    await vscode.commands.executeCommand("workbench.trust.manage");
  }
}
