package topology

import (
	_ "embed" // the port table is a file, so that people can read and check it
	"encoding/json"
	"fmt"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

//go:embed ports.json
var portTable []byte

// Rule opens one port of a role to one kind of peer.
type Rule struct {
	Role     config.Role `json:"role"`
	Protocol string      `json:"protocol"` // udp or tcp
	Port     int         `json:"port"`
	ToPort   int         `json:"to_port,omitempty"` // end of a range
	From     string      `json:"from"`              // anywhere, core (all nodes), operator (given CIDRs), or a role
	For      string      `json:"for"`
}

// Firewall lists the rules of a role. What no rule names is closed.
func Firewall(role config.Role) ([]Rule, error) {
	var all, out []Rule
	if err := json.Unmarshal(portTable, &all); err != nil {
		return nil, fmt.Errorf("port table: %w", err)
	}
	for _, r := range all {
		if r.Role == role {
			out = append(out, r)
		}
	}
	return out, nil
}
