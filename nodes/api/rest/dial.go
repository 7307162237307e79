package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// Options of NewHTTPClient.
type Options struct {
	// DNS lists the deployment's name servers as address or address:port. Empty: the machine's resolver.
	DNS []string
	// Timeout is the longest a whole call may take; zero means 30 s. A context may shorten it.
	Timeout time.Duration
	// TLS is used for https URLs.
	TLS *tls.Config
}

// NewHTTPClient returns a client that keeps connections, and for every new one tries the addresses of the host in
// random order until one accepts, so that a node that is down costs a connection attempt and not a call.
func NewHTTPClient(o Options) *http.Client {
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	return &http.Client{Timeout: o.Timeout, Transport: &http.Transport{
		DialContext:           Dialer(o.DNS),
		TLSClientConfig:       o.TLS,
		MaxIdleConnsPerHost:   32,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: o.Timeout,
		ForceAttemptHTTP2:     true,
	}}
}

// Dialer returns a dial function that looks names up at the given name servers.
func Dialer(servers []string) func(ctx context.Context, network, address string) (net.Conn, error) {
	lookup := Lookup(servers)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("dialling %q: %w", address, err)
		}
		addresses, err := lookup(ctx, host)
		if err != nil {
			return nil, err
		}
		rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
		dialer := net.Dialer{Timeout: 2 * time.Second}
		var problems []error
		for _, a := range addresses {
			conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(a.String(), port))
			if err == nil {
				return conn, nil
			}
			problems = append(problems, err)
			if ctx.Err() != nil {
				break
			}
		}
		return nil, fmt.Errorf("connecting to %s: %w", address, errors.Join(problems...))
	}
}

// Lookup returns a function that finds the addresses of a name at the given name servers, each of which is
// address or address:port. An address as name is returned as it is.
func Lookup(servers []string) func(ctx context.Context, host string) ([]netip.Addr, error) {
	resolver := &net.Resolver{}
	if len(servers) > 0 {
		resolver.PreferGo = true
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, withPort(servers[rand.IntN(len(servers))], "53"))
		}
	}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		if a, err := netip.ParseAddr(host); err == nil {
			return []netip.Addr{a}, nil
		}
		name := host
		if len(servers) > 0 && name != "" && name[len(name)-1] != '.' {
			name += "." // the machine's search list is not the deployment's
		}
		addresses, err := resolver.LookupNetIP(ctx, "ip", name)
		if err != nil {
			return nil, fmt.Errorf("looking up %s: %w", host, err)
		}
		for i := range addresses {
			addresses[i] = addresses[i].Unmap()
		}
		return addresses, nil
	}
}

func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(address, port)
}
