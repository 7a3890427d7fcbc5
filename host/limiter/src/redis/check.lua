-- Checks of several tenants, each of them whole: all that it asks for, or nothing. Numbers are doubles, packed: exact up to 2^53, and
-- the table of dimensions stays below.
-- KEYS: one state for each check, with the tenant as its hash tag.
-- ARGV: one check for each key: limits, asks and changes of the rates; this host; whether what it says of its runs is how many there
-- are (1) or how many more or less (0); that number; whether one more is asked for; how many the tenant may have; how long the host's
-- last one lasts, in microseconds.
-- A state is a level for each rate, the time that they are of, and for each host with runs: its number, its runs, until when they
-- count. All of it is one value, since each call of a command takes as long as the arithmetic of half a check.
-- Before this is sent, a line that ends in --* is written out for each rate, with its number for each #, `$name` becomes a list of such
-- names, and @ how many rates there are: a loop over tables would take half as long again.
local WINDOW, BACK, RATES = 60000000, 1000000, @
-- A key lasts as long as runs or levels matter, at most a day: debt that takes longer is forgotten then. In steps, since a number that
-- is made a text costs more than the memory.
local STEPS = {{2000000, '3000'}, {60000000, '62000'}, {3600000000, '3620000'}, {math.huge, '86400000'}}
local CHECK, LEVELS = '<' .. string.rep('d', 3 * RATES + 6), '<' .. string.rep('d', RATES + 1)
local ANSWER = '<' .. string.rep('d', RATES + 3)
local packed, unpacked, ceil, part = struct.pack, struct.unpack, math.ceil, string.sub
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- By key: two checks may be of one tenant.
local states, answers = {}, redis.call('MGET', unpack(KEYS))
for k = 1, #KEYS do states[KEYS[k]] = answers[k] end
for k = 1, #KEYS do
    local $limit, $ask, $change, host, is_all, count, wants, most, last = unpacked(CHECK, ARGV[k])
    local key, at = KEYS[k], now
    local state = states[key]
    local level# = 0 --*
    if state and (#state - 8 * (RATES + 1)) % 24 == 0 then
        $level, at = unpacked(LEVELS, state)
    else
        state = ''
    end
    -- A clock that is set back by more than a second is believed.
    local gone = now - at
    if gone >= 0 or gone < -BACK then at = now end
    if gone < 0 then gone = 0 end

    gone = gone / WINDOW
    local against, wait, lasts = 0, 0, 0
    level# = level# - gone * limit#; if level# < 0 then level# = 0 end level# = level# + change#; if level# < 0 then level# = 0 end --*
    if against == 0 and ask# > 0 and level# + ask# > limit# then against, wait = #, ask# > limit# and -1 or ceil((level# + ask# - limit#) * WINDOW / limit#) end --*

    -- Hosts whose last run is over have died with it.
    local runs, own, own_ends, others, i = 0, 0, 0, '', 8 * (RATES + 1) + 1
    while i < #state do
        local name, number, ends = unpacked('<ddd', state, i)
        if ends > now then
            if name == host then
                own, own_ends = number, ends
            else
                runs, others, lasts = runs + number, others .. part(state, i, i + 23), math.max(lasts, ends - now)
            end
        end
        i = i + 24
    end
    own = math.max(is_all == 1 and count or own + count, 0)
    if wants == 1 then
        if runs + own >= most then
            against, wait = RATES + 1, 0
        elseif against == 0 then
            own = own + 1
        end
    end
    if own > 0 then
        -- Who says only how many more there are knows nothing of a run whose check is under way.
        local ends = is_all == 1 and now + last or math.max(own_ends, now + last)
        runs, others, lasts = runs + own, packed('<ddd', host, own, ends) .. others, math.max(lasts, ends - now)
    end

    if against == 0 then level# = level# + ask# end --*
    if level# * WINDOW > lasts * limit# then lasts = level# * WINDOW / limit# end --*
    local step = 1
    while lasts > STEPS[step][1] do step = step + 1 end
    states[key] = packed(LEVELS, $level, at) .. others
    redis.call('SET', key, states[key], 'PX', STEPS[step][2])
    answers[k] = packed(ANSWER, against, wait, runs, $level)
end
return table.concat(answers)
