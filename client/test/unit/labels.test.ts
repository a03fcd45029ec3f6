import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../../src/messages";
import { toServerSettings, type Section } from "../../src/settings";
import { label } from "../../src/status";

const status = (over: Partial<Status>): Status => ({
  phase: "ready",
  probe: "none",
  device: null,
  message: "",
  ...over,
});

test("the status bar begins with the name and says ready only when it is", () => {
  for (const phase of ["off", "starting", "ready", "stopped"] as const)
    assert.ok(label(phase, null, true, []).text.startsWith("Gradsight"));
  assert.match(label("ready", null, true, []).tooltip, /ready/);
  assert.match(label("ready", status({}), true, []).tooltip, /ready/);
  const starting = status({ phase: "starting" });
  for (const other of [
    label("starting", null, false, []),
    label("ready", starting, true, []),
    label("off", null, true, []),
    label("stopped", null, true, []),
  ])
    assert.doesNotMatch(other.tooltip, /ready/);
  // Without a document it would never be.
  assert.match(label("ready", starting, false, []).tooltip, /ready/);
});

test("the server's words, device and notes are shown", () => {
  const shown = label(
    "ready",
    status({ device: "cuda:0", message: "Gradsight is ready, and so is the next probe" }),
    true,
    ["Fixes need libcst."],
  );
  assert.equal(shown.text, "Gradsight cuda:0 $(info)");
  for (const words of ["ready, and so is the next probe", "cuda:0", "Fixes need libcst."])
    assert.ok(shown.tooltip.includes(words), words);
  assert.equal(shown.warns, false);
  assert.equal(label("stopped", null, true, ["Why."]).warns, true);
  assert.ok(label("stopped", null, true, ["Why."]).tooltip.includes("Why."));
});

test("it turns while a probe runs, and not while the next one warms up", () => {
  assert.match(label("ready", status({ probe: "running" }), true, []).text, /spin/);
  assert.doesNotMatch(label("ready", status({ probe: "warming" }), true, []).text, /spin/);
});

function section(values: Record<string, unknown>, set: readonly string[]): Section {
  return {
    get: <T>(key: string) => values[key] as T | undefined,
    inspect: (key) =>
      set.includes(key) ? { defaultValue: [], workspaceValue: values[key] } : { defaultValue: values[key] },
  };
}

test("project settings are null unless the user set them, so that pyproject.toml's stand", () => {
  const values = {
    select: [],
    ignore: ["GS3"],
    severity: {},
    "server.python": "",
    "probe.python": "/p",
    "probe.timeout": 5,
  };
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
