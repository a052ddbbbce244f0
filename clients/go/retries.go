package eksgateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

const (
	firstBackoff   = 500 * time.Millisecond
	longestBackoff = 30 * time.Second
	longestPause   = 10 * time.Minute // that RetryInfo may ask for

	// Attempts in a row after which a call fails:
	unreachedAttempts   = 3  // at an address that looks wrong, if no gateway has answered so far
	foreignAnswers      = 7  // of a proxy, if no gateway has answered so far
	foreignAnswersSince = 40 // of a proxy, if one has: it may be restarting behind the proxy
)

// Parts of gRPC's texts, the only way to know these causes.
var addressFault = regexp.MustCompile("handshake failed|error reading server preface|no such host|zero addresses")

// retries decides whether and when the attempts of one call or watch are repeated: see docs/clients.md in the
// repository.
type retries struct {
	client   *Client
	conn     *grpc.ClientConn
	token    string // of the last attempt
	renewed  bool   // after it expired, since the last success
	failures int    // in a row
	foreign  int    // of those, answers of a proxy
	reached  bool   // whether a gateway has ever answered
}

func (r *retries) succeed() {
	r.failures, r.foreign, r.reached, r.renewed = 0, 0, true, false
}

// wait returns nil when it is time for the next attempt, else the error of the call.
func (r *retries) wait(ctx context.Context, err error) error {
	e := ErrorOf(err)
	if e == nil {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), e)
	}
	if err := r.check(ctx, e); err != nil {
		return err
	}
	var pause time.Duration
	if e.RetryAfter != nil {
		pause = min(*e.RetryAfter, longestPause)
	}
	if end, bounded := ctx.Deadline(); bounded && time.Until(end) < pause {
		return fmt.Errorf("%w before the next attempt: %w", context.DeadlineExceeded, e)
	}
	pause += drawBackoff(r.failures, rand.Float64())
	r.failures++
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w; the last attempt: %w", context.Cause(ctx), e)
	case <-time.After(pause):
		return nil
	}
}

// drawBackoff returns a random part of 0.5 s, doubled after each failure up to 30 s.
func drawBackoff(failures int, random float64) time.Duration {
	return time.Duration(random * float64(min(longestBackoff, firstBackoff<<min(failures, 10))))
}

// check returns the error if a retry is useless.
func (r *retries) check(ctx context.Context, e *Error) error {
	switch {
	case !e.Retryable(), e.Reason == "RESUME_TOKEN_INVALID": // the watch has no token to drop
		return e
	case e.Reason == "CREDENTIALS_EXPIRED":
		if token, err := r.client.options.Token(ctx); r.renewed || err != nil || token == r.token {
			return e
		}
		r.renewed = true
	case e.Reason != "":
		r.reached, r.foreign = true, 0
	case e.streamBroke:
	case r.conn.GetState() == connectivity.Ready:
		r.foreign++
		if r.foreign >= foreignAnswersSince || !r.reached && r.foreign >= foreignAnswers {
			return fmt.Errorf("something on the way (a proxy) answers, and no gateway: %w", e)
		}
	case !r.reached && r.failures+1 >= unreachedAttempts && addressFault.MatchString(e.Message):
		return fmt.Errorf("correct the gateway's address or Options.Credentials: %w", e)
	}
	return nil
}
