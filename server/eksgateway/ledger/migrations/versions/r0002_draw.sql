-- Takes tokens from a target's row in `budget`. The search_path is the ledger's schema while this file runs;
-- FROM CURRENT keeps it for the calls.
CREATE FUNCTION draw(target text, urgent integer, other integer)
    RETURNS TABLE (granted_urgent integer, granted_other integer, rate float8, wait_s float8)
    LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    RAISE EXCEPTION 'draw is not written yet';
END $$;
