package embedded_test

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/embedded"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/enginetest"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/engine/memory"
)

func open(t testing.TB, dir string, fs vfs.FS) engine.Engine {
	t.Helper()
	e, err := embedded.Open(embedded.Config{Dir: dir, FS: fs, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestConforms(t *testing.T) {
	enginetest.Run(t, func(t *testing.T) engine.Engine { t.Helper(); return open(t, t.TempDir(), vfs.Default) })
}

func TestEqualsMemory(t *testing.T) {
	fs, n := vfs.NewMem(), 0
	enginetest.Equal(t,
		func() (engine.Engine, engine.Engine) {
			n++
			return memory.New(), open(t, fmt.Sprint("db", n), fs)
		},
		func(b engine.Engine) engine.Engine {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, fmt.Sprint("db", n), fs)
		})
}

func TestCrash(t *testing.T) {
	for _, unsynced := range []int{0, 50, 100} { // per cent of the data not yet synced that the crash leaves
		t.Run(fmt.Sprint(unsynced), func(t *testing.T) {
			for seed := range uint64(5) {
				disk := vfs.NewCrashableMem()
				e := open(t, "db", disk)
				enginetest.Crash(t, e, func() engine.Engine {
					left := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: unsynced, RNG: rand.New(rand.NewPCG(seed, 1))})
					return open(t, "db", left)
				})
				if err := e.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestSecondProcessIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	e := open(t, dir, vfs.Default)
	if _, err := embedded.Open(embedded.Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("the same folder opened twice")
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, dir, vfs.Default).Close(); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkSwap(b *testing.B) {
	e := open(b, b.TempDir(), vfs.Default)
	defer func() { _ = e.Close() }()
	value := make([]byte, 600)
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		key, version := fmt.Sprint("key", n.Add(1)), uint64(0)
		for pb.Next() {
			v, done, err := e.Commit(b.Context(), engine.Swap("t", key, version, value))
			if err != nil || !done {
				b.Error(done, err)
				return
			}
			version = v
		}
	})
}
