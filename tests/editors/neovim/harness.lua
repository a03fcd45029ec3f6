-- What the cases share: one server for all of a run, waiting, and the results that pytest reads.
--
-- Invariant: only what Neovim itself offers is used to ask and to answer; no message is written by hand but those
-- that it has no function for.
local harness = { given = vim.json.decode(table.concat(vim.fn.readfile(vim.env.GRADSIGHT_GIVEN), '\n')) }

local results, messages = {}, {}
local versions = {} -- of each document the version that was published last

local publish = vim.lsp.handlers['textDocument/publishDiagnostics']
vim.lsp.handlers['textDocument/publishDiagnostics'] = function(problem, result, context)
  versions[vim.uri_to_fname(result.uri)] = result.version or -1
  return publish(problem, result, context)
end
vim.lsp.handlers['window/showMessage'] = function(_, result)
  table.insert(messages, result.message)
end
vim.lsp.log.set_level(vim.log.levels.WARN)

function harness.messages()
  return messages
end

-- Wait until `found` returns something true, which is returned.
function harness.wait(what, found, seconds)
  local value
  if not vim.wait((seconds or 30) * 1000, function() value = found(); return value end, 5) then
    error('waited in vain for ' .. what, 2)
  end
  return value
end

function harness.equal(got, wanted, what)
  if not vim.deep_equal(got, wanted) then
    error(('%s\n  wanted: %s\n  got:    %s'):format(what, vim.inspect(wanted), vim.inspect(got)), 2)
  end
end

function harness.contains(text, part, what)
  if type(text) ~= 'string' or not text:find(part, 1, true) then
    error(('%s\n  wanted within: %s\n  got: %s'):format(what, part, vim.inspect(text)), 2)
  end
end

function harness.case(name, body)
  local ok, problem = xpcall(body, debug.traceback)
  results[name] = ok and vim.NIL or problem
  vim.fn.writefile({ vim.json.encode(results) }, vim.env.GRADSIGHT_RESULTS)
end

-- The server that all documents of a run share. `settings` is what it is told of the section `gradsight`.
function harness.start(settings)
  harness.client = assert(vim.lsp.get_client_by_id(assert(vim.lsp.start({
    name = 'gradsight',
    cmd = harness.given.server,
    root_dir = harness.given.folder,
    settings = { gradsight = vim.tbl_deep_extend('force', { probe = { python = harness.given.python } }, settings or {}) },
  }, { attach = false }))))
  harness.wait('the server', function() return harness.client.initialized end)
  return harness.client
end

-- Open a text as a file of its own, and wait for what the server says about it.
function harness.open(name, text)
  local path = vim.fs.joinpath(harness.given.folder, name)
  local file = assert(io.open(path, 'wb'))
  file:write(text)
  file:close()
  vim.cmd.edit(vim.fn.fnameescape(path))
  local buffer = vim.api.nvim_get_current_buf()
  vim.bo[buffer].filetype = 'python'
  vim.bo[buffer].undolevels = 1000
  assert(vim.lsp.buf_attach_client(buffer, harness.client.id))
  harness.settle(buffer)
  return buffer
end

-- Wait until the diagnostics shown are those of the text as it stands.
function harness.settle(buffer)
  harness.wait('diagnostics of ' .. vim.api.nvim_buf_get_name(buffer), function()
    return versions[vim.api.nvim_buf_get_name(buffer)] == vim.lsp.util.buf_versions[buffer]
  end)
end

function harness.text(buffer)
  local lines = table.concat(vim.api.nvim_buf_get_lines(buffer, 0, -1, false), '\n')
  return lines .. (vim.bo[buffer].endofline and '\n' or '')
end

-- A line break within `settled` undo: what follows is undone by itself.
function harness.undo(buffer)
  vim.api.nvim_buf_call(buffer, function() vim.cmd('silent undo') end)
  harness.settle(buffer)
end

function harness.cursor(place)
  vim.api.nvim_win_set_cursor(0, { place.row + 1, place.start })
end

local SEVERITIES = { 'error', 'warning', 'information', 'hint' }

-- What is shown in a buffer, in the words of examples.py.
function harness.shown(buffer)
  local found = {}
  for _, each in ipairs(vim.diagnostic.get(buffer)) do
    table.insert(found, {
      code = each.code,
      severity = SEVERITIES[each.severity],
      message = each.message,
      place = { row = each.lnum, start = each.col, end_row = each.end_lnum, ['end'] = each.end_col },
    })
  end
  return harness.sorted(found)
end

-- The same of what examples.py wants.
function harness.wanted(example)
  local found = {}
  for _, each in ipairs(example.findings) do
    table.insert(found, { code = each.code, severity = each.severity, message = each.message, place = each.place })
  end
  return harness.sorted(found)
end

function harness.sorted(found)
  table.sort(found, function(a, b)
    if a.place.row ~= b.place.row then return a.place.row < b.place.row end
    if a.place.start ~= b.place.start then return a.place.start < b.place.start end
    return a.code < b.code
  end)
  return found
end

function harness.request(method, parameters, buffer)
  local answer, problem = harness.client:request_sync(method, parameters, 60000, buffer)
  assert(answer, problem)
  assert(not answer.err, vim.inspect(answer.err))
  return answer.result
end

-- What the server wants to be said about a place, as plain text.
function harness.hover(buffer, place)
  local result = harness.request('textDocument/hover', {
    textDocument = vim.lsp.util.make_text_document_params(buffer),
    position = { line = place.row, character = place.start },
  }, buffer)
  return result and result ~= vim.NIL and result.contents.value or nil
end

-- Apply the one code action at the cursor whose title contains `title`, as a person would choose it.
function harness.act(buffer, title, kind)
  local before = vim.api.nvim_buf_get_changedtick(buffer)
  vim.lsp.buf.code_action({
    apply = true,
    context = kind and { only = { kind }, diagnostics = {} } or nil,
    filter = function(action) return action.title:find(title, 1, true) == 1 end,  -- not `Fix and probe: …`
  })
  harness.wait('the code action ' .. title, function()
    return vim.api.nvim_buf_get_changedtick(buffer) ~= before
  end)
  harness.settle(buffer)
end

-- Run a command of the server's and wait for its answer.
function harness.execute(buffer, command)
  local answer
  harness.client:exec_cmd(command, { bufnr = buffer }, function(problem, result)
    answer = { problem = problem, result = result }
  end)
  harness.wait(command.command, function() return answer end, 60)
  return answer
end

-- The inlay hints of a buffer by row: { [row] = { label, … } }.
function harness.hints(buffer)
  local rows = {}
  for _, each in ipairs(vim.lsp.inlay_hint.get({ bufnr = buffer })) do
    local label = each.inlay_hint.label
    if type(label) == 'table' then
      label = table.concat(vim.tbl_map(function(part) return part.value end, label))
    end
    local row = each.inlay_hint.position.line
    rows[row] = rows[row] or {}
    table.insert(rows[row], label)
  end
  return rows
end

function harness.stop()
  harness.client:stop()
  harness.wait('the server to stop', function() return harness.client:is_stopped() end)
  vim.cmd('qall!')
end

return harness
