-- Changes one room's roster and publishes what had an effect; all or nothing.
--
-- KEYS  1: the roster, a hash: one field per incarnation and user, and '' for its version, "<place> <id>"
-- ARGV  1: channel   2: seconds an untouched roster lives   3: id of the version that this makes
--       then three for each change: field, '+' and the user's name or '-', the change as it is published
-- Gives the version that the roster has now, '' where it was never changed.

local roster = KEYS[1]
local version = redis.call('HGET', roster, '') or ''
local lines = {}
for n = 4, #ARGV, 3 do
  local field, sign, name = ARGV[n], string.sub(ARGV[n + 1], 1, 1), string.sub(ARGV[n + 1], 2)
  local effective
  if sign == '-' then
    effective = redis.call('HDEL', roster, field) == 1
  else
    effective = redis.call('HGET', roster, field) ~= name
    if effective then
      redis.call('HSET', roster, field, name)
    end
  end
  if effective then
    lines[#lines + 1] = ARGV[n + 2]
  end
end
if #lines > 0 then
  local place, prev = string.match(version, '^(%d+) (%S+)$')
  version = string.format('%.0f', (tonumber(place) or 0) + 1) .. ' ' .. ARGV[3]
  redis.call('HSET', roster, '', version)
  -- Where it may not be published, the nodes find it when they compare.
  redis.pcall('PUBLISH', ARGV[1], 'p' .. (prev or '') .. '\n' .. version .. '\n' .. table.concat(lines, '\n'))
end
redis.call('EXPIRE', roster, ARGV[2])
return version
