-- Appends drafts to one room's log: clientId look-up, next place, append, trim, expire, publish; all or nothing.
--
-- KEYS  1: the room's list; 2…: the clientId keys of the drafts that have one; then, for each draft that pays,
--       its user's window
-- ARGV  1: channel   2: messages kept   3: seconds the list lives from now on (negative: one that was
--       there already lives as long as it would anyway)
--       4: the place that the node expects for the first draft   5: how many drafts
--       then one for each draft: the message as it is stored, if its place is the expected one
--       Only where a draft has a clientId, was tried before or pays:
--       seconds a clientId is remembered; place and id of the newest message known before the first try (0 and ''
--       if none); how many drafts were tried before; how many pay; where some do: their limit, their window in
--       milliseconds, and the number of each, with a 'b' behind it where it is to bring a block;
--       then four for each such draft: its number, what is remembered of it ("<seq> <id> <timestamp>") if its place
--       is the expected one, index of its clientId key in KEYS (0: none), ids of former tries parted by spaces
-- Gives the place of the first draft where all are stored as they are. Else for each draft "s <seq> <id>…" stored,
-- "d <seq> <id> <timestamp>" duplicate, "u" unknowable, "l <ms>" its user sent too many, for so long; behind them
-- "b <draft> <ahead> <ms>" for each block that a node may use.
--
-- Every string that Lua makes costs time for each of its bytes. So what nobody has to look into isn't taken
-- apart: the node writes a message whole, and only where another node was first is its place put in here.

local list = KEYS[1]
local FORM = '^{"type":"message","payload":{"id":"([%w_%-]+)","seq":(%d+),'
-- Bytes of a message before its id, of its id, and before its place.
local BEFORE_ID, ID, BEFORE_PLACE = 35, 12, 55

local prev, seq = '', 0
local last = redis.call('LINDEX', list, -1)
if last then
  local found, place = string.match(last, FORM)
  if not found then
    return redis.error_reply('CORRUPT the room\'s list holds something that is no message')
  end
  prev, seq = found, tonumber(place)
end

local expected, count = tonumber(ARGV[4]), tonumber(ARGV[5])
local special = 6 + count
-- What is stored: these of `fresh`.
local fresh, from, to = ARGV, 6, 5 + count
-- Keys and values of what is remembered.
local answers, named, blocks = nil, {}, {}

-- A draft's message with another place.
local function at(nth, place)
  local entry, was = ARGV[5 + nth], expected + nth - 1
  if was == place then
    return entry
  end
  local rest = BEFORE_PLACE + #string.format('%d', was) + 1
  return string.sub(entry, 1, BEFORE_PLACE) .. string.format('%d', place) .. string.sub(entry, rest)
end

if not ARGV[special] then
  if seq + 1 ~= expected then
    fresh, from, to = {}, 1, count
    for nth = 1, count do
      fresh[nth] = at(nth, seq + nth)
    end
  end
else
  local oldest = seq - redis.call('LLEN', list) + 1

  -- Where a former try of a draft stands in the list.
  local function find(formers)
    for _, entry in ipairs(redis.call('LRANGE', list, 0, -1)) do
      local found, place = string.match(entry, FORM)
      if found and string.find(formers, found, 1, true) then
        return 's ' .. place .. ' ' .. found
      end
    end
  end

  -- Whether the list still holds the newest message from before the first try: then it holds
  -- everything that came after it, too.
  local function reaches_back()
    local base = tonumber(ARGV[special + 1])
    if base == 0 then
      return oldest <= 1
    end
    if base < oldest or base > seq then
      return false
    end
    return string.match(redis.call('LINDEX', list, base - oldest), FORM) == ARGV[special + 2]
  end

  -- What came of the clientIds, all looked up before anything is written: an error here stores nothing.
  local known = {}
  local paying, specials = tonumber(ARGV[special + 4]), special + 5
  local simple = seq + 1 == expected and paying == 0 and ARGV[special + 3] == '0'
  for n = 2, #KEYS - paying do
    local key = KEYS[n]
    -- One that is there twice is a duplicate of what this very call stores.
    simple = simple and known[key] == nil
    known[key] = redis.call('GET', key)
    simple = simple and not known[key]
  end

  -- What a draft is answered that has to pay and can't: made only where some have to.
  local pay
  if paying > 0 then
    local limit, window = tonumber(ARGV[special + 5]), tonumber(ARGV[special + 6])
    local windows, with_block = {}, {}
    for n = 1, paying do
      local nth, b = string.match(ARGV[special + 6 + n], '^(%d+)(b?)$')
      windows[tonumber(nth)], with_block[tonumber(nth)] = KEYS[#KEYS - paying + n], b == 'b'
    end
    specials = special + 7 + paying
    pay = function(nth)
      local key = windows[nth]
      if not key then
        return nil
      end
      local ahead, left = take(key, limit, window, with_block[nth])
      if not ahead then
        return 'l ' .. left
      end
      if ahead > 0 then
        blocks[#blocks + 1] = 'b ' .. nth .. ' ' .. ahead .. ' ' .. left
      end
      return nil
    end
  end

  if simple then
    -- Nothing was sent before, and every place is the expected one: all is stored as the node made it. Those that
    -- are special have a clientId, in the order of the keys.
    for n = 2, #KEYS do
      named[#named + 1] = KEYS[n]
      named[#named + 1] = ARGV[specials + 4 * (n - 2) + 1]
    end
  else
    fresh, from, to, answers = {}, 1, 0, {}
  end
  for nth = 1, simple and 0 or count do
    local value, key, formers, answer = nil, nil, '', nil
    if ARGV[specials] == tostring(nth) then
      value, key, formers = ARGV[specials + 1], KEYS[tonumber(ARGV[specials + 2])], ARGV[specials + 3]
      specials = specials + 4
    end
    local sent = key and known[key]
    if sent then
      -- It is stored, so it pays nothing, and is never called one too many.
      local first = string.match(sent, '^%d+ (%S+)')
      answer = (string.find(formers, first, 1, true) and 's ' or 'd ') .. sent
    elseif formers ~= '' then
      answer = find(formers)
      if not answer and not key and not reaches_back() then
        answer = 'u'
      end
    end
    answer = answer or (pay and pay(nth - 1))
    if not answer then
      to = to + 1
      local place = string.format('%d', seq + to)
      fresh[to] = at(nth, seq + to)
      local mid = string.sub(fresh[to], BEFORE_ID + 1, BEFORE_ID + ID)
      if key then
        known[key] = place .. string.match(value, ' .*')
        named[#named + 1] = key
        named[#named + 1] = known[key]
      end
      answer = 's ' .. place .. ' ' .. mid
    end
    answers[nth] = answer
  end
end

if to >= from then
  local len = redis.call('RPUSH', list, unpack(fresh, from, to))
  if len > tonumber(ARGV[2]) then
    redis.call('LTRIM', list, -ARGV[2], -1)
  end
  local life = tonumber(ARGV[3])
  if life > 0 or not last then
    redis.call('EXPIRE', list, math.abs(life))
  end
  for n = 1, #named, 2 do
    redis.call('SET', named[n], named[n + 1], 'EX', ARGV[special])
  end
  -- It is stored by now: where it may not be published, the nodes find it in the list.
  redis.pcall('PUBLISH', ARGV[1], 'm' .. prev .. '\n' .. table.concat(fresh, '\n', from, to))
end
if not answers then
  return seq + 1
end
for _, block in ipairs(blocks) do
  answers[#answers + 1] = block
end
return answers
