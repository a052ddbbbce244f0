package eksgateway

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

func fail(code codes.Code, reason string, pause *durationpb.Duration) error {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "eksgateway", Reason: reason}}
	if pause != nil {
		details = append(details, &errdetails.RetryInfo{RetryDelay: pause})
	}
	found, err := status.New(code, "refused").WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return found.Err()
}

// The table is in the comments of the proto: a status, and whether to retry.
func TestTheRuleFollowsTheTableOfReasons(t *testing.T) {
	proto, err := os.ReadFile("../../protos/eksgateway/v1/error_reason.proto")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^  // ([A-Z_]+)\.(?: .*)?\n(?:  // .*\n)*?  // Retry: ([a-z ]+).*\n(?:  // .*\n)*?  ERROR_REASON_(\w+) = (\d+);`)
	rows := row.FindAllStringSubmatch(string(proto), -1)
	if len(rows) < 36 {
		t.Fatalf("only %d reasons found", len(rows))
	}
	for _, row := range rows {
		var code codes.Code
		if err := code.UnmarshalJSON([]byte(`"` + row[1] + `"`)); err != nil {
			t.Fatal(err)
		}
		var pause *durationpb.Duration
		if code == codes.ResourceExhausted && row[3] != "WATCHER_TOO_SLOW" && row[3] != "REQUEST_TOO_LARGE" {
			pause = durationpb.New(time.Second)
		}
		if found := ErrorOf(fail(code, row[3], pause)); found.Retryable() != (row[2] != "no") || found.Reason != row[3] {
			t.Errorf("%s %s: retryable is %t, and the table has %q", row[1], row[3], found.Retryable(), row[2])
		}
	}
}

func TestAnUnknownReasonIsDecidedByItsStatus(t *testing.T) {
	for code, expected := range map[codes.Code]bool{
		codes.Unavailable: true, codes.Aborted: true, codes.Internal: false, codes.ResourceExhausted: false, codes.Canceled: false,
	} {
		if found := ErrorOf(fail(code, "NEWER", nil)).Retryable(); found != expected {
			t.Errorf("%s: %t", code, found)
		}
	}
	if !ErrorOf(fail(codes.ResourceExhausted, "NEWER", durationpb.New(0))).Retryable() {
		t.Error("RetryInfo asks for a retry")
	}
}

func TestAnErrorWithoutReasonIsRetriedIfAConnectionBreaksSo(t *testing.T) {
	for code, expected := range map[codes.Code]bool{
		codes.Unavailable: true, codes.Canceled: true, codes.Internal: true, codes.Unknown: true, codes.DeadlineExceeded: true,
		codes.Aborted: false, codes.PermissionDenied: false, codes.Unimplemented: false, codes.ResourceExhausted: false,
	} {
		if found := ErrorOf(status.Error(code, "")).Retryable(); found != expected {
			t.Errorf("%s: %t", code, found)
		}
	}
}

func TestAnExpiredTokenIsReplacedOnce(t *testing.T) {
	tokens := []string{"old", "new", "newer"}
	client := &Client{options: Options{Token: func(context.Context) (string, error) {
		defer func() { tokens = tokens[1:] }()
		return tokens[0], nil
	}}}
	expired := fail(codes.Unauthenticated, "CREDENTIALS_EXPIRED", nil)
	tries := &retries{client: client, token: "old"}
	if tries.wait(t.Context(), expired) == nil {
		t.Error("the same token was sent again")
	}
	if err := tries.wait(t.Context(), expired); err != nil {
		t.Error(err)
	}
	if tries.wait(t.Context(), expired) == nil {
		t.Error("a token was replaced twice")
	}
}

func TestAPauseIsHeldAndOneBeyondTheDeadlineFails(t *testing.T) {
	tries := &retries{client: &Client{}}
	start := time.Now()
	if err := tries.wait(t.Context(), fail(codes.ResourceExhausted, "OVERLOADED", durationpb.New(300*time.Millisecond))); err != nil {
		t.Error(err)
	}
	if time.Since(start) < 300*time.Millisecond {
		t.Error("the pause was cut")
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	err := tries.wait(ctx, fail(codes.ResourceExhausted, "OVERLOADED", durationpb.New(2*time.Minute)))
	var last *Error
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &last) || last.Reason != "OVERLOADED" {
		t.Error(err)
	}
	for failures, longest := range map[int]time.Duration{0: time.Second / 2, 1: time.Second, 60: 30 * time.Second} {
		if found := drawBackoff(failures, 1); found != longest {
			t.Errorf("%d failures: %s", failures, found)
		}
	}
}

func TestGeneratingTheProtosAgainChangesNothing(t *testing.T) {
	if _, err := os.Stat("../../.venv/bin/buf"); err != nil {
		t.Skip("buf is missing: make .venv/dev.stamp")
	}
	folder := t.TempDir()
	bin, _ := filepath.Abs("../../.venv/bin")
	command := exec.Command(bin+"/python", "../../scripts/generate_clients.py", "go", folder)
	command.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fresh, _ := filepath.Glob(folder + "/clients/go/eksgateway/v1/*")
	committed, _ := filepath.Glob("eksgateway/v1/*")
	if len(fresh) != len(committed) || len(fresh) == 0 {
		t.Fatalf("%d files, committed are %d", len(fresh), len(committed))
	}
	for _, each := range fresh {
		expected, _ := os.ReadFile(each)
		if found, _ := os.ReadFile("eksgateway/v1/" + filepath.Base(each)); string(found) != string(expected) {
			t.Errorf("%s differs: run python scripts/generate_clients.py go", filepath.Base(each))
		}
	}
}
