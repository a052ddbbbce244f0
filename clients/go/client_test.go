package eksgateway_test

import (
	"bufio"
	"context"
	"errors"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	eksgateway "github.com/eksgateway/eksgateway/clients/go"
	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

// follow reads states to their end. It calls act once for each status, and checks that no state is lost or
// repeated. It returns the statuses.
func follow(t *testing.T, states iter.Seq2[eksgateway.State, error], act map[string]func()) []string {
	t.Helper()
	var seen []string
	var last eksgateway.State
	for state, err := range states {
		if err != nil {
			t.Fatalf("after %v: %v", seen, err)
		}
		if state.Update == nil || state.Sequence == last.Sequence {
			continue // the answer to a cancel, or a change of Stale
		}
		if state.Sequence != last.Sequence+1 {
			t.Errorf("sequence %d follows %d", state.Sequence, last.Sequence)
		}
		last = state
		if name := state.Update.Status; !slices.Contains(seen, name) {
			seen = append(seen, name)
			if act[name] != nil {
				act[name]()
			}
		}
	}
	if !last.Final {
		t.Errorf("the last state is not final: %v", last)
	}
	return seen
}

func expect[T comparable](t *testing.T, what string, found, expected T) {
	t.Helper()
	if found != expected {
		t.Errorf("%s: %v, expected %v", what, found, expected)
	}
}

func TestADenialHasItsReasonAndDecision(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	for caller, reason := range map[string]string{"outsider": "no grant", "oncall": "ticket is required"} {
		request := s.cancelRequest("prod-1")
		request.Ticket = ""
		_, err := s.client(s.Grpc, caller, eksgateway.Options{}).Cancel(limited(t), request)
		var denial *eksgateway.Error
		if !errors.As(err, &denial) {
			t.Fatalf("%s: %v", caller, err)
		}
		expect(t, "reason", denial.Reason, "POLICY_DENIED")
		expect(t, "code", status.Code(err), codes.PermissionDenied)
		if !strings.Contains(denial.Metadata["reasons"], reason) || denial.Metadata["decision_id"] == "" {
			t.Errorf("%s: %v", caller, denial.Metadata)
		}
	}
	request := s.cancelRequest("prod-1")
	request.UpdateId = "no such/id"
	_, err := s.client(s.Grpc, "oncall", eksgateway.Options{}).Cancel(limited(t), request)
	if e := eksgateway.ErrorOf(err); e == nil || e.Reason != "REQUEST_INVALID" || len(e.Violations) != 1 {
		t.Errorf("not an error with one violation: %v", err)
	}
	expect(t, "cancels sent", s.cancelsSent(), 0)
}

func TestACancelIsWatchedToFinalOverAKillAndADrain(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1")
	request := s.cancelRequest("prod-1")
	answer, err := s.client(s.Grpc, "oncall", eksgateway.Options{}).Cancel(limited(t), request)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "request id", answer.RequestId, request.RequestId)
	viewer := s.client(s.Grpc, "viewer", eksgateway.Options{})
	seen := follow(t, viewer.Watch(limited(t), s.watchRequest("prod-1")), map[string]func(){
		"InProgress": func() { s.do("kill", "advance 200", "start") },
		"Cancelling": func() { s.do("drain", "advance 600", "start") },
	})
	expect(t, "statuses", strings.Join(seen, " "), "InProgress Cancelling Cancelled")
}

func TestAWatchResumesInAnotherProcessWithItsToken(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1")
	request := s.watchRequest("staging-1")
	for state, err := range s.client(s.Grpc, "viewer", eksgateway.Options{}).Watch(limited(t), request) {
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "sequence", state.Sequence, 1)
		request.ResumeToken = state.ResumeToken
		break
	}
	oncall := s.client(s.Grpc, "oncall", eksgateway.Options{})
	if _, err := oncall.Cancel(limited(t), s.cancelRequest("staging-1")); err != nil {
		t.Fatal(err)
	}
	s.do("advance 800")
	for state, err := range oncall.Watch(limited(t), request) {
		if err != nil || state.Sequence < 1 || state.Stale {
			t.Fatal(state, err)
		}
	}
	request.ResumeToken = "refused"
	follow(t, oncall.Watch(limited(t), request), nil)
}

func TestACancelRepeatedAfterItsDeadlineHasOneEffect(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	oncall, request := s.client(s.Grpc, "oncall", eksgateway.Options{}), s.cancelRequest("prod-1")
	s.do("pause")
	ctx, stop := context.WithTimeout(limited(t), 300*time.Millisecond)
	defer stop()
	_, err := oncall.Cancel(ctx, request)
	var last *eksgateway.Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &last) || request.RequestId == "" {
		t.Fatalf("no deadline: %v", err)
	}
	s.do("resume")
	for range 2 {
		if _, err := oncall.Cancel(limited(t), request); err != nil {
			t.Fatal(err)
		}
	}
	expect(t, "cancels sent", s.cancelsSent(), 1)
	request.Reason = "another"
	_, err = oncall.Cancel(limited(t), request)
	if e := eksgateway.ErrorOf(err); e == nil || e.Reason != "REQUEST_ID_REUSED" {
		t.Error(err)
	}
}

func TestACancelWaitsForAGatewayThatIsDown(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	s.do("kill")
	answered := make(chan error)
	go func() {
		_, err := s.client(s.Grpc, "oncall", eksgateway.Options{}).Cancel(limited(t), s.cancelRequest("prod-1"))
		answered <- err
	}()
	s.do("start")
	expect(t, "error", <-answered, nil)
	expect(t, "cancels sent", s.cancelsSent(), 1)
}

func TestCancelAndWatchIsOneCancelOverAKill(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1")
	oncall, given := s.client(s.Proxy, "oncall", eksgateway.Options{}), s.cancelRequest("staging-1")
	request := &v1.CancelUpdateAndWatchRequest{Cluster: given.Cluster, UpdateId: given.UpdateId, Reason: "bad AMI"}
	states := oncall.CancelAndWatch(limited(t), request)
	for state, err := range states {
		if err != nil || state.Cancellation.GetRequestId() != request.RequestId || state.Update != nil {
			t.Fatal("the first state is not the cancellation: ", state, err)
		}
		break
	}
	seen := follow(t, states, map[string]func(){
		"InProgress": func() { s.do("cut", "advance 200") },
		"Cancelling": func() { s.do("kill", "start", "advance 600") },
	})
	expect(t, "statuses", strings.Join(seen, " "), "InProgress Cancelling Cancelled")
	expect(t, "cancels sent", s.cancelsSent(), 1)
}

func TestASilentGatewayMakesTheStateStaleUntilItIsReadAgain(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1")
	viewer := s.client(s.Grpc, "viewer", eksgateway.Options{MaxAge: 3 * time.Second, Silence: 4 * time.Second})
	var stale []bool
	for state, err := range viewer.Watch(limited(t), s.watchRequest("prod-1")) {
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "sequence", state.Sequence, 1)
		if stale = append(stale, state.Stale); len(stale) == 1 {
			s.do("pause")
		} else if state.Stale {
			if state.Age < 3*time.Second {
				t.Errorf("stale after %s", state.Age)
			}
			s.do("resume")
		} else {
			break
		}
	}
	if !slices.Equal(stale, []bool{false, true, false}) {
		t.Error(stale)
	}
}

func TestAWatchLeavesAConnectionThatHangs(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1")
	quick := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second})
	viewer := s.client(s.Proxy, "viewer", eksgateway.Options{
		Silence: 2 * time.Second, Dial: []grpc.DialOption{quick},
	})
	if _, err := s.client(s.Grpc, "oncall", eksgateway.Options{}).Cancel(limited(t), s.cancelRequest("prod-1")); err != nil {
		t.Fatal(err)
	}
	seen := follow(t, viewer.Watch(limited(t), s.watchRequest("prod-1")), map[string]func(){
		"InProgress": func() { s.do("silence", "advance 800") },
	})
	expect(t, "last status", seen[len(seen)-1], "Cancelled")
}

func TestAWatchGoesOnBehindAProxyThatTimesOut(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "1", "--proxy-timeout", "1")
	oncall := s.client(s.Timeout, "oncall", eksgateway.Options{})
	if _, err := oncall.Cancel(limited(t), s.cancelRequest("prod-1")); err != nil {
		t.Fatal(err)
	}
	// EKS is read after each cut, so the state becomes fresh again: three times.
	stale := 0
	brief := s.client(s.Timeout, "viewer", eksgateway.Options{MaxAge: 700 * time.Millisecond})
	for state, err := range brief.Watch(limited(t), s.watchRequest("prod-1")) {
		if err != nil {
			t.Fatal(err)
		}
		if state.Stale {
			stale++
		}
		if stale == 3 {
			break
		}
	}
	seen := follow(t, oncall.Watch(limited(t), s.watchRequest("prod-1")), map[string]func(){
		"InProgress": func() { s.do("advance 800") },
	})
	expect(t, "last status", seen[len(seen)-1], "Cancelled")
}

func TestTheExampleDoesItsFiveSteps(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--speed", "300")
	ctx := limited(t)
	program := filepath.Join(t.TempDir(), "example")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./example").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	process := exec.CommandContext(ctx, program, s.path)
	process.Stderr = os.Stderr
	out, _ := process.StdoutPipe()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	var printed []string
	for lines.Scan() {
		printed = append(printed, lines.Text())
		if strings.Contains(lines.Text(), "killed") {
			s.do("kill", "start") // `eksgateway sandbox` does so by itself
		}
	}
	expect(t, "error", process.Wait(), nil)
	if text := strings.Join(printed, "\n"); strings.Count(text, "Cancelled final") != 2 || !strings.Contains(text, "POLICY_DENIED") {
		t.Error(text)
	}
}

func TestMoreWatchesThanAConnectionCarries(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	viewer := s.client(s.Grpc, "oncall", eksgateway.Options{})
	ctx, stop := context.WithCancel(limited(t))
	started, ended := make(chan error), make(chan error)
	const watches = 120
	for range watches {
		go func() {
			first := true
			for state, err := range viewer.Watch(ctx, s.watchRequest("prod-3")) {
				if first {
					started <- err
				} else if err != nil {
					ended <- err
				}
				first = false
				_ = state
			}
		}()
	}
	for range watches {
		expect(t, "first error", <-started, nil)
	}
	stop()
	for range watches {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestAnAddressThatSpeaksNoTLSIsReported(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	client, err := eksgateway.New(s.Grpc, eksgateway.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, err := range client.Watch(limited(t), s.watchRequest("prod-1")) {
		if !strings.Contains(err.Error(), "Options.Credentials") || status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	}
}
