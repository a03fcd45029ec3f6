// All cases that need a window, in one window and in order. `node drive.mjs GIVEN RESULTS [PATTERN]`; with a pattern
// only the cases whose names match.
//
// The first case is a new user's: the extension is installed by the mouse, from the VSIX, into a clean profile. Each
// case starts with no file open. What goes wrong in one is written down with a picture, and the next one runs.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import * as it from './window.mjs';

const given = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const results = {};
const tell = () => fs.writeFileSync(process.argv[3], JSON.stringify(results, null, 2));

const window = await it.open({ ...given, size: { width: 1280, height: 1500 } });
const { page } = window;
page.setDefaultTimeout(20000);

const asked = new RegExp(process.argv[4] ?? '');

async function scenario(name, body, tidy = () => {}) {
  if (!asked.test(name)) return;
  const started = Date.now();
  window.printed.length = 0;
  try {
    try {
      await body();
    } catch (error) {
      // A window can swallow a key or lose the focus, which says nothing of us: once more, and then it counts.
      if (name === 'a new user') throw error;
      console.error(`${name}: a second attempt, after ${error.message.split('\n')[0]}`);
      await it.closeAll(page);
      tidy();
      await body();
    }
    await it.closeAll(page);
    results[name] = { problem: null, seconds: (Date.now() - started) / 1000 };
  } catch (error) {
    results[name] = { problem: error.stack, seconds: (Date.now() - started) / 1000 };
    const kept = path.join(given.failures, name.replace(/\W+/g, '_'));
    await page.screenshot({ path: `${kept}.png` }).catch(() => {});
    fs.writeFileSync(`${kept}.txt`, `${error.stack}\n\n${window.printed.join('\n')}\n`);
    await it.closeAll(page).catch(() => {});
  } finally {
    tidy();
  }
  tell();
}

// ---------------------------------------------------------------- what is on the screen

const wanted = example => example.findings
  .map(({ severity, place, quote }) => ({ severity: { information: 'info' }[severity] ?? severity, row: place.row, text: quote }))
  .sort(byPlace);
const byPlace = (a, b) => a.row - b.row || (a.text < b.text ? -1 : 1);

async function underlined() {
  return (await it.squiggles(page)).map(({ severity, row, text }) => ({ severity, row, text })).sort(byPlace);
}

/** A hint shows as three dots below its beginning, so that no more of its place can be seen. */
const same = (seen, expected) => seen.length === expected.length && seen.every((each, at) => {
  const { severity, row, text } = expected[at];
  return each.severity === severity && each.row === row && (severity === 'hint' ? each.text && text.startsWith(each.text) : each.text === text);
});

/** Wait until exactly this is underlined. */
async function sees(expected, what) {
  let seen = [];
  await it.until(what, async () => {
    seen = await underlined();
    return same(seen, expected);
  }).catch(() => assert.deepEqual(seen, expected, what));
}

async function restore(text, expected) {
  await it.until('the text after undo', async () => {
    if (await it.bufferText(page) === text) return true;
    await page.keyboard.press('Control+z');
    return false;
  });
  await sees(expected, 'the squiggles after undo');
}

/** Rest the mouse on what is underlined, and read what appears. */
async function hover(squiggle) {
  const box = page.locator('.monaco-hover:not(.hidden) .monaco-hover-content');
  return it.until('a hover', async () => { // a lens that comes moves the lines below it
    await page.mouse.move(4, 4);
    const at = (await it.squiggles(page)).find(each => each.row === squiggle.row && squiggle.text.startsWith(each.text));
    await page.mouse.move(at.x, at.y);
    await page.mouse.move(at.x + 1, at.y);
    await box.first().waitFor({ timeout: 3000 });
    return (await box.allInnerTexts()).join('\n').trim();
  });
}

async function choose(title) {
  await it.quickFixes(page);
  await page.locator(it.MENU_ROW).filter({ hasText: title }).first().click();
}

/** Click the lens that stands lowest: the one of the script's own `backward`. */
async function clickLens() {
  await page.mouse.move(4, 4);
  await it.until('a click on a lens to start a probe', async () => {
    const all = (await it.lenses(page)).filter(each => /robe/.test(each.text));
    if (!all.length) return false;
    const lens = all.at(-1);
    await page.mouse.click(lens.x, lens.y);
    return it.until('results', async () => Object.keys(await it.inlineResults(page)).length, 15).catch(() => false);
  }, 40);
  return it.inlineResults(page);
}

const flat = results => Object.fromEntries(Object.entries(results).map(([row, all]) => [row, all.map(each => each.text).join('  ')]));

/** Beside each line that the command line's probe saw cut there stands a cut, and nowhere else in those lines. */
function compare(seen, lines, what) {
  const texts = flat(seen);
  assert.ok(Object.keys(texts).length, `${what}: nothing stands beside the lines`);
  for (const { row, state } of lines) {
    const label = texts[row - 1] ?? '';
    if (state === 'cut') assert.match(label, /✂/, `${what}: row ${row}, all: ${JSON.stringify(texts)}`);
  }
  const cut = new Set(lines.filter(each => each.state.startsWith('cut')).map(each => each.row - 1));
  for (const [row, label] of Object.entries(texts)) {
    if (/✂/.test(label)) assert.ok(cut.has(Number(row)), `${what}: row ${Number(row) + 1} says ${label}`);
  }
}

// ---------------------------------------------------------------- the cases

const first = given.examples['003'];

fs.copyFileSync(given.vsix, path.join(given.folder, path.basename(given.vsix)));

await scenario('a new user', async () => {
  const done = [];
  let started = Date.now();
  const click = async (what, locator) => { await locator.first().click(); done.push(`click: ${what}`); };
  // 1. Into a clean profile.
  await click('Extensions', page.locator('.activitybar a[aria-label^="Extensions"]'));
  const entry = page.locator('.monaco-menu [aria-label^="Install from VSIX"]');
  await it.until('the menu', async () => { // its entries come one after the other while the view is new
    await page.keyboard.press('Escape');
    await page.locator('.sidebar a[aria-label^="Views and More Actions"]').first().click();
    await entry.first().waitFor({ timeout: 1000 });
    return true;
  });
  done.push('click: …');
  await click('Install from VSIX…', entry);
  // The file lies in the home folder, where the dialog begins.
  await click(path.basename(given.vsix), page.locator('.quick-input-list .monaco-list-row', { hasText: path.basename(given.vsix) }));
  await page.locator('.extensions-list .extension-list-item', { hasText: 'Gradsight' }).first().waitFor({ timeout: 60000 });
  const installed = (Date.now() - started) / 1000;
  // 2. A program that does not learn.
  await click('Explorer', page.locator('.activitybar a[aria-label^="Explorer"]'));
  await click(first.name, page.locator('.explorer-folders-view .monaco-list-row', { hasText: first.name }));
  await sees(wanted(first), 'the squiggle');
  const found = (Date.now() - started) / 1000;
  // 3. The fix, from the squiggle's own hover.
  await hover(wanted(first)[0]);
  await click('Quick Fix…', page.locator('.monaco-hover a, .monaco-hover .action', { hasText: 'Quick Fix' }));
  await click(first.findings[0].fixes[0].title, page.locator(it.MENU_ROW).filter({ hasText: first.findings[0].fixes[0].title }).first());
  await sees([], 'no squiggle');
  // 4. Torch says so.
  const seen = await clickLens();
  done.push('click: Run probe');
  const seconds = (Date.now() - started) / 1000;
  compare(seen, first.probed_fixed, 'the fixed program');
  const row = first.findings[0].place.row;
  assert.match(flat(seen)[Math.max(...Object.keys(seen).map(Number).filter(each => each <= row))] ?? '', /●/, 'live at the place of the finding');
  fs.writeFileSync(given.figures, JSON.stringify({
    clicks: done.length,
    seconds: { installed, found, restored: seconds }, steps: done }, null, 2) + '\n');
  await restore(first.text, wanted(first));
});

if (results['a new user']?.problem !== null) { // then the others get it from the command line
  await it.install(given, window);
}

for (const [text, example] of Object.entries(given.examples)) {
  await scenario(`text ${text}`, async () => {
    await it.openFile(page, example.name);
    await sees(wanted(example), 'the squiggles');
    const [finding] = example.findings, [fix] = finding.fixes, [shown] = wanted(example);

    const hovered = await hover(shown);
    const plain = words => words.replace(/[`*_\\]/g, '').replace(/\s+/g, ' ');
    assert.ok(plain(hovered).includes(plain(finding.message)), `the hover says: ${hovered}`);
    assert.ok(hovered.includes(finding.code), `the hover has no ${finding.code}: ${hovered}`);
    await page.keyboard.press('Escape');
    await page.mouse.move(4, 4);

    // One fix, from the menu.
    await it.goTo(page, finding.place.row, finding.place.start);
    const offered = await it.quickFixes(page);
    for (const { title } of finding.fixes) assert.ok(offered.some(each => each.includes(title)), `offered: ${offered}`);
    await page.keyboard.press('Escape');
    await it.goTo(page, finding.place.row, finding.place.start);
    await choose(fix.title);
    await sees(wanted({ findings: example.after_fix }), 'the squiggles after the fix');
    assert.equal(await it.bufferText(page), fix.text);
    await restore(example.text, wanted(example));

    // All of them.
    if (example.fixed !== example.text) {
      // VS Code asks for its light bulb 250 ms after a cursor moves, waits 500 ms, and then gives up a Fix All that
      // is under way (`isManualToAutoTransition` in its codeActionModel.ts). Nobody types a command that fast.
      await page.waitForTimeout(1000);
      await it.command(page, 'Fix All');
      await sees(wanted({ findings: example.after_all }), 'the squiggles after all fixes');
      assert.equal(await it.bufferText(page), example.fixed);
      await restore(example.text, wanted(example));
    }

    // What torch says, beside the lines.
    await it.goTo(page, 0, 0);
    compare(await clickLens(), example.probed, 'as written');
    await it.command(page, 'Gradsight: Clear Probe Results');
    await it.until('nothing beside the lines', async () => !Object.keys(await it.inlineResults(page)).length);
  });
}

await scenario('results dim with the text they belong to', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  const fresh = await clickLens();
  const colours = seen => Object.values(seen).flat().map(each => each.color);
  await it.goTo(page, first.findings[0].place.row, 0);
  await page.keyboard.type(' ');
  await it.until('dim results', async () => {
    const now = colours(await it.inlineResults(page));
    return now.length && new Set(now).size === 1 && now[0] !== colours(fresh).find(each => each !== now[0]) && JSON.stringify(now) !== JSON.stringify(colours(fresh));
  });
  await page.keyboard.press('Control+z');
  await it.until('results in full colour after undo', async () => JSON.stringify(colours(await it.inlineResults(page))) === JSON.stringify(colours(fresh)));
});

await scenario('what is selected is probed', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  const row = first.findings[0].place.row;
  await it.goTo(page, row, 0);
  await page.keyboard.press('Shift+ArrowDown');
  await it.command(page, 'Gradsight: Run Probe');
  const seen = await it.until('results', async () => {
    const now = await it.inlineResults(page);
    return Object.keys(now).length && now;
  }, 60);
  assert.match(flat(seen)[row], /✂/);
  // Beyond the selection only what arrived at the parameters is told.
  const beyond = first.probed.map(each => each.row - 1).filter(each => each > row + 1);
  const made = Math.max(...beyond);
  assert.ok(!(made in seen), `row ${made + 1} was not selected: ${JSON.stringify(flat(seen))}`);
});

await scenario('columns behind other alphabets', async () => {
  const { odd } = given;
  await it.openText(window, odd.name, odd.text);
  await sees(wanted(odd), 'the squiggle');
  await it.goTo(page, odd.findings[0].place.row, odd.findings[0].place.start);
  await choose(odd.findings[0].fixes[0].title);
  await sees([], 'no squiggle');
  assert.equal(await it.bufferText(page), odd.findings[0].fixes[0].text);
});

await scenario('line ends of Windows', async () => {
  const crlf = first.text.replaceAll('\n', '\r\n');
  await it.openText(window, 'crlf.py', crlf);
  await sees(wanted(first), 'the squiggle');
  await it.goTo(page, first.findings[0].place.row, first.findings[0].place.start);
  await choose(first.findings[0].fixes[0].title);
  await sees([], 'no squiggle');
  await page.keyboard.press('Control+s');
  const mended = first.findings[0].fixes[0].text.replaceAll('\n', '\r\n');
  await it.until('the saved file', () => fs.readFileSync(path.join(window.workspace, 'crlf.py'), 'utf8') === mended)
    .catch(() => assert.equal(fs.readFileSync(path.join(window.workspace, 'crlf.py'), 'utf8'), mended));
});

await scenario('an unfinished statement while typing', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  const { row, start } = first.findings[0].place;
  await it.goTo(page, row, start);
  await it.command(page, 'Insert Line Above'); // indented as this one
  const moved = wanted(first).map(each => ({ ...each, row: each.row + 1 }));
  await sees(moved, 'the squiggle, a row further down');
  await page.keyboard.type('scale = 1 +'); // no bracket, which VS Code would close by itself
  await it.until('a mark at the unfinished statement', async () => (await underlined()).some(each => each.row === row && each.severity === 'error'));
  assert.deepEqual((await underlined()).filter(each => each.row !== row), moved, 'the finding below');
  await page.keyboard.type(' 2');
  await sees(moved, 'the finding alone');
  await restore(first.text, wanted(first));
});

const settings = path.join(window.workspace, '.vscode', 'settings.json');
fs.mkdirSync(path.dirname(settings), { recursive: true });

await scenario('settings are taken while one works', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  const [{ code }] = first.findings;
  fs.writeFileSync(settings, JSON.stringify({ 'gradsight.ignore': [code] }));
  await sees([], 'silence');
  fs.writeFileSync(settings, JSON.stringify({ 'gradsight.severity': { [code]: 'error' } }));
  await sees(wanted(first).map(each => ({ ...each, severity: 'error' })), 'the finding, louder');
  fs.writeFileSync(settings, '{}');
  await sees(wanted(first), 'the finding as it was');
  const lensless = async () => (await it.lenses(page)).length === 0;
  await it.until('lenses', async () => !(await lensless()));
  fs.writeFileSync(settings, JSON.stringify({ 'gradsight.lens.enable': false }));
  await it.until('no lens', lensless);
  fs.writeFileSync(settings, '{}');
  await it.until('lenses again', async () => !(await lensless()));
}, () => fs.writeFileSync(settings, '{}'));

const project = path.join(window.workspace, 'pyproject.toml');

await scenario('a project file is read while one works', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  fs.writeFileSync(project, `[tool.gradsight]\nignore = ["${first.findings[0].code}"]\n`);
  await sees([], 'silence');
  fs.rmSync(project);
  await sees(wanted(first), 'the finding as it was');
}, () => fs.rmSync(project, { force: true }));

await scenario('a file that is written from outside', async () => {
  await it.openText(window, 'outside.py', first.text);
  await sees(wanted(first), 'the squiggle');
  fs.writeFileSync(path.join(window.workspace, 'outside.py'), first.findings[0].fixes[0].text);
  await sees([], 'no squiggle');
});

await scenario('the server is started again', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  await it.command(page, 'Gradsight: Restart Server');
  await sees([], 'no squiggle while it starts').catch(() => {}); // may be too quick to be seen
  await sees(wanted(first), 'the squiggle of the new server');
  await it.until('the lenses of the new server', async () => (await it.lenses(page)).length);
});

await scenario('explain a finding', async () => {
  await it.openFile(page, first.name);
  await sees(wanted(first), 'the squiggle');
  await it.goTo(page, first.findings[0].place.row, first.findings[0].place.start);
  await it.command(page, 'Gradsight: Explain Finding');
  await it.until('another editor', async () => await page.locator('.tabs-container .tab').count() > 1);
  await it.until('the page of the rule', async () => {
    const shown = await page.locator('.editor-group-container.active').allInnerTexts();
    const inside = await Promise.all(page.frames().map(frame => frame.locator('body').innerText({ timeout: 500 }).catch(() => '')));
    return [...shown, ...inside].join('\n').includes(first.findings[0].code);
  });
});

await scenario('the problems panel lists every program', async () => {
  for (const { name } of given.programs) await it.openFile(page, name);
  await page.keyboard.press('Control+Shift+m');
  await page.locator('.markers-panel .monaco-list-row').first().waitFor();
  await it.command(page, 'View: Toggle Maximized Panel');
  // Hints are underlined, but VS Code does not list them.
  const listed = given.programs.map(({ name, findings }) => ({ name, findings: findings.filter(each => each.severity !== 'hint') }))
    .filter(each => each.findings.length);
  const files = listed.map(({ name, findings }) => `${findings.length} problems in file ${name} `);
  const word = { error: 'Error', warning: 'Warning', information: 'Info' };
  const lines = listed.flatMap(({ findings }) => findings.map(({ severity, message, place }) =>
    `${word[severity]}: ${message} at line ${place.row + 1} and character ${place.start + 1}.`));
  let seen = [];
  const found = () => seen.filter(each => / problems in file /.test(each)).length;
  await it.until('every file', async () => { seen = await it.allProblems(page); return found() === files.length; }).catch(() => {});
  assert.deepEqual(seen.filter(each => / problems in file /.test(each)).map(each => each.replace(/of folder .*/, '')).sort(), files.sort());
  assert.deepEqual(seen.filter(each => /^(Error|Warning|Info): /.test(each)).map(each => each.replace(/ (This problem has|generated by) .*/s, '')).sort(), lines.sort());
  await it.command(page, 'View: Toggle Maximized Panel');
  await page.keyboard.press('Control+j');
});

const NOTEBOOK = [
  ['markdown', '# Training'],
  ['code', '%matplotlib inline\n!pip list\nimport torch\nmodel = torch.nn.Linear(3, 1)'],
  ['code', '%%time\nprediction = model(torch.ones(4, 3))\nloss = prediction.detach().pow(2).mean()\nloss.backward()'],
];

await scenario('a notebook', async () => {
  const file = path.join(window.workspace, 'training.ipynb');
  const cells = texts => texts.map(([cell_type, source]) => ({ cell_type, metadata: {}, source: source.split(/(?<=\n)/),
    ...(cell_type === 'code' ? { execution_count: null, outputs: [] } : {}) }));
  const metadata = { language_info: { name: 'python' } };
  fs.writeFileSync(file, JSON.stringify({ cells: cells(NOTEBOOK), metadata, nbformat: 4, nbformat_minor: 2 }, null, 1));
  await it.openFile(page, 'training.ipynb', '.notebookOverlay');
  // A cell is an editor of its own; the one below the heading comes first.
  const cell = number => page.locator('.notebookOverlay .code-cell-row').nth(number);
  const marks = number => cell(number).locator('[class*="squiggly-"]').count();
  await it.until('a squiggle in the second cell', async () => await marks(1) === 1);
  assert.equal(await marks(0), 0, 'magics are no mistakes');
  const cut = await cell(1).locator('.view-line', { hasText: 'prediction.detach' }).boundingBox();
  await page.mouse.click(cut.x + 100, cut.y + cut.height / 2);
  await choose('Remove `.detach()`');
  await it.until('no squiggle', async () => !await marks(1));
  const said = number => cell(number).evaluate(root => [...root.querySelectorAll('.view-line span')]
    .flatMap(span => ['::before', '::after'].map(side => getComputedStyle(span, side).content)).join(' '));
  await it.until('a click on the lens to start a probe', async () => {
    const lens = await cell(1).locator('.codelens-decoration a').boundingBox();
    await page.mouse.click(lens.x + lens.width / 2, lens.y + lens.height / 2);
    return it.until('a result', async () => (await said(1)).includes('●'), 15).catch(() => false);
  }, 60);
  assert.match(await said(1), /● 4×1 live/);
  assert.match(await said(0), /● .*weight/, 'beside the parameters, in the cell that makes them');
  await page.keyboard.press('Control+s');
  const mended = NOTEBOOK.map(([kind, text]) => [kind, text.replace('.detach()', '')]);
  const sources = () => JSON.parse(fs.readFileSync(file, 'utf8')).cells.map(each => [each.cell_type, [each.source].flat().join('')]);
  await it.until('the saved file', () => JSON.stringify(sources()) === JSON.stringify(mended))
    .catch(() => assert.deepEqual(sources(), mended));
});

await window.close();
results[''] = { problem: null, seconds: 0 };
tell();
