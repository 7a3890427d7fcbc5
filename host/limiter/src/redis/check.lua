-- One check of one tenant. Amounts are doubles, packed: exact up to 2^53, and the table of dimensions stays below.
-- KEYS: state, runs. Both carry the tenant as their hash tag.
-- ARGV: limits, asks and changes of the six rates; name of a run or ''; how many runs there may be; how long it lasts in
-- milliseconds; names of runs that have ended.
-- The state is six levels, the time that they are of, the number of runs, and when the key of runs expires. What can be kept there
-- is, since each call of a command takes as long as all the arithmetic here.
local WINDOW, BACK, KEPT = 60000000, 1000000, '<ddddddddd'
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local a = {struct.unpack('<dddddddddddddddddd', ARGV[1])}

local s
local old = redis.call('GET', KEYS[1])
if old and #old == 72 then
    s = {struct.unpack(KEPT, old)}
else
    s = {0, 0, 0, 0, 0, 0, now, redis.call('ZCARD', KEYS[2]), 0}
end
-- A clock that is set back by more than a second is believed.
local gone = now - s[7]
if gone >= 0 or gone < -BACK then s[7] = now end
if gone < 0 then gone = 0 end

local against, wait, empty = 0, 0, 0
for i = 1, 6 do
    local limit, ask = a[i], a[6 + i]
    local level = s[i] - gone * limit / WINDOW
    if level < 0 then level = 0 end
    level = level + a[12 + i]
    if level < 0 then level = 0 end
    s[i] = level
    if ask > 0 and against == 0 then
        if ask > limit then
            against, wait = i, -1
        elseif level + ask > limit then
            against, wait = i, math.ceil((level + ask - limit) * WINDOW / limit)
        end
    end
end

if #ARGV > 4 then s[8] = s[8] - redis.call('ZREM', KEYS[2], unpack(ARGV, 5)) end
if ARGV[2] ~= '' then
    local most, lasts = tonumber(ARGV[3]), tonumber(ARGV[4])
    if s[8] >= most or s[8] < 0 then
        -- Those whose time is over have died with their host.
        redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now / 1000)
        s[8] = redis.call('ZCARD', KEYS[2])
    end
    if s[8] >= most then
        against, wait = 7, 0
    elseif against == 0 then
        s[8] = s[8] + redis.call('ZADD', KEYS[2], now / 1000 + lasts, ARGV[2])
        -- Never before the last of them. Far enough ahead that this is rare.
        if s[9] < now / 1000 + lasts or s[8] == 1 then
            s[9] = now / 1000 + 2 * lasts + 1000
            redis.call('PEXPIREAT', KEYS[2], math.ceil(s[9]))
        end
    end
end

for i = 1, 6 do
    if against == 0 then s[i] = s[i] + a[6 + i] end
    if a[i] > 0 then
        local runs_off = s[i] / a[i]
        if runs_off > empty then empty = runs_off end
    end
end
-- As long as the runs or a level matter. Debt that lasts longer than a day is forgotten after one.
local lasts = math.max(empty * 60000, s[8] > 0 and s[9] - now / 1000 or 0) + 1000
redis.call('SET', KEYS[1], struct.pack(KEPT, unpack(s)), 'PX', math.min(math.ceil(lasts), 86400000))
return struct.pack(KEPT, against, wait, s[8], unpack(s, 1, 6))
