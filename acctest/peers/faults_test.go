package peers

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/phone"
)

// fault is what a server does, and what the caller and the called phone see of it.
type fault struct {
	name    string
	args    []string // nil: there is no such server
	decides bool     // default handling decides, otherwise the caller gets status whatever it says
	passes  bool     // the called phone gets the request although the caller gets status
	slow    bool     // the handling's time passes first
	status  int      // of INVITE
	message int      // of MESSAGE, if another
}

func faults() []fault {
	return []fault{
		{name: "silent", args: []string{"-does", "silent"}, decides: true, slow: true, status: 408, message: 504},
		{name: "refused", decides: true, status: 504},
		{name: "408", args: []string{"-does", "status", "-status", "408"}, decides: true, status: 408, message: 504},
		{name: "503", args: []string{"-does", "status", "-status", "503"}, decides: true, status: 500},
		{name: "100 then silent", args: []string{"-does", "trying"}, decides: true, slow: true, status: 408, message: 504},
		{name: "180 then 503", args: []string{"-does", "status", "-status", "180,503"}, status: 500},
		{name: "302", args: []string{"-does", "status", "-status", "302", "-contact", "sip:elsewhere@192.0.2.1"}, status: 302},
		{name: "603", args: []string{"-does", "status", "-status", "603"}, status: 603},
		{name: "200", args: []string{"-does", "status", "-status", "200"}, status: 200},
		{name: "returned then 503", args: []string{"-does", "return", "-after", "503"}, passes: true, status: 500},
	}
}

// TestServersThatFail is the matrix of what an application server can do wrong, over TCP and UDP: who gets the request next,
// what the caller is told, and when (TS 24.229 5.4.3.2, 5.4.3.3: 2 s where the session continues, 4 s where it ends).
func TestServersThatFail(t *testing.T) {
	turn := 0
	for _, f := range faults() {
		for handling := range 2 {
			for _, method := range []string{"INVITE", "MESSAGE"} {
				first := turn%4 < 2
				transport := []string{"tcp", "udp"}[turn%2]
				if f.args == nil {
					transport = "tcp" // over UDP nothing tells a server that is not there from one that is silent
				}
				turn++
				if handling == 1 {
					first = !first
				}
				name := fmt.Sprintf("%s/%s/%s/%s/first=%v", f.name, []string{"continued", "terminated"}[handling], method, transport, first)
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f.play(t, handling, method, transport, first)
				})
			}
		}
	}
}

func (f fault) play(t *testing.T, handling int, method, transport string, first bool) {
	t.Helper()
	uri := "sip:" + address() + ";transport=" + transport
	var bad *server
	if f.args != nil {
		bad = serve(t, f.args...)
		uri = bad.uri(transport)
	}
	good := serve(t, "-does", "return")
	order := []string{criterion(1, 1, handling, uri), criterion(2, 1, handling, good.uri(transport))}
	if !first {
		order = []string{criterion(1, 1, handling, good.uri(transport)), criterion(2, 1, handling, uri)}
	}
	a, b := phone.Subscriber(t, shared, ""), phone.Subscriber(t, shared, profile(order...))
	a.Start()
	if f.passes {
		b.Start() // and says nothing, so that the answer is the server's
	} else {
		b.PickUp()
	}
	register(t, a, b)

	continues, status := f.decides && handling == 0, f.status
	if f.message != 0 && method == "MESSAGE" {
		status = f.message
	}
	if continues {
		status = 200
	}
	call := a.StartRequest(method, b.URI(), "Content-Type: text/plain", "\nhello\n")
	final := call.Final(8 * time.Second)
	if final.Status() != status {
		t.Errorf("the caller gets %d, want %d", final.Status(), status)
	}
	if bad != nil {
		if r := bad.expect(method); !strings.Contains(r.Raw, "P-Served-User: <"+b.URI()+">;sescase=term;regstate=reg") {
			t.Errorf("the server gets\n%s", r.Raw)
		}
	}
	earliest, latest := time.Duration(0), 1500*time.Millisecond
	if f.slow {
		earliest = []time.Duration{2 * time.Second, 4 * time.Second}[handling]
		latest += earliest
	}
	if took := final.At.Sub(call.Sent); took < earliest || took > latest {
		t.Errorf("the answer comes after %v, want %v to %v", took, earliest, latest)
	}
	f.reached(t, b, method, continues)
	if f.name == "302" && !strings.Contains(final.Raw, "elsewhere@192.0.2.1") {
		t.Errorf("the redirection is\n%s", final.Raw)
	}
	if good.count(method) != 1 && (continues || f.passes || !first) {
		t.Errorf("the other server got %d requests", good.count(method))
	}
	if method == "INVITE" && final.Status() == 200 {
		call.Ack(final)
		call.Bye(final)
	}
}

// reached checks what the called phone got.
func (f fault) reached(t *testing.T, b *phone.Phone, method string, continues bool) {
	t.Helper()
	if continues || f.passes {
		got := b.Expect(3*time.Second, method, phone.Is(method))
		if len(got.Lines("P-Served-User")) > 0 || strings.Contains(got.Raw, "odi_") {
			t.Errorf("the called phone gets\n%s", got.Raw)
		}
		if f.passes {
			b.Reply(got, 404, b.Tag())
		}
		return
	}
	if got := b.Log(phone.Is(method)); len(got) > 0 {
		t.Errorf("the called phone gets\n%s", got[0].Raw)
	}
}
