import assert from "node:assert/strict";
import { test } from "node:test";
import type { Position } from "../../src/messages";
import { Changes, moved, type Change } from "../../src/moving";

const at = (line: number, character: number): Position => ({ line, character });
const change = (start: Position, end: Position, text: string): Change => ({ start, end, text });

test("a place stays with the text behind it", () => {
  assert.deepEqual(moved(at(3, 4), change(at(1, 0), at(1, 0), "a\nb\n")), at(5, 4));
  assert.deepEqual(moved(at(3, 4), change(at(1, 2), at(2, 1), "")), at(2, 4));
  assert.deepEqual(moved(at(3, 4), change(at(3, 0), at(3, 0), "xy")), at(3, 6));
  assert.deepEqual(moved(at(3, 4), change(at(3, 0), at(3, 0), "\n")), at(4, 4));
  assert.deepEqual(moved(at(3, 4), change(at(2, 5), at(3, 1), "xyz")), at(2, 11));
  assert.deepEqual(moved(at(3, 4), change(at(3, 4), at(3, 4), "\r\n")), at(4, 0));
  assert.deepEqual(moved(at(3, 4), change(at(3, 5), at(9, 0), "")), at(3, 4));
  assert.deepEqual(moved(at(3, 4), change(at(3, 1), at(4, 0), "")), at(3, 1));
});

/** The same by counting in the text itself. */
function byText(lines: string, place: Position, one: Change): Position {
  const offset = (where: Position): number =>
    lines
      .split("\n")
      .slice(0, where.line)
      .reduce((sum, line) => sum + line.length + 1, 0) + where.character;
  const [start, end, here] = [offset(one.start), offset(one.end), offset(place)];
  const after = here < start ? here : here < end ? start : here + one.text.length - (end - start);
  const before = (lines.slice(0, start) + one.text + lines.slice(end)).slice(0, after).split("\n");
  return at(before.length - 1, before.at(-1)?.length ?? 0);
}

test("for every place and every small change it is what the text says", () => {
  const text = "ab\n\ncde\nf";
  const places = text
    .split("\n")
    .flatMap((line, row) => Array.from({ length: line.length + 1 }, (_, column) => at(row, column)));
  let tried = 0;
  for (const start of places)
    for (const end of places) {
      if (end.line < start.line || (end.line === start.line && end.character < start.character)) continue;
      for (const inserted of ["", "x", "\n", "xy\nz", "\n\n"])
        for (const place of places) {
          const one = change(start, end, inserted);
          assert.deepEqual(moved(place, one), byText(text, place, one));
          tried += 1;
        }
    }
  assert.ok(tried > 1000);
});

test("changes since a version, as far as they are remembered", () => {
  const changes = new Changes(3);
  assert.deepEqual(changes.since(7), []);
  const one = (text: string): Change => change(at(0, 0), at(0, 0), text);
  for (let version = 2; version <= 6; version += 1) changes.add(version, [one(String(version))]);
  assert.deepEqual(
    changes.since(4)?.map((each) => each.text),
    ["5", "6"],
  );
  assert.deepEqual(
    changes.since(3)?.map((each) => each.text),
    ["4", "5", "6"],
  );
  assert.deepEqual(changes.since(6), []);
  assert.equal(changes.since(2), null);
});
