// Package provisioningtest is an in-memory double of the provisioning API for the tests of its callers. It keeps the rules of
// the API that callers depend on (statuses, redirections, cascades) and lets a test make chosen calls fail.
package provisioningtest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
)

// Server is the double. Use New; serve it with httptest.
type Server struct {
	mux *http.ServeMux

	mu       sync.Mutex
	next     int
	privates map[string]provisioning.Private
	sets     map[string]*set
	calls    []string
	fail     func(method, path string) int
}

type set struct {
	privates []string
	profiles map[string]*profile
}

type profile struct {
	publics  []string
	criteria string
}

// New returns an empty server.
func New() *Server {
	s := &Server{mux: http.NewServeMux(), privates: map[string]provisioning.Private{}, sets: map[string]*set{}}
	s.mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "OK") })
	s.mux.HandleFunc("/private/{impi}", s.private)
	s.mux.HandleFunc("GET /private/{impi}/associated_implicit_registration_sets", s.privateSets)
	s.mux.HandleFunc("GET /private/{impi}/associated_public_ids", s.privatePublics)
	s.mux.HandleFunc("POST /irs", s.createSet)
	s.mux.HandleFunc("DELETE /irs/{irs}", func(_ http.ResponseWriter, r *http.Request) { delete(s.sets, r.PathValue("irs")) })
	s.mux.HandleFunc("GET /irs/{irs}/public_ids", s.withSet(s.setPublics))
	s.mux.HandleFunc("GET /irs/{irs}/private_ids", s.withSet(func(w http.ResponseWriter, _ *http.Request, t *set) {
		reply(w, map[string][]string{"private_ids": t.privates})
	}))
	s.mux.HandleFunc("/irs/{irs}/private_ids/{impi}", s.withSet(s.link))
	s.mux.HandleFunc("POST /irs/{irs}/service_profiles", s.withSet(s.createProfile))
	s.mux.HandleFunc("GET /irs/{irs}/service_profiles/{sp}/public_ids", s.withProfile(func(w http.ResponseWriter, _ *http.Request, p *profile) {
		reply(w, map[string][]string{"public_ids": p.publics})
	}))
	s.mux.HandleFunc("/irs/{irs}/service_profiles/{sp}/public_ids/{uri}", s.withProfile(s.public))
	s.mux.HandleFunc("/irs/{irs}/service_profiles/{sp}/filter_criteria", s.withProfile(s.criteria))
	s.mux.HandleFunc("GET /public/{uri}/service_profile", s.redirect(func(irs, sp string) string { return "/irs/" + irs + "/service_profiles/" + sp }))
	s.mux.HandleFunc("GET /public/{uri}/irs", s.redirect(func(irs, _ string) string { return "/irs/" + irs }))
	s.mux.HandleFunc("GET /public/{uri}/associated_private_ids", s.publicPrivates)
	s.mux.HandleFunc("GET /public/{$}", s.list)
	return s
}

// Fail makes every call fail with the status that decide returns, unless that is 0. Nil ends it.
func (s *Server) Fail(decide func(method, path string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = decide
}

// Calls returns "METHOD path" of every call so far and forgets them.
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	return out
}

// Counts tells how many private identities and registration sets exist.
func (s *Server) Counts() (privates, sets int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.privates), len(s.sets)
}

// ServeHTTP serves one call at a time.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	if s.fail != nil {
		if status := s.fail(r.Method, r.URL.Path); status != 0 {
			http.Error(w, "failed on purpose", status)
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) private(w http.ResponseWriter, r *http.Request) {
	impi := r.PathValue("impi")
	switch r.Method {
	case http.MethodPut:
		fields := provisioning.Private{}
		if json.NewDecoder(r.Body).Decode(&fields) != nil || fields.DigestHA1 != "" && fields.PlaintextPassword != "" ||
			fields.DigestHA1+fields.PlaintextPassword+fields.K == "" || fields.K != "" && (fields.OP == "") == (fields.OPc == "") {
			http.Error(w, "digest_ha1 or plaintext_password or aka_k with aka_op or aka_opc", http.StatusBadRequest)
			return
		}
		if fields.PlaintextPassword != "" {
			fields.DigestHA1 = provisioning.HA1(impi, fields.Realm, fields.PlaintextPassword)
		}
		before := s.privates[impi]
		if fields.DigestHA1 == "" {
			fields.DigestHA1, fields.PlaintextPassword = before.DigestHA1, before.PlaintextPassword
		}
		fields.HasAKA, fields.AKA = before.HasAKA || fields.K != "", provisioning.AKA{} // never shown
		s.privates[impi] = fields
	case http.MethodDelete:
		delete(s.privates, impi)
		for _, t := range s.sets {
			t.privates = without(t.privates, impi)
		}
	default:
		if fields, ok := s.privates[impi]; ok {
			reply(w, fields)
		} else {
			http.NotFound(w, r)
		}
	}
}

func (s *Server) privateSets(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.privates[r.PathValue("impi")]; !ok {
		http.NotFound(w, r)
		return
	}
	ids := []string{}
	for id, t := range s.sets {
		if slices.Contains(t.privates, r.PathValue("impi")) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	reply(w, map[string][]string{"associated_implicit_registration_sets": ids})
}

func (s *Server) privatePublics(w http.ResponseWriter, r *http.Request) {
	ids := []string{}
	for _, t := range s.sets {
		if slices.Contains(t.privates, r.PathValue("impi")) {
			ids = append(ids, t.publics()...)
		}
	}
	reply(w, map[string][]string{"associated_public_ids": ids})
}

func (s *Server) createSet(w http.ResponseWriter, _ *http.Request) {
	id := s.id()
	s.sets[id] = &set{profiles: map[string]*profile{}}
	w.Header().Set("Location", "/irs/"+id)
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) createProfile(w http.ResponseWriter, r *http.Request, t *set) {
	id := s.id()
	t.profiles[id] = &profile{}
	w.Header().Set("Location", r.URL.Path+"/"+id)
	w.WriteHeader(http.StatusCreated)
}

func (s *Server) setPublics(w http.ResponseWriter, _ *http.Request, t *set) {
	reply(w, map[string][]string{"public_ids": t.publics()})
}

func (s *Server) link(w http.ResponseWriter, r *http.Request, t *set) {
	impi := r.PathValue("impi")
	t.privates = without(t.privates, impi)
	if r.Method != http.MethodPut {
		return
	}
	if _, ok := s.privates[impi]; !ok {
		http.NotFound(w, r)
		return
	}
	t.privates = append(t.privates, impi)
}

func (s *Server) public(w http.ResponseWriter, r *http.Request, p *profile) {
	uri := r.PathValue("uri")
	if r.Method == http.MethodPut {
		var body struct{ Identity string }
		if err := xml.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if body.Identity != uri {
			http.Error(w, "Identity differs from the URL", http.StatusForbidden)
			return
		}
	}
	p.publics = without(p.publics, uri)
	if r.Method == http.MethodPut {
		p.publics = append(p.publics, uri)
	}
}

func (s *Server) criteria(w http.ResponseWriter, r *http.Request, p *profile) {
	if r.Method == http.MethodPut {
		text, _ := io.ReadAll(r.Body)
		if !strings.Contains(string(text), "<ServiceProfile") {
			http.Error(w, "not a ServiceProfile", http.StatusBadRequest)
			return
		}
		p.criteria = string(text)
		return
	}
	if p.criteria == "" {
		http.NotFound(w, r)
		return
	}
	_, _ = io.WriteString(w, p.criteria)
}

func (s *Server) redirect(target func(irs, sp string) string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		irs, sp, ok := s.find(r.PathValue("uri"))
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Location", target(irs, sp))
		w.WriteHeader(http.StatusSeeOther)
	}
}

func (s *Server) publicPrivates(w http.ResponseWriter, r *http.Request) {
	irs, _, ok := s.find(r.PathValue("uri"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	reply(w, map[string][]string{"private_ids": s.sets[irs].privates})
}

func (s *Server) list(w http.ResponseWriter, _ *http.Request) {
	out := []map[string]string{}
	for irs, t := range s.sets {
		for sp, p := range t.profiles {
			for _, uri := range p.publics {
				out = append(out, map[string]string{"public_id": uri, "irs": irs, "sp": sp})
			}
		}
	}
	slices.SortFunc(out, func(a, b map[string]string) int { return strings.Compare(a["public_id"], b["public_id"]) })
	reply(w, map[string]any{"public_ids": out})
}

func (s *Server) withSet(h func(http.ResponseWriter, *http.Request, *set)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if t, ok := s.sets[r.PathValue("irs")]; ok {
			h(w, r, t)
			return
		}
		http.NotFound(w, r)
	}
}

func (s *Server) withProfile(h func(http.ResponseWriter, *http.Request, *profile)) http.HandlerFunc {
	return s.withSet(func(w http.ResponseWriter, r *http.Request, t *set) {
		if p, ok := t.profiles[r.PathValue("sp")]; ok {
			h(w, r, p)
			return
		}
		http.Error(w, "the profile is not of this set", http.StatusForbidden)
	})
}

func (s *Server) find(uri string) (irs, sp string, ok bool) {
	for irs, t := range s.sets {
		for sp, p := range t.profiles {
			if slices.Contains(p.publics, uri) {
				return irs, sp, true
			}
		}
	}
	return "", "", false
}

func (s *Server) id() string {
	s.next++
	return fmt.Sprintf("00000000-0000-4000-8000-%012x", s.next)
}

func (t *set) publics() []string {
	ids := []string{}
	for _, p := range t.profiles {
		ids = append(ids, p.publics...)
	}
	return ids
}

func without(list []string, value string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(v string) bool { return v == value })
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}
