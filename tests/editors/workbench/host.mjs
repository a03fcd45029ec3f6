// Runs a bundle of mocha tests inside VS Code's extension host. `node host.mjs GIVEN`; exits as the tests did.
//
// GIVEN: { editors, folder, workspace, trusted, extension, tests, failures }. The extension is loaded from its folder,
// not from a VSIX.
import fs from 'node:fs';
import * as it from './window.mjs';

const given = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
let ended;
const exit = new Promise(resolve => { ended = resolve; });

const window = await it.open({
  ...given,
  payload: [['extensionDevelopmentPath', given.extension], ['extensionTestsPath', given.tests]],
  prepare: async page => {
    await page.exposeFunction('codeAutomationLog', (kind, parts) => console[kind === 'error' || kind === 'warn' ? kind : 'log'](...parts));
    await page.exposeFunction('codeAutomationExit', code => ended(code));
    // This page alone: for a whole server the flag would hide every notification.
    await page.addInitScript(() => new MutationObserver((_, observer) => {
      const meta = document.getElementById('vscode-workbench-web-configuration');
      if (!meta) return;
      observer.disconnect();
      const settings = JSON.parse(meta.dataset.settings);
      settings.developmentOptions = { ...settings.developmentOptions, enableSmokeTestDriver: true };
      meta.dataset.settings = JSON.stringify(settings);
    }).observe(document, { childList: true, subtree: true }));
  },
});
const timer = setTimeout(async () => {
  await window.page.screenshot({ path: `${given.failures}/host.png` }).catch(() => {});
  fs.writeFileSync(`${given.failures}/host.txt`, window.printed.join('\n'));
  console.error('the tests in the extension host did not end');
  ended(1);
}, 150000);
const code = await exit;
clearTimeout(timer);
await window.close();
process.exit(code);
