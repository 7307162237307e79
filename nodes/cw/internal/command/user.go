package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/clearwater-ims/clearwater/nodes/api/provisioning"
	"github.com/clearwater-ims/clearwater/nodes/api/rest"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

// userOptions are the flags of the user commands, named as the manual names them.
type userOptions struct {
	hsprov               string
	keepGoing, plaintext bool
	quiet, short, force  bool
	prompt               bool
	ifc, prefix          string
	password             string
	full                 bool
	pace                 int
	card                 provisioning.AKA
}

func (t *tool) userCommand() *cobra.Command {
	var o userOptions
	create := &cobra.Command{Use: "create DN[..DN] DOMAIN [PASSWORD]", Short: "Create users; the public id is sip:DN@DOMAIN", Args: args(cobra.RangeArgs(2, 3)),
		RunE: func(c *cobra.Command, a []string) error { return t.userCreate(c.Context(), a, o) }}
	update := &cobra.Command{Use: "update DN[..DN] DOMAIN", Short: "Change users' passwords or filter criteria", Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, a []string) error { return t.userUpdate(c.Context(), a, o) }}
	remove := &cobra.Command{Use: "delete DN[..DN] DOMAIN", Short: "Delete users", Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, a []string) error { return t.userDelete(c.Context(), a, o) }}
	display := &cobra.Command{Use: "display DN[..DN] DOMAIN", Short: "Show users", Args: args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, a []string) error { return t.userDisplay(c.Context(), a, o) }}
	list := &cobra.Command{Use: "list", Short: "List all users", Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return t.userList(c.Context(), o) }}
	for _, c := range []*cobra.Command{create, update, remove, display, list} {
		c.Flags().StringVar(&o.hsprov, "hsprov", "", "address and port of the provisioning API (default: of the deployment)")
	}
	for _, c := range []*cobra.Command{create, update, display, list} {
		c.Flags().BoolVarP(&o.keepGoing, "keep-going", "k", false, "keep going on errors")
	}
	for _, c := range []*cobra.Command{create, update} {
		c.Flags().BoolVar(&o.plaintext, "plaintext", false, "store the password in plaintext")
		c.Flags().StringVar(&o.ifc, "ifc", "", "XML file with the filter criteria; {dn}, {domain} and {prefix} in it are filled in")
		c.Flags().StringVar(&o.prefix, "prefix", "123", "twin prefix")
		c.Flags().BoolVar(&o.prompt, "prompt", false, "ask for the password")
		c.Flags().StringVar(&o.card.K, "aka-k", "", "key K of the user's card, 32 hexadecimal digits")
		c.Flags().StringVar(&o.card.OPc, "aka-opc", "", "OPc of the card, 32 hexadecimal digits")
		c.Flags().StringVar(&o.card.OP, "aka-op", "", "the operator's OP, instead of --aka-opc")
		c.Flags().StringVar(&o.card.AMF, "aka-amf", "", "AMF, 4 hexadecimal digits (default 8000)")
	}
	update.Flags().StringVar(&o.password, "password", "", "new password")
	for _, c := range []*cobra.Command{update, remove, display} {
		c.Flags().BoolVarP(&o.quiet, "quiet", "q", false, map[*cobra.Command]string{
			update: "do not show the user", remove: "do not show errors that --force goes past", display: "do not show errors that --keep-going goes past"}[c])
	}
	remove.Flags().BoolVarP(&o.force, "force", "f", false, "proceed in the face of errors")
	display.Flags().BoolVarP(&o.short, "short", "s", false, "less verbose display")
	list.Flags().BoolVar(&o.full, "full", false, "show full information for each user")
	list.Flags().IntVar(&o.pace, "pace", 0, "users to list per second (default 500, with --full 5)")
	list.Flags().BoolVarP(&o.force, "force", "f", false, "use the pace without asking")
	return group("user", "Subscribers of the deployment", create, update, remove, display, list)
}

// provisioning finds the provisioning API.
func (t *tool) provisioning(ctx context.Context, o userOptions) (*provisioning.Client, error) {
	target := o.hsprov
	if target == "" {
		options, err := t.options(ctx)
		if err != nil {
			return nil, err
		}
		target = options.HSSProvisioning
	} else if t.deployment != "" || t.configDir != "" {
		if _, err := t.open(); err != nil { // for its name servers
			return nil, err
		}
	}
	if _, _, err := net.SplitHostPort(target); err != nil {
		target = net.JoinHostPort(target, strconv.Itoa(config.PortProvisioning))
	}
	return provisioning.New("http://"+target, t.httpClient()), nil
}

var (
	numberPattern = regexp.MustCompile(`^[A-Za-z0-9+._-]{1,64}$`)
	domainPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$`)
)

// maxRange is how many users one command works on; the manual asks to use bulk provisioning for many.
const maxRange = 1_000_000

// numbersOf expands DN or DN..DN. The ends of a range have the same length, so that leading zeros are kept.
func numbersOf(text string) ([]string, error) {
	first, last, isRange := strings.Cut(text, "..")
	if !isRange {
		if !numberPattern.MatchString(text) {
			return nil, usageError{fmt.Errorf("%q is not a directory number", text)}
		}
		return []string{text}, nil
	}
	plus := ""
	if rest, ok := strings.CutPrefix(first, "+"); ok {
		plus, first, last = "+", rest, strings.TrimPrefix(last, "+")
	}
	from, err1 := strconv.ParseUint(first, 10, 63)
	to, err2 := strconv.ParseUint(last, 10, 63)
	if err1 != nil || err2 != nil || len(first) != len(last) || from > to {
		return nil, usageError{fmt.Errorf("%q is not a range of directory numbers: two numbers of the same length, the smaller first", text)}
	}
	if to-from >= maxRange {
		return nil, usageError{fmt.Errorf("%q has more than %d numbers", text, maxRange)}
	}
	out := make([]string, 0, to-from+1)
	for n := from; n <= to; n++ {
		out = append(out, fmt.Sprintf("%s%0*d", plus, len(first), n))
	}
	return out, nil
}

// each runs work for every number of a command line. An error ends it unless keepGoing; then it is shown and the command
// fails in the end.
func (t *tool) each(ctx context.Context, a []string, keepGoing, quiet bool, work func(dn, uri string) error) error {
	numbers, err := numbersOf(a[0])
	if err != nil {
		return err
	}
	if !domainPattern.MatchString(a[1]) {
		return usageError{fmt.Errorf("%q is not a domain", a[1])}
	}
	failed := 0
	for _, dn := range numbers {
		if ctx.Err() != nil {
			return ctx.Err() //nolint:wrapcheck // interrupted
		}
		if err := work(dn, "sip:"+dn+"@"+a[1]); err != nil {
			if !keepGoing {
				return err
			}
			failed++
			if !quiet {
				t.warnf("cw: %v\n", err)
			}
		}
	}
	if failed > 0 && !quiet {
		t.warnf("cw: %d of %d failed\n", failed, len(numbers))
	}
	if failed > 0 {
		return errSilent
	}
	return nil
}

// filterCriteria reads the --ifc file for one user; "" without one.
func filterCriteria(o userOptions, dn, domain string) (string, error) {
	if o.ifc == "" {
		return "", nil
	}
	text, err := os.ReadFile(o.ifc)
	if err != nil {
		return "", fmt.Errorf("reading filter criteria: %w", err)
	}
	return strings.NewReplacer("{dn}", dn, "{domain}", domain, "{prefix}", o.prefix).Replace(string(text)), nil
}

var (
	keyPattern = regexp.MustCompile(`^[0-9A-Fa-f]{32}$`)
	amfPattern = regexp.MustCompile(`^[0-9A-Fa-f]{4}$`)
)

// checkCard checks the --aka options. A card is one user's: two with one key could answer for each other.
func checkCard(c provisioning.AKA, numbers string) error {
	if c == (provisioning.AKA{}) {
		return nil
	}
	switch {
	case c.K == "" || (c.OP == "") == (c.OPc == ""):
		return usageError{errors.New("a card needs --aka-k and either --aka-opc or --aka-op")}
	case !keyPattern.MatchString(c.K) || !keyPattern.MatchString(c.OP+c.OPc):
		return usageError{errors.New("--aka-k, --aka-opc and --aka-op are 32 hexadecimal digits")}
	case c.AMF != "" && !amfPattern.MatchString(c.AMF):
		return usageError{errors.New("--aka-amf is 4 hexadecimal digits")}
	case strings.Contains(numbers, ".."):
		return usageError{errors.New("a card is for one user, not for a range")}
	}
	return nil
}

func (t *tool) userCreate(ctx context.Context, a []string, o userOptions) error {
	if err := checkCard(o.card, a[0]); err != nil {
		return err
	}
	noPassword := o.card.K != "" && len(a) == 2 && !o.prompt // a card is enough
	switch {
	case noPassword:
	case len(a) == 3 && !o.prompt:
		o.password = a[2]
	default:
		var err error
		if o.password, err = t.askPassword(); err != nil {
			return err
		}
	}
	if o.password == "" && !noPassword {
		return usageError{errors.New("the password is empty")}
	}
	if o.plaintext && noPassword {
		return usageError{errors.New("--plaintext needs a password")}
	}
	c, err := t.provisioning(ctx, o)
	if err != nil {
		return err
	}
	return t.each(ctx, a, o.keepGoing, false, func(dn, uri string) error {
		if _, err := c.PublicProfile(ctx, uri); err == nil {
			return fmt.Errorf("%s exists already: use cw user update", uri)
		} else if !rest.IsNotFound(err) {
			return err //nolint:wrapcheck // it says what it did
		}
		criteria, err := filterCriteria(o, dn, a[1])
		if err != nil {
			return err
		}
		err = c.CreateSubscriber(ctx, provisioning.Subscriber{
			PublicIDs: []string{uri}, PrivateID: provisioning.PrivateIDOf(uri), Realm: a[1],
			Password: o.password, StorePlaintext: o.plaintext, AKA: o.card, FilterCriteria: criteria,
		})
		if err == nil {
			t.printf("Created user %s\n", uri)
		}
		return err //nolint:wrapcheck // it names the subscriber
	})
}

func (t *tool) userUpdate(ctx context.Context, a []string, o userOptions) error {
	if o.prompt {
		var err error
		if o.password, err = t.askPassword(); err != nil {
			return err
		}
	}
	if err := checkCard(o.card, a[0]); err != nil {
		return err
	}
	if o.password == "" && o.ifc == "" && o.card.K == "" {
		return usageError{errors.New("nothing to change: give --password, --prompt, --aka-k or --ifc")}
	}
	if o.plaintext && o.password == "" {
		return usageError{errors.New("--plaintext needs a password")}
	}
	c, err := t.provisioning(ctx, o)
	if err != nil {
		return err
	}
	return t.each(ctx, a, o.keepGoing, false, func(dn, uri string) error {
		s, err := c.GetSubscriber(ctx, uri)
		if err != nil {
			return err //nolint:wrapcheck // it names the subscriber
		}
		criteria, err := filterCriteria(o, dn, a[1])
		if err != nil {
			return err
		}
		change := provisioning.Subscriber{
			PublicIDs: s.PublicIDs, PrivateID: s.PrivateID, Realm: s.Realm,
			Password: o.password, StorePlaintext: o.plaintext, AKA: o.card, FilterCriteria: criteria,
		}
		if err := c.UpdateSubscriber(ctx, change); err != nil {
			return err //nolint:wrapcheck // it names the subscriber
		}
		t.printf("Updated user %s\n", uri)
		if o.quiet {
			return nil
		}
		return t.show(ctx, c, uri, false)
	})
}

func (t *tool) userDelete(ctx context.Context, a []string, o userOptions) error {
	c, err := t.provisioning(ctx, o)
	if err != nil {
		return err
	}
	return t.each(ctx, a, o.force, o.quiet, func(_, uri string) error {
		_, missing := c.PublicProfile(ctx, uri)
		if missing != nil && (!rest.IsNotFound(missing) || !o.force) {
			return missing
		}
		// With --force a half deleted user goes too, by its derived private identity.
		if err := c.DeleteSubscriber(ctx, uri, provisioning.PrivateIDOf(uri)); err != nil {
			return err //nolint:wrapcheck // it names the subscriber
		}
		if missing != nil {
			return missing
		}
		t.printf("Deleted user %s\n", uri)
		return nil
	})
}

func (t *tool) userDisplay(ctx context.Context, a []string, o userOptions) error {
	c, err := t.provisioning(ctx, o)
	if err != nil {
		return err
	}
	return t.each(ctx, a, o.keepGoing, o.quiet, func(_, uri string) error { return t.show(ctx, c, uri, o.short) })
}

// show prints one user.
func (t *tool) show(ctx context.Context, c *provisioning.Client, uri string, short bool) error {
	s, err := c.GetSubscriber(ctx, uri)
	if err != nil {
		return err //nolint:wrapcheck // it names the subscriber
	}
	t.printf("Public user identities: %s\nPrivate user identities: %s\n", strings.Join(s.PublicIDs, ", "), strings.Join(s.PrivateIDs, ", "))
	if short {
		return nil
	}
	t.printf("  Realm: %s\n  HA1 digest: %s\n", orDash(s.Realm), orDash(s.DigestHA1))
	if s.Password != "" {
		t.printf("  Password: %s\n", s.Password)
	}
	if s.HasAKA {
		t.printf("  AKA: yes\n")
	}
	t.printf("  Registration set: %s\n  Service profile: %s\n  Filter criteria:\n", s.Profile.RegistrationSet, s.Profile.ID)
	for _, l := range lines(s.FilterCriteria) {
		t.printf("    %s\n", l)
	}
	return nil
}
