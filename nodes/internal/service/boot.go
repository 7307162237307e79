package service

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/identity"
	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
)

const (
	signalDrain  = 10 * time.Second // how long SIGTERM waits for a drain that nobody ordered
	stopGrace    = 10 * time.Second // for the role to end after its context did
	clusterGrace = 3 * time.Second  // for a fresh configuration before the cached one is used
	announceTick = time.Second
)

// Cluster is what a node needs of its site's cluster; nodes/internal/cluster is one.
type Cluster interface {
	// Run keeps the connection until ctx ends; then it takes the node out of the registry.
	Run(ctx context.Context) error
	// Announce replaces what the registry says of this node; it does not block.
	Announce(r management.Registration)
	// Watch calls f with each document that there is and then with each change, until ctx ends. One that
	// was deleted has revision 0.
	Watch(ctx context.Context, f func(management.Document)) error
}

// boot carries a node from its command line to its end.
type boot struct {
	role      config.Role
	start     Start
	bootstrap BootstrapFunc
	early     bool
	connect   func(n *Node) (Cluster, error)
	signals   chan os.Signal
	again     chan struct{} // capacity 1: stop in order and start again
	exec      func() error  // puts this very program in this process's place

	phase         atomic.Pointer[error] // why the node is not up yet
	bootstrapping sync.Mutex
	startedAt     time.Time
	digest        func() string
}

func newBoot(role config.Role, start Start, opts ...Option) *boot {
	b := &boot{role: role, start: start, connect: connectCluster, signals: make(chan os.Signal, 4), again: make(chan struct{}, 1), exec: execSelf, startedAt: time.Now(), digest: sync.OnceValue(binaryDigest)}
	for _, o := range opts {
		o(b)
	}
	return b
}

// binaryDigest is the SHA-256 of the running program, as image manifests state it.
func binaryDigest() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))
}

// main is Main without ending the process.
func (b *boot) main(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet(string(b.role), flag.ContinueOnError)
	flags.SetOutput(stderr)
	dir := flags.String("config-dir", "/etc/clearwater", "folder of local_config, shared_config and user_settings")
	checkOnly := flags.Bool("check-config", false, "check the configuration and end: 0 if it is valid, 1 if not")
	showVersion := flags.Bool("version", false, "print the version and end")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 1
	}
	if flags.NArg() > 0 {
		_, _ = fmt.Fprintf(stderr, "%s: unexpected argument %q\n", b.role, flags.Arg(0))
		return 1
	}
	if *showVersion {
		_, _ = fmt.Fprintln(stdout, version())
		return 0
	}
	options, roots, ok := b.load(*dir, stderr)
	if !ok {
		return 1
	}
	if *checkOnly {
		_, _ = fmt.Fprintln(stdout, "configuration is valid")
		return 0
	}
	signal.Notify(b.signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(b.signals)
	err := b.serve(*dir, options, roots, stdout)
	if errors.Is(err, errAgain) {
		err = b.exec() // it returns only when it failed; then whoever supervises starts the node again
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: %v\n", b.role, err)
		return 1
	}
	return 0
}

// execSelf replaces the process by a fresh one of the same program, arguments and environment. Its sockets and files close.
func execSelf() error {
	path, err := os.Executable()
	if err == nil {
		err = syscall.Exec(path, os.Args, os.Environ()) //nolint:gosec // itself
	}
	return fmt.Errorf("starting again: %w", err)
}

// load reads the configuration and prints what is wrong with it, a line for each.
func (b *boot) load(dir string, stderr io.Writer) (*config.Options, []byte, bool) {
	options, warnings, err := config.Load(dir)
	for _, w := range warnings {
		_, _ = fmt.Fprintln(stderr, "warning:", w)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return nil, nil, false
	}
	if options.Role != b.role {
		_, _ = fmt.Fprintf(stderr, "%s: option node_role: value %q is refused, allowed is %s (this program)\n", filepath.Join(dir, config.LocalFile), options.Role, b.role)
		return nil, nil, false
	}
	roots, err := os.ReadFile(within(dir, options.CACertificate))
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "%s: option ca_certificate_file: %v\n", filepath.Join(dir, config.LocalFile), err)
		return nil, nil, false
	}
	return options, roots, true
}

// within makes a path relative to the configuration folder absolute.
func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// serve runs the node until it is told to stop (nil) or cannot go on.
func (b *boot) serve(dir string, o *config.Options, roots []byte, stdout io.Writer) error {
	level := &slog.LevelVar{}
	log, err := newLogger(stdout, o, level)
	if err != nil {
		return err
	}
	n, err := b.node(dir, o, roots, log)
	if err != nil {
		return err
	}
	b.phase.Store(&errUnjoined)
	n.ReadyWhen("boot", func() error { return *b.phase.Load() }) // before anybody can ask
	n.OnOptions(func(o *config.Options) {
		level.Set(logLevel(o.LogLevel))
		n.resolver.SetStateless(o.StatelessProxies)
	})
	health, err := listen("health", o.ManagementLocalIP, config.HealthPort(b.role))
	if err != nil {
		return err
	}
	defer func() { _ = health.Close() }()
	conf, err := n.Identity.OpenServer()
	if err != nil {
		return err
	}
	manage, err := listen("management", o.ManagementLocalIP, config.ManagementPort(b.role))
	if err != nil {
		return err
	}
	defer func() { _ = manage.Close() }()
	b.registerManagement(n)
	for _, s := range []struct {
		server *http.Server
		ln     net.Listener
	}{{newHTTPServer(healthHandler(n), log), health}, {newHTTPServer(guard(n.Management), log), tls.NewListener(manage, conf)}} {
		go func() {
			if err := s.server.Serve(s.ln); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				log.Error("serving", "address", s.ln.Addr().String(), "error", err)
			}
		}()
		defer func() { _ = s.server.Close() }()
	}
	log.Info("booting", "role", b.role, "version", version(), "management", manage.Addr().String(), "health", health.Addr().String())
	return b.run(n)
}

func listen(what, ip string, port int) (net.Listener, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return nil, fmt.Errorf("opening the %s listener: %w", what, err)
	}
	return ln, nil
}

// node puts together what a role gets.
func (b *boot) node(dir string, o *config.Options, roots []byte, log *slog.Logger) (*Node, error) {
	n := &Node{Log: log, Management: http.NewServeMux(), live: newLive(dir, o, log), ready: &readiness{}, drains: newDrains(log)}
	n.Metrics = newRegistry(n, version())
	var err error
	if n.resolver, err = resolve.New(resolve.Config{Servers: o.SignalingDNS, Timeout: o.DNSTimeout, Blacklist: o.SIPBlacklist},
		resolve.Deps{Log: log, Metrics: n.Metrics}); err != nil {
		return nil, err
	}
	addresses := []string{o.LocalIP}
	for _, a := range []string{o.PublicIP, o.ManagementLocalIP} {
		if a != o.LocalIP {
			addresses = append(addresses, a)
		}
	}
	n.Identity, err = identity.Open(identity.Config{
		Name: nodeName(o), Role: b.role, Site: o.Site, Zone: o.Zone, Addresses: addresses,
		Directory: filepath.Join(within(dir, o.DataDirectory), "pki"), Roots: roots, Token: o.JoinToken,
	}, identity.Deps{Log: log, Signers: signers(n.resolver, "store."+o.Site+"."+o.Zone)})
	if err != nil {
		return nil, err
	}
	if n.Cluster, err = newCluster(n, o); err != nil {
		return nil, err
	}
	n.OnDocument("dns_json", func(text string) {
		overrides, err := resolve.ParseOverrides(text)
		if err != nil {
			log.Error("dns_json is refused, the old one stays in force", "error", err)
			return
		}
		n.resolver.SetOverrides(overrides)
	})
	return n, nil
}

// signers finds the management API of store nodes by name.
func signers(r *resolve.Resolver, host string) func(ctx context.Context, conf *tls.Config) ([]identity.Signer, error) {
	return func(ctx context.Context, conf *tls.Config) ([]identity.Signer, error) {
		addrs, err := r.Addrs(ctx, host, uint16(config.ManagementPort(config.Store)))
		if err != nil {
			return nil, err
		}
		out := make([]identity.Signer, len(addrs))
		for i, a := range addrs {
			out[i] = management.NewClient(a.String(), conf)
		}
		return out, nil
	}
}
