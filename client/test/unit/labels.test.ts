import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../../src/messages";
import { toServerSettings, type Section } from "../../src/settings";
import { label } from "../../src/status";

const status = (over: Partial<Status>): Status => ({ phase: "ready", probe: "none", device: null, message: "", ...over });

test("the status bar begins with the name and says ready only when it is", () => {
  for (const phase of ["off", "starting", "ready", "stopped"] as const)
    assert.ok(label(phase, null, []).text.startsWith("Gradsight"));
  assert.match(label("ready", null, []).tooltip, /ready/);
  assert.match(label("ready", status({}), []).tooltip, /ready/);
  for (const other of [label("starting", null, []), label("ready", status({ phase: "starting" }), []), label("off", null, []), label("stopped", null, [])])
    assert.doesNotMatch(other.tooltip, /ready/);
});

test("device, message and notes are shown", () => {
  const shown = label("ready", status({ device: "cuda:0", probe: "ready", message: "3 of 4 get a gradient" }), ["Fixes need libcst."]);
  assert.equal(shown.text, "Gradsight cuda:0 $(info)");
  for (const words of ["warm process waits", "Device: cuda:0", "3 of 4 get a gradient", "Fixes need libcst."])
    assert.ok(shown.tooltip.includes(words), words);
  assert.equal(shown.warns, false);
  assert.equal(label("stopped", null, ["Why."]).warns, true);
  assert.ok(label("stopped", null, ["Why."]).tooltip.includes("Why."));
});

test("it turns while a probe runs, and not while the next one warms up", () => {
  assert.match(label("ready", status({ probe: "running" }), []).text, /spin/);
  assert.doesNotMatch(label("ready", status({ probe: "warming" }), []).text, /spin/);
});

function section(values: Record<string, unknown>, set: readonly string[]): Section {
  return {
    get: <T>(key: string) => values[key] as T | undefined,
    inspect: (key) => (set.includes(key) ? { defaultValue: [], workspaceValue: values[key] } : { defaultValue: values[key] }),
  };
}

test("project settings are null unless the user set them, so that pyproject.toml's stand", () => {
  const values = { select: [], ignore: ["GS3"], severity: {}, "server.python": "", "probe.python": "/p", "probe.timeout": 5 };
  const sent = toServerSettings(section(values, ["ignore"]));
  assert.deepEqual([sent.select, sent.ignore, sent.severity], [null, ["GS3"], null]);
  assert.equal(sent.server.python, null);
  assert.equal(sent.probe.python, "/p");
  assert.equal(sent.probe.timeout, 5);
  assert.deepEqual(toServerSettings(section({ select: [] }, ["select"])).select, []);
});

test("a malformed setting reaches the server as it was written", () => {
  assert.equal(toServerSettings(section({ select: "GS1" }, ["select"])).select as unknown, "GS1");
  assert.equal(toServerSettings(section({ "probe.timeout": "long" }, [])).probe.timeout as unknown, "long");
});
