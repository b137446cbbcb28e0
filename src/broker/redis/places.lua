-- Sets numbers of connections absolutely; each unless a newer one is there.
--
-- KEYS  the places, hashes: one field per incarnation, "<version> <connections> <second when it was told>"
-- ARGV  1: milliseconds that an untouched place lives; then three for each place: incarnation, version, number
--       (0 removes it)
-- Gives two for each other field that a place has: the number of the place, and the incarnation.

local answer, now = {}, redis.call('TIME')[1]
for k, key in ipairs(KEYS) do
  local own, version, held = ARGV[3 * k - 1], ARGV[3 * k], ARGV[3 * k + 1]
  local known = redis.pcall('HGET', key, own)
  -- A key that holds something else is left alone, and the others don't wait for it.
  if type(known) ~= 'table' then
    local newest = known and tonumber(string.match(known, '^(%d+) ')) or 0
    if tonumber(version) >= newest then
      if held == '0' then
        redis.call('HDEL', key, own)
      else
        redis.call('HSET', key, own, version .. ' ' .. held .. ' ' .. now)
      end
    end
    if held ~= '0' then
      redis.call('PEXPIRE', key, ARGV[1])
    end
    if redis.call('HLEN', key) > 1 then
      for _, field in ipairs(redis.call('HKEYS', key)) do
        if field ~= own then
          answer[#answer + 1] = tostring(k - 1)
          answer[#answer + 1] = field
        end
      end
    end
  end
end
return answer
