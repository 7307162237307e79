package functions_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/overload"
)

// A router that has no tokens left refuses calls early, but none that rph_json gives a priority.
func TestPriorityPassesOverload(t *testing.T) {
	limited := func(priorities string, values ...string) (taken, refused int) {
		inLimited(t, func() *overload.Limiter {
			return overload.New("ims_router_", config.Throttle{TargetLatency: 10000, MaxTokens: 1, InitRate: 0.001, MaxRate: 0.001, QueueTimeout: time.Second}, overload.Deps{Metrics: prometheus.NewRegistry()})
		}, func(w *world) {
			if err := w.router.SetPriorities(priorities); err != nil {
				t.Fatal(err)
			}
			for i, v := range values {
				call := strings.Replace(invite("sip:bob@ims.test"), "Call-ID: call", fmt.Sprintf("Resource-Priority: %s\nCall-ID: c%d", v, i), 1)
				w.edge.Send(scscf, call)
				switch m := w.edge.Maybe(10 * time.Second); {
				case m == nil:
					t.Fatal("no answer")
				case m.Status == 503:
					refused++
				default:
					taken++
				}
				synctest.Wait()
			}
		})
		return taken, refused
	}
	const document = `{"priority_blocks":[{"priority":3,"rph_values":["wps.4"]},{"priority":15,"rph_values":["ets.0"]}]}`
	if taken, refused := limited(document, "none.0", "none.0", "ets.0", "WPS.4", "none.0, ets.0", "none.0"); taken != 4 || refused != 2 {
		t.Errorf("%d are taken, %d refused", taken, refused)
	}
	if taken, refused := limited("", "none.0", "ets.0", "ets.0"); taken != 1 || refused != 2 {
		t.Errorf("without the document %d are taken, %d refused", taken, refused)
	}
}
