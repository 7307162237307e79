package pcscf

import (
	"strings"

	"github.com/clearwater-ims/clearwater/nodes/internal/proxy"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/internal/transaction"
)

// lacking answers a phone's request that wants of the proxies on its way what this one cannot do: 420 with the options
// that it lacks (RFC 3261 16.3 step 5). Security agreement ends here (RFC 3329), privacy is the network's (RFC 3323).
func lacking(r *proxy.Request) (proxy.Decision, bool) {
	var options []string
	for _, v := range r.Msg.All(sip.ProxyRequire) {
		for option := range strings.SplitSeq(v, ",") {
			switch option = strings.TrimSpace(option); strings.ToLower(option) {
			case "", "sec-agree", "privacy":
			default:
				options = append(options, option)
			}
		}
	}
	switch {
	case len(options) == 0:
		return proxy.Decision{}, false
	case r.Msg.Method == sip.ACK:
		return proxy.Silence(), true
	}
	m := r.Msg.NewResponse(420, "", transaction.NewTag())
	m.Add(sip.Unsupported, strings.Join(options, ", "))
	return proxy.AnswerWith(m), true
}
