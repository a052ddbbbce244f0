// Command example shows the client against `eksgateway sandbox --info info.json`:
//
//	go run ./example info.json
//
// It cancels the updates of prod-1 and staging-1, and kills the gateway in between. The sandbox starts it again.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"os"
	"syscall"
	"time"

	eksgateway "github.com/eksgateway/eksgateway/clients/go"
	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc/credentials/insecure"
)

type info struct {
	Grpc   string
	Tokens map[string]string
	Pids   map[string]int
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("Usage: example INFO, the info file of `eksgateway sandbox --info INFO`")
	}
	var sandbox info
	content, err := os.ReadFile(os.Args[1])
	if err == nil {
		err = json.Unmarshal(content, &sandbox)
	}
	if err == nil {
		err = run(context.Background(), sandbox)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, sandbox info) error {
	client, err := eksgateway.New(sandbox.Grpc, eksgateway.Options{
		Credentials: insecure.NewCredentials(), // without this line: TLS with the system's roots
		Token:       func(context.Context) (string, error) { return sandbox.Tokens["oncall"], nil },
	})
	if err != nil {
		return err
	}
	defer client.Close()
	prod := &v1.ClusterRef{Name: "prod-1"}

	fmt.Println("1. A cancel without a ticket is denied, with the reason")
	_, err = client.Cancel(ctx, &v1.CancelUpdateRequest{Cluster: prod, UpdateId: "rollback-prod-1", Reason: "bad AMI"})
	var denial *eksgateway.Error
	if !errors.As(err, &denial) {
		return fmt.Errorf("no denial: %w", err)
	}
	fmt.Println("  ", denial.Reason, denial.Metadata["reasons"], denial.Metadata["decision_id"])

	fmt.Println("2. A deadline passes. The same request, called again, has one effect")
	request := &v1.CancelUpdateRequest{
		Cluster: prod, UpdateId: "rollback-prod-1", RequestId: eksgateway.NewRequestID(), Reason: "bad AMI", Ticket: "OPS-1",
	}
	short, stop := context.WithTimeout(ctx, time.Millisecond)
	_, err = client.Cancel(short, request)
	stop()
	fmt.Println("  ", errors.Is(err, context.DeadlineExceeded), err)
	cancellation, err := client.Cancel(ctx, request)
	if err != nil {
		return err
	}
	fmt.Println("  ", cancellation.CancellationId, cancellation.Phase)

	fmt.Println("3. The update is watched to its end")
	if err := show(client.Watch(ctx, &v1.WatchUpdateRequest{Cluster: prod, UpdateId: "rollback-prod-1"}), nil); err != nil {
		return err
	}

	fmt.Println("4. Cancel and watch in one call, and 5. resume after a kill of the gateway")
	killed := false
	return show(client.CancelAndWatch(ctx, &v1.CancelUpdateAndWatchRequest{
		Cluster: &v1.ClusterRef{Name: "staging-1"}, UpdateId: "rollback-staging-1",
	}), func() {
		if !killed {
			killed = true
			fmt.Println("   killed:", syscall.Kill(sandbox.Pids["gateway"], syscall.SIGKILL) == nil)
		}
	})
}

func show(states iter.Seq2[eksgateway.State, error], then func()) error {
	for state, err := range states {
		if err != nil {
			return err
		}
		if state.Update == nil {
			continue // the answer to the cancel, or nothing is known yet
		}
		about := ""
		if state.Final {
			about = "final"
		} else if state.Stale {
			about = "stale"
		}
		fmt.Println("  ", state.Sequence, state.Update.Status, about, state.Phase, state.Age.Round(time.Millisecond))
		if then != nil {
			then()
		}
	}
	return nil
}
