-- What a person does besides: types, changes settings, works with other alphabets, asks about any name.
package.path = vim.fs.joinpath(vim.fs.dirname(arg[0]), '?.lua;') .. package.path
local harness = require('harness')
local case, equal, contains = harness.case, harness.equal, harness.contains

harness.start()

-- The examples are those of examples.py; `odd` has text beyond ASCII before what is found, on the same line.
local program = harness.given.examples[1]
local odd = harness.given.odd

local function codes(buffer)
  return vim.tbl_map(function(each) return each.code end, harness.shown(buffer))
end

local function configure(settings)
  local merged = vim.tbl_deep_extend('force', harness.client.settings.gradsight, settings)
  harness.client.settings = { gradsight = merged }
  harness.client:notify('workspace/didChangeConfiguration', { settings = harness.client.settings })
end

case('columns are counted in UTF-8 behind other alphabets', function()
  local buffer = harness.open('odd.py', odd.text)
  equal(harness.shown(buffer), harness.wanted(odd), 'the diagnostics')
  local place = odd.findings[1].place
  local line = vim.api.nvim_buf_get_lines(buffer, place.row, place.row + 1, false)[1]
  equal(line:sub(place.start + 1, place['end']), odd.findings[1].quote, 'the bytes underlined')
  harness.cursor(place)
  harness.act(buffer, odd.findings[1].fixes[1].title)
  equal(harness.text(buffer), odd.findings[1].fixes[1].text, 'the text after the fix')
  equal(codes(buffer), {}, 'the diagnostics after the fix')
  harness.undo(buffer)
  equal(harness.shown(buffer), harness.wanted(odd), 'the diagnostics after undo')
  vim.cmd('bwipeout!')
end)

case('an unfinished statement is marked itself and leaves the others alone', function()
  local buffer = harness.open('typing.py', program.text)
  local found = program.findings[1]
  local row = found.place.row
  local line = vim.api.nvim_buf_get_lines(buffer, row, row + 1, false)[1]
  local indent = line:match('^%s*')
  vim.api.nvim_buf_set_lines(buffer, row, row, false, { indent })
  local typed = 'scale = max(1, 2)'
  local unfinished = 0
  for at = 1, #typed do
    vim.api.nvim_buf_set_text(buffer, row, #indent + at - 1, row, #indent + at - 1, { typed:sub(at, at) })
    harness.settle(buffer)
    local others = {}
    for _, each in ipairs(harness.shown(buffer)) do
      if each.code == 'GS001' then
        unfinished = unfinished + 1
        equal(each.place.row, row, 'the row of the line that does not parse, at ' .. typed:sub(1, at))
      else
        table.insert(others, each)
      end
    end
    equal(#others, #program.findings, 'the findings at ' .. typed:sub(1, at))
    equal(others[1].place.row, row + 1, 'the row of the finding at ' .. typed:sub(1, at))
    equal(others[1].code, found.code, 'the finding at ' .. typed:sub(1, at))
  end
  assert(unfinished > 0, 'no state while typing was marked as unfinished')
  equal(#harness.shown(buffer), #program.findings, 'the findings of the finished statement')
  vim.cmd('bwipeout!')
end)

case('a burst of edits is answered for the last one', function()
  local buffer = harness.open('burst.py', program.text)
  for count = 1, 50 do
    vim.api.nvim_buf_set_lines(buffer, 0, 0, false, { '# ' .. count })
  end
  harness.settle(buffer)
  equal(harness.shown(buffer)[1].place.row, program.findings[1].place.row + 50, 'the row of the finding')
  vim.cmd('bwipeout!')
end)

case('settings are taken while one works', function()
  local buffer = harness.open('settings.py', program.text)
  local code = program.findings[1].code
  equal(codes(buffer), { code }, 'the diagnostics')
  configure({ ignore = { code } })
  harness.wait('silence', function() return #codes(buffer) == 0 end)
  configure({ ignore = vim.NIL, severity = { [code] = 'information' } })
  harness.wait('the finding, quieter', function()
    local shown = harness.shown(buffer)
    return #shown == 1 and shown[1].severity == 'information'
  end)
  configure({ ignore = {}, severity = vim.NIL })
  harness.wait('the finding as it was', function()
    return vim.deep_equal(harness.shown(buffer), harness.wanted(program))
  end)
  vim.cmd('bwipeout!')
end)

case('a malformed setting is told once, and the server goes on', function()
  local buffer = harness.open('malformed.py', program.text)
  local before = #harness.messages()
  configure({ ignore = 7 })
  harness.wait('a message', function() return #harness.messages() > before end)
  contains(harness.messages()[#harness.messages()], 'ignore', 'the message')
  vim.api.nvim_buf_set_lines(buffer, 0, 0, false, { '' })
  harness.settle(buffer)
  equal(#harness.messages(), before + 1, 'the number of messages')
  equal(codes(buffer), { program.findings[1].code }, 'the diagnostics')
  configure({ ignore = {} })
  vim.cmd('bwipeout!')
end)

case('a finding is silenced where it stands', function()
  local buffer = harness.open('here.py', program.text)
  harness.cursor(program.findings[1].place)
  harness.act(buffer, 'Ignore')
  contains(harness.text(buffer), '# gradsight: ignore[' .. program.findings[1].code .. ']', 'the text')
  equal(codes(buffer), {}, 'the diagnostics')
  harness.undo(buffer)
  equal(harness.shown(buffer), harness.wanted(program), 'the diagnostics after undo')
  vim.cmd('bwipeout!')
end)

case('a loss lights up what feeds it', function()
  local buffer = harness.open('lit.py', harness.given.lit.text)
  local lit = harness.request('textDocument/documentHighlight', {
    textDocument = vim.lsp.util.make_text_document_params(buffer),
    position = { line = harness.given.lit.row, character = harness.given.lit.column },
  }, buffer)
  local rows = {}
  for _, each in ipairs(lit) do rows[each.range.start.line] = true end
  for _, row in ipairs(harness.given.lit.feeds) do
    assert(rows[row], ('row %d is not lit: %s'):format(row, vim.inspect(vim.tbl_keys(rows))))
  end
  assert(not rows[harness.given.lit.idle], 'a row is lit that feeds nothing')
  vim.cmd('bwipeout!')
end)

case('any name in training code says what is known of it', function()
  local buffer = harness.open('known.py', harness.given.lit.text)
  local hover = harness.hover(buffer, { row = harness.given.lit.row, start = harness.given.lit.column })
  contains(hover, 'ive', 'the hover of the loss') -- live, or gives
  vim.cmd('bwipeout!')
end)

case('line ends, form feeds and separators do not move a column', function()
  local buffer = harness.open('ends.py', harness.given.ends.text)
  equal(harness.shown(buffer), harness.wanted(harness.given.ends), 'the diagnostics')
  local place = harness.given.ends.findings[1].place
  -- Typing above and behind them keeps both sides' texts the same.
  vim.api.nvim_buf_set_text(buffer, 0, 0, 0, 0, { '# é', '' })
  harness.settle(buffer)
  equal(harness.shown(buffer)[1].place, {
    row = place.row + 1, start = place.start, end_row = place.end_row + 1, ['end'] = place['end'],
  }, 'the place after an edit')
  vim.cmd('bwipeout!')
end)

case('a file with no name and a file that is not Python are left in peace', function()
  vim.cmd.enew()
  local buffer = vim.api.nvim_get_current_buf()
  vim.bo[buffer].filetype = 'text'
  vim.api.nvim_buf_set_lines(buffer, 0, -1, false, { 'loss.detach().backward()' })
  equal(harness.shown(buffer), {}, 'the diagnostics')
  vim.cmd('bwipeout!')
end)

harness.stop()
