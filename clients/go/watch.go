package eksgateway

import (
	"context"
	"fmt"
	"io"
	"iter"
	"time"

	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// State is what the gateway last knew of an update.
type State struct {
	// Update is nil before the first message of the gateway, which has Sequence 1.
	Update *v1.Update
	// Phase of the newest cancellation. It may be newer than this client.
	Phase       v1.CancellationPhase
	PhaseReason string
	Sequence    int64
	// Final means that the update has ended. It is the last state.
	Final bool
	// Age is the time since the gateway read the update from EKS, when the state was yielded. It does not
	// depend on this machine's clock. It is 0 while Update is nil.
	Age time.Duration
	// Stale means that Age is above Options.MaxAge, or that nothing is known yet.
	Stale bool
	// ResumeToken resumes the watch after this state, also in another process.
	ResumeToken string
	// Cancellation is the answer to the cancel, in each state of CancelAndWatch.
	Cancellation *v1.Cancellation
}

// Watch yields each state of an update once, until it has ended. It resumes the stream over whatever breaks:
// restarts of the gateway, proxies, silence.
//
// It also yields the state when it becomes Stale, and when it is fresh again. It yields an error once, as the
// last and with the last state, where a retry is useless, or the context's. Leave the loop or cancel the
// context to end the watch; the update goes on.
func (c *Client) Watch(ctx context.Context, request *v1.WatchUpdateRequest) iter.Seq2[State, error] {
	return func(yield func(State, error) bool) {
		c.follow(ctx, &watch{client: c, request: proto.CloneOf(request)}, yield)
	}
}

// CancelAndWatch cancels an update as Cancel does, and then yields its states as Watch does, in one stream.
//
// The first state has only the Cancellation. It fills in an empty RequestId. It repeats the cancel for up to
// 45 s until it is answered, with the same request id, and then the watch for as long as the context allows.
func (c *Client) CancelAndWatch(ctx context.Context, request *v1.CancelUpdateAndWatchRequest) iter.Seq2[State, error] {
	if request.RequestId == "" {
		request.RequestId = NewRequestID()
	}
	return func(yield func(State, error) bool) {
		c.follow(ctx, &watch{
			client: c, cancel: proto.CloneOf(request),
			request: &v1.WatchUpdateRequest{Cluster: request.Cluster, UpdateId: request.UpdateId},
		}, yield)
	}
}

func (c *Client) follow(ctx context.Context, w *watch, yield func(State, error) bool) {
	ctx, stop := context.WithCancel(ctx)
	events := make(chan *v1.CancelUpdateAndWatchResponse)
	var failure error
	go func() {
		defer close(events)
		failure = w.receive(ctx, events)
	}()
	defer func() {
		stop()
		for range events { // until the goroutine has ended
		}
	}()
	known := &knowledge{maxAge: c.options.MaxAge, readAt: time.Now()}
	for {
		stale := time.NewTimer(known.freshFor())
		select {
		case event, open := <-events:
			stale.Stop()
			if !open {
				yield(known.state, failure)
				return
			}
			if known.apply(event) && !yield(known.state, nil) || known.state.Final {
				return
			}
		case <-stale.C:
			known.markStale()
			if !yield(known.state, nil) {
				return
			}
		}
	}
}

// watch is the streams of one watch, one after the other.
type watch struct {
	client  *Client
	cancel  *v1.CancelUpdateAndWatchRequest // nil without one, and once it is answered
	request *v1.WatchUpdateRequest          // with the last resume token
	tries   *retries
}

// receive sends the events of as many streams as needed, heartbeats included.
func (w *watch) receive(ctx context.Context, events chan<- *v1.CancelUpdateAndWatchResponse) error {
	conn, giveBack, err := w.client.borrow()
	if err != nil {
		return err
	}
	defer giveBack()
	w.tries = &retries{client: w.client, conn: conn}
	started := time.Now()
	for {
		err := w.stream(context.WithValue(ctx, usedToken{}, &w.tries.token), events)
		if err == nil {
			return nil
		}
		if e := ErrorOf(err); e != nil && e.Reason == "RESUME_TOKEN_INVALID" && w.request.ResumeToken != "" {
			w.request.ResumeToken = ""
			continue
		}
		if err := w.tries.wait(ctx, err); err != nil {
			return err
		}
		if w.cancel != nil && time.Since(started) > cancelTimeout {
			return fmt.Errorf("no answer to the cancel within %s: %w", cancelTimeout, err)
		}
	}
}

// stream returns nil after FINAL.
func (w *watch) stream(ctx context.Context, events chan<- *v1.CancelUpdateAndWatchResponse) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silent := &Error{Code: codes.Unavailable, Message: "the stream was silent for too long", streamBroke: true}
	timer := time.AfterFunc(w.client.options.Silence, func() { stop(silent) })
	defer timer.Stop()
	next, err := w.open(ctx)
	for received := false; err == nil; received = true {
		var event *v1.CancelUpdateAndWatchResponse
		event, err = next()
		timer.Stop() // not while the caller handles a state
		if err == io.EOF {
			return &Error{Code: codes.Internal, Message: "the stream ended before the update", streamBroke: received}
		} else if err != nil {
			break
		}
		w.note(event)
		select {
		case events <- event:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if event.GetWatch().GetKind() == v1.WatchKind_WATCH_KIND_FINAL {
			return nil
		}
		timer.Reset(w.client.options.Silence)
	}
	if context.Cause(ctx) == silent {
		return silent
	}
	return err
}

func (w *watch) note(event *v1.CancelUpdateAndWatchResponse) {
	w.tries.succeed()
	if event.GetCancellation() != nil {
		w.cancel = nil
	} else {
		w.request.ResumeToken = event.GetWatch().GetResumeToken()
	}
}

func (w *watch) open(ctx context.Context) (func() (*v1.CancelUpdateAndWatchResponse, error), error) {
	updates := v1.NewUpdateServiceClient(w.tries.conn)
	if w.cancel != nil {
		stream, err := updates.CancelUpdateAndWatch(ctx, w.cancel)
		return func() (*v1.CancelUpdateAndWatchResponse, error) { return stream.Recv() }, err
	}
	stream, err := updates.WatchUpdate(ctx, w.request)
	return func() (*v1.CancelUpdateAndWatchResponse, error) {
		message, err := stream.Recv()
		return &v1.CancelUpdateAndWatchResponse{Event: &v1.CancelUpdateAndWatchResponse_Watch{Watch: message}}, err
	}, err
}

// knowledge is the newest state and its age.
type knowledge struct {
	state  State
	maxAge time.Duration
	readAt time.Time // when EKS was read last, by this machine's monotonic clock
}

func (k *knowledge) freshFor() time.Duration {
	if k.state.Stale {
		return 1<<63 - 1
	}
	return max(0, k.maxAge-time.Since(k.readAt))
}

func (k *knowledge) markStale() {
	k.state.Stale = true
	if k.state.Update != nil {
		k.state.Age = max(time.Since(k.readAt), k.maxAge)
	}
}

// apply reports whether the state is new or no longer stale.
func (k *knowledge) apply(event *v1.CancelUpdateAndWatchResponse) bool {
	if cancellation := event.GetCancellation(); cancellation != nil {
		k.state.Cancellation = cancellation
		return true
	}
	message := event.GetWatch()
	age := time.Since(message.ObserveTime.AsTime()) // by both clocks, for a gateway of version 0.1
	if message.Age != nil {
		age = message.Age.AsDuration()
	}
	if readAt := time.Now().Add(-max(0, age)); k.state.Update == nil || readAt.After(k.readAt) {
		k.readAt = readAt
	}
	k.state.ResumeToken = message.ResumeToken
	repeated := k.state.Update != nil && repeats(message.Kind) && message.Sequence == k.state.Sequence
	if repeated && !k.state.Stale {
		return false
	}
	if !repeated {
		k.state = State{
			Update: message.Update, Phase: message.Phase, PhaseReason: message.PhaseReason, Sequence: message.Sequence,
			Final:       message.Kind == v1.WatchKind_WATCH_KIND_FINAL,
			ResumeToken: message.ResumeToken, Cancellation: k.state.Cancellation,
		}
	}
	k.state.Age = time.Since(k.readAt)
	k.state.Stale = k.state.Age >= k.maxAge
	return !repeated || !k.state.Stale
}

// repeats reports whether a message with the last sequence repeats its state: a heartbeat, or a newer kind.
func repeats(kind v1.WatchKind) bool {
	switch kind {
	case v1.WatchKind_WATCH_KIND_SNAPSHOT, v1.WatchKind_WATCH_KIND_CHANGE, v1.WatchKind_WATCH_KIND_FINAL:
		return false
	}
	return true
}
