package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/operator"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
)

type accessOptions struct {
	ca, zone, out string
	dns           []string
	portalPort    int
	lifetime      time.Duration
}

func (t *tool) accessCommand() *cobra.Command {
	var o accessOptions
	create := &cobra.Command{
		Use:   "create --ca FILE --zone ZONE --dns ADDRESS [--out FOLDER]",
		Short: "Issue an operator certificate from the deployment CA and write the folder that --deployment takes",
		Args:  args(cobra.NoArgs), RunE: func(*cobra.Command, []string) error { return t.accessCreate(o) },
	}
	flags := create.Flags()
	flags.StringVar(&o.ca, "ca", "", "file with certificate and key of the deployment CA, as the platform's secret store holds it (the local platform: <state folder>/secrets/ca)")
	flags.StringVar(&o.zone, "zone", "", "DNS zone of the deployment")
	flags.StringSliceVar(&o.dns, "dns", nil, "name servers of the zone, address or address:port (default: the machine's)")
	flags.IntVar(&o.portalPort, "portal-http-port", 0, "where the portal listens, if not on 80")
	flags.DurationVar(&o.lifetime, "lifetime", 30*24*time.Hour, "of the certificate")
	flags.StringVar(&o.out, "out", "", "folder (default ~/.clearwater)")
	return group("access", "Credentials of the operator", create)
}

func (t *tool) accessCreate(o accessOptions) error {
	if o.ca == "" || o.zone == "" {
		return usageError{errors.New("--ca and --zone are needed")}
	}
	if o.out == "" {
		home := t.Getenv("HOME")
		if home == "" {
			return usageError{errors.New("HOME is not set: give --out")}
		}
		o.out = filepath.Join(home, ".clearwater")
	}
	text, err := os.ReadFile(o.ca)
	if err != nil {
		return fmt.Errorf("reading the deployment CA: %w", err)
	}
	at := bytes.Index(text, []byte("-----BEGIN PRIVATE KEY-----"))
	if at < 0 {
		return fmt.Errorf("reading the deployment CA: %s holds no private key", o.ca)
	}
	authority, err := pki.ParseAuthority(text[:at], text[at:])
	if err != nil {
		return fmt.Errorf("%s: %w", o.ca, err)
	}
	chain, key, err := authority.Issue(pki.Subject{Name: t.operatorName(), Role: pki.RoleOperator}, o.lifetime)
	if err != nil {
		return fmt.Errorf("issuing the operator's certificate: %w", err)
	}
	site := t.site
	if site == "" {
		site = "site1"
	}
	access := operator.Access{Zone: o.zone, Site: site, DNS: o.dns, PortalHTTPPort: o.portalPort}
	if err := operator.Write(o.out, access, authority.CertificatePEM(), chain, key); err != nil {
		return err //nolint:wrapcheck // it says what it did
	}
	if _, err := operator.Load(o.out); err != nil {
		return err //nolint:wrapcheck // it says what it did
	}
	t.printf("%s is good for %s: use it with --deployment %s or CW_DEPLOYMENT\n", filepath.Join(o.out, operator.File), o.lifetime, o.out)
	return nil
}
