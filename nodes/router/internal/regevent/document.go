package regevent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"strconv"
	"strings"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/registrar"
)

type reginfo struct {
	XMLName       xml.Name       `xml:"urn:ietf:params:xml:ns:reginfo reginfo"`
	Version       uint32         `xml:"version,attr"`
	State         string         `xml:"state,attr"`
	Registrations []registration `xml:"registration"`
}

type registration struct {
	AOR      string    `xml:"aor,attr"`
	ID       string    `xml:"id,attr"`
	State    string    `xml:"state,attr"`
	Contacts []contact `xml:"contact"`
}

type contact struct {
	ID      string         `xml:"id,attr"`
	State   string         `xml:"state,attr"`
	Event   string         `xml:"event,attr"`
	Expires string         `xml:"expires,attr,omitempty"`
	Q       string         `xml:"q,attr,omitempty"`
	CallID  string         `xml:"callid,attr,omitempty"`
	CSeq    string         `xml:"cseq,attr,omitempty"`
	URI     string         `xml:"uri"`
	Unknown []unknownParam `xml:"unknown-param"`
	GRUU    *gruu          `xml:"urn:ietf:params:xml:ns:gruuinfo pub-gruu"`
}

// gruu is the extension of RFC 5628.
type gruu struct {
	URI string `xml:"uri,attr"`
}

type unknownParam struct {
	Name  string `xml:"name,attr"`
	Value string `xml:",chardata"`
}

// document is the state of a set after one change (RFC 3680 5): one registration for each identity that the user may use,
// all with the same contacts. Those that have gone with the change come first. With partial, a subscriber that knows the
// state before is told of the contacts that have changed alone.
func document(owed *registrations.Effect, now time.Time, partial bool) string {
	d := reginfo{Version: owed.GetSubscription().GetNotified(), State: "full"}
	if partial = partial && owed.GetChanges(); partial {
		d.State = "partial"
	}
	for _, identity := range owed.GetIdentities() {
		r := registration{AOR: identity, ID: ident(identity), State: "terminated"}
		for _, c := range owed.GetContacts() {
			if !c.GetGone() {
				r.State = "active"
			}
			if !partial || c.GetEvent() != "" {
				r.Contacts = append(r.Contacts, shown(identity, c, now))
			}
		}
		d.Registrations = append(d.Registrations, r)
	}
	text, err := xml.Marshal(d)
	if err != nil {
		return "" // these types always print
	}
	return xml.Header + string(text)
}

func shown(identity string, c *registrations.ContactState, now time.Time) contact {
	b := c.GetBinding()
	out := contact{ID: ident(identity, b.GetId()), State: "active", Event: event(identity, c), URI: b.GetUri(), CallID: b.GetCallId(), CSeq: strconv.FormatUint(uint64(b.GetCseq()), 10)}
	if c.GetGone() {
		out.State = "terminated"
	} else {
		out.Expires = strconv.FormatInt(seconds(b.GetExpiresAt(), now), 10)
	}
	if b.GetQ() != 1000 && b.GetQ() != 0 {
		out.Q = strconv.FormatFloat(float64(b.GetQ())/1000, 'g', 3, 64)
	}
	if uri := registrar.PublicGRUU(identity, b); uri != "" && b.GetGruu() {
		out.GRUU = &gruu{uri}
	}
	sip.Params(b.GetParams(), func(name, value string) bool {
		if strings.HasPrefix(name, "+") {
			value = `"` + strings.Trim(value, `"`) + `"`
		}
		out.Unknown = append(out.Unknown, unknownParam{name, value})
		return true
	})
	return out
}

// event is that of the change. A contact that is there without change, or new, is registered for the identity that
// the phone named and created for those that were registered with it (TS 24.229 5.4.2.1.2).
func event(identity string, c *registrations.ContactState) string {
	if e := c.GetEvent(); e != "" && e != registrations.EventCreated {
		return e
	}
	u, err := sip.ParseURI(identity)
	if err == nil && u.Canonical() == c.GetBinding().GetImpu() {
		return "registered"
	}
	return "created"
}

// ident is an id that stays the same from one document to the next.
func ident(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
