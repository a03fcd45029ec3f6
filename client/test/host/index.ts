// What VS Code calls inside the extension host: runs the tests, and fails if one of them fails.
//
// `GRADSIGHT_TEST_PYTHON` names a Python with torch for the probe. Where the window is not trusted, only the tests
// of that run.

import Mocha from "mocha";
import * as vscode from "vscode";

export async function run(): Promise<void> {
  const mocha = new Mocha({ ui: "bdd", color: false, timeout: 90_000, reporter: "spec" });
  mocha.suite.emit("pre-require", globalThis as unknown as Mocha.MochaGlobals, "", mocha);
  if (vscode.workspace.isTrusted) {
    require("./status.test");
    require("./interpreter.test");
    require("./probe.test");
    require("./notebook.test");
    require("./explain.test");
    require("./restart.test");
  } else {
    require("./untrusted.test");
  }
  const failures = await new Promise<number>((resolve) => mocha.run(resolve));
  if (failures) throw new Error(`${failures} of the tests in the extension host failed`);
}
