import assert from "node:assert/strict";
import * as vscode from "vscode";
import { codesAt } from "../../src/explain";
import { closeAll, CUT_LINE, findings, open, ready, until } from "./window";

describe("Explain Finding", () => {
  afterEach(closeAll);

  const tabs = (): string[] => vscode.window.tabGroups.all.flatMap((group) => group.tabs.map((tab) => tab.label));

  it("opens the page of the finding at the cursor", async () => {
    await ready();
    const editor = await open();
    await until(() => findings(editor.document.uri).length === 1, "there is a finding");
    editor.selection = new vscode.Selection(CUT_LINE, 20, CUT_LINE, 20);
    await vscode.commands.executeCommand("gradsight.explainFinding");
    await until(() => tabs().some((each) => each.includes("GS102.md")), `the page is open: ${tabs().join(", ")}`);
  });

  it("opens the page that it is asked for", async () => {
    await vscode.commands.executeCommand("gradsight.explainFinding", "GS301");
    await until(() => tabs().some((each) => each.includes("GS301.md")), `the page is open: ${tabs().join(", ")}`);
  });

  it("prefers what holds the cursor to what is only on its line, and takes no other tool's codes", () => {
    const diagnostic = (code: NonNullable<vscode.Diagnostic["code"]>, from: number, to: number): vscode.Diagnostic => {
      const made = new vscode.Diagnostic(new vscode.Range(3, from, 3, to), "message");
      made.code = code;
      return made;
    };
    const all = [
      diagnostic({ value: "GS101", target: vscode.Uri.file("/page") }, 0, 5),
      diagnostic("GS102", 8, 12),
      diagnostic("E501", 0, 99),
    ];
    assert.deepEqual(codesAt(all, new vscode.Position(3, 9)), ["GS102"]);
    assert.deepEqual(codesAt(all, new vscode.Position(3, 2)), ["GS101"]);
    assert.deepEqual(codesAt(all, new vscode.Position(3, 7)), ["GS101", "GS102"]);
    assert.deepEqual(codesAt(all, new vscode.Position(4, 0)), []);
  });
});
