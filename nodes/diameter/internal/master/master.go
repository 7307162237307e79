// Package master answers what an HSS is asked (Cx, TS 29.228) from our own subscriber data. Whether a set is
// registered is not kept here: the registration in the store is the truth. Unlike Clearwater without an HSS, it
// checks that subscribers exist and that private and public identity belong together.
package master

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/profilexml"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/subscribers"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/registrations"
	"github.com/clearwater-ims/clearwater/nodes/internal/rpc"
)

// Subscribers is the part of the subscriber data that is asked.
type Subscribers interface {
	Find(ctx context.Context, impi, key string) (subscribers.Found, error)
	Advance(ctx context.Context, impi string, next func(*subscribers.Aka) (uint64, error)) (*subscribers.Aka, error)
}

// Registrations tells which bindings a set has.
type Registrations interface {
	Get(ctx context.Context, aor string) (*registrations.Record, error)
}

// Settings may change while the master runs.
type Settings struct {
	ServerName string // SIP URI of the S-CSCF that is named to everybody
	CDF        string // cdf_identity: charging function of our own subscribers
}

// Master implements hss.Server.
type Master struct {
	subscribers   Subscribers
	registrations Registrations
	settings      func() Settings
	log           *slog.Logger
	operations    *prometheus.CounterVec
	assignments   *prometheus.CounterVec
}

// New answers from subs and regs; its counters go to reg.
func New(subs Subscribers, regs Registrations, settings func() Settings, log *slog.Logger, reg prometheus.Registerer) *Master {
	m := &Master{
		subscribers: subs, registrations: regs, settings: settings, log: log,
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_diameter_operations_total", Help: "Questions answered, by kind: authorize, locate, assign, state.",
		}, []string{"operation"}),
		assignments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ims_hss_assignments_total", Help: "Server assignments told to the HSS, by reqtype.",
		}, []string{"reqtype"}),
	}
	for _, operation := range []string{"authorize", "locate", "assign", "state"} {
		m.operations.WithLabelValues(operation)
	}
	reg.MustRegister(m.operations, m.assignments)
	return m
}

// failed maps an error of the store to a result.
func failed(err error) (hss.Result, string) {
	if errors.Is(err, rpc.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		return hss.Result_RESULT_TIMEOUT, err.Error()
	}
	return hss.Result_RESULT_UNAVAILABLE, err.Error()
}

// find looks up a public identity with, if impi is not empty, the private one that must belong to it.
func (m *Master) find(ctx context.Context, impi, impu string) (subscribers.Found, hss.Result, string) {
	unknown := hss.Result_RESULT_UNKNOWN
	key, err := subscribers.Key(impu)
	if err != nil {
		return subscribers.Found{}, unknown, err.Error()
	}
	f, err := m.subscribers.Find(ctx, impi, key)
	switch {
	case err != nil:
		result, detail := failed(err)
		return f, result, detail
	case impi != "" && f.Private == nil:
		return f, unknown, fmt.Sprintf("private identity %q is not known", impi)
	case f.Set == nil:
		return f, unknown, fmt.Sprintf("public identity %q is not known", impu)
	case impi != "" && !f.Paired(impi):
		return f, unknown, fmt.Sprintf("identities %q and %q do not belong together", impi, impu)
	}
	return f, hss.Result_RESULT_OK, ""
}

// Authorize implements hss.Server. The registration state is not asked for: it would be a second question on the
// path of every REGISTER, and the router's own swap tells it.
func (m *Master) Authorize(ctx context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error) {
	m.operations.WithLabelValues("authorize").Inc()
	refuse := func(r hss.Result, detail string) (*hss.AuthorizeResponse, error) {
		return &hss.AuthorizeResponse{Result: r, Detail: detail}, nil
	}
	if req.GetImpi() == "" {
		return refuse(hss.Result_RESULT_UNKNOWN, "no private identity was given")
	}
	f, result, detail := m.find(ctx, req.GetImpi(), req.GetImpu())
	if result != hss.Result_RESULT_OK {
		return refuse(result, detail)
	}
	// TS 29.228 6.1.1.1: a barred identity may register if another one of its set is not barred, and for emergency calls.
	if _, ok := f.Set.Default(); !ok && !req.GetEmergency() {
		return refuse(hss.Result_RESULT_BARRED, fmt.Sprintf("every identity of the set of %q is barred", req.GetImpu()))
	}
	resp := &hss.AuthorizeResponse{ServerName: m.settings().ServerName, ResultCode: hss.FirstRegistration}
	if req.GetWantVector() {
		if result, detail := m.vector(ctx, req, f.Private, resp); result != hss.Result_RESULT_OK {
			return refuse(result, detail)
		}
	}
	if req.GetWantProfile() {
		resp.RegData = m.data(f.Set)
	}
	return resp, nil
}

// Locate implements hss.Server. There is one S-CSCF name, so the answer does not depend on the registration.
func (m *Master) Locate(ctx context.Context, req *hss.LocateRequest) (*hss.LocateResponse, error) {
	m.operations.WithLabelValues("locate").Inc()
	f, result, detail := m.find(ctx, "", req.GetImpu())
	if result != hss.Result_RESULT_OK {
		return &hss.LocateResponse{Result: result, Detail: detail}, nil
	}
	resp := &hss.LocateResponse{ServerName: m.settings().ServerName, ResultCode: hss.FirstRegistration}
	if req.GetWantProfile() {
		resp.RegData = m.data(f.Set)
	}
	return resp, nil
}

// KnownReqtype tells whether Assign takes a request type, and returns it as it is counted.
func KnownReqtype(reqtype string) (string, bool) {
	switch reqtype {
	case "dereg-auth-failure": // as the manual writes it
		return hss.DeregAuthFailed, true
	case hss.Reg, hss.Call, hss.DeregUser, hss.DeregAdmin, hss.DeregTimeout, hss.DeregAuthFailed, hss.DeregAuthTimeout:
		return reqtype, true
	default:
		return "", false
	}
}

// Assign implements hss.Server. Deregistrations change nothing here, since the registration in the store is the
// state; they are logged, counted and answered with the data, so an effect may be told any number of times.
func (m *Master) Assign(ctx context.Context, req *hss.AssignRequest) (*hss.AssignResponse, error) {
	m.operations.WithLabelValues("assign").Inc()
	reqtype, ok := KnownReqtype(req.GetReqtype())
	if !ok {
		return &hss.AssignResponse{Result: hss.Result_RESULT_UNKNOWN, Detail: fmt.Sprintf("reqtype %q is not known", req.GetReqtype())}, nil
	}
	f, result, detail := m.find(ctx, req.GetImpi(), req.GetImpu())
	if result != hss.Result_RESULT_OK {
		return &hss.AssignResponse{Result: result, Detail: detail}, nil
	}
	data := m.data(f.Set)
	switch reqtype {
	case hss.DeregUser, hss.DeregAdmin, hss.DeregTimeout:
		data.State = hss.NotRegistered
		m.log.Info("deregistered", "reqtype", reqtype, "impu", req.GetImpu(), "impi", req.GetImpi(), "effect", req.GetEffectId())
	default:
		before, err := m.state(ctx, f.Set)
		if err != nil {
			result, detail := failed(err)
			return &hss.AssignResponse{Result: result, Detail: detail}, nil
		}
		after(data, reqtype, before)
	}
	m.assignments.WithLabelValues(reqtype).Inc()
	return &hss.AssignResponse{RegData: data}, nil
}

// after sets the states of an answer, from the one before the request.
func after(data *hss.RegData, reqtype, before string) {
	data.State = before
	switch reqtype {
	case hss.Reg:
		data.State, data.PreviousState = hss.Registered, before
	case hss.Call:
		data.PreviousState = before
		if before == hss.NotRegistered {
			data.State = hss.Unregistered
		}
	}
}

// State returns the data of a public identity with its registration state.
func (m *Master) State(ctx context.Context, impu string) (*hss.RegData, hss.Result, string) {
	m.operations.WithLabelValues("state").Inc()
	f, result, detail := m.find(ctx, "", impu)
	if result != hss.Result_RESULT_OK {
		return nil, result, detail
	}
	data := m.data(f.Set)
	state, err := m.state(ctx, f.Set)
	if err != nil {
		result, detail := failed(err)
		return nil, result, detail
	}
	data.State = state
	return data, hss.Result_RESULT_OK, ""
}

// state derives the registration state of a set from its bindings.
func (m *Master) state(ctx context.Context, s *subscribers.Set) (string, error) {
	id, ok := s.Default()
	if !ok {
		return hss.NotRegistered, nil
	}
	rec, err := m.registrations.Get(ctx, id.GetKey())
	switch {
	case err != nil:
		return "", err
	case len(rec.GetBindings()) > 0:
		return hss.Registered, nil
	case rec.GetUnregisteredService():
		return hss.Unregistered, nil
	default:
		return hss.NotRegistered, nil
	}
}

// data is what the S-CSCF is told of a set.
func (m *Master) data(s *subscribers.Set) *hss.RegData {
	profiles := make([]profilexml.Profile, 0, len(s.GetProfiles()))
	for _, p := range s.GetProfiles() {
		out := profilexml.Profile{Criteria: p.GetCriteria(), Identities: make([]profilexml.PublicIdentity, 0, len(p.GetPublicIds()))}
		for _, id := range p.GetPublicIds() {
			out.Identities = append(out.Identities, profilexml.PublicIdentity{Identity: id.GetUri(), Barred: id.GetBarred(), Extension: id.GetExtension()})
		}
		profiles = append(profiles, out)
	}
	d := &hss.RegData{ImsSubscription: profilexml.IMSSubscription("Unspecified", profiles)}
	if cdf := m.settings().CDF; cdf != "" {
		d.Ccfs = []string{cdf}
	}
	return d
}
