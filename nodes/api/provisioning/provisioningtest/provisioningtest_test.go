package provisioningtest_test

import (
	"net/http/httptest"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning/provisioningtest"
)

func TestDoubleConforms(t *testing.T) {
	server := httptest.NewServer(provisioningtest.New())
	defer server.Close()
	provisioningtest.Conformance(t, server.URL)
}
