package function

import (
	"context"
	"fmt"
	"math"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Sizes is sizes.
type Sizes struct{}

// NewSizes is the constructor that the provider lists.
func NewSizes() function.Function { return Sizes{} }

// Metadata implements function.Function.
func (Sizes) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "sizes"
}

// Definition implements function.Function.
func (Sizes) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "Node counts for a number of subscribers",
		MarkdownDescription: fmt.Sprintf("Counts for `node_count` of each tier, by role, for one site that carries so many subscribers. The load that is assumed: every subscriber has one phone that "+
			"registers again every %d s (with a new challenge), and originates %.1f calls in the busy hour. Nodes are filled to %.0f %% of their cores, and edge, router and diameter have one node more than "+
			"the load needs, so that one may fail. The store has one node (embedded engine) up to %d subscribers and three or more (Cassandra) above. Measure with your own traffic before you rely on it.",
			registerEvery, busyHourCalls, 100*fill, embeddedSubscribers),
		Parameters: []function.Parameter{
			function.Int64Parameter{Name: "subscribers", MarkdownDescription: "How many subscribers, 1 or more."},
			function.Int64Parameter{Name: "cores", MarkdownDescription: "Cores of a node, 1 or more."},
		},
		Return: function.ObjectReturn{AttributeTypes: countTypes()},
	}
}

// countTypes is a number for each role.
func countTypes() map[string]attr.Type {
	out := map[string]attr.Type{}
	for _, role := range config.Roles() {
		out[string(role)] = types.Int64Type
	}
	return out
}

// Run implements function.Function.
func (Sizes) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var subscribers, cores int64
	if resp.Error = req.Arguments.Get(ctx, &subscribers, &cores); resp.Error != nil {
		return
	}
	for i, value := range []int64{subscribers, cores} {
		if value < 1 || value > 1e9 {
			resp.Error = function.NewArgumentFuncError(int64(i), fmt.Sprintf("%d: allowed is 1 to 1000000000", value))
			return
		}
	}
	counts := map[string]attr.Value{}
	for role, n := range sizes(subscribers, cores) {
		counts[string(role)] = types.Int64Value(n)
	}
	object, diags := types.ObjectValue(countTypes(), counts)
	if resp.Error = function.FuncErrorFromDiags(ctx, diags); resp.Error != nil {
		return
	}
	resp.Error = resp.Result.Set(ctx, object)
}

// The load of a subscriber.
const (
	registerEvery = 150 // seconds: phones refresh at half of reg_max_expires, whose default is 300
	busyHourCalls = 1.3
	fill          = 0.4 // of the cores in the busy hour: peaks and the fail-over of one node take the rest
)

// embeddedSubscribers is how many one store node carries: above, the loss of its machine costs too many too much.
const embeddedSubscribers = 50_000

// cost is the CPU seconds that a role spends on one operation. They are what `make bench` shows on one core of a virtual
// machine for the whole chain, shared out by role and rounded up.
type cost struct{ registration, call float64 }

func costs() map[config.Role]cost {
	return map[config.Role]cost{
		config.Edge:     {registration: 0.30e-3, call: 1.25e-3},
		config.Router:   {registration: 0.30e-3, call: 1.25e-3},
		config.Diameter: {registration: 0.20e-3, call: 0.10e-3},
		config.Store:    {registration: 0.20e-3, call: 0.05e-3},
	}
}

// sizes is how many nodes of each role one site needs.
func sizes(subscribers, cores int64) map[config.Role]int64 {
	registrations := float64(subscribers) / registerEvery
	calls := float64(subscribers) * busyHourCalls / 3600
	out := map[config.Role]int64{config.XDMS: 1, config.Portal: 1}
	for role, c := range costs() {
		seconds := registrations*c.registration + calls*c.call
		out[role] = int64(math.Ceil(seconds / (float64(cores) * fill)))
	}
	for _, role := range []config.Role{config.Edge, config.Router, config.Diameter} {
		out[role]++
	}
	switch {
	case subscribers <= embeddedSubscribers:
		out[config.Store] = 1
	default:
		out[config.XDMS] = 2
		out[config.Store] = max(3, out[config.Store]*3) // three copies of everything
	}
	return out
}
