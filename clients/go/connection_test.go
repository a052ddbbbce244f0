package eksgateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	v1 "github.com/eksgateway/eksgateway/clients/go/eksgateway/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// scripted is a server whose streams and calls are functions, one for each attempt; the last one repeats.
type scripted struct {
	v1.UnimplementedUpdateServiceServer
	attempts int
	watches  []func(*v1.WatchUpdateRequest, grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error
	cancels  []func(context.Context, *v1.CancelUpdateRequest) error
}

func (s *scripted) WatchUpdate(request *v1.WatchUpdateRequest, stream grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
	s.attempts++
	return s.watches[min(s.attempts, len(s.watches))-1](request, stream)
}

func (s *scripted) CancelUpdate(ctx context.Context, request *v1.CancelUpdateRequest) (*v1.CancelUpdateResponse, error) {
	s.attempts++
	if err := s.cancels[min(s.attempts, len(s.cancels))-1](ctx, request); err != nil {
		return nil, err
	}
	return &v1.CancelUpdateResponse{Cancellation: &v1.Cancellation{RequestId: request.RequestId}}, nil
}

func (s *scripted) serve(t *testing.T, options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	v1.RegisterUpdateServiceServer(server, s)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return listener.Addr().String()
}

func dial(t *testing.T, address string, options Options) *Client {
	t.Helper()
	if options.Credentials == nil {
		options.Credentials = insecure.NewCredentials()
	}
	client, err := New(address, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func message(kind v1.WatchKind, sequence int64, token string) *v1.WatchUpdateResponse {
	return &v1.WatchUpdateResponse{
		Kind: kind, Sequence: sequence, ResumeToken: token, Update: &v1.Update{Status: "InProgress"}, Age: durationpb.New(0),
	}
}

func answer(messages []*v1.WatchUpdateResponse, err error) func(*v1.WatchUpdateRequest, grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
	return func(_ *v1.WatchUpdateRequest, stream grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
		for _, each := range messages {
			if err := stream.Send(each); err != nil {
				return err
			}
		}
		return err
	}
}

func TestAWatchResumesWithItsLastTokenHoweverTheStreamEnds(t *testing.T) {
	t.Parallel()
	var tokens []string
	server := &scripted{}
	for number, end := range []error{
		nil, // a proxy ended the stream with OK
		status.Error(codes.Canceled, "a proxy gave up"),
		status.Error(codes.Internal, "RST_STREAM"),
		fail(codes.ResourceExhausted, "WATCHER_TOO_SLOW", nil),
		fail(codes.Unavailable, "DRAINING", durationpb.New(time.Millisecond)),
		nil,
	} {
		kind := v1.WatchKind_WATCH_KIND_HEARTBEAT
		if number == 5 {
			kind = v1.WatchKind_WATCH_KIND_FINAL
		}
		respond := answer([]*v1.WatchUpdateResponse{message(kind, int64(1+number/5), string(rune('a'+number)))}, end)
		server.watches = append(server.watches, func(request *v1.WatchUpdateRequest, stream grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
			tokens = append(tokens, request.ResumeToken)
			return respond(request, stream)
		})
	}
	var sequences []int64
	for state, err := range dial(t, server.serve(t), Options{}).Watch(limited(t), &v1.WatchUpdateRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		sequences = append(sequences, state.Sequence)
	}
	if found := strings.Join(tokens, ","); found != ",a,b,c,d,e" {
		t.Error("resume tokens: ", found)
	}
	if len(sequences) != 2 || sequences[1] != 2 {
		t.Error("sequences: ", sequences)
	}
}

func TestAStreamThatIsSilentIsReplaced(t *testing.T) {
	t.Parallel()
	server := &scripted{}
	server.watches = append(server.watches, func(_ *v1.WatchUpdateRequest, stream grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
		stream.Send(message(v1.WatchKind_WATCH_KIND_SNAPSHOT, 1, "a"))
		<-stream.Context().Done()
		return nil
	}, answer([]*v1.WatchUpdateResponse{message(v1.WatchKind_WATCH_KIND_FINAL, 2, "b")}, nil))
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	for _, err := range dial(t, server.serve(t), Options{Silence: 200 * time.Millisecond}).Watch(ctx, &v1.WatchUpdateRequest{}) {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestACallerThatIsSlowKeepsItsStream(t *testing.T) {
	t.Parallel()
	server := &scripted{}
	server.watches = append(server.watches, answer([]*v1.WatchUpdateResponse{
		message(v1.WatchKind_WATCH_KIND_SNAPSHOT, 1, "a"), message(v1.WatchKind_WATCH_KIND_FINAL, 2, "b"),
	}, nil))
	for state, err := range dial(t, server.serve(t), Options{Silence: 100 * time.Millisecond}).Watch(limited(t), &v1.WatchUpdateRequest{}) {
		if err != nil {
			t.Error(err)
		}
		if state.Sequence == 1 {
			<-time.After(300 * time.Millisecond)
		}
	}
	if server.attempts != 1 {
		t.Errorf("%d streams", server.attempts)
	}
}

func TestARefusedResumeTokenIsDroppedAndARefusedWatchEnds(t *testing.T) {
	t.Parallel()
	server := &scripted{}
	server.watches = append(server.watches, func(request *v1.WatchUpdateRequest, _ grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
		if request.ResumeToken != "" {
			return fail(codes.InvalidArgument, "RESUME_TOKEN_INVALID", nil)
		}
		return fail(codes.PermissionDenied, "POLICY_DENIED", nil)
	})
	client := dial(t, server.serve(t), Options{})
	for _, err := range client.Watch(t.Context(), &v1.WatchUpdateRequest{ResumeToken: "old"}) {
		if e := ErrorOf(err); e == nil || e.Reason != "POLICY_DENIED" {
			t.Error(err)
		}
	}
	if server.attempts != 2 {
		t.Errorf("%d attempts", server.attempts)
	}
}

func TestACancelSendsOneRequestIDUntilItIsAnswered(t *testing.T) {
	t.Parallel()
	ids := map[string]int{}
	note := func(err error) func(context.Context, *v1.CancelUpdateRequest) error {
		return func(_ context.Context, request *v1.CancelUpdateRequest) error {
			ids[request.RequestId]++
			return err
		}
	}
	server := &scripted{cancels: []func(context.Context, *v1.CancelUpdateRequest) error{
		note(fail(codes.Unavailable, "OUTCOME_UNKNOWN", nil)), note(status.Error(codes.Unknown, "502")), note(nil),
	}}
	request := &v1.CancelUpdateRequest{}
	cancellation, err := dial(t, server.serve(t), Options{}).Cancel(t.Context(), request)
	if err != nil || cancellation.RequestId != request.RequestId || len(ids) != 1 || ids[request.RequestId] != 3 {
		t.Error(cancellation, err, ids)
	}
}

func TestAWatchReplacesAnExpiredToken(t *testing.T) {
	t.Parallel()
	server := &scripted{}
	server.watches = append(server.watches, func(request *v1.WatchUpdateRequest, stream grpc.ServerStreamingServer[v1.WatchUpdateResponse]) error {
		given, _ := metadata.FromIncomingContext(stream.Context())
		if given.Get("authorization")[0] != "Bearer token-3" {
			return fail(codes.Unauthenticated, "CREDENTIALS_EXPIRED", nil)
		}
		return stream.Send(message(v1.WatchKind_WATCH_KIND_FINAL, 1, "a"))
	})
	tokens := 0
	client := dial(t, server.serve(t), Options{Token: func(context.Context) (string, error) {
		tokens++
		return "token-" + string(rune('0'+tokens)) + "\n", nil // token-1 expires, token-2 is compared, token-3 is sent
	}})
	for _, err := range client.Watch(limited(t), &v1.WatchUpdateRequest{}) {
		if err != nil {
			t.Error(err)
		}
	}
}

func TestATokenThatCannotBeSentEndsTheCall(t *testing.T) {
	t.Parallel()
	for _, source := range []func(context.Context) (string, error){
		func(context.Context) (string, error) { return "", errors.New("the vault is closed") },
		func(context.Context) (string, error) { return "a\nb", nil },
	} {
		server := &scripted{}
		_, err := dial(t, server.serve(t), Options{Token: source}).Cancel(t.Context(), &v1.CancelUpdateRequest{})
		if e := ErrorOf(err); e == nil || e.Code != codes.Unauthenticated || server.attempts != 0 {
			t.Error(err)
		}
	}
}

func TestAProxyThatAnswersInsteadOfAGatewayIsReported(t *testing.T) {
	t.Parallel()
	server := &scripted{cancels: []func(context.Context, *v1.CancelUpdateRequest) error{
		func(context.Context, *v1.CancelUpdateRequest) error { return status.Error(codes.Unavailable, "503") },
	}}
	client := dial(t, server.serve(t), Options{})
	_, err := client.Updates.CancelUpdate(t.Context(), &v1.CancelUpdateRequest{})
	if state := client.calls.GetState(); state != connectivity.Ready {
		t.Fatal(state)
	}
	for given, ends := range map[retries]bool{{foreign: 5}: false, {foreign: 6}: true, {foreign: 6, reached: true}: false, {foreign: 39, reached: true}: true} {
		given.client, given.conn = client, client.calls
		if found := given.check(t.Context(), ErrorOf(err)); (found != nil) != ends {
			t.Errorf("%+v: %v", given, found)
		}
	}
	broken := &retries{client: client, conn: client.calls, foreign: 39}
	if found := broken.check(t.Context(), &Error{Code: codes.Unavailable, streamBroke: true}); found != nil {
		t.Error("a stream that broke counts as an answer of a proxy: ", found)
	}
}

// certify returns a certificate for 127.0.0.1 that is its own CA.
func certify(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _ := x509.ParseCertificate(raw)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, pool
}

func TestTLSChecksTheGatewayAndSendsAClientCertificate(t *testing.T) {
	t.Parallel()
	own, roots := certify(t)
	server := &scripted{cancels: []func(context.Context, *v1.CancelUpdateRequest) error{
		func(context.Context, *v1.CancelUpdateRequest) error { return nil },
	}}
	address := server.serve(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
	})))
	trusting := credentials.NewTLS(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}})
	if _, err := dial(t, address, Options{Credentials: trusting}).Cancel(t.Context(), &v1.CancelUpdateRequest{}); err != nil {
		t.Error(err)
	}
	for name, other := range map[string]credentials.TransportCredentials{
		"system roots": credentials.NewTLS(nil), "plaintext": insecure.NewCredentials(),
	} {
		_, err := dial(t, address, Options{Credentials: other}).Cancel(t.Context(), &v1.CancelUpdateRequest{})
		if err == nil || !strings.Contains(err.Error(), "Options.Credentials") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func limited(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(stop)
	return ctx
}
