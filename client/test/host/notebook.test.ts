import assert from "node:assert/strict";
import * as vscode from "vscode";
import { closeAll, findings, ready, set, until } from "./window";

const CELLS = [
  "%matplotlib inline\nimport torch\nfrom torch import nn\nmodel = nn.Linear(4, 1)",
  "prediction = model(torch.randn(8, 4)).detach()\nloss = (prediction - 1).pow(2).mean() + model.bias.sum()",
  "!pip list\nloss.backward()",
];

async function openNotebook(): Promise<vscode.NotebookEditor> {
  const cells = CELLS.map((text) => new vscode.NotebookCellData(vscode.NotebookCellKind.Code, text, "python"));
  const document = await vscode.workspace.openNotebookDocument("jupyter-notebook", new vscode.NotebookData(cells));
  return vscode.window.showNotebookDocument(document);
}

describe("a notebook", () => {
  afterEach(closeAll);

  it("is one program, cell after cell, with its findings in their cells", async () => {
    await ready();
    const { notebook } = await openNotebook();
    const [first, second, third] = notebook.getCells().map((cell) => cell.document);
    assert.ok(first && second && third);
    await until(() => findings(second.uri).length > 0, "there is a finding in the second cell");
    assert.equal(second.getText(findings(second.uri)[0]?.range), "model(torch.randn(8, 4)).detach()");
    // Neither magic nor shell lines are.
    assert.deepEqual(
      [...findings(first.uri), ...findings(third.uri)].map((each) => each.message),
      [],
    );
  });

  it("is probed with the cells before it", async function () {
    const python = process.env["GRADSIGHT_TEST_PYTHON"];
    if (!python) return this.skip();
    const gradsight = await ready();
    await set("probe.python", python);
    const editor = await openNotebook();
    const [, second, third] = editor.notebook.getCells();
    assert.ok(second && third);
    editor.selection = new vscode.NotebookRange(2, 3);
    const view = await vscode.commands.executeCommand("gradsight.probeSelection");
    assert.ok(view, "there was no answer");
    await until(
      () => gradsight.views.drawn(second.document.uri).length > 0,
      `results are shown in the second cell, as of ${JSON.stringify(view)}`,
    );
    assert.ok(gradsight.views.drawn(second.document.uri).some((each) => each.line === 0 && each.state === "cut"));
    await vscode.commands.executeCommand("gradsight.clearResults");
    await until(() => !gradsight.views.drawn(second.document.uri).length, "nothing is shown");
    await set("probe.python", undefined);
  });
});
