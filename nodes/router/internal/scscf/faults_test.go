package scscf_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy/proxytest"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// fault is what an application server does, and what is to follow.
type fault struct {
	name    string
	act     func(w *world, as *proxytest.Peer, m *sip.Message) // m is nil when nothing reaches the server
	server  string                                             // in place of the server's address
	decides bool                                               // the default handling decides, otherwise status goes to the caller whatever it says
	passes  bool                                               // the next hop gets the request although the caller gets the status
	silent  bool                                               // time passes first
	status  int                                                // to the caller when the session ends
	message int                                                // likewise for MESSAGE, if another
}

func faults() []fault {
	reply := func(status ...int) func(w *world, as *proxytest.Peer, m *sip.Message) {
		return func(_ *world, as *proxytest.Peer, m *sip.Message) {
			for _, s := range status {
				as.Reply(m, s)
			}
		}
	}
	return []fault{
		{name: "silent", act: reply(), decides: true, silent: true, status: 408, message: 504},
		{name: "refused", server: "sip:10.1.0.99:5060;transport=TCP", decides: true, status: 504},
		{name: "unresolvable", server: "sip:mmtel.ims.test", decides: true, status: 504},
		{name: "408", act: reply(408), decides: true, status: 408, message: 504},
		{name: "503", act: reply(503), decides: true, status: 500},
		{name: "100 then silent", act: reply(100), decides: true, silent: true, status: 408, message: 504},
		{name: "180 then 503", act: reply(180, 503), status: 500},
		{name: "returned then 503", act: func(w *world, as *proxytest.Peer, m *sip.Message) {
			w.back(as, m)
			time.Sleep(10 * time.Millisecond) // the time that the request needs, on a connection of its own
			as.Reply(m, 503)
		}, passes: true, status: 500},
		{name: "200", act: reply(200), status: 200},
	}
}

// TestFaultsOfServers is the matrix of what a server can do wrong: the next hop, the status and the time.
func TestFaultsOfServers(t *testing.T) {
	for _, f := range faults() {
		for handling, patience := range []time.Duration{2 * time.Second, 4 * time.Second} {
			for _, method := range []string{sip.INVITE, sip.MESSAGE} {
				for _, first := range []bool{true, false} {
					name := fmt.Sprintf("%s/%s/%s/%s", f.name, []string{"continued", "terminated"}[handling], method, map[bool]string{true: "first", false: "last"}[first])
					t.Run(name, func(t *testing.T) {
						in(t, "", func(w *world) { w.fault(f, handling, patience, method, first) })
					})
				}
			}
		}
	}
}

func (w *world) fault(f fault, handling int, patience time.Duration, method string, first bool) {
	w.t.Helper()
	handlings, servers, peers := [2]int{}, [2]string{uriOne, uriOther}, [2]*proxytest.Peer{w.one, w.other}
	bad := map[bool]int{true: 0, false: 1}[first]
	handlings[bad] = handling
	if f.server != "" {
		servers[bad] = f.server
	}
	w.criteria("alice", criterion(1, handlings[0], servers[0]), criterion(2, handlings[1], servers[1]))
	w.play(peers[1-bad], func(as *proxytest.Peer, m *sip.Message) { w.back(as, m) })
	w.play(peers[bad], func(as *proxytest.Peer, m *sip.Message) { f.act(w, as, m) })

	start, delay, status := time.Now(), time.Duration(0), f.status
	if f.silent {
		delay = patience
	}
	continues := f.decides && handling == 0
	switch {
	case continues:
		status = 200
	case f.message != 0 && method == sip.MESSAGE:
		status = f.message
	}
	w.caller.Send(router, request(method, "sip:bob@ims.test"))
	var reached *sip.Message
	if continues || f.passes {
		reached = w.phone.Expect(method)
		w.takes(start, delay)
		if reached.Has(sip.PServedUser) || reached.Count(sip.Route) != 1 {
			w.t.Errorf("the next hop gets\n%s", reached)
		}
	}
	if continues {
		w.phone.Reply(reached, 200)
	}
	got := w.caller.Maybe(time.Minute)
	for got != nil && got.Status < 200 {
		got = w.caller.Maybe(time.Minute)
	}
	if got == nil || got.Status != status {
		w.t.Fatalf("the caller gets\n%v\nwant %d", got, status)
	}
	w.takes(start, delay)
	if f.passes {
		w.phone.Reply(reached, 404)
		if method == sip.INVITE {
			w.phone.Expect("ACK")
		}
	}
	w.phone.Quiet(10 * time.Second)
}

// play lets a goroutine be an application server until the test ends: it does act on requests, relays the answers to those
// that it has returned, and ends what is cancelled.
func (w *world) play(as *proxytest.Peer, act func(as *proxytest.Peer, m *sip.Message)) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	w.ends = append(w.ends, func() { cancel(); <-done })
	go func() {
		defer close(done)
		var request *sip.Message
		for ctx.Err() == nil {
			m := as.Maybe(time.Second)
			switch {
			case m == nil || m.Method == sip.ACK:
			case m.Method == sip.CANCEL:
				as.Reply(m, 200)
				as.Reply(request, 487)
			case m.IsRequest():
				request = m
				act(as, m)
			default:
				if _, method := m.CSeq(); method != sip.CANCEL {
					as.Reply(request, m.Status)
				}
			}
		}
	}()
}
