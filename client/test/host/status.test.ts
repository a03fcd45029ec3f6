import assert from "node:assert/strict";
import * as vscode from "vscode";
import { closeAll, CUT, CUT_LINE, findings, open, ready, set, until } from "./window";

describe("the server", () => {
  after(closeAll);

  it("serves findings, and the status bar says that it is ready", async () => {
    const gradsight = await ready();
    assert.ok(gradsight.status().text.startsWith("Gradsight"));
    const { document } = await open();
    await until(() => findings(document.uri).length > 0, "there is a finding");
    const [finding] = findings(document.uri);
    assert.equal(document.getText(finding?.range), CUT);
    assert.equal(finding?.range.start.line, CUT_LINE);
  });

  it("follows settings at once, and knows those that are not set", async () => {
    const { document } = await open();
    await until(() => findings(document.uri).length === 1, "there is a finding");
    await set("ignore", ["GS102"]);
    await until(() => findings(document.uri).length === 0, "the finding is gone");
    await set("ignore", undefined);
    await until(() => findings(document.uri).length === 1, "the finding is back");
    await set("severity", { GS102: "hint" });
    await until(() => findings(document.uri)[0]?.severity === vscode.DiagnosticSeverity.Hint, "it is a hint");
    await set("severity", undefined);
  });

  it("leaves no command twice and none out", async () => {
    const commands = (await vscode.commands.getCommands(true)).filter((each) => each.startsWith("gradsight."));
    for (const each of [
      "probeSelection",
      "clearResults",
      "explainFinding",
      "restartServer",
      "showOutput",
      "runProbe",
      "clearProbe",
    ])
      assert.equal(commands.filter((command) => command === `gradsight.${each}`).length, 1, each);
  });
});
