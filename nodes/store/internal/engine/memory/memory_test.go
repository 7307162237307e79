package memory_test

import (
	"testing"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/enginetest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

func TestConforms(t *testing.T) {
	enginetest.Run(t, func(*testing.T) engine.Engine { return memory.New() })
}
