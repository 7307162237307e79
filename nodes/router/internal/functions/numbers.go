package functions

import (
	"context"
	"log/slog"
	"os"
	"sync"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/internal/enum"
	"github.com/clearwater-ims/clearwater/nodes/internal/sip"
	"github.com/clearwater-ims/clearwater/nodes/router/internal/network"
)

// Translator translates URIs that are telephone numbers; it is enum.Client but in tests.
type Translator interface {
	Translate(ctx context.Context, u sip.URI) (translation sip.URI, ok bool, err error)
}

// numbers translates the numbers that this deployment is asked for: tel: URIs and sip: ones of its own domains. Numbers of
// other domains are theirs to translate.
type numbers struct {
	client     *enum.Client
	translator Translator
	names      func() *network.Names
	log        *slog.Logger

	mu       sync.Mutex
	document string // enum_json
	file     string // the text of enum_file
}

func newNumbers(deps Deps, names func() *network.Names) *numbers {
	client, err := enum.New(enum.Config{}, enum.Deps{Now: deps.Now, Metrics: deps.Metrics})
	if err != nil {
		deps.Log.Error("ENUM does not start", "error", err) // no servers are given, so there is nothing that could be wrong
	}
	n := &numbers{client: client, translator: deps.Enum, names: names, log: deps.Log}
	if n.translator == nil {
		n.translator = client
	}
	return n
}

// Translate implements the interfaces of the functions.
func (n *numbers) Translate(ctx context.Context, u sip.URI) (sip.URI, bool, error) {
	if names := n.names(); u.Scheme != "tel" && !names.Home(u.Host) && !names.Here(u.Host) {
		return u, false, nil
	}
	return n.translator.Translate(ctx, u)
}

// setOptions takes changed options and reads enum_file again.
func (n *numbers) setOptions(o *config.Options) {
	err := n.client.SetConfig(enum.Config{Servers: o.ENUMServers, Suffix: o.ENUMSuffix, Share: o.ENUMShare,
		Policy: enum.Policy{UserPhone: o.EnforceUserPhone, GlobalOnly: o.EnforceGlobalOnly, OverrideNPDI: o.OverrideNPDI}})
	if err != nil {
		n.log.Error("ENUM options are refused, the old ones stay in force", "error", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	text := ""
	if o.ENUMFile != "" {
		bytes, err := os.ReadFile(o.ENUMFile)
		if err != nil {
			n.log.Warn("enum_file cannot be read; the document enum_json is used if there is one", "error", err)
		}
		text = string(bytes)
	}
	if n.file = text; n.document != "" {
		return
	}
	if err := n.client.SetFile(text); err != nil {
		n.log.Error("enum_file is refused, the old rules stay in force", "path", o.ENUMFile, "error", err)
	}
}

// SetEnum takes enum_json, which goes before enum_file; without it ("") that is in force again. Both count only if
// enum_server is not set. A document that does not parse leaves the old one in force.
func (r *Router) SetEnum(text string) error {
	n := r.numbers
	n.mu.Lock()
	defer n.mu.Unlock()
	rules := text
	if text == "" {
		rules = n.file
	}
	if err := n.client.SetFile(rules); err != nil {
		return err
	}
	n.document = text
	return nil
}
