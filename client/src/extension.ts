// Where VS Code comes in: commands, the status bar, trust, and one server.

import * as vscode from "vscode";
import { ExecuteCommandRequest } from "vscode-languageserver-protocol";
import { explainFinding } from "./explain";
import * as messages from "./messages";
import { Probing } from "./probing";
import { ProbeViews } from "./probeView";
import type { Choice } from "./python";
import { Server } from "./server";
import { label, type Label, type Phase } from "./status";

/** What the tests inside the extension host look at. */
export interface Gradsight {
  readonly phase: () => Phase;
  readonly choice: () => Choice | null;
  /** The server's process. */
  readonly pid: () => number | undefined;
  readonly status: () => Label;
  readonly views: ProbeViews;
  /** The interpreter that went with the last probe; undefined before the first. */
  readonly probePython: () => string | null | undefined;
  readonly run: (asked: messages.RunProbe) => Promise<messages.ProbeView | null>;
}

let server: Server | null = null;

export async function activate(context: vscode.ExtensionContext): Promise<Gradsight> {
  const output = vscode.window.createOutputChannel("Gradsight", { log: true });
  const views = new ProbeViews();
  const probing = new Probing();
  const item = vscode.window.createStatusBarItem("gradsight.status", vscode.StatusBarAlignment.Right, 90);
  item.name = "Gradsight";
  item.command = "gradsight.showOutput";

  let status: messages.Status | null = null;
  let notes: readonly string[] = [];
  let shown: Label = label("off", null, false, []);
  const refresh = (): void => {
    const waits = vscode.workspace.textDocuments.some((each) => each.languageId === "python");
    shown = label(server?.phase ?? "off", status, waits, notes);
    item.text = shown.text;
    item.tooltip = shown.tooltip;
    item.backgroundColor = shown.warns ? new vscode.ThemeColor("statusBarItem.warningBackground") : undefined;
    item.accessibilityInformation = { label: shown.tooltip, role: "button" };
  };

  const run = async (asked: messages.RunProbe): Promise<messages.ProbeView | null> => {
    const client = await serving();
    return client ? probing.run(client, asked) : null;
  };
  const fixAndProbe = async (asked: messages.FixAndProbe): Promise<messages.FixProbed | null> => {
    const client = await serving();
    return client ? probing.fix(client, asked) : null;
  };
  const clear = async (asked: messages.ClearProbe): Promise<void> => {
    const call = { command: messages.CLEAR_PROBE, arguments: [asked] };
    await server?.running?.sendRequest(ExecuteCommandRequest.type, call);
    if (asked.uri === null) views.clear();
  };

  server = new Server(context, output, {
    onPhase: (phase, now) => {
      notes = now;
      if (phase !== "ready") {
        status = null;
        views.clear();
      }
      refresh();
    },
    onStatus: (now) => {
      status = now;
      refresh();
    },
    onView: (view) => views.show(view),
    onCommand: async (command, args) => {
      if (command === messages.RUN_PROBE) return run({ ...NO_PROBE, ...(args[0] as Partial<messages.RunProbe>) });
      if (command === messages.CLEAR_PROBE) return clear({ uri: null, ...(args[0] as Partial<messages.ClearProbe>) });
      if (command === messages.FIX_AND_PROBE) {
        return fixAndProbe({ ...NO_FIX, ...(args[0] as Partial<messages.FixAndProbe>) });
      }
      return server?.running?.sendRequest(ExecuteCommandRequest.type, { command, arguments: args });
    },
  });
  refresh();
  item.show();

  const command = (id: string, act: (...args: unknown[]) => unknown): vscode.Disposable =>
    vscode.commands.registerCommand(id, act);
  context.subscriptions.push(
    output,
    views,
    item,
    command("gradsight.probeSelection", async () => {
      const asked = probing.selected();
      if (asked) return run(asked);
      const what = "select lines of Python, or put the cursor in a function.";
      void vscode.window.showInformationMessage(`To run a probe, ${what}`);
      return null;
    }),
    command("gradsight.fixAndProbeHere", async () => {
      const at = probing.selected();
      if (at) return fixAndProbe({ ...NO_FIX, uri: at.uri, range: at.range });
      void vscode.window.showInformationMessage("To fix and probe, put the cursor on a finding.");
      return null;
    }),
    command("gradsight.clearResults", () => clear({ uri: null })),
    command("gradsight.explainFinding", (asked) => explainFinding(context.extensionUri, asked)),
    command("gradsight.restartServer", () => server?.restart()),
    command("gradsight.showOutput", () => output.show(true)),
    vscode.workspace.onDidOpenTextDocument(refresh),
    vscode.workspace.onDidCloseTextDocument(refresh),
    vscode.workspace.onDidGrantWorkspaceTrust(async () => {
      await server?.setTrusted(true);
      // A setting that was held back may name another interpreter now.
      if (vscode.workspace.getConfiguration("gradsight").get("server.python")) await server?.restart();
    }),
    vscode.workspace.onDidChangeConfiguration(async (event) => {
      if (event.affectsConfiguration("gradsight.server.python")) await server?.restart();
    }),
  );
  // Not awaited: who activates an extension is not kept waiting for a server.
  void server.start();

  return {
    phase: () => server?.phase ?? "off",
    choice: () => server?.choice ?? null,
    pid: () => server?.pid,
    status: () => shown,
    views,
    probePython: () => probing.python,
    run,
  };
}

export async function deactivate(): Promise<void> {
  await server?.stop();
  server = null;
}

const NO_PROBE: messages.RunProbe = { uri: "", range: null, call: null, python: null, check: null };

const NO_FIX: messages.FixAndProbe = {
  uri: "",
  token: null,
  offer: null,
  version: null,
  range: null,
  python: null,
};

/** The client, once the server serves; null where it cannot, which the user was told. */
async function serving(): Promise<Server["running"]> {
  if (server?.phase !== "ready") await server?.start();
  return server?.running ?? null;
}
