package peers

import (
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/phone"
)

// A server that ends the call and makes another of it: two dialogs, and the end of one ends the other.
func TestServerThatEndsTheCall(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			bridge := serve(t, "-does", "b2bua")
			after := serve(t, "-does", "return")
			a, b := callers(t, profile(criterion(1, 0, 1, bridge.uri(transport)), criterion(2, 0, 1, after.uri(transport))), "")
			call := a.Invite(b.URI())
			final := call.Final(5 * time.Second)
			if final.Status() != 200 || !strings.Contains(final.Lines("Contact")[0], bridge.address) {
				t.Fatalf("the caller gets\n%s", final.Raw)
			}
			in := b.Expect(time.Second, "INVITE", phone.Is("INVITE"))
			if in.CallID().Value() == call.ID {
				t.Error("the call went on in the same dialog")
			}
			if r := after.expect("INVITE"); !strings.Contains(r.Raw, "Call-ID: "+in.CallID().Value()) || !strings.Contains(r.Raw, "<"+a.URI()+">;sescase=orig;regstate=reg") {
				t.Errorf("the next server in the chain gets\n%s", r.Raw)
			}
			call.Ack(final)
			b.Expect(3*time.Second, "ACK", phone.Is("ACK"))
			call.Bye(final)
			b.Expect(3*time.Second, "BYE", phone.Is("BYE"))
		})
	}
}

// A server that forks gives the request back twice by the same Route; the chain goes on for both, and who answers first
// has the call while the other is cancelled.
func TestServerThatForks(t *testing.T) {
	t.Parallel()
	c := phone.Subscriber(t, shared, "")
	c.Ring()
	register(t, c)
	fork, after := serve(t, "-does", "fork", "-to", c.URI()), serve(t, "-does", "return")
	a, b := callers(t, profile(criterion(1, 0, 1, fork.uri("tcp")), criterion(2, 0, 1, after.uri("udp"))), "")
	call := a.Invite(b.URI())
	final := call.Final(5 * time.Second)
	if final.Status() != 200 || final.ToTag() != b.Tag() {
		t.Fatalf("the caller gets\n%s", final.Raw)
	}
	call.Ack(final)
	b.Expect(time.Second, "ACK", phone.Is("ACK"))
	c.Expect(time.Second, "INVITE", phone.Is("INVITE"))
	c.Expect(3*time.Second, "CANCEL", phone.Is("CANCEL"))
	if after.count("INVITE") != 2 {
		t.Errorf("the next server got %d of 2 requests", after.count("INVITE"))
	}
	call.Bye(final)
}

// A terminating server sends the call to somebody else: it goes on as a diverted call of the one who was called.
func TestServerThatDiverts(t *testing.T) {
	t.Parallel()
	c := phone.Subscriber(t, shared, "")
	c.PickUp()
	register(t, c)
	fork, diverted := serve(t, "-does", "fork", "-to", c.URI()), serve(t, "-does", "return")
	a := phone.Subscriber(t, shared, "")
	a.Start()
	b := phone.Subscriber(t, shared, profile(criterion(1, 1, 1, fork.uri("udp")), criterion(2, 4, 1, diverted.uri("tcp"))))
	b.Ring()
	register(t, a, b)
	call := a.Invite(b.URI())
	if final := call.Final(5 * time.Second); final.Status() != 200 || final.ToTag() != c.Tag() {
		t.Fatalf("the caller gets\n%s", final.Raw)
	} else {
		call.Ack(final)
		call.Bye(final)
	}
	if r := diverted.expect("INVITE"); !strings.Contains(r.Raw, "P-Served-User: <"+b.URI()+">;orig-cdiv") {
		t.Errorf("the server for diverted calls gets\n%s", r.Raw)
	}
	b.Expect(3*time.Second, "CANCEL", phone.Is("CANCEL"))
}

// A server dies when it has rung. Default handling is for servers that have shown nothing, so the call stays the caller's to
// end; when he does, he gets his answer although nobody is there to say it, and the next call does without the server.
func TestServerThatDies(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{"tcp", "udp"} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "-does", "ring")
			a, b := callers(t, "", profile(criterion(1, 1, 0, s.uri(transport))))
			call := a.Invite(b.URI())
			a.Expect(5*time.Second, "180", call.Answers("INVITE", 180, 180))
			s.kill()
			want := 504 // its connection is gone
			if transport == "udp" {
				want = 408 // nothing tells; who has cancelled hears the end when its server cannot have answered any more
				call.Cancel()
				a.Expect(5*time.Second, "answer to CANCEL", call.Answers("CANCEL", 200, 200))
			}
			if m := call.Final(40 * time.Second); m.Status() != want && (want != 408 || m.Status() != 487) {
				t.Errorf("the caller gets %d, want %d", m.Status(), want)
			}
			if got := b.Log(phone.Is("INVITE")); len(got) > 0 {
				t.Errorf("the called phone gets a call that the server had in its hands:\n%s", got[0].Raw)
			}
			if transport == "udp" {
				return // the next call finds a silent server, which TestServersThatFail has
			}
			second := a.Invite(b.URI())
			final := second.Final(10 * time.Second)
			if final.Status() != 200 {
				t.Fatalf("the next call is answered by %d", final.Status())
			}
			second.Ack(final)
			second.Bye(final)
		})
	}
}

// Two users' servers send calls to each other's user. The circle ends soon, and with an answer.
func TestServersThatDivertInACircle(t *testing.T) {
	t.Parallel()
	a, b, c := phone.Subscriber(t, shared, ""), phone.Subscriber(t, shared, ""), phone.Subscriber(t, shared, "")
	to, from := serve(t, "-does", "divert", "-to", c.URI()), serve(t, "-does", "divert", "-to", b.URI())
	for p, s := range map[*phone.Phone]*server{b: to, c: from} {
		p.Criteria(shared, profile(criterion(1, 1, 1, s.uri("tcp"))))
		p.PickUp()
	}
	a.Start()
	register(t, a, b, c)
	final := a.Invite(b.URI()).Final(10 * time.Second)
	if final.Status() != 482 && final.Status() != 483 {
		t.Errorf("the caller gets %d", final.Status())
	}
	if n := to.count("INVITE"); n < 2 || n > 70 {
		t.Errorf("the call went round %d times", n)
	}
}
