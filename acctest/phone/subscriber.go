package phone

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/clearwater-ims/clearwater/acctest/deployment"
	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

var serial atomic.Int64 //nolint:gochecknoglobals // gives every phone of a test binary a number and a port of its own

// Subscriber makes a subscriber of the deployment with filter criteria (a ServiceProfile document, "" for none) and a phone
// of it that has not begun to read.
func Subscriber(t testing.TB, d *deployment.Deployment, criteria string) *Phone {
	t.Helper()
	p := Device(t, d, fmt.Sprintf("65054%05d", serial.Add(1)))
	p.Password = "secret-" + p.Name
	if criteria == "" {
		criteria = `<?xml version="1.0" encoding="UTF-8"?><ServiceProfile></ServiceProfile>`
	}
	err := d.Provisioning().CreateSubscriber(t.Context(), provisioning.Subscriber{
		PublicIDs: []string{p.URI()}, PrivateID: p.Name + "@" + d.Domain, Realm: d.Domain, Password: p.Password, FilterCriteria: criteria,
	})
	if err != nil {
		t.Fatalf("provisioning %s: %v", p.URI(), err)
	}
	return p
}

// Criteria changes the filter criteria of the subscriber.
func (p *Phone) Criteria(d *deployment.Deployment, document string) {
	p.t.Helper()
	err := d.Provisioning().UpdateSubscriber(p.t.Context(), provisioning.Subscriber{
		PublicIDs: []string{p.URI()}, PrivateID: p.Name + "@" + d.Domain, Realm: d.Domain, FilterCriteria: document,
	})
	if err != nil {
		p.t.Fatalf("changing %s: %v", p.URI(), err)
	}
}

// Device is a phone by a name that may be provisioned already, at the first edge.
func Device(t testing.TB, d *deployment.Deployment, name string) *Phone {
	t.Helper()
	n := serial.Add(1)
	p := Listen(t, fmt.Sprintf("%s.%d:%d", d.Network(), 200+n%40, 20000+n))
	p.Name, p.Domain, p.Proxy = name, d.Domain, d.Address("edge-1")+":5060"
	return p
}

// PickUp makes the phone answer: it rings and takes calls at once, says 200 to whatever else comes, and ends what is
// cancelled before that.
func (p *Phone) PickUp() *Phone {
	p.Answer = func(m *Message) {
		switch m.Method() {
		case "ACK":
		case "INVITE":
			if p.busy.Load() {
				p.Reply(m, 486, p.Tag())
				return
			}
			p.Reply(m, 180, p.Tag(), p.Contact())
			p.Reply(m, 200, p.Tag(), p.Contact(), "Content-Type: application/sdp", "\n"+SDP)
		default:
			p.Reply(m, 200, p.Tag(), p.Contact())
		}
	}
	p.Start()
	return p
}

// Busy lets a phone that picks up refuse calls by 486, or take them again.
func (p *Phone) Busy(yes bool) { p.busy.Store(yes) }

// Ring makes the phone ring without an end: it is cancelled, and says 200 to whatever else comes.
func (p *Phone) Ring() *Phone {
	var ringing *Message
	p.Answer = func(m *Message) {
		switch m.Method() {
		case "ACK":
		case "INVITE":
			ringing = m
			p.Reply(m, 180, p.Tag(), p.Contact())
		case "CANCEL":
			p.Reply(m, 200, p.Tag())
			if ringing != nil {
				p.Reply(ringing, 487, p.Tag())
			}
		default:
			p.Reply(m, 200, p.Tag(), p.Contact())
		}
	}
	p.Start()
	return p
}

// Tag is the phone's tag in answers: one dialog for each call and phone.
func (p *Phone) Tag() string { return "t" + p.instance()[:8] }

// Contact is the phone's own, as a line.
func (p *Phone) Contact() string { return "Contact: <sip:" + p.Name + "@" + p.Local() + ">" }
