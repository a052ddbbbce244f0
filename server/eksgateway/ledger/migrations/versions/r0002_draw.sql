-- Takes tokens from a target's row in `budget`, by the rule of eks/token_bucket.py. No row: no answer.
--
-- Urgent calls get what there is, other calls what exceeds the reserve. `back` tokens are returned first, or
-- paid where it is negative, also below zero. `throttled` is when a call began that EKS throttled: the rate is
-- halved, unless the call began before the rate was last halved. `wait_s` is the time until the next token that
-- was refused.
--
-- Times are of this database's clock, read under the row's lock. After it was set back, no tokens are lost and
-- none are added twice, and a time of halving in the future counts as none. Within 1 s the later time holds,
-- because the clocks of processors may differ.
--
-- The search_path is the ledger's schema while this file runs; FROM CURRENT keeps it for the calls.
CREATE FUNCTION draw(
    of_target text, urgent integer, other integer,
    back float8 DEFAULT 0, throttled timestamptz DEFAULT NULL,
    OUT granted_urgent integer, OUT granted_other integer, OUT wait_s float8,
    OUT whole_rate float8, OUT rate_now float8, OUT drawn_at timestamptz, OUT halved boolean
) RETURNS SETOF record LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    held record;  -- the table's type would lock the table before there is a timeout
    elapsed float8;
    missing float8 := 0;
BEGIN
    -- A replica waits for 2 s. Its backend must not wait for a lock any longer.
    PERFORM set_config('synchronous_commit', 'off', true), set_config('lock_timeout', '1s', true);
    SELECT * INTO held FROM budget WHERE target = of_target FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    drawn_at := clock_timestamp();
    elapsed := greatest(0, extract(epoch FROM drawn_at - held.at));
    held.tokens := least(held.size, held.tokens + elapsed * held.rate);
    held.rate := least(held.whole, held.rate + elapsed * held.whole / 60);
    held.tokens := greatest(-held.size, least(held.size, held.tokens + back));

    halved := throttled IS NOT NULL
        AND (held.halved_at IS NULL OR throttled > held.halved_at OR held.halved_at > drawn_at + interval '1 s');
    IF halved THEN
        held.halved_at := drawn_at;
        held.rate := greatest(held.rate / 2, held.whole / 16);
        held.tokens := least(held.tokens, held.reserve);
    END IF;

    -- 1e-6 of a token is what adding floats may lose.
    granted_urgent := greatest(0, least(urgent, floor(held.tokens + 1e-6)));
    held.tokens := held.tokens - granted_urgent;
    granted_other := greatest(0, least(other, floor(held.tokens - held.reserve + 1e-6)));
    held.tokens := held.tokens - granted_other;
    IF granted_urgent < urgent THEN
        missing := 1 - held.tokens;
    ELSIF granted_other < other THEN
        missing := held.reserve + 1 - held.tokens;
    END IF;
    wait_s := missing / held.rate;

    IF held.at < drawn_at OR held.at > drawn_at + interval '1 s' THEN
        held.at := drawn_at;
    END IF;
    UPDATE budget SET rate = held.rate, tokens = held.tokens, at = held.at, halved_at = held.halved_at
        WHERE target = of_target;
    whole_rate := held.whole;
    rate_now := held.rate;
    RETURN NEXT;
END $$;
