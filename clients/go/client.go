// Package eksgateway is a client of the EKS update gateway: it cancels updates of Amazon EKS clusters and
// watches them until they end, over broken connections and restarts of the gateway.
//
// Messages and stubs are in the package eksgateway/v1. Errors of Cancel, Watch and CancelAndWatch are, or wrap,
// an *Error.
package eksgateway

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"time"

	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
)

const (
	cancelTimeout        = 45 * time.Second // the gateway answers within 30
	watchesPerConnection = 80               // one carries 100 calls, and gRPC queues others without an error
)

// Options of a Client. The zero value means TLS with the system's roots, and no token.
type Options struct {
	// Credentials of gRPC: credentials.NewClientTLSFromFile for a CA of your own, credentials.NewTLS for a
	// client certificate, insecure.NewCredentials for plaintext, where the network can read the token.
	Credentials credentials.TransportCredentials
	// Token returns the bearer token, for each attempt. It may be called concurrently.
	Token func(ctx context.Context) (string, error)
	// MaxAge is the age from which a watched state is Stale, by default 60 s. Below 15 s, the interval of
	// heartbeats, a healthy stream becomes stale in between.
	MaxAge time.Duration
	// Silence is the time without a message after which a stream is replaced, by default 60 s.
	Silence time.Duration
	// Dial overrides gRPC's options, for example keepalive.
	Dial []grpc.DialOption
}

// Client has the connections to one gateway. It is safe for concurrent use.
type Client struct {
	// Updates and Cancellations make the other calls, without retries. ErrorOf reads their errors.
	Updates       v1.UpdateServiceClient
	Cancellations v1.CancellationServiceClient

	options Options
	address string
	calls   *grpc.ClientConn
	mu      sync.Mutex
	watches map[*grpc.ClientConn]int // streams on each
}

// New returns a client of the gateway at host:port or a gRPC target. It connects with the first call.
func New(address string, options Options) (*Client, error) {
	if options.Credentials == nil {
		options.Credentials = credentials.NewTLS(nil)
	}
	if options.Token == nil {
		options.Token = func(context.Context) (string, error) { return "", nil }
	}
	if options.MaxAge <= 0 {
		options.MaxAge = time.Minute
	}
	if options.Silence <= 0 {
		options.Silence = time.Minute
	}
	c := &Client{options: options, address: address, watches: map[*grpc.ClientConn]int{}}
	var err error
	if c.calls, err = c.dial(); err != nil {
		return nil, err
	}
	c.Updates, c.Cancellations = v1.NewUpdateServiceClient(c.calls), v1.NewCancellationServiceClient(c.calls)
	return c, nil
}

// Close closes all connections. Open calls and watches fail.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.calls.Close()
	for conn := range c.watches {
		err = errors.Join(err, conn.Close())
	}
	clear(c.watches)
	return err
}

// NewRequestID returns a random id for a cancel.
func NewRequestID() string { return rand.Text() }

// Cancel calls CancelUpdate with the same request id until it is answered: EKS has accepted the cancel, or a
// retry is useless. Watch the update to see it end.
//
// It fills in an empty RequestId. All attempts end with the context, without a deadline after 45 s. The
// outcome may then be unknown: call again with the same request, which has one effect. The error wraps the
// context's and the last Error.
func (c *Client) Cancel(ctx context.Context, request *v1.CancelUpdateRequest) (*v1.Cancellation, error) {
	if request.RequestId == "" {
		request.RequestId = NewRequestID()
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, cancelTimeout)
		defer stop()
	}
	tries := &retries{client: c, conn: c.calls}
	for {
		attempt, stop := context.WithTimeout(context.WithValue(ctx, usedToken{}, &tries.token), cancelTimeout)
		answer, err := c.Updates.CancelUpdate(attempt, request)
		stop()
		if err == nil {
			return answer.Cancellation, nil
		}
		if err := tries.wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// borrow returns a connection with room for one more stream.
func (c *Client) borrow() (conn *grpc.ClientConn, giveBack func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for each, streams := range c.watches {
		if streams < watchesPerConnection {
			conn = each
		}
	}
	if conn == nil {
		if conn, err = c.dial(); err != nil {
			return nil, nil, err
		}
	}
	c.watches[conn]++
	return conn, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watches[conn]--
	}, nil
}

func (c *Client) dial() (*grpc.ClientConn, error) {
	return grpc.NewClient(c.address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(c.options.Credentials),
		grpc.WithPerRPCCredentials(bearer{c.options.Token}),
		// The gateway permits a ping every 10 s, also without calls.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 15 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second / 2, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
	}, c.options.Dial...)...)
}

// usedToken is the key of a *string in a context, which gets the token of the attempt.
type usedToken struct{}

type bearer struct {
	token func(context.Context) (string, error)
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if used, ok := ctx.Value(usedToken{}).(*string); ok {
		*used = token
	}
	token = strings.TrimSpace(token)
	if strings.ContainsFunc(token, func(r rune) bool { return r < '!' || r > '~' }) {
		return nil, errors.New("Options.Token returned no bearer token: it has spaces or control characters")
	}
	if err != nil || token == "" {
		return nil, err
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

func (bearer) RequireTransportSecurity() bool { return false }
