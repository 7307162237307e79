package cx

import "github.com/clearwater-ims/clearwater/nodes/diameter/internal/wire"

// ReadsVector reads an MAA as far as its vector.
func ReadsVector(m wire.Message) bool {
	code, ok := readCode(m)
	data, there := m.Find(wire.SIPAuthDataItem)
	i := readItem(data)
	return ok && there && code.code == wire.Success && len(i.authenticate) == 32 && len(i.ck) == 16
}
