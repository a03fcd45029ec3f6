import assert from "node:assert/strict";
import { test } from "node:test";
import {
  chooseServer,
  chosenInterpreter,
  expand,
  explain,
  liesWithin,
  probePython,
  serverCandidates,
  type Answer,
  type Interpreter,
  type Machine,
  type PythonExtension,
} from "../../src/python";

/** A machine with these files (each with where it really is) and this PATH. */
function machine(files: Record<string, string>, path: string[], platform: NodeJS.Platform = "linux"): Machine {
  const folders: Record<string, string> = { "/links": "/projects/model" };
  return {
    platform,
    env: { PATH: path.join(platform === "win32" ? ";" : ":"), VENV: "/opt/venv" },
    home: platform === "win32" ? "C:\\Users\\me" : "/users/me",
    realpath: (file) => files[file] ?? folders[file] ?? (file.includes("nothing") ? null : file),
    runs: (file) => file in files,
  };
}

const commands = (found: readonly Interpreter[]): string[] =>
  found.map((each) => [each.command, ...each.args].join(" "));
const same = (...files: string[]): Record<string, string> => Object.fromEntries(files.map((file) => [file, file]));
const answers = (versions: Record<string, [number, number]>, prefix = "/usr") => {
  const asked: string[] = [];
  const ask = (interpreter: Interpreter): Promise<Answer> => {
    asked.push(interpreter.command);
    const version = versions[interpreter.command];
    if (!version) return Promise.reject(new Error("it says “no”."));
    return Promise.resolve({ version, executable: interpreter.command, prefix, fixes: null });
  };
  return { ask, asked };
};

test("PATH gives every python3, in its order", () => {
  const here = machine(same("/opt/bin/python3", "/usr/bin/python3", "/usr/bin/python"), [
    "/opt/bin",
    "/usr/bin",
    "/opt/bin",
  ]);
  assert.deepEqual(commands(serverCandidates("", ["/projects/model"], here).usable), [
    "/opt/bin/python3",
    "/usr/bin/python3",
  ]);
});

test("relative entries of PATH are passed over", () => {
  const here = machine(same("python3", "./python3", "/usr/bin/python3"), [".", "", "bin", "/usr/bin"]);
  assert.deepEqual(commands(serverCandidates("", [], here).usable), ["/usr/bin/python3"]);
});

test("Windows has py -3 first, then python", () => {
  const here = machine(same("C:\\Windows\\py.exe", "C:\\Python\\python.exe"), ["C:\\Python", "C:\\Windows"], "win32");
  assert.deepEqual(commands(serverCandidates("", ["D:\\project"], here).usable), [
    "C:\\Windows\\py.exe -3",
    "C:\\Python\\python.exe",
  ]);
});

test("a python3 inside of an opened folder is refused, also where it links out or is linked in", () => {
  const here = machine(
    {
      "/projects/model/.venv/bin/python3": "/usr/bin/python3.11",
      "/links/.venv/bin/python3": "/usr/bin/python3.11",
      "/opt/in/python3": "/projects/model/evil",
      "/usr/bin/python3": "/usr/bin/python3.11",
    },
    ["/projects/model/.venv/bin", "/opt/in", "/usr/bin"],
  );
  const { usable, refused } = serverCandidates("", ["/projects/model"], here);
  assert.deepEqual(commands(usable), ["/usr/bin/python3"]);
  assert.deepEqual(refused, ["/projects/model/.venv/bin/python3", "/opt/in/python3"]);
  // The folder was opened by way of a link.
  assert.equal(liesWithin("/projects/model/.venv/bin/python3", ["/links"], here), true);
});

test("a folder whose name only begins alike holds nothing of another", () => {
  const here = machine(same("/projects/model-tools/python3", "/projects/..hidden/python3"), []);
  assert.equal(liesWithin("/projects/model-tools/python3", ["/projects/model"], here), false);
  assert.equal(liesWithin("/projects/..hidden/python3", ["/projects"], here), true);
});

test("Windows and macOS do not tell upper from lower case", () => {
  const here = machine({}, [], "win32");
  assert.equal(liesWithin("c:\\Work\\Project\\python.exe", ["C:\\work\\project"], here), true);
  assert.equal(liesWithin("d:\\python.exe", ["C:\\work"], here), false);
});

test("the setting wins over PATH, as a path or a name, and is refused like any other in an opened folder", () => {
  const here = machine(same("/usr/bin/python3", "/usr/bin/python3.12", "/projects/model/bin/python3"), ["/usr/bin"]);
  assert.deepEqual(commands(serverCandidates("/usr/bin/python3.12", [], here).usable), ["/usr/bin/python3.12"]);
  assert.deepEqual(commands(serverCandidates("python3.12", [], here).usable), ["/usr/bin/python3.12"]);
  assert.deepEqual(serverCandidates("${workspaceFolder}/bin/python3", ["/projects/model"], here), {
    usable: [],
    refused: ["/projects/model/bin/python3"],
  });
  // What the setting names and is not there is not replaced in silence.
  assert.deepEqual(serverCandidates("/opt/gone/python3", [], here), { usable: [], refused: [] });
});

test("settings may hold VS Code's variables", () => {
  const here = machine({}, []);
  assert.equal(expand("~/bin/python", [], here), "/users/me/bin/python");
  assert.equal(expand("${userHome}/x", [], here), "/users/me/x");
  assert.equal(expand("${workspaceFolder}/.venv", ["/a", "/b"], here), "/a/.venv");
  assert.equal(expand("${env:VENV}/bin/python", [], here), "/opt/venv/bin/python");
});

test("the first one that is new enough is chosen", async () => {
  const here = machine(same("/old/python3", "/usr/bin/python3"), ["/old", "/usr/bin"]);
  const { ask } = answers({ "/old/python3": [3, 9], "/usr/bin/python3": [3, 10] });
  const choice = await chooseServer("", [], here, ask);
  assert.equal(choice.kind === "found" && choice.interpreter.command, "/usr/bin/python3");
});

test("nothing in an opened folder is even asked for its version", async () => {
  const here = machine(same("/projects/model/bin/python3"), ["/projects/model/bin"]);
  const { ask, asked } = answers({ "/projects/model/bin/python3": [3, 12] });
  const choice = await chooseServer("", ["/projects/model"], here, ask);
  assert.deepEqual(choice, { kind: "in-workspace", named: "/projects/model/bin/python3" });
  assert.deepEqual(asked, []);
  assert.match(choice.kind === "in-workspace" ? explain(choice) : "", /does not run on \/projects\/model\/bin\/python3/);
});

test("a version manager that leads into an opened folder is refused by what it says", async () => {
  const here = machine(same("/shims/python3"), ["/shims"]);
  const { ask } = answers({ "/shims/python3": [3, 12] }, "/projects/model/.venv");
  const choice = await chooseServer("", ["/projects/model"], here, ask);
  assert.equal(choice.kind, "in-workspace");
});

test("each refusal is a sentence that says what to do", async () => {
  const here = machine(same("/old/python3"), ["/old"]);
  const { ask } = answers({ "/old/python3": [3, 8] });
  const old = await chooseServer("", [], here, ask);
  assert.equal(
    old.kind === "found" ? "" : explain(old),
    "Gradsight needs Python 3.10 or newer, and /old/python3 is Python 3.8. Name one in the setting gradsight.server.python.",
  );
  const missing = await chooseServer("", [], machine({}, ["/usr/bin"]), ask);
  assert.match(missing.kind === "found" ? "" : explain(missing), /there is no python3 on PATH/);
  const named = await chooseServer("/gone/python3", [], here, ask);
  assert.match(named.kind === "found" ? "" : explain(named), /cannot find \/gone\/python3/);
  const broken = await chooseServer("", [], machine(same("/bad/python3"), ["/bad"]), ask);
  assert.match(broken.kind === "found" ? "" : explain(broken), /cannot run \/bad\/python3: it says “no”/);
});

test("the probe takes the setting, else what the Python extension says, and asks that one only then", async () => {
  let asked = 0;
  const chosen = (): Promise<string | null> => {
    asked += 1;
    return Promise.resolve("/conda/bin/python");
  };
  const here = machine({}, []);
  assert.equal(
    await probePython("${workspaceFolder}/.venv/bin/python", ["/projects"], here, chosen),
    "/projects/.venv/bin/python",
  );
  assert.equal(asked, 0);
  assert.equal(await probePython(" ", ["/projects"], here, chosen), "/conda/bin/python");
  assert.equal(await probePython("", [], here, () => Promise.resolve(null)), null);
});

test("the Python extension may be missing, silent, broken, or without a choice", async () => {
  const asking = (environments: PythonExtension["environments"]) => ({
    activate: () => Promise.resolve(environments ? { environments } : {}),
  });
  const chosen = (executable: { uri?: { fsPath: string } }): PythonExtension["environments"] => ({
    getActiveEnvironmentPath: (resource) => ({ id: String(resource), path: "/env" }),
    resolveEnvironment: (environment) => Promise.resolve(environment.id === "file" ? { executable } : undefined),
  });
  assert.equal(
    await chosenInterpreter(asking(chosen({ uri: { fsPath: "/env/bin/python" } })), "file"),
    "/env/bin/python",
  );
  assert.equal(await chosenInterpreter(asking(chosen({})), "file"), null);
  assert.equal(await chosenInterpreter(asking(chosen({ uri: { fsPath: "/x" } })), "other file"), null);
  assert.equal(await chosenInterpreter(asking(undefined), "file"), null);
  assert.equal(await chosenInterpreter(undefined, "file"), null);
  assert.equal(await chosenInterpreter({ activate: () => Promise.reject(new Error("no")) }, "file"), null);
  assert.equal(await chosenInterpreter({ activate: () => new Promise(() => undefined) }, "file", 1), null);
});
