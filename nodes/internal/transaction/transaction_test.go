package transaction_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport/transporttest"
)

// end is one side: a layer whose user and receiver write down what they hear.
type end struct {
	layer   *transaction.Layer
	node    *transporttest.Node
	mu      sync.Mutex
	heard   []string
	servers []*transaction.Server
	begin   func(tx *transaction.Server)
}

func (e *end) note(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, fmt.Sprintf(format, args...))
}

// news is what was heard since the last time.
func (e *end) news() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := strings.Join(e.heard, " ")
	e.heard = nil
	return out
}

func (e *end) Message(m *sip.Message, f *transport.Flow) { e.layer.Receive(m, f) }

func (e *end) Request(tx *transaction.Server) {
	e.note("%s", tx.Request.Method)
	e.mu.Lock()
	e.servers = append(e.servers, tx)
	e.mu.Unlock()
	if e.begin != nil {
		e.begin(tx)
		return
	}
	tx.SetOwner(e)
}
func (e *end) Cancel(*transaction.Server, *sip.Message) { e.note("CANCEL") }
func (e *end) Ack(*sip.Message, transaction.Flow)       { e.note("ACK") }
func (e *end) Response(_ *transaction.Client, m *sip.Message) {
	e.note("%d", m.Status)
}
func (e *end) Failed(_ *transaction.Client, err error) {
	switch {
	case errors.Is(err, transaction.ErrTimeout):
		e.note("timeout")
	default:
		e.note("closed")
	}
}

type lane struct {
	a, b  *end
	first *sip.Message // that the callee got
	wire  []string     // what crossed, with the time in milliseconds
	lose  func(what string) bool
	mu    sync.Mutex
}

// losing chooses what is lost from now on.
func (l *lane) losing(f func(what string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose = f
}

func (l *lane) crossed() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := strings.Join(l.wire, " ")
	l.wire = nil
	return out
}

const left, right = "10.0.0.1:5060", "10.0.0.2:5060"

// in joins two layers; everything that crosses is written down, and lost as the test likes.
func in(t *testing.T, test func(t *testing.T, l *lane)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		n := transporttest.NewNetwork(t)
		l := &lane{a: &end{}, b: &end{}}
		start := time.Now()
		n.Drop(func(from, _ netip.AddrPort, m *sip.Message) bool {
			what := m.Method
			if what == "" {
				_, method := m.CSeq()
				what = fmt.Sprint(m.Status, "/", method)
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			l.wire = append(l.wire, fmt.Sprintf("%s@%d", what, time.Since(start).Milliseconds()/50*50))
			return l.lose != nil && l.lose(what)
		})
		for addr, e := range map[string]*end{left: l.a, right: l.b} {
			e.layer = transaction.New(transaction.Config{}, e)
			e.node = n.Node(e, transporttest.UDP("", addr), transporttest.TCP("", addr))
			go func() { _ = e.layer.Run(ctx) }()
		}
		test(t, l)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		for name, e := range map[string]*end{"left": l.a, "right": l.b} {
			if e.layer.Live() != 0 || e.layer.Len() != 0 {
				t.Errorf("%s: %d live, %d remembered at the end", name, e.layer.Live(), e.layer.Len())
			}
		}
	})
}

func (l *lane) send(t *testing.T, method string, kind resolve.Transport) *transaction.Client {
	t.Helper()
	f, err := l.a.node.Flow(resolve.Hop{Addr: netip.MustParseAddrPort(right), Transport: kind})
	if err != nil {
		t.Fatal(err)
	}
	m, err := sip.Parse([]byte(method + " sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP up;branch=z9hG4bKup\r\nFrom: <sip:a@x>;tag=a\r\nTo: <sip:b@x>\r\nCall-ID: c\r\nCSeq: 1 " +
		method + "\r\nRoute: <sip:r;lr>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.a.layer.Send(m, f, left, "", l.a)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer is what the callee says to the first request.
func (l *lane) answer(status int) {
	if l.first == nil {
		l.first = l.b.servers[0].Request
	}
	_ = l.b.servers[0].Respond(l.first.NewResponse(status, "", "t"))
}

func (l *lane) want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q\nwant %q", what, got, want)
	}
}

// Timers A and B, E and F (RFC 3261 17.1.1.2, 17.1.2.2).
func TestRepeatsOfRequests(t *testing.T) {
	silence := func(string) bool { return true }
	in(t, func(t *testing.T, l *lane) {
		l.losing(silence)
		l.send(t, sip.INVITE, resolve.UDP)
		time.Sleep(40 * time.Second)
		l.want(t, "wire", l.crossed(), "INVITE@0 INVITE@500 INVITE@1500 INVITE@3500 INVITE@7500 INVITE@15500 INVITE@31500")
		l.want(t, "caller", l.a.news(), "timeout")
	})
	in(t, func(t *testing.T, l *lane) {
		l.losing(silence)
		l.send(t, sip.MESSAGE, resolve.UDP)
		time.Sleep(40 * time.Second)
		l.want(t, "wire", l.crossed(), "MESSAGE@0 MESSAGE@500 MESSAGE@1500 MESSAGE@3500 MESSAGE@7500 MESSAGE@11500 MESSAGE@15500 MESSAGE@19500 MESSAGE@23500 MESSAGE@27500 MESSAGE@31500")
		l.want(t, "caller", l.a.news(), "timeout")
	})
	in(t, func(t *testing.T, l *lane) {
		l.losing(silence)
		l.send(t, sip.INVITE, resolve.TCP)
		time.Sleep(40 * time.Second)
		l.want(t, "wire", l.crossed(), "INVITE@0")
	})
}

// Timers G, H and I: an error is repeated until its ACK comes, and each repeat is acknowledged.
func TestRepeatsOfErrors(t *testing.T) {
	in(t, func(t *testing.T, l *lane) {
		l.send(t, sip.INVITE, resolve.UDP)
		synctest.Wait()
		l.answer(180)
		l.losing(func(what string) bool { return what == sip.ACK })
		l.answer(486)
		time.Sleep(8 * time.Second)
		l.losing(nil)
		time.Sleep(30 * time.Second)
		l.want(t, "wire", l.crossed(), "INVITE@0 180/INVITE@0 486/INVITE@0 ACK@0 486/INVITE@500 ACK@500 486/INVITE@1500 ACK@1500 486/INVITE@3500 ACK@3500 486/INVITE@7500 ACK@7500 486/INVITE@11500 ACK@11500")
		l.want(t, "caller", l.a.news(), "180 486")
		l.want(t, "callee", l.b.news(), "INVITE")
	})
	in(t, func(t *testing.T, l *lane) { // nobody acknowledges: Timer H
		l.send(t, sip.INVITE, resolve.UDP)
		synctest.Wait()
		l.losing(func(what string) bool { return what == sip.ACK })
		l.answer(486)
		time.Sleep(33 * time.Second)
		if n := l.b.layer.Len(); n != 0 {
			t.Errorf("%d remembered after Timer H", n)
		}
	})
}

// A 2xx is not repeated by the layer, repeats of the INVITE are absorbed, every 2xx goes up until Timer M (RFC 6026).
func TestAccepted(t *testing.T) {
	in(t, func(t *testing.T, l *lane) {
		l.losing(func(what string) bool { return what == "200/INVITE" })
		l.send(t, sip.INVITE, resolve.UDP)
		synctest.Wait()
		l.answer(200)
		time.Sleep(2 * time.Second)
		l.want(t, "wire", l.crossed(), "INVITE@0 200/INVITE@0 INVITE@500 INVITE@1500")
		l.losing(nil)
		l.answer(200)
		l.answer(200)
		l.answer(486) // too late to refuse
		synctest.Wait()
		l.want(t, "caller", l.a.news(), "200 200")
		l.want(t, "callee", l.b.news(), "INVITE")
	})
}

// Timer K absorbs, Timer J repeats the answer; a 100 comes when Timer E has grown to T2 (RFC 4320 4.1).
func TestLateAnswer(t *testing.T) {
	in(t, func(t *testing.T, l *lane) {
		l.send(t, sip.MESSAGE, resolve.UDP)
		synctest.Wait()
		l.losing(func(what string) bool { return what == sip.MESSAGE }) // else the repeat at 3.5 s may get the 100 again
		time.Sleep(5 * time.Second)
		l.losing(func(what string) bool { return what == "200/MESSAGE" })
		l.answer(200)
		l.losing(nil)
		time.Sleep(10 * time.Second)
		l.want(t, "wire", strings.Replace(l.crossed(), "100/MESSAGE@3500 MESSAGE@3500", "MESSAGE@3500 100/MESSAGE@3500", 1), "MESSAGE@0 MESSAGE@500 MESSAGE@1500 MESSAGE@3500 100/MESSAGE@3500 200/MESSAGE@5000 MESSAGE@7500 200/MESSAGE@7500")
		l.want(t, "caller", l.a.news(), "100 200")
	})
}

func TestCancelWaitsForAProvisional(t *testing.T) {
	in(t, func(t *testing.T, l *lane) {
		c := l.send(t, sip.INVITE, resolve.TCP)
		synctest.Wait()
		c.Cancel("SIP;cause=200")
		c.Cancel("again")
		time.Sleep(time.Second)
		l.want(t, "wire", l.crossed(), "INVITE@0")
		l.answer(100)
		synctest.Wait()
		l.want(t, "callee", l.b.news(), "INVITE CANCEL")
		l.answer(487)
		synctest.Wait()
		l.want(t, "wire", l.crossed(), "100/INVITE@1000 CANCEL@1000 200/CANCEL@1000 487/INVITE@1000 ACK@1000")
		l.want(t, "caller", l.a.news(), "100 487")
		c.Cancel("late")
	})
	in(t, func(t *testing.T, l *lane) { // the callee ignores the CANCEL: 64*T1 later it is over (RFC 3261 9.1)
		c := l.send(t, sip.INVITE, resolve.TCP)
		synctest.Wait()
		l.answer(180)
		synctest.Wait()
		c.Cancel("")
		time.Sleep(33 * time.Second)
		l.want(t, "caller", l.a.news(), "180 timeout")
		l.answer(487)
	})
}

// A CANCEL that overtakes the work on its INVITE reaches the user once there is somebody to tell.
func TestCancelBeforeTheOwner(t *testing.T) {
	in(t, func(t *testing.T, l *lane) {
		l.b.begin = func(tx *transaction.Server) { _ = tx.Respond(tx.Request.NewResponse(100, "", "")) }
		c := l.send(t, sip.INVITE, resolve.UDP)
		synctest.Wait()
		c.Cancel("")
		synctest.Wait()
		l.want(t, "callee", l.b.news(), "INVITE")
		l.b.servers[0].SetOwner(l.b)
		l.want(t, "callee", l.b.news(), "CANCEL")
		l.answer(487)
	})
}

func TestConnectionsThatEnd(t *testing.T) {
	for _, rings := range []bool{false, true} {
		in(t, func(t *testing.T, l *lane) {
			l.send(t, sip.INVITE, resolve.TCP)
			l.send(t, sip.MESSAGE, resolve.TCP)
			synctest.Wait()
			if rings {
				l.answer(180)
			}
			synctest.Wait()
			l.b.node.Sever()
			synctest.Wait()
			l.want(t, "caller", strings.TrimPrefix(l.a.news(), "180 "), "closed closed")
			for _, tx := range l.b.servers {
				if err := tx.Respond(tx.Request.NewResponse(500, "", "t")); err == nil {
					t.Error("an answer on a connection that has ended is taken for sent")
				}
			}
		})
	}
}
