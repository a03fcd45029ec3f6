// The server's life: chosen, started, watched, started again.
//
// Invariants: one server at a time; one that dies is started again by choosing anew, because its interpreter may be
// what has gone; after `LIMIT` deaths within `WINDOW` nothing is started until the user asks.

import * as path from "node:path";
import * as vscode from "vscode";
import { DidChangeConfigurationNotification } from "vscode-languageserver-protocol";
import { CloseAction, ErrorAction, LanguageClient, type LanguageClientOptions } from "vscode-languageclient/node";
import * as messages from "./messages";
import { ALONE, ask, chooseServer, explain, THIS_MACHINE, type Choice } from "./python";
import { text, toServerSettings } from "./settings";
import type { Phase } from "./status";

const LIMIT = 4;
const WINDOW = 3 * 60 * 1000;

export interface Listener {
  onPhase(phase: Phase, notes: readonly string[]): void;
  onStatus(status: messages.Status): void;
  onView(view: messages.ProbeView): void;
  /** A command of the server was called, as by a code lens. */
  onCommand(command: string, args: unknown[]): Promise<unknown>;
}

export class Server {
  /** What was chosen last, or why nothing was. */
  choice: Choice | null = null;
  phase: Phase = "off";

  private client: LanguageClient | null = null;
  private deaths: number[] = [];
  private queue: Promise<void> = Promise.resolve();
  private ended = false;

  constructor(
    private readonly context: vscode.ExtensionContext,
    private readonly output: vscode.LogOutputChannel,
    private readonly listener: Listener,
  ) {}

  /** Starts it if it does not run; resolves when it serves, or when the user was told why it does not. */
  start(): Promise<void> {
    return this.enqueue(() => this.launch());
  }

  /** A fresh server, on a freshly chosen interpreter. */
  restart(): Promise<void> {
    this.deaths = [];
    return this.enqueue(async () => {
      await this.halt();
      await this.launch();
    });
  }

  stop(): Promise<void> {
    this.ended = true;
    return this.enqueue(() => this.halt());
  }

  /** The client of a server that serves now, or null. */
  get running(): LanguageClient | null {
    return this.phase === "ready" ? this.client : null;
  }

  /** The server's process, while there is one. */
  get pid(): number | undefined {
    return this.client?.serverProcess?.pid;
  }

  async setTrusted(trusted: boolean): Promise<void> {
    await this.running?.sendNotification(messages.TRUSTED, { trusted } satisfies messages.Trusted);
  }

  /** One start, stop or restart after the other. */
  private enqueue(work: () => Promise<void>): Promise<void> {
    this.queue = this.queue.then(work).catch((error: unknown) => {
      this.output.error(String(error));
    });
    return this.queue;
  }

  private async launch(): Promise<void> {
    if (this.client || this.ended) return;
    this.enter("starting");
    const start = vscode.Uri.joinPath(this.context.extensionUri, "bundled", "start.py").fsPath;
    const storage = this.context.globalStorageUri.fsPath;
    await vscode.workspace.fs.createDirectory(this.context.globalStorageUri);
    this.choice = await this.choose(start, storage);
    if (this.choice.kind !== "found") {
      const why = explain(this.choice);
      this.output.error(why);
      this.enter("off", [why]);
      this.tell(why, ["Open Settings", "Restart Server"]);
      return;
    }
    const { interpreter, answer } = this.choice;
    this.output.info(`Server on Python ${answer.version.join(".")}: ${answer.executable}`);
    const client = new LanguageClient(
      "gradsight",
      "Gradsight",
      {
        command: interpreter.command,
        args: [...interpreter.args, ...ALONE, start, "--storage", storage],
        // Not the workspace: version managers and Python itself look around where they are started.
        options: { cwd: path.dirname(start) },
      },
      this.options(() => this.died(client)),
    );
    client.onNotification(messages.STATUS, (status: messages.Status) => this.listener.onStatus(status));
    client.onNotification(messages.PROBE, (view: messages.ProbeView) => this.listener.onView(view));
    this.client = client;
    try {
      await client.start();
    } catch (error) {
      if (this.client === client) {
        this.output.error(String(error));
        this.died(client);
      }
      return;
    }
    if (this.client !== client) return;
    // What was granted while it started, it was not told.
    if (vscode.workspace.isTrusted) await client.sendNotification(messages.TRUSTED, { trusted: true });
    this.enter("ready", answer.fixes ? [`${answer.fixes.reason} ${answer.fixes.command}`] : []);
    if (answer.fixes) void this.offerFixes(answer.fixes, answer.version);
  }

  private async choose(start: string, storage: string): Promise<Choice> {
    const section = vscode.workspace.getConfiguration("gradsight");
    const folders = (vscode.workspace.workspaceFolders ?? [])
      .filter((folder) => folder.uri.scheme === "file")
      .map((folder) => folder.uri.fsPath);
    return chooseServer(text(section, "server.python"), folders, THIS_MACHINE, (interpreter) =>
      ask(interpreter, start, storage),
    );
  }

  private async halt(): Promise<void> {
    const client = this.client;
    this.client = null;
    this.enter("off");
    try {
      await client?.dispose();
    } catch (error) {
      this.output.warn(`The server did not stop by itself: ${String(error)}`);
    }
  }

  private died(client: LanguageClient): void {
    if (this.client !== client) return;
    this.client = null;
    const now = Date.now();
    this.deaths = [...this.deaths.filter((each) => now - each < WINDOW), now];
    // Not now: the client itself is still closing.
    setTimeout(() => void client.dispose().catch(() => undefined), 0);
    if (this.ended) return;
    if (this.deaths.length <= LIMIT) {
      this.output.warn("The server has ended and is started again.");
      this.enter("starting");
      void this.start();
      return;
    }
    const why = `Gradsight's server ended ${this.deaths.length} times within three minutes and is left alone now.`;
    this.output.error(why);
    this.enter("stopped", [why]);
    this.tell(why, ["Restart Server", "Show Output"]);
  }

  private options(onClosed: () => void): LanguageClientOptions {
    const section = (scope?: vscode.Uri | null): vscode.WorkspaceConfiguration =>
      vscode.workspace.getConfiguration("gradsight", scope ?? null);
    return {
      documentSelector: [
        { scheme: "file", language: "python" },
        { scheme: "untitled", language: "python" },
        { notebook: "jupyter-notebook", language: "python" },
      ],
      outputChannel: this.output,
      initializationOptions: {
        decorations: true,
        trusted: vscode.workspace.isTrusted,
        settings: toServerSettings(section()),
      } satisfies messages.InitializationOptions,
      synchronize: { configurationSection: "gradsight" },
      initializationFailedHandler: () => false,
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          onClosed();
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
      middleware: {
        executeCommand: (command, args) => this.listener.onCommand(command, args),
        workspace: {
          configuration: (params) =>
            params.items.map((item) =>
              item.section === "gradsight"
                ? toServerSettings(section(item.scopeUri ? vscode.Uri.parse(item.scopeUri) : null))
                : null,
            ),
          didChangeConfiguration: async () => {
            const settings = { gradsight: toServerSettings(section()) };
            await this.running?.sendNotification(DidChangeConfigurationNotification.type, { settings });
          },
        },
      },
    };
  }

  private enter(phase: Phase, notes: readonly string[] = []): void {
    this.phase = phase;
    this.listener.onPhase(phase, notes);
  }

  private tell(why: string, choices: readonly ("Open Settings" | "Restart Server" | "Show Output")[]): void {
    void vscode.window.showErrorMessage(why, ...choices).then((chosen) => {
      if (chosen === "Open Settings") {
        void vscode.commands.executeCommand("workbench.action.openSettings", "gradsight.server.python");
      } else if (chosen === "Restart Server") {
        void this.restart();
      } else if (chosen === "Show Output") {
        this.output.show(true);
      }
    });
  }

  /** Said once for each Python and each version of the extension: the status bar keeps saying it. */
  private async offerFixes(
    fixes: { readonly reason: string; readonly command: string },
    version: readonly [number, number],
  ): Promise<void> {
    const extension = this.context.extension.packageJSON as { readonly version: string };
    const key = `fixes/${extension.version}/${version.join(".")}`;
    this.output.warn(`${fixes.reason} ${fixes.command}`);
    if (this.context.globalState.get(key)) return;
    await this.context.globalState.update(key, true);
    const chosen = await vscode.window.showWarningMessage(`${fixes.reason} ${fixes.command}`, "Copy Command");
    if (chosen) await vscode.env.clipboard.writeText(fixes.command);
  }
}
