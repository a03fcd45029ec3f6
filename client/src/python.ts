// Which interpreters run: the server's and the probe's.
//
// Invariants: nothing that lies in the opened folders is ever run for the server, whatever names it; the probe's
// interpreter is not looked for before a probe is asked for; no interpreter is asked for its version by running it
// in the opened folder, where version managers read files of the workspace.

import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";

export const OLDEST: readonly [number, number] = [3, 10];

/** A command line that starts Python. */
export interface Interpreter {
  readonly command: string;
  readonly args: readonly string[];
}

/** What the choice depends on, so that it can be tried for machines that are not this one. */
export interface Machine {
  readonly platform: NodeJS.Platform;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  /** The path with every link followed, or null where there is nothing. */
  realpath(file: string): string | null;
  /** Whether it is a file that may be run. */
  runs(file: string): boolean;
}

export const THIS_MACHINE: Machine = {
  platform: process.platform,
  env: process.env,
  home: os.homedir(),
  realpath(file) {
    try {
      return fs.realpathSync.native(file);
    } catch {
      return null;
    }
  },
  runs(file) {
    try {
      if (!fs.statSync(file).isFile()) return false;
      fs.accessSync(file, fs.constants.X_OK);
      return true;
    } catch {
      return false;
    }
  },
};

/** What may be run for the server, best first, and what was passed over because it lies in an opened folder. */
export interface Candidates {
  readonly usable: readonly Interpreter[];
  readonly refused: readonly string[];
}

/** The server's: what the setting names, else every `python3` on PATH in PATH's order. */
export function serverCandidates(setting: string, folders: readonly string[], machine: Machine): Candidates {
  const named = setting.trim();
  const wanted: Interpreter[] = named
    ? locate(expand(named, folders, machine), machine).map((command) => ({ command, args: [] }))
    : onPath(machine);
  const usable: Interpreter[] = [];
  const refused: string[] = [];
  for (const each of wanted) {
    if (liesWithin(each.command, folders, machine)) refused.push(each.command);
    else usable.push(each);
  }
  return { usable, refused };
}

/**
 * Whether a file, or what it links to, lies in one of the folders. The file itself counts as well as its target: a
 * virtual environment's `python` links to one outside, and yet runs what the environment holds.
 */
export function liesWithin(file: string, folders: readonly string[], machine: Machine): boolean {
  const paths = pathsOf(machine);
  const parent = machine.realpath(paths.dirname(file));
  const places = [file, parent === null ? null : paths.join(parent, paths.basename(file)), machine.realpath(file)];
  const roots = folders.flatMap((folder) => [folder, machine.realpath(folder) ?? folder]);
  const fold = (place: string): string =>
    machine.platform === "win32" || machine.platform === "darwin" ? place.toLowerCase() : place;
  return places.some(
    (place) =>
      place !== null &&
      roots.some((root) => {
        const relative = paths.relative(fold(root), fold(place));
        return relative !== ".." && !relative.startsWith(`..${paths.sep}`) && !paths.isAbsolute(relative);
      }),
  );
}

/** `~`, `${workspaceFolder}`, `${userHome}` and `${env:NAME}` as VS Code writes them in settings. */
export function expand(value: string, folders: readonly string[], machine: Machine): string {
  return value
    .replace(/^~(?=$|[\\/])/, machine.home)
    .replaceAll("${userHome}", machine.home)
    .replaceAll("${workspaceFolder}", folders[0] ?? "${workspaceFolder}")
    .replace(/\$\{env:(\w+)\}/g, (_, name: string) => machine.env[name] ?? "");
}

/** The probe's: what the setting names, else what the Python extension says, else null: the server then decides. */
export async function probePython(
  setting: string,
  folders: readonly string[],
  machine: Machine,
  chosen: () => Promise<string | null>,
): Promise<string | null> {
  const named = setting.trim();
  return named ? expand(named, folders, machine) : chosen();
}

/** The part of the Python extension's interface that is used here. */
export interface PythonExtension {
  readonly environments?: {
    getActiveEnvironmentPath(resource?: unknown): { readonly id: string; readonly path: string };
    resolveEnvironment(environment: {
      readonly id: string;
      readonly path: string;
    }): Promise<{ readonly executable?: { readonly uri?: { readonly fsPath: string } | undefined } } | undefined>;
  };
}

/** What is chosen in the Python extension; null where it is not installed, has none, fails or takes too long. */
export async function chosenInterpreter(
  extension: { activate(): PromiseLike<PythonExtension> } | undefined,
  resource: unknown,
  patience = 5_000,
): Promise<string | null> {
  if (!extension) return null;
  const asked = (async (): Promise<string | null> => {
    const { environments } = await extension.activate();
    if (!environments) return null;
    const resolved = await environments.resolveEnvironment(environments.getActiveEnvironmentPath(resource));
    return resolved?.executable?.uri?.fsPath ?? null;
  })();
  const late = new Promise<null>((resolve) => setTimeout(resolve, patience, null));
  return Promise.race([asked.catch(() => null), late]);
}

/** What an interpreter says of itself when it is asked by `bundled/start.py --check`. */
export interface Answer {
  readonly version: readonly [number, number];
  readonly executable: string;
  readonly prefix: string;
  /** Null, or why no fix can be made on this Python, and the command that mends it. */
  readonly fixes: { readonly reason: string; readonly command: string } | null;
}

export type Refusal =
  | { readonly kind: "missing"; readonly named: string }
  | { readonly kind: "in-workspace"; readonly named: string }
  | { readonly kind: "too-old"; readonly named: string; readonly version: readonly [number, number] }
  | { readonly kind: "fails"; readonly named: string; readonly why: string };

export type Choice = { readonly kind: "found"; readonly interpreter: Interpreter; readonly answer: Answer } | Refusal;

/** The first candidate that is new enough and, by its own words as well, outside of the opened folders. */
export async function chooseServer(
  setting: string,
  folders: readonly string[],
  machine: Machine,
  ask: (interpreter: Interpreter) => Promise<Answer>,
): Promise<Choice> {
  const { usable, refused } = serverCandidates(setting, folders, machine);
  let refusal: Refusal | null = refused[0] === undefined ? null : { kind: "in-workspace", named: refused[0] };
  for (const interpreter of usable) {
    const named = [interpreter.command, ...interpreter.args].join(" ");
    try {
      const answer = await ask(interpreter);
      if (older(answer.version, OLDEST)) {
        refusal ??= { kind: "too-old", named, version: answer.version };
      } else if ([answer.executable, answer.prefix].some((place) => place && liesWithin(place, folders, machine))) {
        refusal ??= { kind: "in-workspace", named: answer.executable };
      } else {
        return { kind: "found", interpreter, answer };
      }
    } catch (error) {
      refusal ??= { kind: "fails", named, why: error instanceof Error ? error.message : String(error) };
    }
  }
  return refusal ?? { kind: "missing", named: setting.trim() };
}

/** Why there is no server, in a sentence or two for the user. */
export function explain(refusal: Refusal): string {
  const wanted = `Python ${OLDEST.join(".")} or newer`;
  const remedy = "Name one in the setting gradsight.server.python.";
  switch (refusal.kind) {
    case "missing":
      return refusal.named
        ? `Gradsight cannot find ${refusal.named}, which the setting gradsight.server.python names.`
        : `Gradsight needs ${wanted}, and there is no python3 on PATH. ${remedy}`;
    case "in-workspace":
      return (
        `Gradsight's server does not run on ${refusal.named}, because that lies in the opened folder. ` +
        `Name a ${wanted} from elsewhere in the setting gradsight.server.python.`
      );
    case "too-old":
      return `Gradsight needs ${wanted}, and ${refusal.named} is Python ${refusal.version.join(".")}. ${remedy}`;
    case "fails":
      return `Gradsight cannot run ${refusal.named}: ${refusal.why} ${remedy}`;
  }
}

/** Flags for every Python that runs the server: none of the user's variables, site-packages or encodings. */
export const ALONE: readonly string[] = ["-I", "-S", "-X", "utf8"];

// Read by whatever Python comes along, also one that could not parse start.py.
const ASK = [
  "import sys",
  "if sys.version_info < (3, 10):",
  "    print('{\"version\": [%d, %d]}' % sys.version_info[:2])",
  "else:",
  "    import runpy",
  "    sys.argv = sys.argv[1:]",
  "    runpy.run_path(sys.argv[0], run_name='__main__')",
].join("\n");

/** Starts an interpreter once, away from the workspace, and reads what it says of itself. */
export function ask(interpreter: Interpreter, start: string, storage: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    execFile(
      interpreter.command,
      [...interpreter.args, ...ALONE, "-c", ASK, start, "--check", "--storage", storage],
      { cwd: path.dirname(start), timeout: 30_000, windowsHide: true },
      (error, stdout, stderr) => {
        const said = stdout.trim().split("\n").at(-1) ?? "";
        try {
          const answer = JSON.parse(said) as Partial<Answer>;
          if (!Array.isArray(answer.version)) throw new Error("no version");
          resolve({ executable: "", prefix: "", fixes: null, ...answer, version: answer.version });
        } catch {
          const last = stderr.trim().split("\n").at(-1);
          reject(new Error(last ? `it says “${last}”.` : error ? `${error.message}.` : "it is no Python 3."));
        }
      },
    );
  });
}

function older(version: readonly [number, number], than: readonly [number, number]): boolean {
  return version[0] < than[0] || (version[0] === than[0] && version[1] < than[1]);
}

function pathsOf(machine: Machine): path.PlatformPath {
  return machine.platform === "win32" ? path.win32 : path.posix;
}

/** A path as it is; a bare name as PATH has it. */
function locate(named: string, machine: Machine): string[] {
  const paths = pathsOf(machine);
  if (paths.basename(named) !== named) return machine.runs(named) ? [named] : [];
  return search(named, machine).slice(0, 1);
}

function onPath(machine: Machine): Interpreter[] {
  if (machine.platform !== "win32") return search("python3", machine).map((command) => ({ command, args: [] }));
  return [
    ...search("py", machine).map((command) => ({ command, args: ["-3"] })),
    ...search("python", machine).map((command) => ({ command, args: [] })),
  ];
}

function search(name: string, machine: Machine): string[] {
  const paths = pathsOf(machine);
  const file = machine.platform === "win32" && !/\.exe$/i.test(name) ? `${name}.exe` : name;
  const value = machine.env["PATH"] ?? machine.env["Path"] ?? "";
  const found = value
    .split(paths.delimiter)
    // A relative entry means another file in every folder that something is started in.
    .filter((folder) => paths.isAbsolute(folder))
    .map((folder) => paths.join(folder, file))
    .filter((candidate) => machine.runs(candidate));
  return [...new Set(found)];
}
