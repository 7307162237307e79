package cx

import (
	"github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"
	"github.com/clearwater-ims/clearwater/nodes/internal/hss"
)

// ReadsVector reads an MAA as far as its vector.
func ReadsVector(m wire.Message) bool {
	code, ok := readCode(m)
	data, there := m.Find(wire.SIPAuthDataItem)
	i := readItem(data)
	return ok && there && code.code == wire.Success && len(i.authenticate) == 32 && len(i.ck) == 16
}

// ReadEverything reads an answer as if it were one to each question.
func ReadEverything(m wire.Message) {
	code, _ := readCode(m)
	_ = code.result()
	readServer(m)
	_, _ = readSubscription(m)
	_ = readVector(m, "a@ims.test", Settings{HomeDomain: "ims.test"}, &hss.AuthorizeResponse{})
}
