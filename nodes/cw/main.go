// Command cw is the operator's tool: configuration, cluster state, subscribers and numbers of a deployment. How it finds
// and enters a deployment is the file cw.json, which platforms write with nodes/api/operator.Write.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/clearwater-ims/clearwater/nodes/cw/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, command.Environment{
		Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv,
	})
	stop()
	os.Exit(code)
}
