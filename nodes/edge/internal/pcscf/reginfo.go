package pcscf

import (
	"encoding/xml"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transport"
)

// reginfo is a document of registration state (RFC 3680 5), as far as the edge reads it.
type reginfo struct {
	XMLName       xml.Name `xml:"urn:ietf:params:xml:ns:reginfo reginfo"`
	Version       int64    `xml:"version,attr"`
	Registrations []struct {
		AOR      string           `xml:"aor,attr"`
		State    string           `xml:"state,attr"`
		Contacts []reginfoContact `xml:"contact"`
	} `xml:"registration"`
}

type reginfoContact struct {
	State   string `xml:"state,attr"`
	Event   string `xml:"event,attr"`
	Expires string `xml:"expires,attr"`
	CallID  string `xml:"callid,attr"`
	CSeq    string `xml:"cseq,attr"`
	URI     string `xml:"uri"`
	Unknown []struct {
		Name  string `xml:"name,attr"`
		Value string `xml:",chardata"`
	} `xml:"unknown-param"`
}

func parseReginfo(text string) (*reginfo, error) {
	d := &reginfo{}
	if err := xml.Unmarshal([]byte(text), d); err != nil {
		return nil, fmt.Errorf("reading reginfo: %w", err)
	}
	return d, nil
}

// terminated tells that no identity of the document is registered any more.
func (d *reginfo) terminated() bool {
	for _, r := range d.Registrations {
		if r.State != "terminated" {
			return false
		}
	}
	return len(d.Registrations) > 0
}

// contactChange is what the network says of one contact.
type contactChange struct {
	key    string
	event  string
	left   time.Duration // 0: ended
	callID string        // of the last REGISTER of it that the network knows; "" when it does not say
	cseq   uint32
}

// changes are the contacts that have ended or lost time, whatever the event is called. One that is active for any
// identity has not ended: the same phone, registered again.
func (d *reginfo) changes() (out []contactChange) {
	active := map[string]bool{}
	for _, r := range d.Registrations {
		for _, c := range r.Contacts {
			if c.State == "active" {
				active[c.key()] = true
			}
		}
	}
	seen := map[string]bool{}
	for _, r := range d.Registrations {
		for _, c := range r.Contacts {
			key := c.key()
			change := contactChange{key: key, event: c.Event, callID: c.CallID}
			if n, err := strconv.ParseUint(c.CSeq, 10, 32); err == nil {
				change.cseq = uint32(n)
			}
			seconds, err := strconv.ParseUint(c.Expires, 10, 31)
			switch {
			case seen[key]:
				continue
			case c.State == "terminated" && !active[key]:
			case c.State == "active" && c.Event == "shortened" && err == nil:
				change.left = time.Duration(seconds) * time.Second //nolint:gosec // 31 bits
			default:
				continue
			}
			seen[key] = true
			out = append(out, change)
		}
	}
	return out
}

// key is the contact's as the edge knows it from REGISTER.
func (c *reginfoContact) key() string {
	a := sip.Address{URI: strings.TrimSpace(c.URI)}
	for _, p := range c.Unknown {
		a.Params += ";" + p.Name + "=" + strings.TrimSpace(p.Value)
	}
	return contactKey(a)
}

// callSeed keeps Call-IDs of REGISTERs apart in eight bytes each.
var callSeed = maphash.MakeSeed() //nolint:gochecknoglobals // never changes

func callHash(callID string) uint64 { return maphash.String(callSeed, callID) }

// What a change has done.
type changed int

const (
	changedNothing changed = iota
	changedShorter
	changedEnded
)

// change applies what the network says of a contact to a user of a flow. What it says of an older REGISTER than the one
// that made the contact is overtaken: the phone has registered again meanwhile.
func (us *users) change(id transport.ID, key string, c contactChange, now time.Time) changed {
	us.mu.Lock()
	defer us.mu.Unlock()
	p := us.byFlow[id]
	if p == nil || p.registered(key) == nil {
		return changedNothing
	}
	u := *p.registered(key)
	if c.callID != "" && (callHash(c.callID) != u.call || c.cseq < u.cseq) {
		return changedNothing
	}
	until, found := time.Time{}, false
	for _, have := range u.contacts {
		found = found || have.key == c.key && (c.left == 0 || now.Add(c.left).Before(have.until))
	}
	if !found {
		return changedNothing
	}
	if c.left > 0 {
		until = now.Add(c.left)
	}
	left := setContact(u.contacts, c.key, until)
	if len(left) == 0 {
		us.remove(id, p, key)
		return changedEnded
	}
	u.setContacts(left)
	p.put(&u)
	if c.left > 0 {
		return changedShorter
	}
	return changedEnded
}

// end forgets a user of a flow; false when it was not there.
func (us *users) end(id transport.ID, key string) bool {
	us.mu.Lock()
	defer us.mu.Unlock()
	p := us.byFlow[id]
	if p == nil || p.registered(key) == nil {
		return false
	}
	us.remove(id, p, key)
	return true
}
