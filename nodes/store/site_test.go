package main

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

// siteLab is a site of several store nodes, real processes, over one engine that the test holds: what they would have in
// Cassandra.
type siteLab struct {
	t          *testing.T
	net        string // 127.37.x
	deployment *pki.Authority
	site       *pki.Authority
	dns        string
	engine     *engineServer
	options    string // of every node's local_config; with any, the nodes have their own engine
	environ    []string
	patience   time.Duration // for a node to come or go

	mu    sync.Mutex
	nodes map[int]*lab // those that DNS names
}

func newSiteLab(t *testing.T, network string) *siteLab {
	t.Helper()
	t.Parallel()
	return newSiteLabAlone(t, network)
}

// newSiteLabAlone is a site whose test runs beside no other.
func newSiteLabAlone(t *testing.T, network string) *siteLab {
	t.Helper()
	s := &siteLab{t: t, net: network, nodes: map[int]*lab{}, patience: 40 * time.Second, engine: serveEngine(t, memory.New(), network+".250")}
	var err error
	if s.deployment, err = pki.NewDeploymentCA("lab"); err != nil {
		t.Fatal(err)
	}
	if s.site, err = s.deployment.NewSiteCA("site1"); err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", network+".251:0") //nolint:noctx // closed with the test
	if err != nil {
		t.Fatal(err)
	}
	s.dns = packets.LocalAddr().String()
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(s.answer)}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = packets.Close() })
	return s
}

// answer names all store nodes, for every name.
func (s *siteLab) answer(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := query.Question[0]; q.Qtype == dns.TypeA {
		for _, l := range s.nodes {
			reply.Answer = append(reply.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 0}, A: net.ParseIP(l.address)})
		}
	}
	_ = w.WriteMsg(reply)
}

// add starts one more store node and waits until it is ready.
func (s *siteLab) add(index int) *lab {
	s.t.Helper()
	address := fmt.Sprintf("%s.%d", s.net, index)
	l := newNode(s.t, s.deployment, s.site, index, address, s.dns)
	l.environ = append(l.environ, s.environ...)
	if s.options == "" {
		l.environ = []string{"STORE_SHARED_ENGINE=" + s.engine.address}
	}
	l.options(s.options)
	l.patience = s.patience
	first := s.any()
	if first != nil {
		l.must(first.management().PutToken(s.t.Context(), fmt.Sprintf("store-%d.site1", index), tokenFor(token, "store", address)))
	}
	s.mu.Lock()
	s.nodes[index] = l
	s.mu.Unlock()
	l.start()
	if first == nil {
		l.bootstrap(shared("127.0.0.1:9"))
	}
	l.ready()
	return l
}

// any is a node that runs.
func (s *siteLab) any() *lab {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range 9 {
		if l := s.nodes[i]; l != nil && l.process != nil {
			return l
		}
	}
	return nil
}

// voters waits for that many voting members of etcd.
func (s *siteLab) voters(n int) {
	s.t.Helper()
	l := s.any()
	m := l.management()
	l.eventually(40*time.Second, func() error {
		view, err := m.Cluster(s.t.Context())
		if err != nil {
			return err
		}
		voters := 0
		for _, member := range view.Members {
			if !member.Learner && member.Healthy {
				voters++
			}
		}
		if voters != n || !view.Healthy {
			return fmt.Errorf("etcd has %d voters, healthy %v, want %d", voters, view.Healthy, n)
		}
		return nil
	})
}

// remove takes a node out in order, as the provider does.
func (s *siteLab) remove(index int) {
	s.t.Helper()
	s.mu.Lock()
	l := s.nodes[index]
	delete(s.nodes, index)
	s.mu.Unlock()
	m := l.management()
	l.must(m.Decommission(s.t.Context(), s.patience))
	l.eventually(s.patience, func() error {
		status, err := m.Status(s.t.Context())
		if err == nil && status.State != management.Drained {
			err = fmt.Errorf("it is %s, holds %v: %v", status.State, status.Held, status.Reasons)
		}
		return err
	})
	l.stop()
	l.must(s.any().management().RemoveNode(s.t.Context(), fmt.Sprintf("store-%d.site1", index)))
}

// engineServer lets processes share an engine.
type engineServer struct {
	engine  engine.Engine
	address string

	mu    sync.Mutex
	away  bool // nobody gets through
	conns map[net.Conn]bool
}

// cut separates every node from the engine, or lets them through again. What was on its way is lost, done or not.
func (s *engineServer) cut(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
	if away {
		for c := range s.conns {
			_ = c.Close()
		}
		clear(s.conns)
	}
}

// admit keeps a connection, unless nobody gets through.
func (s *engineServer) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		_ = c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

type engineCall struct {
	Op         string
	Table, Key string
	Range      engine.Range
	Limit      int
	Writes     []engine.Write
}

type engineAnswer struct {
	Rows    []engine.Row
	Flag    bool
	Version uint64
	Err     string
}

func serveEngine(t *testing.T, e engine.Engine, ip string) *engineServer {
	t.Helper()
	ln, err := net.Listen("tcp", ip+":0") //nolint:noctx // closed with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	s := &engineServer{engine: e, address: ln.Addr().String(), conns: map[net.Conn]bool{}}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if s.admit(conn) {
				go serveEngineTo(conn, e)
			}
		}
	}()
	return s
}

func serveEngineTo(conn net.Conn, e engine.Engine) {
	defer func() { _ = conn.Close() }()
	ctx, dec, enc := context.Background(), gob.NewDecoder(conn), gob.NewEncoder(conn)
	for {
		var c engineCall
		if dec.Decode(&c) != nil {
			return
		}
		var a engineAnswer
		var err error
		switch c.Op {
		case "get":
			a.Rows = make([]engine.Row, 1)
			a.Rows[0], err = e.Get(ctx, c.Table, c.Key)
		case "commit":
			a.Version, a.Flag, err = e.Commit(ctx, c.Writes...)
		case "scan":
			a.Rows, a.Flag, err = e.Scan(ctx, c.Table, c.Range, c.Limit)
		}
		if err != nil {
			a.Err = err.Error()
		}
		if enc.Encode(a) != nil {
			return
		}
	}
}

// remoteEngine is the engine of the test, from a store process: one connection for each call at a time.
type remoteEngine struct {
	address string
	idle    chan *remoteConn
}

type remoteConn struct {
	net.Conn

	enc *gob.Encoder
	dec *gob.Decoder
}

func openRemote(address string) openFunc {
	return func(context.Context, *service.Node) (backend, error) {
		return backend{Engine: &remoteEngine{address: address, idle: make(chan *remoteConn, 64)}, shared: true}, nil
	}
}

func (r *remoteEngine) call(ctx context.Context, c engineCall) (engineAnswer, error) {
	if err := ctx.Err(); err != nil {
		return engineAnswer{}, err
	}
	var conn *remoteConn
	select {
	case conn = <-r.idle:
	default:
		nc, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", r.address)
		if err != nil {
			return engineAnswer{}, err
		}
		conn = &remoteConn{Conn: nc, enc: gob.NewEncoder(nc), dec: gob.NewDecoder(nc)}
	}
	var a engineAnswer
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	err := conn.enc.Encode(c)
	if err == nil {
		err = conn.dec.Decode(&a)
	}
	if err != nil {
		_ = conn.Close()
		return engineAnswer{}, fmt.Errorf("%w: %w", engine.ErrUnknown, err)
	}
	select {
	case r.idle <- conn:
	default:
		_ = conn.Close()
	}
	if a.Err != "" {
		err = errors.New(a.Err)
	}
	return a, err
}

func (r *remoteEngine) Get(ctx context.Context, table, key string) (engine.Row, error) {
	a, err := r.call(ctx, engineCall{Op: "get", Table: table, Key: key})
	if err != nil {
		return engine.Row{}, err
	}
	return a.Rows[0], nil
}

func (r *remoteEngine) Commit(ctx context.Context, writes ...engine.Write) (uint64, bool, error) {
	a, err := r.call(ctx, engineCall{Op: "commit", Writes: writes})
	return a.Version, a.Flag, err
}

func (r *remoteEngine) Scan(ctx context.Context, table string, rng engine.Range, limit int) ([]engine.Row, bool, error) {
	a, err := r.call(ctx, engineCall{Op: "scan", Table: table, Range: rng, Limit: limit})
	return a.Rows, a.Flag, err
}

func (r *remoteEngine) Close() error { return nil }

// callbacks is who timers call back.
type callbacks struct {
	uri string

	mu   sync.Mutex
	pops map[string][]pop
}

type pop struct {
	sequence string
	at       time.Time
}

func serveCallbacks(t *testing.T, ip string) *callbacks {
	t.Helper()
	ln, err := net.Listen("tcp", ip+":0") //nolint:noctx // closed with the test
	if err != nil {
		t.Fatal(err)
	}
	c := &callbacks{uri: "http://" + ln.Addr().String() + "/pop", pops: map[string][]pop{}}
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pops[string(body[:n])] = append(c.pops[string(body[:n])], pop{r.Header.Get("X-Sequence-Number"), time.Now()})
	})}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	return c
}

func (c *callbacks) of(opaque string) []pop {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pops[opaque]
}
