-- Counts a connect, and takes places; of these all or none.
--
-- KEYS  1, where a connect is counted: its window, a number; then the places, hashes: one field per incarnation,
--       "<version> <connections> <second when it was told>"
-- ARGV  1: connects that a window takes, 0 where none is counted   2: milliseconds of a window
--       3: own incarnation   4: milliseconds that an untouched place lives   5: seconds that a number holds untold
--       then for each place: version, own number, what the sum may be, how many to strike off, and these
-- Gives milliseconds until the window ends ('' where none is counted), then "in", or "fast", or "full", the number of
-- the place, and whose fields it has.

local left, first = '', 1
if ARGV[1] ~= '0' then
  first = 2
  local count = redis.call('INCR', KEYS[1])
  left = redis.call('PTTL', KEYS[1])
  -- One that lasts longer than a window was begun under another setting, or another clock.
  if left < 0 or left > tonumber(ARGV[2]) then
    count, left = 1, tonumber(ARGV[2])
    redis.call('SET', KEYS[1], count, 'PX', left)
  end
  -- It is gone when that moment is over, not when it begins.
  left = tostring(left + 1)
  if count > tonumber(ARGV[1]) then
    return { left, 'fast' }
  end
end
local own, at, set = ARGV[3], 6, {}
local now, holds = redis.call('TIME')[1], tonumber(ARGV[5])
for k = first, #KEYS do
  local key, version, held, most = KEYS[k], tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local strikes = tonumber(ARGV[at + 3])
  at = at + 4
  for n = at, at + strikes - 1 do
    redis.call('HDEL', key, ARGV[n])
  end
  at = at + strikes
  local fields, sum, newer = redis.call('HGETALL', key), 0, false
  for n = 1, #fields, 2 do
    local of, count, told = string.match(fields[n + 1], '^(%d+) (%d+) (%d+)$')
    if not of or now - told > holds then
      -- Not ours, or nobody's any more: whoever lives would have told it again.
      redis.call('HDEL', key, fields[n])
    elseif fields[n] ~= own then
      sum = sum + tonumber(count)
    elseif tonumber(of) > version then
      -- A later number of this node came first. It contains the one who enters.
      held, newer = tonumber(count), true
    end
  end
  if sum + held > most then
    local answer = { left, 'full', tostring(k - first) }
    for n = 1, #fields, 2 do
      answer[#answer + 1] = fields[n]
    end
    return answer
  end
  if not newer then
    set[#set + 1] = { key, ARGV[at - strikes - 4] .. ' ' .. ARGV[at - strikes - 3] .. ' ' .. now }
  end
end
for _, one in ipairs(set) do
  redis.call('HSET', one[1], own, one[2])
  redis.call('PEXPIRE', one[1], ARGV[4])
end
return { left, 'in' }
