// Command alone is the S-CSCF's registrar in one process: the router's own transport, transactions, proxy core, functions,
// authentication and registrar, with subscribers and registration records in memory. It is what `make bench` measures
// beside Kamailio; it is in no image.
package main

import (
	"context"
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"encoding/hex"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
)

const domain = "ims.test"

func main() {
	listen := flag.String("listen", "127.0.0.1", "address; the S-CSCF is at its port 5054")
	users := flag.Int("users", 2000, "subscribers: 6505500000@ims.test and up, their password is secret")
	profile := flag.String("profile", "", "file for a CPU profile of the whole run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *users, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "alone:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, listen string, users int, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	o, _, err := config.Parse(
		config.File{Name: config.LocalFile, Text: fmt.Sprintf("local_ip=%[1]s\npublic_ip=%[1]s\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test", listen)},
		config.File{Name: config.SharedFile, Text: "home_domain=" + domain + "\nnonce_key=alone"})
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(listen + ":" + strconv.Itoa(o.SCSCFPort))
	if err != nil {
		return err
	}
	log, metrics := slog.New(slog.NewTextHandler(os.Stderr, nil)), prometheus.NewRegistry()
	resolver, err := resolve.New(resolve.Config{Servers: []string{"127.0.0.1"}}, resolve.Deps{Log: log, Metrics: metrics})
	if err != nil {
		return err
	}
	wire, err := transport.New(transport.Config{Listeners: []transport.Listener{
		{Name: "core", Transport: resolve.UDP, Addr: addr}, {Name: "core", Transport: resolve.TCP, Addr: addr},
	}}, transport.Deps{Log: log, Metrics: metrics})
	if err != nil {
		return err
	}
	router := functions.New(o, functions.Deps{
		HSS: newSubscribers(users), Store: newStore(), Challenges: records.NewMemory(), Resolver: resolver, Wire: wire,
		Now: time.Now, Log: log, Metrics: metrics, Prompt: true,
	})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return router.Core.Run(ctx) })
	group.Go(func() error { return wire.Run(ctx, router.Core) })
	return group.Wait()
}

// subscribers is an HSS in memory; its answers are those that the diameter role gives for such subscribers.
type subscribers struct {
	ha1 [][2 * md5.Size]byte // by number
}

func newSubscribers(n int) *subscribers {
	s := &subscribers{ha1: make([][2 * md5.Size]byte, n)}
	for i := range s.ha1 {
		sum := md5.Sum([]byte(fmt.Sprintf("65055%05d@%[2]s:%[2]s:secret", i, domain))) //nolint:gosec // as above
		hex.Encode(s.ha1[i][:], sum[:])
	}
	return s
}

// find returns the number of a private identity.
func (s *subscribers) find(impi string) (int, bool) {
	user, host, _ := strings.Cut(impi, "@")
	number, err := strconv.Atoi(strings.TrimPrefix(user, "65055"))
	return number, err == nil && host == domain && len(user) == 10 && number < len(s.ha1)
}

func profile(impi string) *hss.RegData {
	return &hss.RegData{State: hss.NotRegistered, ImsSubscription: "<IMSSubscription><PrivateID>" + impi +
		"</PrivateID><ServiceProfile><PublicIdentity><Identity>sip:" + impi + "</Identity></PublicIdentity></ServiceProfile></IMSSubscription>"}
}

// Authorize implements hss.Server.
func (s *subscribers) Authorize(_ context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error) {
	n, ok := s.find(req.GetImpi())
	if !ok || req.GetImpu() != "sip:"+req.GetImpi() {
		return &hss.AuthorizeResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: "no such subscriber"}, nil
	}
	return &hss.AuthorizeResponse{
		ServerName: serverName, ResultCode: hss.FirstRegistration,
		Digest: &hss.Digest{Ha1: string(s.ha1[n][:]), Realm: domain, Qop: "auth"}, RegData: profile(req.GetImpi()),
	}, nil
}

const serverName = "sip:scscf.router." + domain + ";transport=TCP"

// Locate implements hss.Server; nobody is called here.
func (*subscribers) Locate(context.Context, *hss.LocateRequest) (*hss.LocateResponse, error) {
	return &hss.LocateResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: "no such subscriber"}, nil
}

// Assign implements hss.Server.
func (s *subscribers) Assign(_ context.Context, req *hss.AssignRequest) (*hss.AssignResponse, error) {
	if _, ok := s.find(req.GetImpi()); !ok {
		return &hss.AssignResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: "no such subscriber"}, nil
	}
	return &hss.AssignResponse{RegData: profile(req.GetImpi())}, nil
}
