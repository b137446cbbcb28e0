-- One user's window: a number that lives as long as the window does. It stands in front of the scripts that count
-- sends; src/broker/toll.rs says what a window is.

-- Takes one of `limit`, and with `block` a sixteenth of what is left then. Gives how many were taken ahead (nil: the
-- window is used up) and how many milliseconds it lasts still. What is no number, or has no end, is no window.
local function take(key, limit, window, block)
  local used = tonumber((redis.pcall('GET', key))) or 0
  local left = used > 0 and redis.call('PTTL', key) or 0
  -- One that lasts longer than a window was begun under another setting, or another clock.
  if left <= 0 or left > window then
    used = 0
  end
  if used == 0 then
    left = window
  end
  if used >= limit then
    return nil, left
  end
  local ahead = block and math.floor((limit - used - 1) / 16) or 0
  if used == 0 then
    redis.call('SET', key, 1 + ahead, 'PX', window)
  else
    redis.call('SET', key, used + 1 + ahead, 'KEEPTTL')
  end
  return ahead, left
end

