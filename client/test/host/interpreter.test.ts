import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";
import { ready, set, until } from "./window";

describe("the server's interpreter", () => {
  afterEach(async () => {
    await set("server.python", undefined);
    await ready();
  });

  it("is a python3 from outside of the opened folder", async () => {
    const gradsight = await ready();
    const choice = gradsight.choice();
    assert.equal(choice?.kind, "found");
    const folders = vscode.workspace.workspaceFolders ?? [];
    for (const folder of folders)
      assert.ok(choice?.kind === "found" && !choice.answer.executable.startsWith(folder.uri.fsPath + path.sep));
  });

  it("is never one in the opened folder, also where a setting names it", async function () {
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    if (!folder || process.platform === "win32") return this.skip();
    const gradsight = await ready();
    const trap = path.join(folder, "trap-python");
    const sprung = path.join(folder, "sprung");
    fs.writeFileSync(trap, `#!/bin/sh\ntouch '${sprung}'\nexec python3 "$@"\n`, { mode: 0o755 });
    try {
      await set("server.python", trap);
      await until(() => gradsight.choice()?.kind === "in-workspace", "it is refused");
      await until(() => gradsight.phase() === "off", "there is no server");
      assert.match(gradsight.status().tooltip, /does not run on .*trap-python/);
      assert.equal(gradsight.status().warns, true);
      assert.equal(fs.existsSync(sprung), false, "it was run");
    } finally {
      fs.rmSync(trap);
    }
  });

  it("that is not there is a sentence, and the next one works", async () => {
    const gradsight = await ready();
    await set("server.python", "/nowhere/python3");
    await until(() => gradsight.choice()?.kind === "missing", "it is missing");
    await until(() => /cannot find \/nowhere\/python3/.test(gradsight.status().tooltip), "the status bar says so");
  });
});
