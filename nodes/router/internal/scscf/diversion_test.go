package scscf_test

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
)

// A server of the called user forks: one branch stays with the user and goes on with the chain, the other is for somebody
// else and so a request of the user, with the services for diverted calls and then those of the new one. The first answer
// ends the other branch.
func TestServerForksAndDivertsOneBranch(t *testing.T) {
	in(t, "", func(w *world) {
		w.criteria("bob", criterion(1, 0, uriOne, session(1)), criterion(2, 0, uriOther, session(1)), criterion(3, 0, uriOther, session(4)))
		w.caller.Send(router, request("INVITE", "sip:bob@ims.test", "History-Info: <sip:bob@ims.test>;index=1"))
		m := w.one.Expect("INVITE")
		w.back(w.one, m, func(m *sip.Message) { m.Set(sip.CallID, "stays") })
		stays := w.other.Expect("INVITE")
		w.header(stays, sip.PServedUser, "<sip:bob@ims.test>;sescase=term;regstate=reg")
		w.back(w.one, m, func(m *sip.Message) {
			m.Set(sip.CallID, "diverted")
			m.URI = "sip:carol@ims.test"
			m.Add(sip.HistoryInfo, "<sip:carol@ims.test>;index=1.1")
		})
		diverted := w.other.Expect("INVITE")
		w.header(diverted, sip.CallID, "diverted")
		w.header(diverted, sip.PServedUser, "<sip:bob@ims.test>;orig-cdiv")
		w.header(diverted, sip.HistoryInfo, "<sip:bob@ims.test>;index=1", "<sip:carol@ims.test>;index=1.1")
		w.back(w.other, diverted)
		carol := w.phone.Expect("INVITE")
		w.header(carol, sip.PCalledPartyID, "<sip:carol@ims.test>")
		w.header(carol, sip.CallID, "diverted")
		w.phone.Reply(carol, 200)
		w.other.Expect("200")
		w.other.Reply(diverted, 200)
		w.one.Expect("200")
		w.other.Reply(stays, 487) // its server cancels what the other branch has won
		w.other.Expect("ACK")
		w.one.Expect("487")
		w.one.Reply(m, 200)
		w.caller.Expect("200")
	})
}
