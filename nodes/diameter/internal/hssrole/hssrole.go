// Package hssrole is our subscriber master as the HSS of other cores: it answers what their I-CSCFs and S-CSCFs ask over Cx
// (TS 29.228 6.1, 6.3), and keeps which S-CSCF serves whom. One function for each command makes an answer of a request.
package hssrole

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/peer"
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// Master is the subscriber data.
type Master interface {
	Subscription(ctx context.Context, impi, impu string) (*master.Subscription, error)
	Authorize(ctx context.Context, req *hss.AuthorizeRequest) (*hss.AuthorizeResponse, error)
}

// Deps is what a Server works with.
type Deps struct {
	Master      Master
	Rows        Rows
	Host, Realm string // of this node
	Log         *slog.Logger
	Metrics     prometheus.Registerer
}

// Server answers Cx.
type Server struct {
	deps    Deps
	answers *prometheus.CounterVec
}

// New makes a server.
func New(deps Deps) *Server {
	s := &Server{deps: deps, answers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ims_hss_answers_total", Help: "Answers to other cores over Cx, by command (uar, mar, sar, lir) and result code.",
	}, []string{"command", "result"})}
	deps.Metrics.MustRegister(s.answers)
	return s
}

// verdict is the result of a request. Codes of 3GPP go into an Experimental-Result.
type verdict struct {
	code         uint32
	experimental bool
}

func (v verdict) String() string { return fmt.Sprint(v.code) }

// refusedError carries a verdict out of the change of a row.
type refusedError struct{ verdict verdict }

func (r refusedError) Error() string { return "refused with " + r.verdict.String() }

// Results of TS 29.229 6.2 and of the base protocol.
var (
	success             = verdict{wire.Success, false}
	firstRegistration   = verdict{2001, true}
	subsequent          = verdict{2002, true}
	unregisteredService = verdict{2003, true}
	userUnknown         = verdict{5001, true}
	identitiesMismatch  = verdict{5002, true}
	notRegistered       = verdict{5003, true}
	alreadyRegistered   = verdict{5005, true}
	schemeNotSupported  = verdict{5006, true}
	inAssignmentType    = verdict{5007, true}
	rejected            = verdict{5003, false} // DIAMETER_AUTHORIZATION_REJECTED
	unableToComply      = verdict{wire.UnableToComply, false}
	missing             = verdict{wire.MissingAVP, false}
	unsupported         = verdict{wire.CommandUnsupported, false}
)

// Serve is the peer.Handler.
func (s *Server) Serve(ctx context.Context, m wire.Message) wire.Message {
	ctx, cancel := context.WithTimeout(ctx, serveTimeout)
	defer cancel()
	name, f := "unsupported", func(context.Context, question, *wire.Builder) (verdict, error) { return unsupported, nil }
	switch m.Command() {
	case wire.UserAuthorization:
		name, f = "uar", s.userAuthorization
	case wire.LocationInfo:
		name, f = "lir", s.locationInfo
	case wire.MultimediaAuth:
		name, f = "mar", s.multimediaAuth
	case wire.ServerAssignment:
		name, f = "sar", s.serverAssignment
	}
	// What a command adds is written apart, since its result comes before it.
	body := wire.NewRequest(nil, 0, 0, 0)
	v, err := f(ctx, read(m), body)
	if err != nil {
		v = s.verdict(err, m)
	}
	s.answers.WithLabelValues(name, v.String()).Inc()
	return s.answer(m, v, body)
}

// verdict sorts errors: of identities, and everything else, which is ours.
func (s *Server) verdict(err error, m wire.Message) verdict {
	var refused refusedError
	switch {
	case errors.As(err, &refused):
		return refused.verdict
	case errors.Is(err, master.ErrUnknown):
		return userUnknown
	case errors.Is(err, master.ErrMismatch):
		return identitiesMismatch
	}
	s.deps.Log.Error("answering Cx", "command", m.Command(), "peer", m.Text(wire.OriginHost), "error", err)
	return unableToComply
}

func (s *Server) answer(m wire.Message, v verdict, body *wire.Builder) wire.Message {
	flags := byte(0)
	if !v.experimental && v.code >= 3000 && v.code < 4000 {
		flags = wire.FlagError
	}
	b := wire.NewAnswer(m, flags).
		Begin(wire.VendorSpecificApplicationID).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.AuthApplicationID, wire.Cx).End()
	if v.experimental {
		b.Begin(wire.ExperimentalResult).Uint32(wire.VendorID, wire.Vendor3G).Uint32(wire.ExperimentalResultCode, v.code).End()
	} else {
		b.Uint32(wire.ResultCode, v.code)
	}
	b.Uint32(wire.AuthSessionState, 1).Text(wire.OriginHost, s.deps.Host).Text(wire.OriginRealm, s.deps.Realm)
	if extra, err := body.Finish(); err == nil && (v == success || v.experimental && v.code < 3000) {
		b.Raw(extra[wire.HeaderSize:])
	}
	peer.ProxyInfo(b, m)
	out, err := b.Finish()
	if err != nil {
		s.deps.Log.Error("answering Cx: the answer is too long", "command", m.Command(), "error", err)
		return nil
	}
	return out
}

// question is what the commands ask, as far as each has it.
type question struct {
	impi, impu, server, host, realm, scheme string
	resync                                  []byte
	kind, authorization                     uint32
	hasKind                                 bool
}

func read(m wire.Message) question {
	q := question{
		impi: m.Text(wire.UserName), impu: m.Text(wire.PublicIdentity), server: m.Text(wire.ServerName),
		host: m.Text(wire.OriginHost), realm: m.Text(wire.OriginRealm),
	}
	q.kind, q.hasKind = m.Uint32(wire.ServerAssignmentType)
	q.authorization, _ = m.Uint32(wire.UserAuthorizationType)
	if item, ok := m.Find(wire.SIPAuthDataItem); ok {
		scheme, _ := wire.Find(item, wire.SIPAuthenticationScheme)
		q.scheme = string(scheme)
		q.resync, _ = wire.Find(item, wire.SIPAuthorization)
	}
	return q
}

// User-Authorization-Type (TS 29.229 6.3.24).
const (
	deRegistration              = 1
	registrationAndCapabilities = 2
)

// userAuthorization is UAR (TS 29.228 6.1.1.1).
func (s *Server) userAuthorization(ctx context.Context, q question, b *wire.Builder) (verdict, error) {
	sub, err := s.deps.Master.Subscription(ctx, q.impi, q.impu)
	switch {
	case err != nil:
		return verdict{}, err
	case sub.Primary == "":
		return rejected, nil
	}
	a, err := s.assignment(ctx, sub.Primary)
	switch {
	case err != nil:
		return verdict{}, err
	case q.authorization == registrationAndCapabilities:
		b.Begin(wire.ServerCapabilities).End()
		return success, nil
	case a.GetServerName() != "":
		b.Text(wire.ServerName, a.GetServerName())
		if q.authorization == deRegistration {
			return success, nil
		}
		return subsequent, nil
	case q.authorization == deRegistration:
		return notRegistered, nil
	}
	b.Begin(wire.ServerCapabilities).End() // TS 29.229 6.3.4: empty, any S-CSCF will do
	return firstRegistration, nil
}

// locationInfo is LIR (TS 29.228 6.1.4.1).
func (s *Server) locationInfo(ctx context.Context, q question, b *wire.Builder) (verdict, error) {
	sub, err := s.deps.Master.Subscription(ctx, "", q.impu)
	switch {
	case err != nil:
		return verdict{}, err
	case sub.Primary == "":
		return userUnknown, nil
	}
	a, err := s.assignment(ctx, sub.Primary)
	switch {
	case err != nil:
		return verdict{}, err
	case q.authorization == registrationAndCapabilities:
		b.Begin(wire.ServerCapabilities).End()
		return success, nil
	case len(a.GetRegistered()) > 0, a.GetUnregistered():
		b.Text(wire.ServerName, a.GetServerName())
		return success, nil
	case !servesUnregistered(sub.Profile):
		return notRegistered, nil
	}
	b.Begin(wire.ServerCapabilities).End()
	return unregisteredService, nil
}

var (
	criterion      = regexp.MustCompile(`(?s)<InitialFilterCriteria\b.*?</InitialFilterCriteria>`)
	whenRegistered = regexp.MustCompile(`<ProfilePartIndicator>\s*0\s*</ProfilePartIndicator>`)
)

// servesUnregistered tells whether a profile has services for users who are not registered.
func servesUnregistered(profile string) bool {
	return slices.ContainsFunc(criterion.FindAllString(profile, -1), func(c string) bool { return !whenRegistered.MatchString(c) })
}

// schemes that are offered, by their names in Cx; "Unknown" leaves the choice to us.
func scheme(name string) (string, bool) {
	switch {
	case strings.EqualFold(name, "SIP Digest"):
		return "digest", true
	case strings.HasPrefix(name, "Digest-AKAv1"):
		return "aka", true
	case strings.HasPrefix(name, "Digest-AKAv2"):
		return "aka2", true
	case strings.EqualFold(name, "Unknown"):
		return "", true
	}
	return "", false
}

// multimediaAuth is MAR (TS 29.228 6.3.1): the S-CSCF is noted, and that an authentication is under way.
func (s *Server) multimediaAuth(ctx context.Context, q question, b *wire.Builder) (verdict, error) {
	sub, err := s.deps.Master.Subscription(ctx, q.impi, q.impu)
	if err != nil {
		return verdict{}, err
	}
	wanted, known := scheme(q.scheme)
	if !known {
		return schemeNotSupported, nil
	}
	resp, err := s.deps.Master.Authorize(ctx, &hss.AuthorizeRequest{Impi: q.impi, Impu: q.impu, Scheme: wanted, Resync: q.resync, WantVector: true})
	switch {
	case err != nil:
		return verdict{}, fmt.Errorf("making an authentication vector: %w", err)
	case resp.GetResult() == hss.Result_RESULT_UNSUPPORTED_SCHEME:
		return schemeNotSupported, nil
	case resp.GetResult() == hss.Result_RESULT_BARRED:
		return rejected, nil
	case resp.GetResult() != hss.Result_RESULT_OK:
		return verdict{}, fmt.Errorf("making an authentication vector: %s", resp.GetDetail())
	}
	if err := s.change(ctx, sub.Primary, func(a *Assignment) error {
		if a.GetServerName() != q.server {
			a.ServerName, a.Host, a.Realm = q.server, q.host, q.realm
		}
		if !slices.Contains(a.GetRegistered(), q.impi) && !slices.Contains(a.GetPending(), q.impi) {
			a.Pending = append(a.Pending, q.impi)
		}
		return nil
	}); err != nil {
		return verdict{}, err
	}
	b.Text(wire.UserName, q.impi).Text(wire.PublicIdentity, q.impu).Uint32(wire.SIPNumberAuthItems, 1)
	return success, vector(b, resp)
}

// vector writes a SIP-Auth-Data-Item (TS 29.229 6.3.13, TS 29.228 6.3).
func vector(b *wire.Builder, resp *hss.AuthorizeResponse) error {
	b.Begin(wire.SIPAuthDataItem)
	switch k, d := resp.GetAka(), resp.GetDigest(); {
	case k != nil:
		challenge, err := base64.StdEncoding.DecodeString(k.GetChallenge())
		var secrets [3][]byte
		for i, text := range []string{k.GetResponse(), k.GetCryptKey(), k.GetIntegrityKey()} {
			var one error
			secrets[i], one = hex.DecodeString(text)
			err = errors.Join(err, one)
		}
		if err != nil {
			return fmt.Errorf("reading the authentication vector: %w", err)
		}
		name := "Digest-AKAv1-MD5"
		if k.GetVersion() == 2 {
			name = "Digest-AKAv2-SHA-256"
		}
		b.Uint32(wire.SIPItemNumber, 1).Text(wire.SIPAuthenticationScheme, name).Bytes(wire.SIPAuthenticate, challenge).
			Bytes(wire.SIPAuthorization, secrets[0]).Bytes(wire.ConfidentialityKey, secrets[1]).Bytes(wire.IntegrityKey, secrets[2])
	default:
		b.Text(wire.SIPAuthenticationScheme, "SIP Digest").Begin(wire.SIPDigestAuthenticate).
			Text(wire.DigestRealm, d.GetRealm()).Text(wire.DigestAlgorithm, "MD5").Text(wire.DigestQoP, d.GetQop()).Text(wire.DigestHA1, d.GetHa1()).End()
	}
	b.End()
	return nil
}
