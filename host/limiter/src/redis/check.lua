-- One check of one tenant. Amounts are doubles, packed: exact up to 2^53, and the table of dimensions stays below.
-- KEYS: levels, runs. Both carry the tenant as their hash tag.
-- ARGV: limits, asks and changes of the six rates; name of a run or ''; how many runs there may be; how long it lasts in
-- milliseconds; names of runs that have ended.
local N, WINDOW, BACK = 6, 60000000, 1000000
local numbers = '<' .. string.rep('d', 3 * N)
local kept = '<' .. string.rep('d', N + 1)
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local a = {struct.unpack(numbers, ARGV[1])}

local levels, at = nil, now
local old = redis.call('GET', KEYS[1])
if old and #old == 8 * (N + 1) then
    levels = {struct.unpack(kept, old)}
    at = levels[N + 1]
end
-- A clock that is set back by more than a second is believed.
local gone = now - at
if gone >= 0 or gone < -BACK then at = now end
if gone < 0 then gone = 0 end

local used, against, wait, empty = {}, 0, 0, 0
for i = 1, N do
    local limit, level = a[i], 0
    if levels then level = math.max(0, levels[i] - gone * limit / WINDOW) end
    level = math.max(0, level + a[2 * N + i])
    used[i] = level
    local ask = a[N + i]
    if ask > 0 and against == 0 then
        if ask > limit then
            against, wait = i, -1
        elseif level + ask > limit then
            against, wait = i, math.ceil((level + ask - limit) * WINDOW / limit)
        end
    end
end

if #ARGV > 4 then redis.call('ZREM', KEYS[2], unpack(ARGV, 5)) end
local runs = 0
if ARGV[2] ~= '' then
    local most = tonumber(ARGV[3])
    runs = redis.call('ZCARD', KEYS[2])
    if runs >= most then
        -- Those whose time is over have died with their host.
        redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now / 1000)
        runs = redis.call('ZCARD', KEYS[2])
    end
    if runs >= most then
        against, wait = N + 1, 0
    elseif against == 0 then
        redis.call('ZADD', KEYS[2], now / 1000 + ARGV[4], ARGV[2])
        runs = runs + 1
        if runs == 1 then
            redis.call('PEXPIRE', KEYS[2], ARGV[4] + 1000)
        else
            redis.call('PEXPIRE', KEYS[2], ARGV[4] + 1000, 'GT')
        end
    end
end

for i = 1, N do
    if against == 0 then used[i] = used[i] + a[N + i] end
    if a[i] > 0 then empty = math.max(empty, used[i] * WINDOW / a[i]) end
end
used[N + 1] = at
-- Debt that lasts longer than a day is forgotten after one.
local lasts = math.min(math.ceil(empty / 1000) + 1000, 86400000)
redis.call('SET', KEYS[1], struct.pack(kept, unpack(used)), 'PX', lasts)
return struct.pack('<' .. string.rep('d', N + 3), against, wait, runs, unpack(used, 1, N))
