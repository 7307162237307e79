package transporttest

import (
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/resolve"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

const text = "OPTIONS sip:b@x SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\nTo: <sip:b@x>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"

type inbox struct {
	mu       sync.Mutex
	messages []*sip.Message
	flows    []*transport.Flow
}

func (i *inbox) Message(m *sip.Message, f *transport.Flow) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages, i.flows = append(i.messages, m), append(i.flows, f)
}

func (i *inbox) got() ([]*sip.Message, []*transport.Flow) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.messages, i.flows
}

// Real transports and this network must look alike to their users.
func TestNetworkBehavesAsATransport(t *testing.T) {
	for _, kind := range []resolve.Transport{resolve.UDP, resolve.TCP} {
		t.Run(kind.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(t)
				var atA, atB inbox
				a := n.Node(&atA, UDP("u", "10.0.0.1:5060"), TCP("t", "10.0.0.1:5060"))
				b := n.Node(&atB, UDP("u", "10.0.0.2:5060"), TCP("t", "10.0.0.2:5060"))
				f, err := a.Flow(resolve.Hop{Addr: netip.MustParseAddrPort("10.0.0.2:5060"), Transport: kind})
				if err != nil {
					t.Fatal(err)
				}
				n.Delay(time.Second)
				for range 3 {
					if err := f.Send([]byte(text), nil); err != nil {
						t.Fatal(err)
					}
				}
				synctest.Wait()
				if got, _ := atB.got(); len(got) != 0 {
					t.Fatal("delivered without delay")
				}
				<-time.After(time.Second)
				synctest.Wait()
				got, flows := atB.got()
				if len(got) != 3 || flows[0].Remote().Addr() != f.Local().Addr() {
					t.Fatalf("%d messages", len(got))
				}
				if found, ok := b.Lookup(flows[0].ID()); !ok || found.ID() != flows[0].ID() {
					t.Error("flow is not found")
				}
				_ = flows[0].Send([]byte(text), nil)
				<-time.After(time.Second)
				synctest.Wait()
				if got, flows := atA.got(); len(got) != 1 || flows[0].ID() != f.ID() {
					t.Error("no way back")
				}
				b.Kill()
				synctest.Wait()
				if f.Closed() != f.Reliable() {
					t.Errorf("closed: %v", f.Closed())
				}
				failed := make(chan error, 1)
				if again, err := a.Flow(f.Hop()); err != nil {
					t.Error(err)
				} else if err := again.Send([]byte(text), func(err error) { failed <- err }); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if (len(failed) == 1) != f.Reliable() {
					t.Errorf("sending to a dead node: %d failures", len(failed))
				}
			})
		})
	}
}
