package record_test

import (
	"log/slog"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/internal/records/recordstest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/record"
)

func TestConformsOnMemory(t *testing.T) {
	recordstest.Run(t, func(*testing.T) records.Service { return record.New(memory.New()) })
}

func TestConformsOnEmbedded(t *testing.T) {
	recordstest.Run(t, func(t *testing.T) records.Service {
		t.Helper()
		e, err := embedded.Open(embedded.Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.Close() })
		return record.New(e)
	})
}
