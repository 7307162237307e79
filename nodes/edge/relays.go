package main

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/config"
	"github.com/clearwater-ims/clearwater/nodes/edge/internal/turn"
)

// newTURN makes the STUN and TURN server, if the options want one.
func newTURN(ctx context.Context, o *config.Options, p parts, certificate *certificate) (*turn.Server, error) {
	if o.TURNPort == 0 || p.subscribers == nil {
		return nil, nil //nolint:nilnil // none is wanted
	}
	relay, public := ipv4(o.LocalIP), ipv4(o.PublicIP)
	if !relay.IsValid() || !public.IsValid() {
		p.log.Warn("no TURN: local_ip and public_ip must be IPv4 for it, which is what media is relayed on")
		return nil, nil //nolint:nilnil // none can be had
	}
	cfg := turn.Config{
		Listen: accessAddrs(o), Port: o.TURNPort, TLSPort: o.TURNTLSPort, Relay: relay, Public: public, Realm: o.HomeDomain,
		TLS:     &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.get},
		MinPort: min(o.TURNMinPort, o.TURNMaxPort), MaxPort: max(o.TURNMinPort, o.TURNMaxPort),
	}
	if o.TURNTLSPort == 0 {
		cfg.TLSPort = -1
	}
	for _, text := range []string{o.LocalIP, o.PublicIP, o.LocalIPv6, o.PublicIPv6, o.ManagementLocalIP} {
		if a, err := netip.ParseAddr(text); err == nil {
			cfg.Own = append(cfg.Own, a.Unmap())
		}
	}
	return turn.New(ctx, cfg, turn.Deps{
		Subscribers: p.subscribers, Limits: (&currentLimits{options: p.options}).get, Now: time.Now, Log: p.log, Metrics: p.metrics,
	})
}

func ipv4(text string) netip.Addr {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Unmap().Is4() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// currentLimits reads the options once for each version of them: it is asked for every packet.
type currentLimits struct {
	options func() *config.Options
	last    atomic.Pointer[versionLimits]
}

type versionLimits struct {
	of     *config.Options
	limits turn.Limits
}

func (c *currentLimits) get() turn.Limits {
	o, last := c.options(), c.last.Load()
	if last == nil || last.of != o {
		last = &versionLimits{o, limits(o)}
		c.last.Store(last)
	}
	return last.limits
}

// limits reads what may change while the server runs.
func limits(o *config.Options) turn.Limits {
	prefixes := func(texts []string) (out []netip.Prefix) {
		for _, text := range texts {
			if p, err := netip.ParsePrefix(text); err == nil {
				out = append(out, p.Masked())
			}
		}
		return out
	}
	return turn.Limits{
		Workaround: o.TURNWorkaround, Secret: o.TURNSecret, Denied: prefixes(o.TURNDenied), Allowed: prefixes(o.TURNAllowed),
		PerUser: o.TURNPerUser, Total: o.TURNTotal, Bandwidth: o.TURNBandwidth * 1000 / 8,
	}
}
