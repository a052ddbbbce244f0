package eksgateway

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Error is an error of a call. Find it with errors.As; status.Code works too.
//
// An Error with a Reason comes from the gateway, one without from the connection, a proxy, or this client.
type Error struct {
	Code    codes.Code
	Message string
	// Reason is the name of an ErrorReason without its prefix, for example POLICY_DENIED. It may be newer than
	// this client.
	Reason string
	// Metadata of the ErrorInfo, for example decision_id, reasons (one on each line) and rule_ids of a denial.
	Metadata map[string]string
	// Violations names the invalid fields of a REQUEST_INVALID.
	Violations []*errdetails.BadRequest_FieldViolation
	// RetryAfter is the pause that RetryInfo asks for, nil without one.
	RetryAfter *time.Duration

	streamBroke bool // while a gateway was answering
	status      *status.Status
}

// ErrorOf converts an error of a call by your own stubs. It returns nil if err has no gRPC status.
func ErrorOf(err error) *Error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	found, ok := status.FromError(err)
	if !ok || err == nil {
		return nil
	}
	e := &Error{Code: found.Code(), Message: found.Message(), status: found}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			if detail.Domain == "eksgateway" {
				e.Reason, e.Metadata = detail.Reason, detail.Metadata
			}
		case *errdetails.RetryInfo:
			pause := max(0, detail.RetryDelay.AsDuration())
			e.RetryAfter = &pause
		case *errdetails.BadRequest:
			e.Violations = detail.FieldViolations
		}
	}
	return e
}

// Retryable reports whether the same call may succeed later: with another token after CREDENTIALS_EXPIRED, and
// without the resume token after RESUME_TOKEN_INVALID.
func (e *Error) Retryable() bool {
	switch e.Reason {
	case "CREDENTIALS_EXPIRED", "RESUME_TOKEN_INVALID", "WATCHER_TOO_SLOW":
		return true
	}
	switch e.Code {
	case codes.Unavailable:
		return true
	case codes.Aborted:
		return e.Reason != ""
	case codes.ResourceExhausted:
		return e.Reason != "" && e.RetryAfter != nil
	case codes.Internal, codes.Unknown, codes.Canceled, codes.DeadlineExceeded: // from gRPC, or a proxy
		return e.Reason == ""
	}
	return false
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s", strings.TrimSpace(e.Code.String()+" "+e.Reason), e.Message)
	for _, key := range []string{"reasons", "decision_id"} {
		if value := e.Metadata[key]; value != "" {
			text += fmt.Sprintf(" %s: %s", key, strings.ReplaceAll(value, "\n", " "))
		}
	}
	for _, each := range e.Violations {
		text += fmt.Sprintf(" %s: %s", each.Field, each.Description)
	}
	return text
}

// GRPCStatus lets status.FromError and status.Code work.
func (e *Error) GRPCStatus() *status.Status {
	if e.status == nil {
		return status.New(e.Code, e.Message)
	}
	return e.status
}
