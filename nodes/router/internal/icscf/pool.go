package icscf

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// Pool is s-cscf.json: the S-CSCFs to choose from when the HSS gives capabilities.
type Pool struct{ Servers []Server }

// Server is one S-CSCF. Lower Priority is better; Weight shares load within one.
type Server struct {
	URI          string  `json:"server"`
	Priority     int     `json:"priority"`
	Weight       int     `json:"weight"`
	Capabilities []int32 `json:"capabilities"`
}

// ParsePool reads the document; "" is an empty pool.
func ParsePool(text string) (*Pool, error) {
	if text == "" {
		return &Pool{}, nil
	}
	var doc struct {
		Servers []Server `json:"s-cscfs"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("reading s-cscf.json: %w", err)
	}
	for i, s := range doc.Servers {
		u, err := sip.ParseURI(s.URI)
		if err != nil || (u.Scheme != "sip" && u.Scheme != "sips") {
			return nil, fmt.Errorf("reading s-cscf.json: entry %d: server %q is no SIP URI", i+1, s.URI)
		}
		if s.Weight < 0 || s.Priority < 0 {
			return nil, fmt.Errorf("reading s-cscf.json: entry %d: priority %d and weight %d must not be negative", i+1, s.Priority, s.Weight)
		}
		doc.Servers[i].URI = u.String()
	}
	return &Pool{doc.Servers}, nil
}

// Select takes the servers with every mandatory capability, of these the ones with most optional ones, of these the
// lowest priority, and among those one by weight. Those in tried are left out.
func (p *Pool) Select(wanted *hss.Capabilities, tried map[string]bool) (sip.URI, bool) {
	var best []Server
	bestOptional := 0
	for _, s := range p.Servers {
		if tried[s.URI] || !hasAll(s.Capabilities, wanted.GetMandatory()) {
			continue
		}
		optional := countOf(s.Capabilities, wanted.GetOptional())
		switch {
		case len(best) == 0 || optional > bestOptional || (optional == bestOptional && s.Priority < best[0].Priority):
			best, bestOptional = []Server{s}, optional
		case optional == bestOptional && s.Priority == best[0].Priority:
			best = append(best, s)
		}
	}
	if len(best) == 0 {
		return sip.URI{}, false
	}
	u, err := sip.ParseURI(byWeight(best).URI)
	return u, err == nil
}

func byWeight(list []Server) Server {
	total := 0
	for _, s := range list {
		total += s.Weight
	}
	if total == 0 {
		return list[rand.IntN(len(list))] //nolint:gosec // load sharing
	}
	n := rand.IntN(total) //nolint:gosec // load sharing
	for _, s := range list {
		if n -= s.Weight; n < 0 {
			return s
		}
	}
	return list[0]
}

func hasAll(have, want []int32) bool { return countOf(have, want) == len(want) }

func countOf(have, want []int32) int {
	n := 0
	for _, w := range want {
		if slices.Contains(have, w) {
			n++
		}
	}
	return n
}
