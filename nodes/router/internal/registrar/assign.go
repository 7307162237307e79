package registrar

import (
	"context"

	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// complete asks for the challenge data that the answer to the I-CSCF left out: an external HSS gives it to the S-CSCF that
// serves the user, and who that is was not known then.
func (r *Registrar) complete(ctx context.Context, q *hss.AuthorizeRequest, known *hss.AuthorizeResponse) *hss.AuthorizeResponse {
	if known != nil && (known.GetResult() != hss.Result_RESULT_OK || !q.GetWantVector() || known.GetDigest() != nil || known.GetAka() != nil) {
		return known
	}
	own := &hss.AuthorizeRequest{
		Impi: q.GetImpi(), Impu: q.GetImpu(), Scheme: q.GetScheme(), WantVector: q.GetWantVector(), WantProfile: q.GetWantProfile(), Emergency: q.GetEmergency(), DigestUser: q.GetDigestUser(),
	} // without AuthType: whether the user may register is the I-CSCF's question
	answer, err := r.deps.HSS.Authorize(ctx, own)
	if err != nil {
		return &hss.AuthorizeResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	return answer
}

// assign tells an external HSS that the user is registered here, if it has not been told of late, and takes the profile
// from its answer (TS 24.229 5.4.1.2.2F, TS 29.228 6.1.2). Our own subscriber master has given it before. The 200 waits
// for it. It returns the status to refuse with when that is not 0.
func (r *Registrar) assign(ctx context.Context, a *attempt, binds bool) (status int, why string) {
	if a.known.GetRegData().GetImsSubscription() != "" {
		return 0, ""
	}
	reqtype := hss.Reg
	if !binds {
		reqtype = hss.Call // nothing is registered; the profile is all that is needed
	}
	answer, err := r.deps.HSS.Assign(ctx, &hss.AssignRequest{Impi: a.impi, Impu: a.impu, Reqtype: reqtype, ServerName: a.settings.Names.ServerName()})
	if err != nil {
		answer = &hss.AssignResponse{Result: hss.ResultOf(err), Detail: err.Error()}
	}
	if status := RefusalOf(answer.GetResult()); status != 0 {
		return status, answer.GetDetail()
	}
	a.known.RegData = answer.GetRegData()
	a.assigned = reqtype == hss.Reg && answer.GetRegData().GetPreviousState() != hss.Registered
	return 0, ""
}

// unassign takes back an assignment whose registration did not come about.
func (r *Registrar) unassign(ctx context.Context, a *attempt) {
	answer, err := r.deps.HSS.Assign(context.WithoutCancel(ctx), &hss.AssignRequest{Impi: a.impi, Impu: a.impu, Reqtype: hss.DeregTimeout, ServerName: a.settings.Names.ServerName()})
	if err != nil || answer.GetResult() != hss.Result_RESULT_OK {
		r.deps.Log.Warn("taking back a registration at the HSS that did not come about", "impi", a.impi, "detail", answer.GetDetail(), "error", err)
	}
}
