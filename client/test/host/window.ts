// What the tests share: the extension, documents, and waiting for a state.

import assert from "node:assert/strict";
import * as vscode from "vscode";
import type { Gradsight } from "../../src/extension";

/** A finding (GS102) and three parameters that learn nothing; runs in a moment. */
export const PROGRAM = `import torch
from torch import nn


def train():
    torch.manual_seed(0)
    encoder, head = nn.Linear(4, 3), nn.Linear(3, 1)
    hidden = encoder(torch.randn(8, 4)).detach()
    loss = head(hidden).pow(2).mean()
    loss.backward()
    return encoder.weight.grad


train()
`;
export const CUT = "encoder(torch.randn(8, 4)).detach()";
export const CUT_LINE = 7;

export async function extension(): Promise<Gradsight> {
  const found = vscode.extensions.getExtension<Gradsight>("gradsight.gradsight");
  assert.ok(found, "the extension is not installed");
  return found.activate();
}

export async function ready(): Promise<Gradsight> {
  const gradsight = await extension();
  await until(() => gradsight.phase() === "ready" && /ready/.test(gradsight.status().tooltip), "the server is ready");
  return gradsight;
}

export async function open(content = PROGRAM): Promise<vscode.TextEditor> {
  const document = await vscode.workspace.openTextDocument({ language: "python", content });
  return vscode.window.showTextDocument(document);
}

export function findings(uri: vscode.Uri): vscode.Diagnostic[] {
  return vscode.languages.getDiagnostics(uri).filter((each) => each.source === "gradsight");
}

export async function until(holds: () => boolean, what: string): Promise<void> {
  const end = Date.now() + 60_000;
  while (!holds()) {
    assert.ok(Date.now() < end, `it never came to be that ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Sets a user setting; undefined takes it back. */
export async function set(key: string, value: unknown): Promise<void> {
  await vscode.workspace.getConfiguration("gradsight").update(key, value, vscode.ConfigurationTarget.Global);
}

export async function closeAll(): Promise<void> {
  // VS Code would ask whether to save them.
  for (const document of vscode.workspace.textDocuments.filter(
    (each) => each.uri.scheme === "untitled" && !each.isClosed,
  )) {
    await vscode.window.showTextDocument(document);
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
  }
  for (const notebook of vscode.workspace.notebookDocuments.filter((each) => each.isUntitled && !each.isClosed)) {
    await vscode.window.showNotebookDocument(notebook);
    await vscode.commands.executeCommand("workbench.action.revertAndCloseActiveEditor");
  }
  await vscode.commands.executeCommand("workbench.action.closeAllEditors");
}
