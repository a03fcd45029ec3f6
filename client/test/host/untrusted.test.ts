import assert from "node:assert/strict";
import { closeAll, findings, open, ready, until } from "./window";

describe("in a workspace that is not trusted", () => {
  after(closeAll);

  it("there are findings, and no probe", async () => {
    const gradsight = await ready();
    const { document } = await open();
    await until(() => findings(document.uri).length === 1, "there is a finding");
    assert.equal(await gradsight.run({ uri: document.uri.toString(), range: null, call: null, python: null, check: null }), null);
    assert.equal(gradsight.probePython(), undefined, "an interpreter was looked for");
    assert.deepEqual(gradsight.views.drawn(document.uri), []);
  });
});
