-- Appends drafts to one room's log: clientId look-up, next place, append, trim, expire, publish; all or nothing.
--
-- KEYS  1: the room's list; 2…: the clientId keys of the drafts that have one; then, for each draft that pays,
--       its user's window
-- ARGV  1: channel   2: messages kept   3: seconds an idle list lives   4: seconds a clientId is remembered
--       5, 6: place and id of the newest message known before the first try (0 and '' if none)
--       7: how many drafts pay; where some do: their limit, their window in milliseconds, and the number of each,
--       with a 'b' behind it where it is to bring a block
--       then five for each draft: id, body, timestamp, index of its clientId key in KEYS (0: none),
--       ids of former tries parted by spaces
-- Gives for each draft "s <seq> <id>…" stored, "d <seq> <id> <timestamp>" duplicate, "u" unknowable, "l <ms>" its
-- user sent too many, for so long. Behind them "b <draft> <ahead> <ms>" for each block that a node may use.

local list = KEYS[1]
local HEAD = '{"type":"message","payload":{"id":"'
local FORM = '^{"type":"message","payload":{"id":"([%w_%-]+)","seq":(%d+),'

local id, seq = '', 0
local last = redis.call('LINDEX', list, -1)
if last then
  local found, place = string.match(last, FORM)
  if not found then
    return redis.error_reply('CORRUPT the room\'s list holds something that is no message')
  end
  id, seq = found, tonumber(place)
end
local prev = id
local oldest = seq - redis.call('LLEN', list) + 1

-- Where a former try of this draft stands in the list.
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
  local base = tonumber(ARGV[5])
  if base == 0 then
    return oldest <= 1
  end
  if base < oldest or base > seq then
    return false
  end
  return string.match(redis.call('LINDEX', list, base - oldest), FORM) == ARGV[6]
end

-- What came of the clientIds, all looked up before anything is written: an error here stores nothing.
local known = {}
local paying, drafts = tonumber(ARGV[7]), 8
for n = 2, #KEYS - paying do
  known[KEYS[n]] = redis.call('GET', KEYS[n])
end

-- What a draft is answered that has to pay and can't: made only where some have to.
local pay
local blocks = {}
if paying > 0 then
  local limit, window = tonumber(ARGV[8]), tonumber(ARGV[9])
  local windows, with_block = {}, {}
  for n = 1, paying do
    local nth, b = string.match(ARGV[9 + n], '^(%d+)(b?)$')
    windows[tonumber(nth)], with_block[tonumber(nth)] = KEYS[#KEYS - paying + n], b == 'b'
  end
  drafts = 10 + paying
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

local answers, fresh, named = {}, {}, {}
for n = drafts, #ARGV, 5 do
  local mid, body, stamp, key, formers = ARGV[n], ARGV[n + 1], ARGV[n + 2], KEYS[tonumber(ARGV[n + 3])], ARGV[n + 4]
  local answer
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
  answer = answer or (pay and pay(#answers))
  if not answer then
    local place = string.format('%.0f', seq + #fresh + 1)
    fresh[#fresh + 1] = HEAD .. mid .. '","seq":' .. place .. body
    if key then
      known[key] = place .. ' ' .. mid .. ' ' .. stamp
      named[#named + 1] = key
    end
    answer = 's ' .. place .. ' ' .. mid
  end
  answers[#answers + 1] = answer
end

if #fresh > 0 then
  redis.call('RPUSH', list, unpack(fresh))
  redis.call('LTRIM', list, -tonumber(ARGV[2]), -1)
  redis.call('EXPIRE', list, ARGV[3])
  for _, key in ipairs(named) do
    redis.call('SET', key, known[key], 'EX', ARGV[4])
  end
  -- It is stored by now: where it may not be published, the nodes find it in the list.
  redis.pcall('PUBLISH', ARGV[1], 'm' .. prev .. '\n' .. table.concat(fresh, '\n'))
end
for _, block in ipairs(blocks) do
  answers[#answers + 1] = block
end
return answers
