package calls

import (
	"strings"
	"syscall"
	"testing"
)

// The edge where a phone is registered dies; the phone registers at the other one and is reached there.
func TestPhoneMovesWhenItsEdgeDies(t *testing.T) {
	a, b := newPhone(t, "u1"), newPhone(t, "u1")
	a.register()
	second := b.script("register")
	second.Proxy = shared.Address("edge-2") + ":5060"
	second.Must(t)
	pid, err := shared.Process("edge-2.site1")
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Fatal(err)
	}
	first := b.script("register")
	first.Proxy = shared.Address("edge-1") + ":5060"
	first.Must(t)
	if _, body := b.bindings(); strings.Count(body, `"uri"`) != 1 || !strings.Contains(body, shared.Address("edge-1")+":5058") {
		t.Errorf("after the move: %s", body)
	}
	answering := b.script("answer").Start(t)
	a.calls(b, "call").Must(t)
	must(t, answering)
}
