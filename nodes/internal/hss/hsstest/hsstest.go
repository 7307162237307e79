// Package hsstest is an HSS in memory for tests of the roles that ask one, and the conformance suite that it and
// the real one pass. It is no subscriber database.
package hsstest

import (
	"context"
	"crypto/md5" //nolint:gosec // HA1 of RFC 2617 is MD5
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// HSS answers from what tests put in. The zero value is not usable; see New.
type HSS struct {
	domain string
	server string
	wanted *hss.Capabilities

	mu          sync.Mutex
	private     map[string]digest
	public      map[string]*set
	wild        []covering
	registered  map[*set]string // state as Assign left it
	calls       map[string]int
	assignments []*hss.AssignRequest
	locations   []*hss.LocateRequest
	vectors     []*hss.Aka
	resyncs     [][]byte
	withhold    bool
	fail        hss.Result
	err         error
}

type digest struct {
	ha1, realm string
	aka        bool
}

// set is an implicit registration set.
type set struct {
	impis    []string
	profiles []*profile
}

type profile struct {
	identities []Identity
	criteria   string
}

// Identity is a public identity of a profile.
type Identity struct {
	URI    string
	Barred bool
	// Extension is raw XML put after BarringIndication (IdentityType and so on).
	Extension string
}

// New returns an empty HSS. domain is the realm of digests; serverName the S-CSCF it names, such as
// "sip:scscf.router.example.com:5054;transport=TCP".
func New(domain, serverName string) *HSS {
	return &HSS{
		domain: domain, server: serverName,
		private: map[string]digest{}, public: map[string]*set{}, registered: map[*set]string{}, calls: map[string]int{},
	}
}

// Add provisions impi with a password and puts impus into one implicit registration set of one profile. If the
// first impu is there already, impi becomes a further private identity of its set and the other impus join it.
func (h *HSS) Add(impi, password string, impus ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := md5.Sum([]byte(impi + ":" + h.domain + ":" + password)) //nolint:gosec // see above
	h.private[impi] = digest{ha1: hex.EncodeToString(sum[:]), realm: h.domain}
	h.join(impi, impus)
}

// AddCard is Add for a private identity that has AKA credentials and no password. Its vectors are random; tests play the
// card by reading them with Vectors.
func (h *HSS) AddCard(impi string, impus ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.private[impi] = digest{realm: h.domain, aka: true}
	h.join(impi, impus)
}

// Vectors returns the AKA vectors given so far, in order.
func (h *HSS) Vectors() []*hss.Aka {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.vectors)
}

// Resyncs returns the RAND||AUTS that came, in order. One whose last octet is 0 is refused as forged.
func (h *HSS) Resyncs() [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.resyncs)
}

func (h *HSS) join(impi string, impus []string) {
	if len(impus) == 0 {
		return
	}
	s := h.public[impus[0]]
	if s == nil {
		s = &set{profiles: []*profile{{}}}
	}
	if !slices.Contains(s.impis, impi) {
		s.impis = append(s.impis, impi)
	}
	for _, impu := range impus {
		if h.public[impu] == nil {
			h.public[impu] = s
			s.profiles[0].identities = append(s.profiles[0].identities, Identity{URI: impu})
		}
	}
}

// AddProfile adds a further service profile with its identities and criteria to the set of impu.
func (h *HSS) AddProfile(impu, criteria string, identities ...Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.public[impu]
	s.profiles = append(s.profiles, &profile{identities, criteria})
	for _, id := range identities {
		h.public[id.URI] = s
	}
}

// AddWildcard adds a wildcarded identity, with .* as its expression, to the set and profile of impu.
func (h *HSS) AddWildcard(impu, before, after string, barred bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, uri := h.public[impu], before+"!.*!"+after
	h.identity(impu, func(p *profile, _ *Identity) {
		p.identities = append(p.identities, Identity{URI: uri, Barred: barred, Extension: "<Extension><IdentityType>3</IdentityType><WildcardedIMPU>" + uri + "</WildcardedIMPU></Extension>"})
	})
	h.wild = append(h.wild, covering{before, after, s})
}

// covering is a wildcarded identity.
type covering struct {
	before, after string
	set           *set
}

// find returns the set of a public identity, and the wildcard that covers it if it is not listed itself.
func (h *HSS) find(impu string) (s *set, wildcard string) {
	if s = h.public[impu]; s != nil {
		return s, ""
	}
	longest := -1
	for _, c := range h.wild {
		if strings.HasPrefix(impu, c.before) && strings.HasSuffix(impu, c.after) && len(c.before)+len(c.after) > longest {
			longest, s, wildcard = len(c.before)+len(c.after), c.set, c.before+"!.*!"+c.after
		}
	}
	return s, wildcard
}

// SetFilterCriteria replaces the InitialFilterCriteria elements (raw XML) of the profile that holds impu.
func (h *HSS) SetFilterCriteria(impu, criteria string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identity(impu, func(p *profile, _ *Identity) { p.criteria = criteria })
}

// SetBarred bars impu or lifts that.
func (h *HSS) SetBarred(impu string, barred bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.identity(impu, func(_ *profile, id *Identity) { id.Barred = barred })
}

func (h *HSS) identity(impu string, change func(*profile, *Identity)) {
	for _, p := range h.public[impu].profiles {
		for i := range p.identities {
			if p.identities[i].URI == impu {
				change(p, &p.identities[i])
			}
		}
	}
}

// SetServer changes the S-CSCF that answers name; "" names none, so that capabilities decide.
func (h *HSS) SetServer(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.server = name
}

// SetCapabilities makes answers carry what a subscriber needs of an S-CSCF.
func (h *HSS) SetCapabilities(c *hss.Capabilities) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = c
}

// WithholdProfiles makes Authorize give the profile of registered users alone, as an external HSS does: that of others
// comes with their assignment.
func (h *HSS) WithholdProfiles() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.withhold = true
}

// Remove forgets a public identity.
func (h *HSS) Remove(impu string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.public, impu)
}

// Fail makes every answer carry result until it is called with RESULT_OK.
func (h *HSS) Fail(result hss.Result) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = result
}

// FailWith makes every call return err until it is called with nil, as if no diameter node could be asked.
func (h *HSS) FailWith(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// Calls returns how often a question was asked: "authorize", "locate", "assign".
func (h *HSS) Calls(question string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[question]
}

// Assignments returns the requests of Assign so far, in order.
func (h *HSS) Assignments() []*hss.AssignRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.assignments)
}

// Locations returns the requests of Locate so far, in order.
func (h *HSS) Locations() []*hss.LocateRequest {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.locations)
}

func (h *HSS) begin(question string) (hss.Result, string, error) {
	h.calls[question]++
	if h.err != nil {
		return 0, "", h.err
	}
	if h.fail != hss.Result_RESULT_OK {
		return h.fail, "the test wants it so", nil
	}
	return hss.Result_RESULT_OK, "", nil
}

// Authorize implements hss.Server.
func (h *HSS) Authorize(_ context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if result, detail, err := h.begin("authorize"); err != nil || result != hss.Result_RESULT_OK {
		return &hss.AuthorizeResponse{Result: result, Detail: detail}, err
	}
	refuse := func(r hss.Result, format string, args ...any) (*hss.AuthorizeResponse, error) {
		return &hss.AuthorizeResponse{Result: r, Detail: fmt.Sprintf(format, args...)}, nil
	}
	auth, known := h.private[req.GetImpi()]
	s := h.public[req.GetImpu()]
	switch {
	case !known:
		return refuse(hss.Result_RESULT_UNKNOWN, "private identity %q is not known", req.GetImpi())
	case s == nil:
		return refuse(hss.Result_RESULT_UNKNOWN, "public identity %q is not known", req.GetImpu())
	case !slices.Contains(s.impis, req.GetImpi()):
		return refuse(hss.Result_RESULT_UNKNOWN, "identities %q and %q do not belong together", req.GetImpi(), req.GetImpu())
	case s.defaultIdentity() == "" && !req.GetEmergency():
		return refuse(hss.Result_RESULT_BARRED, "every identity of the set of %q is barred", req.GetImpu())
	case req.GetWantVector() && strings.HasPrefix(req.GetScheme(), "aka") && !auth.aka:
		return refuse(hss.Result_RESULT_UNSUPPORTED_SCHEME, "%q has no AKA key", req.GetImpi())
	case req.GetWantVector() && req.GetScheme() == "digest" && auth.aka:
		return refuse(hss.Result_RESULT_UNSUPPORTED_SCHEME, "%q has no digest credentials", req.GetImpi())
	}
	resp := &hss.AuthorizeResponse{ServerName: h.server, ResultCode: hss.FirstRegistration, Capabilities: h.wanted}
	if resync := req.GetResync(); len(resync) > 0 {
		h.resyncs = append(h.resyncs, resync)
		if resync[len(resync)-1] == 0 {
			return refuse(hss.Result_RESULT_RESYNC_REFUSED, "the test wants this AUTS to be forged")
		}
	}
	switch {
	case req.GetWantVector() && auth.aka:
		resp.Aka = h.vector(req.GetScheme())
	case req.GetWantVector():
		resp.Digest = &hss.Digest{Ha1: auth.ha1, Realm: auth.realm, Qop: "auth"}
	}
	if req.GetWantProfile() && (!h.withhold || h.registered[s] == hss.Registered) {
		resp.RegData = &hss.RegData{ImsSubscription: s.xml()}
	}
	return resp, nil
}

func (h *HSS) vector(scheme string) *hss.Aka {
	random := make([]byte, 72) // RAND, AUTN, CK, IK, XRES
	_, _ = rand.Read(random)   // never fails
	v := &hss.Aka{
		Challenge: base64.StdEncoding.EncodeToString(random[:32]), CryptKey: hex.EncodeToString(random[32:48]),
		IntegrityKey: hex.EncodeToString(random[48:64]), Response: hex.EncodeToString(random[64:]), Version: 1,
	}
	if scheme == "aka2" {
		v.Version = 2
	}
	h.vectors = append(h.vectors, v)
	return v
}

// Locate implements hss.Server.
func (h *HSS) Locate(_ context.Context, req *hss.LocateRequest) (*hss.LocateResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.locations = append(h.locations, req)
	if result, detail, err := h.begin("locate"); err != nil || result != hss.Result_RESULT_OK {
		return &hss.LocateResponse{Result: result, Detail: detail}, err
	}
	s, wildcard := h.find(req.GetImpu())
	if s == nil {
		return &hss.LocateResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: fmt.Sprintf("public identity %q is not known", req.GetImpu())}, nil
	}
	resp := &hss.LocateResponse{Wildcard: wildcard, ServerName: h.server, ResultCode: hss.FirstRegistration, Capabilities: h.wanted}
	if req.GetWantProfile() {
		resp.RegData = &hss.RegData{ImsSubscription: s.xml()}
	}
	return resp, nil
}

// Assign implements hss.Server. Unlike the real one it keeps the state itself.
func (h *HSS) Assign(_ context.Context, req *hss.AssignRequest) (*hss.AssignResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.assignments = append(h.assignments, req)
	if result, detail, err := h.begin("assign"); err != nil || result != hss.Result_RESULT_OK {
		return &hss.AssignResponse{Result: result, Detail: detail}, err
	}
	s, _ := h.find(req.GetImpu())
	if s == nil || (req.GetImpi() != "" && !slices.Contains(s.impis, req.GetImpi())) {
		return &hss.AssignResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: fmt.Sprintf("%q with %q is not known", req.GetImpu(), req.GetImpi())}, nil
	}
	previous := h.registered[s]
	if previous == "" {
		previous = hss.NotRegistered
	}
	data := &hss.RegData{State: previous, ImsSubscription: s.xml()}
	switch req.GetReqtype() {
	case hss.Reg:
		data.State, data.PreviousState = hss.Registered, previous
	case hss.Call:
		data.PreviousState = previous
		if previous == hss.NotRegistered {
			data.State = hss.Unregistered
		}
	case hss.DeregAuthFailed, hss.DeregAuthTimeout:
	default:
		data.State = hss.NotRegistered
	}
	h.registered[s] = data.State
	return &hss.AssignResponse{RegData: data}, nil
}

// defaultIdentity is the first identity that is not barred, a SIP URI if there is one (TS 23.228 4.3.3.4).
func (s *set) defaultIdentity() string {
	first := ""
	for _, p := range s.profiles {
		for _, id := range p.identities {
			switch {
			case id.Barred:
			case strings.HasPrefix(id.URI, "sip:"):
				return id.URI
			case first == "":
				first = id.URI
			}
		}
	}
	return first
}

func (s *set) xml() string {
	var b strings.Builder
	b.WriteString("<IMSSubscription><PrivateID>Unspecified</PrivateID>")
	for _, p := range s.profiles {
		b.WriteString("<ServiceProfile>")
		for _, id := range p.identities {
			b.WriteString("<PublicIdentity><Identity>")
			_ = xml.EscapeText(&b, []byte(id.URI)) // a Builder takes everything
			b.WriteString("</Identity>")
			if id.Barred {
				b.WriteString("<BarringIndication>1</BarringIndication>")
			}
			b.WriteString(id.Extension + "</PublicIdentity>")
		}
		b.WriteString(p.criteria + "</ServiceProfile>")
	}
	b.WriteString("</IMSSubscription>")
	return b.String()
}
