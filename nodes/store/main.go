// Command store is the node that keeps all long-lived state of its site: registrations, timers and the records of
// other roles in its engine, and the site's etcd with configuration and membership. The other roles reach it through
// their clients; nothing else in the system keeps state that outlives a process.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/service"
	"github.com/clearwater-ims/clearwater/nodes/store/internal/etcd"
)

func main() { run(openEngine) }

// run is this node, or its etcd member when it is started as that.
func run(open openFunc) {
	if len(os.Args) > 1 && os.Args[1] == etcd.Command {
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // the parent decides when it ends
		if err := etcd.Main(context.Background(), os.Stdin); err != nil {
			_, _ = fmt.Fprintln(os.Stderr, "etcd:", err)
			os.Exit(1)
		}
		return
	}
	b := newBootstrap(open)
	service.Main(config.Store, b.start, service.WithBootstrap(b.bootstrap), service.WithoutSharedConfig())
}
