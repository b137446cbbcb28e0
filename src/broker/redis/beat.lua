-- Renews a node's lease, strikes dead nodes off the list, and gives the list.
--
-- KEYS  1: the list, a set of incarnations; a lease is the key <list>:<incarnation>
--       2: the own lease   3: the users of the node, a sorted set
-- ARGV  1: own incarnation   2: "first" for its first beat   3: what the node says of itself
--       4: milliseconds the lease lasts   5: milliseconds the users last   6: "anew" to begin the users anew
--       7: how many to strike off, then these; then changes of the users: '+' or '-' and the user
-- Gives nothing where the node was struck off itself. Else whether its lease was still held ("1"), then three for
-- each node: incarnation, milliseconds its lease lasts yet (below 0: it has run out), what it says of itself.

local list, own = KEYS[1], ARGV[1]
if ARGV[2] ~= 'first' and redis.call('SISMEMBER', list, own) == 0 then
  return {}
end
local answer = { tostring(redis.call('EXISTS', KEYS[2])) }
redis.call('SADD', list, own)
redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
local last = 7 + tonumber(ARGV[7])
for n = 8, last do
  if redis.call('EXISTS', list .. ':' .. ARGV[n]) == 0 then
    redis.call('SREM', list, ARGV[n])
  end
end
if ARGV[6] == 'anew' then
  redis.call('DEL', KEYS[3])
end
for n = last + 1, #ARGV do
  local user = string.sub(ARGV[n], 2)
  if string.sub(ARGV[n], 1, 1) == '+' then
    redis.call('ZADD', KEYS[3], 0, user)
  else
    redis.call('ZREM', KEYS[3], user)
  end
end
redis.call('PEXPIRE', KEYS[3], ARGV[5])
for _, node in ipairs(redis.call('SMEMBERS', list)) do
  local lease = list .. ':' .. node
  answer[#answer + 1] = node
  answer[#answer + 1] = tostring(redis.call('PTTL', lease))
  answer[#answer + 1] = redis.call('GET', lease) or ''
end
return answer
