-- Every program of the five texts: what is shown in it, and what mending it does. Silent ones stay silent.
package.path = vim.fs.joinpath(vim.fs.dirname(arg[0]), '?.lua;') .. package.path
local harness = require('harness')
local case, equal, contains = harness.case, harness.equal, harness.contains

harness.start()
equal(harness.client.offset_encoding, 'utf-8', 'the encoding that was agreed on')

for _, example in ipairs(harness.given.examples) do
  case(example.name, function()
    local buffer = harness.open(example.name, example.text)
    equal(harness.shown(buffer), harness.wanted(example), 'the diagnostics')

    for number, finding in ipairs(example.findings) do
      local hover = harness.hover(buffer, finding.place)
      contains(hover, finding.code, 'the hover of a finding')
      contains(hover, finding.message, 'the hover of a finding')

      for _, fix in ipairs(finding.fixes) do
        harness.cursor(finding.place)
        harness.act(buffer, fix.title)
        equal(harness.text(buffer), fix.text, 'the text after ' .. fix.title)
        for _, left in ipairs(harness.shown(buffer)) do
          if vim.deep_equal(left, harness.wanted(example)[number]) then
            error(finding.code .. ' is still shown after ' .. fix.title)
          end
        end
        harness.undo(buffer)
        equal(harness.text(buffer), example.text, 'the text after undo')
        equal(harness.shown(buffer), harness.wanted(example), 'the diagnostics after undo')
      end
    end

    if example.fixed ~= example.text then
      harness.act(buffer, '', 'source.fixAll.gradsight')
      equal(harness.text(buffer), example.fixed, 'the text after fixing all')
    end
    vim.cmd('bwipeout!')
  end)
end

harness.stop()
