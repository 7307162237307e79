package resolve

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// Overrides maps fully qualified lower-case names to the names that are looked up in their place.
type Overrides map[string]string

// ParseOverrides reads the document dns_json:
//
//	{"hostnames": [{"name": "a.example", "records": [{"rrtype": "CNAME", "target": "b.example"}]}]}
//
// An empty text means no overrides. Errors name the host that is wrong.
func ParseOverrides(text string) (Overrides, error) {
	out := Overrides{}
	if strings.TrimSpace(text) == "" {
		return out, nil
	}
	var doc struct {
		Hostnames []struct {
			Name    string `json:"name"`
			Records []struct {
				Type   string `json:"rrtype"`
				Target string `json:"target"`
			} `json:"records"`
		} `json:"hostnames"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("reading dns_json: %w", err)
	}
	for i, h := range doc.Hostnames {
		name := strings.ToLower(dns.Fqdn(h.Name))
		if _, ok := dns.IsDomainName(h.Name); !ok || h.Name == "" {
			return nil, fmt.Errorf("reading dns_json: hostnames[%d]: %q is not a name", i, h.Name)
		}
		if _, twice := out[name]; twice || len(h.Records) != 1 {
			return nil, fmt.Errorf("reading dns_json: %s: exactly one record is allowed", h.Name)
		}
		rec := h.Records[0]
		if !strings.EqualFold(rec.Type, "CNAME") {
			return nil, fmt.Errorf("reading dns_json: %s: rrtype %q, only CNAME is allowed", h.Name, rec.Type)
		}
		if _, ok := dns.IsDomainName(rec.Target); !ok || rec.Target == "" {
			return nil, fmt.Errorf("reading dns_json: %s: target %q is not a name", h.Name, rec.Target)
		}
		out[name] = strings.ToLower(dns.Fqdn(rec.Target))
	}
	return out, nil
}

// SetOverrides replaces the overrides; it applies to the next lookup.
func (r *Resolver) SetOverrides(o Overrides) { r.overrides.Store(&o) }

func (r *Resolver) override(name string) string {
	if o := r.overrides.Load(); o != nil {
		if target, ok := (*o)[name]; ok {
			return target
		}
	}
	return name
}
