// Package signalling is the HTTP API that Clearwater's Homestead serves on 8888 (and its read-only part on 8886), on
// any hss.Server. The router uses the rpc form of the same questions; this one is for scripts, application servers
// and other cores.
package signalling

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/master"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
	"github.com/clearwater-ims/clearwater/nodes/internal/httpserver"
)

// State tells the registration state of a public identity with its data.
type State interface {
	State(ctx context.Context, impu string) (*hss.RegData, hss.Result, string)
}

// Register adds the signalling API to mux.
func Register(mux *http.ServeMux, server hss.Server, state State) {
	a := &api{server}
	mux.HandleFunc("GET /impi/{impi}/av", a.vector(""))
	mux.HandleFunc("GET /impi/{impi}/av/digest", a.vector("digest"))
	mux.HandleFunc("GET /impi/{impi}/av/aka", a.vector("aka"))
	mux.HandleFunc("GET /impi/{impi}/av/aka2", a.vector("aka2"))
	mux.HandleFunc("GET /impi/{impi}/digest", a.oldDigest)
	mux.HandleFunc("GET /impi/{impi}/registration-status", a.registrationStatus)
	mux.HandleFunc("GET /impu/{impu}/location", a.location)
	mux.HandleFunc("PUT /impu/{impu}/reg-data", a.assign)
	RegisterReadOnly(mux, state)
}

// RegisterReadOnly adds what the management port serves.
func RegisterReadOnly(mux *http.ServeMux, state State) {
	mux.HandleFunc("GET /impu/{impu}/reg-data", func(w http.ResponseWriter, r *http.Request) {
		data, result, detail := state.State(r.Context(), r.PathValue("impu"))
		if result != hss.Result_RESULT_OK {
			fail(w, result, detail)
			return
		}
		writeRegData(w, data)
	})
}

type api struct{ server hss.Server }

// fail answers with the status that a result stands for.
func fail(w http.ResponseWriter, result hss.Result, detail string) {
	status := http.StatusInternalServerError
	switch result {
	case hss.Result_RESULT_UNKNOWN, hss.Result_RESULT_NOT_REGISTERED, hss.Result_RESULT_UNSUPPORTED_SCHEME:
		status = http.StatusNotFound
	case hss.Result_RESULT_ROAMING_REFUSED, hss.Result_RESULT_BARRED, hss.Result_RESULT_RESYNC_REFUSED:
		status = http.StatusForbidden
	case hss.Result_RESULT_UNAVAILABLE:
		status = http.StatusServiceUnavailable
	case hss.Result_RESULT_TIMEOUT:
		status = http.StatusGatewayTimeout
	}
	http.Error(w, detail, status)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone
}

// authorize asks and answers failures; ok tells that the answer is for the caller to write.
func (a *api) authorize(w http.ResponseWriter, r *http.Request, req *hss.AuthorizeRequest) (resp *hss.AuthorizeResponse, ok bool) {
	resp, err := a.server.Authorize(r.Context(), req)
	if err != nil {
		fail(w, hss.ResultOf(err), err.Error())
		return nil, false
	}
	if resp.GetResult() != hss.Result_RESULT_OK {
		fail(w, resp.GetResult(), resp.GetDetail())
		return nil, false
	}
	return resp, true
}

// vector is MAR: /impi/<impi>/av[/<scheme>]?impu=&server-name=&resync-auth=.
func (a *api) vector(scheme string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		resync, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(r.URL.Query().Get("resync-auth"), " ", "+")) // a + that was not escaped
		if err != nil {
			http.Error(w, "resync-auth is not base64: "+err.Error(), http.StatusBadRequest)
			return
		}
		resp, ok := a.authorize(w, r, &hss.AuthorizeRequest{
			Impi: r.PathValue("impi"), Impu: r.URL.Query().Get("impu"), Scheme: scheme, Resync: resync, WantVector: true,
		})
		if !ok {
			return
		}
		switch {
		case resp.GetDigest() != nil:
			d := resp.GetDigest()
			writeJSON(w, map[string]any{"digest": map[string]string{"ha1": d.GetHa1(), "realm": d.GetRealm(), "qop": d.GetQop()}})
		case resp.GetAka() != nil:
			k := resp.GetAka()
			writeJSON(w, map[string]any{"aka": map[string]any{
				"challenge": k.GetChallenge(), "response": k.GetResponse(), "cryptkey": k.GetCryptKey(), "integritykey": k.GetIntegrityKey(), "version": k.GetVersion(),
			}})
		default:
			fail(w, hss.Result_RESULT_UNSUPPORTED_SCHEME, "there is no authentication vector")
		}
	}
}

// oldDigest is the form before /av: /impi/<impi>/digest?public_id=.
func (a *api) oldDigest(w http.ResponseWriter, r *http.Request) {
	resp, ok := a.authorize(w, r, &hss.AuthorizeRequest{
		Impi: r.PathValue("impi"), Impu: r.URL.Query().Get("public_id"), Scheme: "digest", WantVector: true,
	})
	if ok {
		writeJSON(w, map[string]string{"digest_ha1": resp.GetDigest().GetHa1()})
	}
}

// serverAnswer is the body of UAR and LIR answers.
func serverAnswer(code int32, server string, c *hss.Capabilities, wildcard string) map[string]any {
	out := map[string]any{"result-code": code}
	if server != "" {
		out["scscf"] = server
	}
	if c != nil || server == "" {
		out["mandatory-capabilities"] = numbers(c.GetMandatory())
		out["optional-capabilities"] = numbers(c.GetOptional())
	}
	if wildcard != "" {
		out["wildcard-identity"] = wildcard
	}
	return out
}

func numbers(list []int32) []int32 {
	if list == nil {
		return []int32{} // [] and not null
	}
	return list
}

// registrationStatus is UAR: /impi/<impi>/registration-status?impu=&visited-network=&auth-type=&sos=.
func (a *api) registrationStatus(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	kind := strings.ToUpper(q.Get("auth-type"))
	if kind == "" {
		kind = "REG" // without one an external HSS is not asked whether the user may register
	}
	resp, ok := a.authorize(w, r, &hss.AuthorizeRequest{
		Impi: r.PathValue("impi"), Impu: q.Get("impu"), VisitedNetwork: q.Get("visited-network"), AuthType: kind, Emergency: q.Get("sos") == "true",
	})
	if ok {
		writeJSON(w, serverAnswer(resp.GetResultCode(), resp.GetServerName(), resp.GetCapabilities(), ""))
	}
}

// location is LIR: /impu/<impu>/location?originating=&auth-type=.
func (a *api) location(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	resp, err := a.server.Locate(r.Context(), &hss.LocateRequest{Impu: r.PathValue("impu"), Originating: q.Get("originating") == "true", AuthType: q.Get("auth-type")})
	switch {
	case err != nil:
		fail(w, hss.ResultOf(err), err.Error())
	case resp.GetResult() != hss.Result_RESULT_OK:
		fail(w, resp.GetResult(), resp.GetDetail())
	default:
		writeJSON(w, serverAnswer(resp.GetResultCode(), resp.GetServerName(), resp.GetCapabilities(), resp.GetWildcard()))
	}
}

// assign is SAR: PUT /impu/<impu>/reg-data?private_id=.
func (a *api) assign(w http.ResponseWriter, r *http.Request) {
	body, status, err := httpserver.ReadBody(r)
	if err != nil {
		http.Error(w, err.Error(), status)
		return
	}
	var req struct {
		Reqtype    string `json:"reqtype"`
		ServerName string `json:"server_name"`
		Wildcard   string `json:"wildcard_identity"`
	}
	if err := json.Unmarshal(body, &req); err != nil {
		http.Error(w, "the body is not the JSON that this call takes: "+err.Error(), http.StatusBadRequest)
		return
	}
	reqtype, ok := master.KnownReqtype(req.Reqtype)
	if !ok {
		http.Error(w, fmt.Sprintf("reqtype %q is refused, allowed are reg, call, dereg-user, dereg-admin, dereg-timeout, dereg-auth-failed, dereg-auth-timeout", req.Reqtype), http.StatusBadRequest)
		return
	}
	resp, err := a.server.Assign(r.Context(), &hss.AssignRequest{
		Impi: r.URL.Query().Get("private_id"), Impu: r.PathValue("impu"), Reqtype: reqtype, ServerName: req.ServerName, Wildcard: req.Wildcard,
		NoCache: strings.Contains(strings.ToLower(r.Header.Get("Cache-Control")), "no-cache"),
	})
	switch {
	case err != nil:
		fail(w, hss.ResultOf(err), err.Error())
	case resp.GetResult() == hss.Result_RESULT_NOT_REGISTERED && strings.HasPrefix(reqtype, "dereg-"):
		http.Error(w, resp.GetDetail(), http.StatusBadRequest) // so that two nodes do not tell each other for ever
	case resp.GetResult() != hss.Result_RESULT_OK:
		fail(w, resp.GetResult(), resp.GetDetail())
	default:
		writeRegData(w, resp.GetRegData())
	}
}

// writeRegData writes the document ClearwaterRegData.
func writeRegData(w http.ResponseWriter, d *hss.RegData) {
	var b strings.Builder
	element := func(name, value string) {
		b.WriteString("<" + name + ">")
		_ = xml.EscapeText(&b, []byte(value)) // a Builder takes everything
		b.WriteString("</" + name + ">")
	}
	b.WriteString("<ClearwaterRegData>")
	element("RegistrationState", d.GetState())
	if d.GetPreviousState() != "" {
		element("PreviousRegistrationState", d.GetPreviousState())
	}
	b.WriteString(d.GetImsSubscription())
	if len(d.GetCcfs())+len(d.GetEcfs()) > 0 {
		b.WriteString("<ChargingAddresses>")
		addresses(&b, "CCF", d.GetCcfs())
		addresses(&b, "ECF", d.GetEcfs())
		b.WriteString("</ChargingAddresses>")
	}
	b.WriteString("</ClearwaterRegData>")
	w.Header().Set("Content-Type", "application/xml")
	_, _ = w.Write([]byte(b.String())) // the caller is gone
}

// addresses writes charging functions, the first with priority 1.
func addresses(b *strings.Builder, name string, list []string) {
	for i, value := range list {
		_, _ = fmt.Fprintf(b, `<%s priority="%d">`, name, i+1)
		_ = xml.EscapeText(b, []byte(value)) // a Builder takes everything
		b.WriteString("</" + name + ">")
	}
}
