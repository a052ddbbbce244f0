package eksgateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	eksgateway "github.com/eksgateway/eksgateway/clients/go"
	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc/credentials/insecure"
)

// sandbox is a clients/testing/run_sandbox, with its info file.
type sandbox struct {
	t       *testing.T
	in      io.Writer
	out     *bufio.Scanner
	path    string
	Grpc    string
	Proxy   string
	Timeout string `json:"timeout_proxy"`
	EKS     string `json:"simulator"`
	Tokens  map[string]string
	Updates []struct {
		Name     string
		UpdateID string `json:"update_id"`
	} `json:"clusters"`
}

func startSandbox(t *testing.T, options ...string) *sandbox {
	t.Helper()
	process := exec.Command("../testing/run_sandbox", append([]string{t.TempDir()}, options...)...)
	process.Stderr = os.Stderr
	in, _ := process.StdinPipe()
	out, _ := process.StdoutPipe()
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := process.Wait(); err != nil {
			t.Error("run_sandbox:", err)
		}
	})
	s := &sandbox{t: t, in: in, out: bufio.NewScanner(out)}
	s.path = s.line()
	content, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sandbox) line() string {
	s.t.Helper()
	if !s.out.Scan() {
		s.t.Fatal("run_sandbox has ended")
	}
	return s.out.Text()
}

func (s *sandbox) do(commands ...string) {
	s.t.Helper()
	for _, command := range commands {
		fmt.Fprintln(s.in, command)
		if answer := s.line(); answer != "ok" {
			s.t.Fatalf("%s: %s", command, answer)
		}
	}
}

// client connects as a caller, in plaintext.
func (s *sandbox) client(address, caller string, options eksgateway.Options) *eksgateway.Client {
	s.t.Helper()
	options.Credentials = insecure.NewCredentials()
	options.Token = func(context.Context) (string, error) { return s.Tokens[caller], nil }
	client, err := eksgateway.New(address, options)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { client.Close() })
	return client
}

func (s *sandbox) update(cluster string) (*v1.ClusterRef, string) {
	for _, each := range s.Updates {
		if each.Name == cluster {
			return &v1.ClusterRef{Name: cluster}, each.UpdateID
		}
	}
	s.t.Fatal("no cluster " + cluster)
	return nil, ""
}

func (s *sandbox) cancelRequest(cluster string) *v1.CancelUpdateRequest {
	ref, id := s.update(cluster)
	return &v1.CancelUpdateRequest{Cluster: ref, UpdateId: id, Reason: "bad AMI", Ticket: "OPS-1"}
}

func (s *sandbox) watchRequest(cluster string) *v1.WatchUpdateRequest {
	ref, id := s.update(cluster)
	return &v1.WatchUpdateRequest{Cluster: ref, UpdateId: id}
}

// cancelsSent is the number of CancelUpdate calls that the simulated EKS received.
func (s *sandbox) cancelsSent() int {
	s.t.Helper()
	answer, err := http.Get(s.EKS + "/_simulator/calls")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	content, _ := io.ReadAll(answer.Body)
	return strings.Count(string(content), `"CancelUpdate"`)
}

// limited is a context that ends a test that hangs.
func limited(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(stop)
	return ctx
}
