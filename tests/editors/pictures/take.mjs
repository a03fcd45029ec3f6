// Takes the pictures of the README, as PNGs: `node take.mjs GIVEN`. Three of them, and the frames of the whole job with
// frames.json beside them, which says for how many milliseconds each one stands.
//
// GIVEN: { editors, folder, workspace, vsix, program, pictures }
import fs from 'node:fs';
import path from 'node:path';
import * as it from '../workbench/window.mjs';

const given = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const name = path.basename(given.program);
given.text = fs.readFileSync(given.program, 'utf8');
fs.copyFileSync(given.program, path.join(given.workspace, name));

const window = await it.open({
  ...given, size: { width: 900, height: 620 }, scale: 2,
  settings: {
    'workbench.activityBar.location': 'hidden', 'workbench.layoutControl.enabled': false, 'window.commandCenter': false,
    'workbench.editor.editorActionsLocation': 'hidden', 'editor.fontSize': 14, 'editor.folding': false, 'editor.glyphMargin': false,
    'editor.lineNumbersMinChars': 3, 'editor.scrollbar.vertical': 'hidden', 'editor.overviewRulerBorder': false,
    'editor.lightbulb.enabled': 'off', 'editor.occurrencesHighlight': 'off', 'editor.matchBrackets': 'never',
    'editor.scrollBeyondLastLine': false, 'editor.guides.indentation': false, 'editor.renderLineHighlight': 'none', 'editor.hover.delay': 100,
  },
});
const { page } = window;
const picture = file => page.screenshot({ path: path.join(given.pictures, `${file}.png`) });

// A pointer, which a browser without a screen does not show.
let at = { x: 450, y: 500 };
async function pointer(shown) {
  await page.evaluate(([x, y, shown]) => {
    let arrow = document.getElementById('pointer');
    if (!arrow) {
      arrow = document.createElement('div');
      arrow.id = 'pointer';
      arrow.innerHTML = '<svg width="18" height="24" viewBox="0 0 18 24"><path d="M1 1v18l5-4 3 7 3-1-3-7h7z" fill="#000" stroke="#fff" stroke-width="1.3"/></svg>';
      arrow.style.cssText = 'position:fixed;z-index:2147483647;pointer-events:none';
      document.body.append(arrow);
    }
    arrow.style.left = `${x}px`;
    arrow.style.top = `${y}px`;
    arrow.style.display = shown ? '' : 'none';
  }, [at.x, at.y, shown]);
}

const frames = [];
async function frame(milliseconds) {
  const file = `frame${String(frames.length).padStart(2, '0')}.png`;
  await page.screenshot({ path: path.join(given.pictures, file) });
  frames.push({ file, milliseconds });
}

/** Move there; the picture shows the way, which a hover in between would not outlast. */
async function moveTo(x, y, steps = 4) {
  const from = at;
  await page.mouse.move(x, y);
  for (let step = 1; step <= steps; step++) {
    at = { x: from.x + (x - from.x) * step / steps, y: from.y + (y - from.y) * step / steps };
    await pointer(true);
    if (step < steps) await frame(60);
  }
}

const middle = async locator => {
  const box = await locator.boundingBox();
  return [box.x + Math.min(box.width / 2, 60), box.y + box.height / 2];
};

async function hover() {
  await it.until('the hover', async () => {
    const [squiggle] = await it.squiggles(page);
    await moveTo(squiggle.x + 40, squiggle.y);
    await page.mouse.move(at.x + 1, at.y);
    await page.locator('.monaco-hover:not(.hidden) .monaco-hover-content').first().waitFor({ timeout: 3000 });
    await page.waitForTimeout(400);
    return true;
  });
}

async function clickLens() {
  await it.until('results', async () => {
    const lens = (await it.lenses(page)).at(-1);
    await moveTo(lens.x, lens.y);
    await frame(300);
    await page.mouse.click(at.x, at.y);
    return it.until('results', async () => Object.keys(await it.inlineResults(page)).length, 30).catch(() => false);
  }, 90);
  await page.waitForTimeout(1500); // the warm process, the status bar
}

try {
  await it.install(given, window);
  await it.openFile(page, name);
  await it.command(page, 'View: Toggle Primary Side Bar Visibility');
  await it.until('the squiggle and the lenses', async () => (await it.squiggles(page)).length && (await it.lenses(page)).length > 1, 60);
  await page.mouse.move(at.x, at.y);

  // What torch does, before anything is mended; then the finding, its fixes; then torch again.
  await pointer(true);
  await frame(1200);
  await clickLens();
  await frame(3200);
  await pointer(false);
  await picture('probe');
  await hover();
  await frame(3500);
  await pointer(false);
  await it.command(page, 'Gradsight: Clear Probe Results');
  await page.mouse.move(4, 600);
  await page.waitForTimeout(500);
  const kept = frames.length;
  await hover();
  await pointer(false);
  await picture('finding');
  const [{ row, text }] = await it.squiggles(page);
  await page.mouse.move(4, 600);
  await it.goTo(page, row, given.text.split('\n')[row].indexOf(text));
  await it.quickFixes(page);
  await picture('fixes');
  await page.keyboard.press('Escape');
  frames.length = kept;
  await hover();

  const quickFix = page.locator('.monaco-hover a, .monaco-hover .action', { hasText: 'Quick Fix' }).first();
  await quickFix.scrollIntoViewIfNeeded();
  await moveTo(...await middle(quickFix));
  await frame(500);
  await page.mouse.click(at.x, at.y);
  await page.locator(it.MENU_ROW).first().waitFor();
  await page.waitForTimeout(500);
  await frame(2200);
  const remove = page.locator(it.MENU_ROW).filter({ hasText: 'Remove' }).first();
  await moveTo(...await middle(remove));
  await frame(500);
  await page.mouse.click(at.x, at.y);
  await it.until('no squiggle', async () => !(await it.squiggles(page)).length);
  await page.waitForTimeout(500);
  await frame(1200);
  await clickLens();
  await frame(4500);
  fs.writeFileSync(path.join(given.pictures, 'frames.json'), JSON.stringify(frames));
} catch (error) {
  await page.screenshot({ path: path.join(given.pictures, 'failed.png') }).catch(() => {});
  throw error;
} finally {
  await window.close();
}
