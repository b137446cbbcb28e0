-- Reads a run of one room's log.
--
-- KEYS  1: the room's list
-- ARGV  1: "newest" or "from"   2: the place to read from, for "from"   3: messages at most
-- Gives the newest message ('' where the list is empty), the number of messages in the list, then the run.

local list = KEYS[1]
local len = redis.call('LLEN', list)
if len == 0 then
  return { '', '0' }
end
local last = redis.call('LINDEX', list, -1)
local seq = string.match(last, '^{"type":"message","payload":{"id":"[%w_%-]+","seq":(%d+),')
if not seq then
  return redis.error_reply('CORRUPT the room\'s list holds something that is no message')
end
local max, start = tonumber(ARGV[3]), nil
if ARGV[1] == 'newest' then
  start = math.max(0, len - max)
else
  start = math.max(0, tonumber(ARGV[2]) - (tonumber(seq) - len + 1))
end
local answer = { last, tostring(len) }
if start < len then
  local run = redis.call('LRANGE', list, start, math.min(len, start + max) - 1)
  for n = 1, #run do
    answer[n + 2] = run[n]
  end
end
return answer
