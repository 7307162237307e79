// Package subscriber is what an S-CSCF knows of a user: the implicit registration set with its service profiles, as
// the IMSSubscription document of TS 29.228 annex B says. It holds values only; package hss fetches the document.
package subscriber

import (
	"cmp"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/internal/ifc"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Profile is an implicit registration set.
type Profile struct {
	Identities []Identity    // in document order, barred ones too
	Services   []ifc.Profile // one for each ServiceProfile, in document order
}

// Identity is one public identity.
type Identity struct {
	URI    string // as in the document
	Key    string // canonical form
	Barred bool
	// Service is the index of the identity's ServiceProfile in Profile.Services.
	Service int
	// Alias is the AliasIdentityGroupID, "" when the document has none.
	Alias string
	// Wildcard is the wildcarded identity that this one is covered by, or that it is; "" for others.
	Wildcard string

	matches *wildcard
}

// ErrInvalid is wrapped by every error of Parse.
var ErrInvalid = errors.New("invalid IMSSubscription")

type document struct {
	XMLName  xml.Name
	Profiles []struct {
		Identities []struct {
			Identity string `xml:"Identity"`
			Barred   string `xml:"BarringIndication"`
			Alias    string `xml:"Extension>Extension>Extension>AliasIdentityGroupID"`
			// Releases differ in where the wildcard stands.
			PSI   string `xml:"Extension>WildcardedPSI"`
			IMPU  string `xml:"Extension>WildcardedIMPU"`
			IMPU2 string `xml:"Extension>Extension>WildcardedIMPU"`
			IMPU3 string `xml:"Extension>Extension>Extension>WildcardedIMPU"`
		} `xml:"PublicIdentity"`
		ifc.ProfileElement
	} `xml:"ServiceProfile"`
}

// Parse reads an IMSSubscription; namespaces are ignored.
func Parse(text string) (*Profile, error) {
	var d document
	if err := xml.Unmarshal([]byte(text), &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if d.XMLName.Local != "IMSSubscription" {
		return nil, fmt.Errorf("%w: root element is %s", ErrInvalid, d.XMLName.Local)
	}
	p := &Profile{}
	for i := range d.Profiles {
		sp := &d.Profiles[i]
		p.Services = append(p.Services, sp.Profile())
		for _, id := range sp.Identities {
			uri := strings.TrimSpace(id.Identity)
			u, err := sip.ParseURI(uri)
			if err != nil {
				return nil, fmt.Errorf("%w: identity %q: %w", ErrInvalid, uri, err)
			}
			barred := strings.TrimSpace(id.Barred)
			one := Identity{URI: uri, Key: u.Canonical(), Barred: barred == "1" || barred == "true", Service: i, Alias: strings.TrimSpace(id.Alias)}
			wild := strings.TrimSpace(cmp.Or(id.PSI, id.IMPU, id.IMPU2, id.IMPU3, uri))
			if one.matches, err = newWildcard(wild); err != nil {
				return nil, fmt.Errorf("%w: identity %q: %w", ErrInvalid, uri, err)
			}
			if one.matches != nil {
				one.Wildcard = wild
			}
			p.Identities = append(p.Identities, one)
		}
	}
	if len(p.Identities) == 0 {
		return nil, fmt.Errorf("%w: no public identity", ErrInvalid)
	}
	return p, nil
}

// Default is the identity, no wildcard, under which the set's registrations are kept: the first unbarred sip: one, else the first
// unbarred one. False when all are barred.
func (p *Profile) Default() (Identity, bool) {
	var fallback *Identity
	for i := range p.Identities {
		id := &p.Identities[i]
		if id.Barred || id.Wildcard != "" {
			continue
		}
		if strings.HasPrefix(id.Key, "sip:") || strings.HasPrefix(id.Key, "sips:") {
			return *id, true
		}
		if fallback == nil {
			fallback = id
		}
	}
	if fallback != nil {
		return *fallback, true
	}
	return Identity{}, false
}

// Find returns the identity with a canonical form: the one that is listed, else one that the most specific wildcard
// covers, which is barred and served as that is (TS 23.228 5.4.12.3).
func (p *Profile) Find(key string) (Identity, bool) {
	var best *Identity
	for i := range p.Identities {
		id := &p.Identities[i]
		switch {
		case id.matches == nil && id.Key == key:
			return *id, true
		case id.matches != nil && (best == nil || id.matches.fixed > best.matches.fixed) && id.matches.expression.MatchString(key):
			best = id
		}
	}
	if best == nil {
		return Identity{}, false
	}
	return best.as(key), true
}

// Covered returns the identity key as one that a wildcard of the set covers, by the word of the HSS.
func (p *Profile) Covered(wild, key string) (Identity, bool) {
	for i := range p.Identities {
		if id := &p.Identities[i]; id.matches != nil && (id.Wildcard == wild || id.URI == wild) {
			return id.as(key), true
		}
	}
	return Identity{}, false
}

// as is one of the identities that a wildcard means.
func (id *Identity) as(key string) Identity {
	one := *id
	one.URI, one.Key, one.matches = key, key, nil
	return one
}

// Criteria are those of an identity's service profile.
func (p *Profile) Criteria(id Identity) *ifc.Profile { return &p.Services[id.Service] }

// Aliases tells whether two identities of the set mean the same to services (TS 23.228 4.3.3.4): they share a service
// profile and, where groups are given, the alias group.
func (p *Profile) Aliases(a, b Identity) bool {
	return a.Key == b.Key || a.Service == b.Service && a.Alias == b.Alias
}

// Unbarred lists, but for wildcards, the URIs that the user may use, the default one first (TS 24.229 5.4.1.2.2F).
func (p *Profile) Unbarred() []string {
	first, ok := p.Default()
	if !ok {
		return nil
	}
	out := []string{first.URI}
	for _, id := range p.Identities {
		if !id.Barred && id.Wildcard == "" && id.Key != first.Key {
			out = append(out, id.URI)
		}
	}
	return out
}

// Cache keeps parsed documents by their text: the same subscriber's document comes with every question to the HSS.
// It holds up to Size of them and then starts afresh.
type Cache struct {
	Size  int
	mu    sync.RWMutex
	known map[string]*Profile
}

// Parse is Parse with memory. Profiles are shared and must not be changed.
func (c *Cache) Parse(text string) (*Profile, error) {
	c.mu.RLock()
	p := c.known[text]
	c.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	p, err := Parse(text)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= c.Size {
		c.known = make(map[string]*Profile)
	}
	c.known[text] = p
	return p, nil
}
