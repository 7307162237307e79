package late_test

import (
	"errors"
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/enginetest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/late"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

func TestConforms(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine {
		t.Helper()
		e := &late.Engine{}
		if err := e.Open(memory.New()); err != nil {
			t.Fatal(err)
		}
		return e
	})
}

func TestBeforeItIsOpen(t *testing.T) {
	e := &late.Engine{}
	if _, err := e.Get(t.Context(), "t", "k"); !errors.Is(err, late.ErrNotOpen) {
		t.Errorf("Get: %v", err)
	}
	if _, _, err := e.Commit(t.Context(), engine.Swap("t", "k", 0, nil)); !errors.Is(err, late.ErrNotOpen) {
		t.Errorf("Commit: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	inner := memory.New()
	if err := e.Open(inner); err != nil {
		t.Fatal(err)
	}
	if _, err := inner.Get(t.Context(), "t", "k"); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("what is opened after Close stays open: %v", err)
	}
	if _, _, err := e.Scan(t.Context(), "t", engine.Range{}, 1); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Scan: %v", err)
	}
}
