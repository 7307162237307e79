package calls

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	device "github.com/clearwater-ims/clearwater/acctest/phone"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// The network deregisters a user: the edge, which watches the users that make requests, does not speak for the phone any
// longer, until it registers again.
func TestNetworkDeregistrationReachesTheEdge(t *testing.T) {
	caller, called := device.Subscriber(t, shared, ""), device.Subscriber(t, shared, "")
	caller.Start()
	called.PickUp()
	caller.Register(300)
	called.Register(300)
	status := func() int {
		return caller.StartRequest("MESSAGE", called.URI()).Final(5 * time.Second).Status()
	}
	if got := status(); got != 200 {
		t.Fatalf("a request of a registered phone: %d", got)
	}
	within(t, 5*time.Second, "the edge watches the caller", func() bool {
		return counter(t, config.HealthPort(config.Edge), []string{"edge-1"}, `ims_edge_subscribes_total\{status="200"\}`) > 0 &&
			counter(t, config.HealthPort(config.Router), []string{"router-1", "router-2"}, `ims_regevent_notifies_total\{outcome="accepted"\}`) > 0
	})
	ended := func() float64 {
		return counter(t, config.HealthPort(config.Edge), []string{"edge-1"}, `ims_edge_ended_registrations_total`)
	}
	before := ended()
	body := strings.NewReader(fmt.Sprintf(`{"registrations":[{"primary-impu":%q,"impi":%q}]}`, caller.URI(), strings.TrimPrefix(caller.URI(), "sip:")))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, fmt.Sprintf("http://%s:%d/registrations?send-notifications=true", shared.Address("router-1"), config.PortRouterHTTP), body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Fatalf("DELETE /registrations: %s", resp.Status)
	}
	within(t, 5*time.Second, "the edge hears of it", func() bool { return ended() == before+1 })
	if got := status(); got != 403 {
		t.Errorf("a request of a deregistered phone: %d, want 403", got)
	}
	caller.Register(300)
	if got := status(); got != 200 {
		t.Errorf("after it has registered again: %d", got)
	}
}
