-- From the lens to what stands beside the lines, on one program of each text, and again after its fix.
package.path = vim.fs.joinpath(vim.fs.dirname(arg[0]), '?.lua;') .. package.path
local harness = require('harness')
local case, equal, contains = harness.case, harness.equal, harness.contains

harness.start()

-- The lens that runs the whole script: the one that stands lowest is the script's own `backward`.
local function lens(buffer)
  local found
  vim.lsp.codelens.refresh({ bufnr = buffer })
  harness.wait('code lenses', function()
    found = vim.tbl_filter(function(each)
      return each.command and each.command.command == 'gradsight.runProbe'
    end, vim.lsp.codelens.get(buffer))
    return #found > 0
  end)
  table.sort(found, function(a, b) return a.range.start.line < b.range.start.line end)
  contains(found[#found].command.title, 'robe', 'the title of the lens')
  return found[#found]
end

local function probe(buffer)
  local answer = harness.execute(buffer, lens(buffer).command)
  assert(not answer.problem, vim.inspect(answer.problem))
  vim.lsp.inlay_hint.enable(true, { bufnr = buffer })
  return harness.wait('inlay hints', function()
    local rows = harness.hints(buffer)
    for _, labels in pairs(rows) do
      if vim.startswith(labels[1], '(stale)') then return nil end
    end
    return next(rows) and rows
  end), answer.result
end

local function any_stale(buffer)
  for _, labels in pairs(harness.hints(buffer)) do
    if vim.startswith(labels[1], '(stale)') then return true end
  end
  return false
end

-- What the probe of the command line said about the same text, row by row.
local function compare(rows, lines, what)
  local seen = 0
  for _, line in ipairs(lines) do
    local labels = rows[line.row - 1]
    local cut = line.state == 'cut'
    if cut or labels then
      seen = seen + 1
      contains(table.concat(labels or {}, '  '), cut and '✂' or '', what .. ', row ' .. line.row)
    end
  end
  assert(seen > 0, what .. ': no row of the probe has a hint')
end

for _, example in ipairs(harness.given.examples) do
  case(example.name, function()
    local buffer = harness.open(example.name, example.text)
    local rows, view = probe(buffer)
    compare(rows, example.probed, 'as written')
    equal(view.stale, false, 'the answer')

    -- A line of code above everything: what was seen belongs to another text now.
    vim.api.nvim_buf_set_lines(buffer, 0, 0, false, { 'import math' })
    harness.settle(buffer)
    harness.wait('stale hints', function() return any_stale(buffer) end)
    harness.undo(buffer)
    harness.wait('fresh hints after undo', function()
      return next(harness.hints(buffer)) and not any_stale(buffer)
    end)

    for _, finding in ipairs(example.findings) do
      harness.cursor(finding.place)
      harness.act(buffer, finding.fixes[1].title)
      break
    end
    equal(harness.text(buffer), example.findings[1].fixes[1].text, 'the text after the fix')
    rows, view = probe(buffer)
    compare(rows, example.probed_fixed, 'after the fix')
    assert(not view.error or view.error == vim.NIL, 'the fixed program raises')

    local cleared = harness.execute(buffer, {
      command = 'gradsight.clearProbe',
      title = 'Clear',
      arguments = { { uri = vim.uri_from_bufnr(buffer) } },
    })
    assert(not cleared.problem, vim.inspect(cleared.problem))
    harness.wait('no hints', function() return next(harness.hints(buffer)) == nil end)
    vim.cmd('bwipeout!')
  end)
end

harness.stop()
