// The settings, and the form that the server reads them in.

/** What is read of a `WorkspaceConfiguration` of the section `gradsight`. */
export interface Section {
  get<T>(key: string): T | undefined;
  inspect(key: string): Readonly<Record<string, unknown>> | undefined;
}

/** Project settings: null where the editor says nothing, so that pyproject.toml's stand. */
const PROJECT = ["select", "ignore", "severity"] as const;
const SCOPES = [
  "globalValue",
  "workspaceValue",
  "workspaceFolderValue",
  "globalLanguageValue",
  "workspaceLanguageValue",
  "workspaceFolderLanguageValue",
];

export interface ServerSettings {
  readonly server: { readonly python: string | null };
  readonly probe: {
    readonly python: string | null;
    readonly device: string;
    readonly timeout: number;
    readonly allowWrites: boolean;
  };
  readonly lens: { readonly enable: boolean };
  readonly hover: { readonly enable: boolean };
  readonly select: readonly string[] | null;
  readonly ignore: readonly string[] | null;
  readonly severity: Readonly<Record<string, string>> | null;
}

/**
 * The section as the server reads it. Values go as they were written, also malformed ones: it is the server that
 * says what is wrong with a setting, in the same words for every editor.
 */
export function toServerSettings(section: Section): ServerSettings {
  const project = Object.fromEntries(PROJECT.map((key) => [key, isSet(section, key) ? section.get(key) : null]));
  return {
    server: { python: interpreter(section, "server.python") },
    probe: {
      python: interpreter(section, "probe.python"),
      device: section.get("probe.device"),
      timeout: section.get("probe.timeout"),
      allowWrites: section.get("probe.allowWrites"),
    },
    lens: { enable: section.get("lens.enable") },
    hover: { enable: section.get("hover.enable") },
    ...project,
  } as unknown as ServerSettings;
}

/** A setting that must be a text here, because the client itself acts on it. */
export function text(section: Section, key: string): string {
  const value = section.get<unknown>(key);
  return typeof value === "string" ? value.trim() : "";
}

function interpreter(section: Section, key: string): unknown {
  return section.get(key) || null;
}

function isSet(section: Section, key: string): boolean {
  const values = section.inspect(key);
  return values !== undefined && SCOPES.some((scope) => values[scope] !== undefined && values[scope] !== null);
}
