package main

import (
	"testing"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

func TestConnectingLeavesTimeForAnotherAddress(t *testing.T) {
	const s = time.Second
	for _, c := range []struct{ connect, continued, terminated, want time.Duration }{
		{2 * s, 2 * s, 4 * s, s}, {s / 2, 2 * s, 4 * s, s / 2}, {2 * s, 6 * s, s, s / 2},
	} {
		o := config.Defaults()
		o.SIPTCPConnect, o.SessionContinued, o.SessionTerminated = c.connect, c.continued, c.terminated
		if got := connectTimeout(o); got != c.want {
			t.Errorf("%+v: connecting takes %v", c, got)
		}
	}
}
