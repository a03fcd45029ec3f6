import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { test } from "node:test";
import { ask, THIS_MACHINE } from "../../src/python";

// Real processes. The tests run in client/.
const START = path.resolve("bundled/start.py");
const storage = fs.mkdtempSync(path.join(os.tmpdir(), "gradsight-"));
process.on("exit", () => fs.rmSync(storage, { recursive: true, force: true }));

function script(name: string, text: string): string {
  const file = path.join(storage, name);
  fs.writeFileSync(file, text, { mode: 0o755 });
  return file;
}

test("a real Python says who it is", { skip: process.platform === "win32" && "needs python3 on PATH" }, async () => {
  const answer = await ask({ command: "python3", args: [] }, START, storage);
  assert.equal(answer.version[0], 3);
  assert.ok(path.isAbsolute(answer.executable));
});

test("one that is too old says its version, whatever start.py is written in", async () => {
  // As Python 3.6 does: it reads the question, and cannot parse the answerer.
  const old = script("old", `#!/bin/sh\necho '{"version": [3, 6]}'\n`);
  const answer = await ask({ command: old, args: [] }, START, storage);
  assert.deepEqual(answer.version, [3, 6]);
});

test("what is no Python is told apart, with its own words", async () => {
  const grumpy = script("grumpy", "#!/bin/sh\necho 'no such option: -I' >&2\nexit 2\n");
  await assert.rejects(ask({ command: grumpy, args: [] }, START, storage), /it says “no such option: -I”/);
  await assert.rejects(ask({ command: path.join(storage, "gone"), args: [] }, START, storage), /ENOENT/);
  const chatty = script("chatty", "#!/bin/sh\necho hello\n");
  await assert.rejects(ask({ command: chatty, args: [] }, START, storage), /no Python 3/);
});

test("it is not started in the folder that it is called from", async () => {
  const where = script("where", `#!/bin/sh\nprintf '{"version": [3, 6], "executable": "%s"}' "$PWD"\n`);
  const answer = await ask({ command: where, args: [] }, START, storage);
  assert.equal(answer.executable, path.dirname(START));
});

test("only what can be run counts", () => {
  const file = path.join(storage, "data");
  fs.writeFileSync(file, "", { mode: 0o644 });
  assert.equal(THIS_MACHINE.runs(file), process.platform === "win32");
  assert.equal(THIS_MACHINE.runs(storage), false);
  assert.equal(THIS_MACHINE.runs(path.join(storage, "none")), false);
  assert.equal(THIS_MACHINE.realpath(path.join(storage, "none")), null);
});
