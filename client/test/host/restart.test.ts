import assert from "node:assert/strict";
import * as vscode from "vscode";
import { closeAll, findings, open, ready, until } from "./window";

describe("a server that ends", () => {
  after(closeAll);

  it("is another one after Restart Server, with the same findings", async () => {
    const gradsight = await ready();
    const { document } = await open();
    await until(() => findings(document.uri).length === 1, "there is a finding");
    const before = gradsight.pid();
    await vscode.commands.executeCommand("gradsight.restartServer");
    await ready();
    assert.notEqual(gradsight.pid(), before);
    await until(() => findings(document.uri).length === 1, "the finding is back");
  });

  it("is started again when it was killed, and left alone when it is killed again and again", async () => {
    const gradsight = await ready();
    const { document } = await open();
    for (let deaths = 1; deaths <= 4; deaths += 1) {
      const before = gradsight.pid();
      assert.ok(before);
      process.kill(before, "SIGKILL");
      await until(() => gradsight.phase() !== "ready" || gradsight.pid() !== before, "the death is seen");
      await ready();
      assert.notEqual(gradsight.pid(), before);
      await until(() => findings(document.uri).length === 1, "the finding is back");
    }
    process.kill(gradsight.pid() ?? assert.fail("there is no server"), "SIGKILL");
    await until(() => gradsight.phase() === "stopped", "it is given up");
    assert.match(gradsight.status().tooltip, /ended 5 times/);
    assert.deepEqual(findings(document.uri), []);

    await vscode.commands.executeCommand("gradsight.restartServer");
    await ready();
    await until(() => findings(document.uri).length === 1, "the finding is back");
  });
});
