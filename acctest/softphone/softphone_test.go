// Package softphone tests with baresip, a phone that people use, over UDP, TCP and TLS: what one says the other hears.
package softphone

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/acctest/phone"
)

var shared *deployment.Deployment //nolint:gochecknoglobals // of this test binary

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	return deployment.Main(m, "softphone", nil, func(d *deployment.Deployment) { shared = d })
}

// TestSoftphonesTalk lets phones on each transport call each other. Either side hears the tone of the other, and nothing of
// its own; the one hangs up, then the other.
func TestSoftphonesTalk(t *testing.T) {
	for i, way := range [][2]string{{"udp", "tcp"}, {"tcp", "tls"}, {"tls", "udp"}} {
		t.Run(way[0]+" to "+way[1], func(t *testing.T) {
			t.Parallel()
			a, b := start(t, way[0], 440), start(t, way[1], 1000)
			a.command("dial", b.uri())
			b.expect("CALL_ESTABLISHED")
			a.expect("CALL_ESTABLISHED")
			talked(t, a, b)
			ends, other := a, b
			if i%2 == 1 {
				ends, other = b, a
			}
			ends.command("hangup", "")
			other.expect("CALL_CLOSED")
			for _, side := range []struct{ ear, mouth *baresip }{{a, b}, {b, a}} {
				there, length := side.ear.heard(side.mouth.tone)
				own, _ := side.ear.heard(side.ear.tone)
				t.Logf("figures: %v heard over %s, %.0f %% of it the other's tone", length, fmt.Sprint(way), 100*there)
				if there < 0.8 || own > 0.05 || length < time.Second {
					t.Errorf("%s hears for %v, %.2f of it the other's tone, %.2f its own", side.ear.name, length, there, own)
				}
			}
		})
	}
}

// talked waits until both sides have recorded two seconds.
func talked(t *testing.T, phones ...*baresip) {
	t.Helper()
	for _, p := range phones {
		for deadline := time.Now().Add(20 * time.Second); p.size() < 2*2*sampleRate; <-time.After(100 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s has heard %d bytes\n%s", p.name, p.size(), p.log())
			}
		}
	}
}

// A phone of another make is called, and one calls.
func TestSoftphoneAndOthers(t *testing.T) {
	other := phone.Subscriber(t, shared, "").PickUp()
	if m := other.Register(300); m.Status() != 200 {
		t.Fatalf("REGISTER is answered by\n%s", m.Raw)
	}
	b := start(t, "udp", 440)
	b.command("dial", other.URI())
	b.expect("CALL_ESTABLISHED")
	other.Expect(time.Second, "ACK", phone.Is("ACK"))
	b.command("hangup", "")
	other.Expect(5*time.Second, "BYE", phone.Is("BYE"))

	call := other.Invite(b.uri())
	final := call.Final(10 * time.Second)
	if final.Status() != 200 {
		t.Fatalf("the call is answered by\n%s", final.Raw)
	}
	call.Ack(final)
	b.expect("CALL_ESTABLISHED")
	call.Bye(final)
	b.expect("CALL_CLOSED")
}
