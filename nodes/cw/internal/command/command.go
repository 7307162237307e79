// Package command is the operator tool's commands. Each asks the deployment through its public APIs (management,
// provisioning, portal); none touches a node's files. Exit codes: 0 done, 1 failed or refused, 2 wrong usage.
package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/operator"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Environment is what a run of the tool has around it.
type Environment struct {
	Args   []string
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	Getenv func(string) string
	// ManagementPort of store nodes; 0 means the documented one.
	ManagementPort int
}

// errUsage marks mistakes in the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSilent ends a run with code 1 when everything has been said.
var errSilent = errors.New("failed")

// Run runs one command line and returns the exit code.
func Run(ctx context.Context, env Environment) int {
	t := &tool{Environment: env, in: bufio.NewReader(env.In)}
	root := t.root()
	root.SetArgs(env.Args)
	root.SetOut(env.Out)
	root.SetErr(env.Err)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSilent):
		return 1
	case errors.As(err, &usage), strings.HasPrefix(err.Error(), "unknown command"):
		_, _ = fmt.Fprintf(env.Err, "cw: %v\n", err)
		return 2
	default:
		_, _ = fmt.Fprintf(env.Err, "cw: %v\n", err)
		return 1
	}
}

// tool is one run.
type tool struct {
	Environment

	in         *bufio.Reader
	deployment string // path of cw.json or its folder
	configDir  string // configuration folder of a node
	site       string
	access     *operator.Access
}

func (t *tool) root() *cobra.Command {
	root := &cobra.Command{
		Use: "cw", Short: "Operate a Clearwater deployment", SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&t.deployment, "deployment", "", "file "+operator.File+" or its folder (default $CW_DEPLOYMENT, else "+operator.File+" here or in ~/.clearwater or /etc/clearwater)")
	flags.StringVar(&t.configDir, "config-dir", "", "configuration folder of a node, instead of --deployment")
	flags.StringVar(&t.site, "site", "", "site to work on, instead of the one in the file")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(t.configCommand(), t.clusterCommand(), t.backupCommand(), t.syncCommand(), t.userCommand(), t.numbersCommand(), t.accessCommand())
	return root
}

// group is a command that only has subcommands.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q for %q", args[0], c.CommandPath())}
		}
		return nil
	}, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(children...)
	return c
}

// args wraps a check of arguments so that its failure counts as wrong usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := check(c, given); err != nil {
			return usageError{fmt.Errorf("%w; usage: %s", err, c.UseLine())}
		}
		return nil
	}
}

func (t *tool) printf(format string, a ...any) { _, _ = fmt.Fprintf(t.Out, format, a...) }
func (t *tool) warnf(format string, a ...any)  { _, _ = fmt.Fprintf(t.Err, format, a...) }

// confirm asks a question; anything but y or yes means no.
func (t *tool) confirm(question string) bool {
	t.printf("%s [y/n] ", question)
	line, err := t.in.ReadString('\n')
	if err != nil && line == "" {
		t.printf("\n")
		return false
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes"
}

// open finds the deployment.
func (t *tool) open() (*operator.Access, error) {
	if t.access != nil {
		return t.access, nil
	}
	access, err := t.find()
	if err != nil {
		return nil, err
	}
	if t.site != "" {
		access.Site = t.site
	}
	t.access = access
	return access, nil
}

func (t *tool) find() (*operator.Access, error) {
	switch {
	case t.deployment != "" && t.configDir != "":
		return nil, usageError{errors.New("give --deployment or --config-dir, not both")}
	case t.configDir != "":
		return operator.OfNode(t.configDir)
	case t.deployment != "":
		return operator.Load(t.deployment)
	case t.Getenv("CW_DEPLOYMENT") != "":
		return operator.Load(t.Getenv("CW_DEPLOYMENT"))
	}
	places := []string{operator.File, filepath.Join(t.Getenv("HOME"), ".clearwater", operator.File), filepath.Join("/etc/clearwater", operator.File)}
	for _, path := range places {
		if _, err := os.Stat(path); err == nil {
			return operator.Load(path)
		}
	}
	return nil, usageError{fmt.Errorf("which deployment? Give --deployment or CW_DEPLOYMENT; there is none of %s", strings.Join(places, ", "))}
}

// store asks the store nodes in turn until one can be reached; an answer, even a refusal, ends the search.
func store[T any](ctx context.Context, t *tool, ask func(context.Context, *management.Client) (T, error)) (T, error) {
	var none T
	access, err := t.open()
	if err != nil {
		return none, err
	}
	conf, err := access.TLS(config.Store)
	if err != nil {
		return none, err
	}
	addresses, err := rest.Lookup(access.DNS)(ctx, access.StoreHost())
	if err != nil {
		return none, fmt.Errorf("finding the store nodes: %w", err)
	}
	port := t.ManagementPort
	if port == 0 {
		port = config.ManagementPort(config.Store)
	}
	var problems []error
	for _, a := range addresses {
		client := management.NewClient(net.JoinHostPort(a.String(), strconv.Itoa(port)), conf)
		answer, err := ask(ctx, client)
		client.Close()
		if err == nil {
			return answer, nil
		}
		if status := management.StatusOf(err); status != 0 && status != http.StatusServiceUnavailable {
			return none, err
		}
		problems = append(problems, err)
		if ctx.Err() != nil {
			break
		}
	}
	return none, fmt.Errorf("no store node of %s answers: %w", access.StoreHost(), errors.Join(problems...))
}

// options reads the shared configuration of the deployment.
func (t *tool) options(ctx context.Context) (*config.Options, error) {
	doc, err := store(ctx, t, func(ctx context.Context, c *management.Client) (*management.Document, error) {
		return c.Config(ctx, config.SharedFile)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the shared configuration: %w", err)
	}
	local := fmt.Sprintf("local_ip=127.0.0.1\npublic_ip=127.0.0.1\npublic_hostname=cw\nnode_role=portal\ndeployment_id=cw\nlocal_site_name=%s\ndns_zone=%s\n",
		t.access.Site, t.access.Zone)
	o, _, err := config.Parse(config.File{Name: config.LocalFile, Path: "cw", Text: local},
		config.File{Name: config.SharedFile, Path: config.SharedFile, Text: doc.Text})
	if err != nil {
		return nil, fmt.Errorf("reading the shared configuration: %w", err)
	}
	return o, nil
}

// httpClient reaches the deployment's public APIs through its name servers.
func (t *tool) httpClient() *http.Client {
	var dns []string
	if t.access != nil {
		dns = t.access.DNS
	}
	return rest.NewHTTPClient(rest.Options{DNS: dns})
}

// operatorName is who is at the keyboard, also behind sudo.
func (t *tool) operatorName() string {
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if v := t.Getenv(name); v != "" && !strings.ContainsAny(v, "/\x00") && v != "." && v != ".." {
			return v
		}
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}
