-- Checks of several tenants, each of them whole: all that it asks for, or nothing. Numbers are doubles, packed: exact up to 2^53, and
-- the table of dimensions stays below.
-- KEYS: one state for each check, with the tenant as its hash tag.
-- ARGV: one check for each key: limits, asks and changes of the six rates; this host; whether what it says of its runs is how many
-- there are (1) or how many more or less (0); that number; whether one more is asked for; how many the tenant may have; how long the
-- host's last one lasts, in microseconds.
-- A state is six levels, the time that they are of, and for each host with runs: its number, its runs, until when they count. All of it
-- is in one value, since each call of a command takes as long as the arithmetic of a whole check.
local WINDOW, BACK, CHECK = 60000000, 1000000, '<dddddddddddddddddddddddd'
-- A key lasts as long as runs or levels matter, at most a day: debt that takes longer is forgotten then. In steps, since a number that
-- is made a text costs more than the memory.
local LASTS = {{2000000, '3000'}, {60000000, '62000'}, {3600000000, '3620000'}}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for k = 1, #KEYS do
    local a = {struct.unpack(CHECK, ARGV[k])}
    local old, s, n = redis.call('GET', KEYS[k]), nil, 7
    if old and #old % 24 == 8 then
        n = #old / 8
        s = {struct.unpack('<' .. string.rep('d', n), old)}
    else
        s = {0, 0, 0, 0, 0, 0, now}
    end
    -- A clock that is set back by more than a second is believed.
    local gone = now - s[7]
    if gone >= 0 or gone < -BACK then s[7] = now end
    if gone < 0 then gone = 0 end

    local against, wait, lasts = 0, 0, 0
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

    -- Hosts whose last run is over have died with it.
    local runs, own, i = 0, 0, 8
    while i <= n do
        if s[i] == a[19] or s[i + 2] <= now then
            if s[i] == a[19] and s[i + 2] > now then own = s[i + 1] end
            s[i], s[i + 1], s[i + 2] = s[n - 2], s[n - 1], s[n]
            n = n - 3
        else
            runs = runs + s[i + 1]
            lasts = math.max(lasts, s[i + 2] - now)
            i = i + 3
        end
    end
    own = math.max(a[20] == 1 and a[21] or own + a[21], 0)
    if a[22] == 1 then
        if runs + own >= a[23] then
            against, wait = 7, 0
        elseif against == 0 then
            own = own + 1
        end
    end
    if own > 0 then
        s[n + 1], s[n + 2], s[n + 3] = a[19], own, now + a[24]
        n, runs = n + 3, runs + own
        lasts = math.max(lasts, a[24])
    end

    for i = 1, 6 do
        if against == 0 then s[i] = s[i] + a[6 + i] end
        if a[i] > 0 then
            local runs_off = s[i] / a[i] * WINDOW
            if runs_off > lasts then lasts = runs_off end
        end
    end
    local expires = '86400000'
    for i = 1, 3 do
        if lasts <= LASTS[i][1] then
            expires = LASTS[i][2]
            break
        end
    end
    redis.call('SET', KEYS[k], struct.pack('<' .. string.rep('d', n), unpack(s, 1, n)), 'PX', expires)
    answers[k] = struct.pack('<ddddddddd', against, wait, runs, unpack(s, 1, 6))
end
return table.concat(answers)
