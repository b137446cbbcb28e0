-- Lets in those who enter at the same time: each counts a connect and takes places, one after another, as if each
-- had called alone. What several of them touch is read once and written once.
--
-- KEYS  of each: where a connect is counted, its window, a number; then its places, hashes: one field per
--       incarnation, "<version> <connections> <second when it was told>"
-- ARGV  1: milliseconds that an untouched place lives   2: seconds that a number holds untold
--       then of each: connects that its window takes, 0 where none is counted; milliseconds of a window; own
--       incarnation; how many places; and of each place: version, own number, what the sum may be, how many to
--       strike off, and these
-- Gives of each: milliseconds until the window ends ('' where none is counted), then "in", or "fast", or "full", the
-- number of the place and whose fields it has, or "lost" where a key of its holds something else.

local untouched, holds, now = ARGV[1], tonumber(ARGV[2]), redis.call('TIME')[1]
local at, nth, windows, places, changed, answers = 3, 1, {}, {}, {}, {}

local function next_arg()
  at = at + 1
  return ARGV[at - 1]
end

-- Counts a connect; nil where that can't be done.
local function count(key, length)
  local window = windows[key]
  if window then
    window.count, window.more = window.count + 1, window.more + 1
    return window
  end
  local connects = redis.pcall('INCR', key)
  if type(connects) ~= 'number' then
    return nil
  end
  local left = redis.call('PTTL', key)
  -- One that lasts longer than a window was begun under another setting, or another clock.
  if left < 0 or left > length then
    connects, left = 1, length
    redis.call('SET', key, connects, 'PX', left)
  end
  -- It is gone when that moment is over, not when it begins.
  window = { count = connects, more = 0, left = tostring(left + 1) }
  windows[key] = window
  return window
end

-- Reads a place: its sum, and what each holds of it; nil where that can't be done.
local function place_of(key)
  if places[key] then
    return places[key]
  end
  local fields = redis.pcall('HGETALL', key)
  if fields.err then
    return nil
  end
  local place = { sum = 0, held = {}, versions = {} }
  for n = 1, #fields, 2 do
    local version, held, told = string.match(fields[n + 1], '^(%d+) (%d+) (%d+)$')
    if not version or now - told > holds then
      -- Not ours, or nobody's any more: whoever lives would have told it again.
      redis.call('HDEL', key, fields[n])
    else
      place.held[fields[n]], place.versions[fields[n]] = tonumber(held), tonumber(version)
      place.sum = place.sum + tonumber(held)
    end
  end
  places[key] = place
  return place
end

local function strike(key, place, of)
  redis.call('HDEL', key, of)
  if place.held[of] then
    place.sum = place.sum - place.held[of]
    place.held[of], place.versions[of] = nil, nil
  end
end

local function enter()
  local most, length, own, wanted = tonumber(next_arg()), tonumber(next_arg()), next_arg(), tonumber(next_arg())
  local window, left, verdict, set = nil, '', nil, {}
  if most > 0 then
    window = count(KEYS[nth], length)
    nth = nth + 1
    left = window and window.left or ''
    verdict = not window and { left, 'lost' } or window.count > most and { left, 'fast' } or nil
  end
  for n = 0, wanted - 1 do
    local key, version, held, most = KEYS[nth], tonumber(next_arg()), tonumber(next_arg()), tonumber(next_arg())
    local strikes, place = tonumber(next_arg()), not verdict and place_of(KEYS[nth])
    nth = nth + 1
    for _ = 1, strikes do
      local of = next_arg()
      if place then
        strike(key, place, of)
      end
    end
    if not verdict and not place then
      verdict = { left, 'lost' }
    elseif not verdict then
      local mine = place.held[own] or 0
      -- A later number of this node may have come first. It contains the one who enters.
      local newer = (place.versions[own] or 0) > version
      if place.sum - mine + (newer and mine or held) > most then
        verdict = { left, 'full', tostring(n) }
        for of in pairs(place.held) do
          verdict[#verdict + 1] = of
        end
      elseif not newer then
        set[#set + 1] = { key = key, place = place, version = version, held = held }
      end
    end
  end
  if verdict then
    return verdict
  end
  for _, one in ipairs(set) do
    local place = one.place
    place.sum = place.sum - (place.held[own] or 0) + one.held
    place.held[own], place.versions[own] = one.held, one.version
    changed[one.key] = changed[one.key] or {}
    changed[one.key][own] = true
  end
  return { left, 'in' }
end

while at <= #ARGV do
  answers[#answers + 1] = enter()
end
for key, window in pairs(windows) do
  if window.more > 0 then
    redis.call('INCRBY', key, window.more)
  end
end
for key, owners in pairs(changed) do
  local place = places[key]
  for own in pairs(owners) do
    -- Unless somebody behind it struck it off as dead.
    if place.held[own] then
      redis.call('HSET', key, own, string.format('%.0f %d ', place.versions[own], place.held[own]) .. now)
    end
  end
  redis.call('PEXPIRE', key, untouched)
end
return answers
