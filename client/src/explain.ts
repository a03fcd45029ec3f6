// "Explain Finding": the page of the rule that a finding is about. The pages are files of the extension.

import * as vscode from "vscode";

export interface Page {
  readonly code: string;
  readonly name: string;
  readonly summary: string;
}

/** Gradsight's codes at the cursor: those of findings that hold it, else those on its line. */
export function codesAt(diagnostics: readonly vscode.Diagnostic[], place: vscode.Position): readonly string[] {
  const ours = diagnostics.flatMap((each) => {
    const code = typeof each.code === "object" ? each.code.value : each.code;
    return /^GS\d{3}$/.test(String(code)) ? [{ code: String(code), range: each.range }] : [];
  });
  const exact = ours.filter((each) => each.range.contains(place));
  const near = exact.length
    ? exact
    : ours.filter(({ range }) => range.start.line <= place.line && place.line <= range.end.line);
  return [...new Set(near.map((each) => each.code))];
}

/** Shows the page of `asked`, else of the finding at the cursor, else of the rule that the user picks. */
export async function explainFinding(extension: vscode.Uri, asked?: unknown): Promise<void> {
  const pages = await readPages(extension);
  const editor = vscode.window.activeTextEditor;
  const codes =
    typeof asked === "string"
      ? [asked]
      : editor
        ? codesAt(vscode.languages.getDiagnostics(editor.document.uri), editor.selection.active)
        : [];
  const known = pages.filter((page) => codes.includes(page.code));
  const page = known.length === 1 ? known[0] : await pick(known.length ? known : pages);
  if (page) await show(vscode.Uri.joinPath(extension, "pages", `${page.code}.md`));
}

async function readPages(extension: vscode.Uri): Promise<readonly Page[]> {
  const bytes = await vscode.workspace.fs.readFile(vscode.Uri.joinPath(extension, "pages", "index.json"));
  return JSON.parse(new TextDecoder().decode(bytes)) as readonly Page[];
}

async function pick(pages: readonly Page[]): Promise<Page | undefined> {
  const items = pages.map((page) => ({ label: page.code, description: page.name, detail: page.summary, page }));
  const chosen = await vscode.window.showQuickPick(items, {
    placeHolder: "Which rule?",
    matchOnDescription: true,
    matchOnDetail: true,
  });
  return chosen?.page;
}

async function show(page: vscode.Uri): Promise<void> {
  try {
    await vscode.commands.executeCommand("markdown.showPreviewToSide", page);
  } catch {
    // VS Code's own Markdown extension is switched off.
    await vscode.window.showTextDocument(page, { preview: true, viewColumn: vscode.ViewColumn.Beside });
  }
}
