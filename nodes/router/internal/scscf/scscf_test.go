package scscf_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss/hsstest"
	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/functions"
)

const router = "tcp:10.1.0.1:5054"

// world is a router with a caller, the edge of the called phones and two application servers, all played by hand.
type world struct {
	t                         *testing.T
	caller, phone, one, other *proxytest.Peer
	router                    *functions.Router
	hss                       *hsstest.HSS
	store                     *registrations.Memory
	metrics                   *prometheus.Registry
	serial                    int
	ends                      []func() // of the application servers that play by themselves
}

func in(t *testing.T, options string, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		local := "local_ip=10.1.0.1\npublic_ip=10.1.0.1\npublic_hostname=router-1.site1.ims.test\nnode_role=router\ndeployment_id=d\ndns_zone=ims.test\n"
		shared := "home_domain=ims.test\nnonce_key=k\n"
		for line := range strings.Lines(options) {
			if strings.HasPrefix(line, "scscf_node_uri") {
				local += line
			} else {
				shared += line
			}
		}
		o, _, err := config.Parse(config.File{Name: config.LocalFile, Text: local}, config.File{Name: config.SharedFile, Text: shared})
		if err != nil {
			t.Fatal(err)
		}
		n := transporttest.NewNetwork(t)
		w := &world{t: t, hss: hsstest.New("ims.test", "sip:scscf.router.ims.test;transport=TCP"), store: registrations.NewMemory(), metrics: prometheus.NewRegistry()}
		for _, user := range []string{"alice", "bob", "carol"} {
			w.hss.Add(user+"@ims.test", "secret", "sip:"+user+"@ims.test")
		}
		w.bind("alice")
		w.bind("bob")
		w.bind("carol")
		node := n.Node(nil, transporttest.TCP("", "10.1.0.1:5054"), transporttest.UDP("", "10.1.0.1:5054"), transporttest.TCP("", "10.1.0.1:5052"))
		w.router = functions.New(o, functions.Deps{
			HSS: w.hss, Store: w.store, Now: time.Now, Log: slog.New(slog.DiscardHandler), Metrics: w.metrics, Wire: node,
			Resolver: proxytest.Names{"gateway.test": {"tcp:10.1.0.3:5058"}},
		})
		node.Handle(w.router.Core)
		done := make(chan struct{})
		go func() { defer close(done); _ = w.router.Run(ctx) }()
		w.caller, w.phone = proxytest.NewPeer(t, n, "10.1.0.2:5058"), proxytest.NewPeer(t, n, "10.1.0.3:5058")
		w.one, w.other = proxytest.NewPeer(t, n, "10.1.0.21:5060"), proxytest.NewPeer(t, n, "10.1.0.22:5060")
		defer w.end() // when the test fails
		test(w)
		w.end()
		time.Sleep(40 * time.Second)
		if held := w.router.Core.Held(); held != 0 {
			t.Errorf("%d transactions are left without a final response", held)
		}
		if left := w.metric("ims_scscf_chain_tokens"); left != 0 {
			t.Errorf("%v tokens are left", left)
		}
		cancel()
		<-done
	})
}

func (w *world) end() {
	for _, end := range w.ends {
		end()
	}
	w.ends = nil
}

// metric adds up the values of a counter or gauge.
func (w *world) metric(name string) float64 {
	w.t.Helper()
	synctest.Wait()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	sum, found := 0.0, false
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				found = true
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	if !found {
		w.t.Errorf("there is no metric %s", name)
	}
	return sum
}

func (w *world) bind(user string) {
	w.t.Helper()
	_, err := w.store.Apply(w.t.Context(), &registrations.ApplyRequest{Aor: "sip:" + user + "@ims.test", Bindings: []*registrations.Binding{{
		Id: user, Uri: "sip:" + user + "@9.9.9.9:1", Path: []string{"<sip:flow@10.1.0.3:5058;transport=TCP;lr>"}, ExpiresAt: time.Now().Add(time.Hour).UnixMilli(),
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) unbind(user string) {
	w.t.Helper()
	if _, err := w.store.Apply(w.t.Context(), &registrations.ApplyRequest{Aor: "sip:" + user + "@ims.test", RemoveAll: true}); err != nil {
		w.t.Fatal(err)
	}
}

const (
	uriOne   = "sip:10.1.0.21:5060;transport=TCP"
	uriOther = "sip:10.1.0.22:5060;transport=TCP"
)

// criterion sends requests to a server; conditions are SPTs, ANDed.
func criterion(priority, handling int, server string, conditions ...string) string {
	trigger := ""
	for i, c := range conditions {
		trigger += fmt.Sprintf("<SPT><Group>%d</Group>%s</SPT>", i, c)
	}
	if trigger != "" {
		trigger = "<TriggerPoint><ConditionTypeCNF>1</ConditionTypeCNF>" + trigger + "</TriggerPoint>"
	}
	return fmt.Sprintf("<InitialFilterCriteria><Priority>%d</Priority>%s<ApplicationServer><ServerName>%s</ServerName><DefaultHandling>%d</DefaultHandling></ApplicationServer></InitialFilterCriteria>",
		priority, trigger, server, handling)
}

func session(n int) string { return fmt.Sprintf("<SessionCase>%d</SessionCase>", n) }

func (w *world) criteria(user string, criteria ...string) {
	w.hss.SetFilterCriteria("sip:"+user+"@ims.test", strings.Join(criteria, ""))
}

// request is one of alice through her Service-Route.
func request(method, to string, headers ...string) string {
	text := fmt.Sprintf(`
%s %s SIP/2.0
Route: <sip:scscf.router.ims.test;transport=TCP;lr;orig>
From: <sip:alice@ims.test>;tag=a
To: <%[2]s>
Call-ID: call
CSeq: 1 %[1]s
P-Asserted-Identity: <sip:alice@ims.test>
P-Charging-Vector: icid-value=1
`, method, to)
	for _, h := range headers {
		text += h + "\n"
	}
	return text
}

// back is a server returning a request: by the second Route, changed as the test wants.
func (w *world) back(as *proxytest.Peer, m *sip.Message, change ...func(*sip.Message)) *sip.Message {
	w.t.Helper()
	c := m.Clone()
	c.Pop(sip.Route)
	next, err := sip.AddressURI(c.Get(sip.Route))
	if err != nil || !strings.HasPrefix(next.User, "odi_") {
		w.t.Fatalf("no way back in\n%s", m)
	}
	w.serial++
	c.Push(sip.Via, fmt.Sprintf("SIP/2.0/TCP %s;branch=z9hG4bK-as-%d", as.Addr, w.serial))
	for _, f := range change {
		f(c)
	}
	as.Send("tcp:"+sip.HostPort(next.Host, next.Port), c.String())
	return c
}

func (w *world) header(m *sip.Message, id sip.ID, want ...string) {
	w.t.Helper()
	if got := m.All(id); strings.Join(got, " ") != strings.Join(want, " ") {
		w.t.Errorf("%s is %q, want %q", id, got, want)
	}
}

// takes checks how long something took, in fake time.
func (w *world) takes(since time.Time, want time.Duration) {
	w.t.Helper()
	if got := time.Since(since); got < want || got > want+50*time.Millisecond {
		w.t.Errorf("it took %s, want %s", got, want)
	}
}
