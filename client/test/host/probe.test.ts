import assert from "node:assert/strict";
import * as vscode from "vscode";
import type { Gradsight } from "../../src/extension";
import { closeAll, CUT_LINE, open, ready, set, until } from "./window";

describe("the probe", () => {
  let gradsight: Gradsight;
  const python = process.env["GRADSIGHT_TEST_PYTHON"];

  before(async function () {
    if (!python) return this.skip();
    gradsight = await ready();
    await set("probe.python", python);
  });
  afterEach(async () => {
    await vscode.commands.executeCommand("gradsight.clearResults");
    await closeAll();
  });
  after(() => set("probe.python", undefined));

  const drawn = (editor: vscode.TextEditor): ReturnType<Gradsight["views"]["drawn"]> =>
    gradsight.views.drawn(editor.document.uri);

  async function probed(): Promise<vscode.TextEditor> {
    const editor = await open();
    editor.selection = new vscode.Selection(CUT_LINE, 4, CUT_LINE, 4);
    await vscode.commands.executeCommand("gradsight.probeSelection");
    await until(() => drawn(editor).length > 0, "results are shown");
    return editor;
  }

  it("shows what autograd did, each label with a symbol, and saves nothing", async () => {
    const editor = await probed();
    const cut = drawn(editor).filter((each) => each.line === CUT_LINE);
    assert.ok(
      cut.some((each) => each.state === "cut"),
      JSON.stringify(drawn(editor)),
    );
    for (const each of drawn(editor)) assert.match(each.label, /^[^\w\s]/u);
    assert.equal(
      drawn(editor).some((each) => each.stale),
      false,
    );
    assert.equal(gradsight.probePython(), python);
    assert.equal(editor.document.isUntitled, true);
    assert.match(gradsight.status().tooltip, /Device of the last probe: (cpu|cuda|mps)/);
  });

  it("dims them when their text changes, moves them with it, and takes them back with undo", async () => {
    const editor = await probed();
    const before = drawn(editor);
    const change = new vscode.Position(CUT_LINE, 4);
    await editor.edit((edit) => edit.insert(change, "other = "));
    await until(() => drawn(editor).every((each) => each.stale), "the results are stale");
    await vscode.commands.executeCommand("undo");
    await until(() => drawn(editor).every((each) => !each.stale), "the results are fresh again");
    assert.deepEqual(drawn(editor), before);
    await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "# a comment\n\n"));
    await until(() => drawn(editor)[0]?.line === (before[0]?.line ?? 0) + 2, "the results have moved");
    assert.deepEqual(
      drawn(editor).map((each) => [each.line - 2, each.label]),
      before.map((each) => [each.line, each.label]),
    );
  });

  it("runs from a lens, with the same interpreter", async () => {
    const editor = await open();
    let lenses: vscode.CodeLens[] = [];
    for (let tried = 0; tried < 100 && !lenses.length; tried += 1) {
      lenses = await vscode.commands.executeCommand("vscode.executeCodeLensProvider", editor.document.uri, 10);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const command = lenses.find((each) => each.command?.command === "gradsight.runProbe")?.command;
    assert.ok(command, JSON.stringify(lenses));
    await vscode.commands.executeCommand(command.command, ...(command.arguments ?? []));
    await until(() => drawn(editor).length > 0, "results are shown");
    assert.equal(gradsight.probePython(), python);
  });

  it("clears by command", async () => {
    const editor = await probed();
    await vscode.commands.executeCommand("gradsight.clearResults");
    await until(() => drawn(editor).length === 0, "nothing is shown");
  });

  it("says what went wrong, and the next one works", async () => {
    await set("probe.python", "/nowhere/python");
    const editor = await open();
    assert.equal(await vscode.commands.executeCommand("gradsight.probeSelection"), null);
    assert.deepEqual(drawn(editor), []);
    await set("probe.python", python);
    await vscode.commands.executeCommand("gradsight.probeSelection");
    await until(() => drawn(editor).length > 0, "results are shown");
  });
});
