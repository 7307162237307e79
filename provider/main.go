// Command terraform-provider-clearwater serves the provider to Terraform. With the word "supervise" and the path of a
// state folder it is the supervisor of a deployment on this machine instead.
package main

import (
	"context"
	"flag"
	"log"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/clearwater-ims/clearwater/provider/internal/platform/local"
	"github.com/clearwater-ims/clearwater/provider/internal/provider"
)

// version is set when the binary is built.
var version = "dev" //nolint:gochecknoglobals // the linker sets it

func main() {
	if len(os.Args) > 1 && os.Args[1] == provider.SuperviseCommand {
		os.Exit(local.Supervise(context.Background(), os.Args[2:], os.Stderr))
	}
	debug := flag.Bool("debug", false, "wait for a debugger")
	flag.Parse()
	err := providerserver.Serve(context.Background(), provider.New(version),
		providerserver.ServeOpts{Address: "registry.terraform.io/clearwater-ims/clearwater", Debug: *debug})
	if err != nil {
		log.Fatal(err)
	}
}
