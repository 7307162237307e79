package identity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/clearwater-ims/clearwater/nodes/api/management"
	"github.com/clearwater-ims/clearwater/nodes/api/pki"
	"github.com/clearwater-ims/clearwater/nodes/config"
)

const (
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	lastRenew  = 5 * time.Minute // between attempts to renew
)

// Join gets the node's first certificate from a store node, against the token. It tries until it has one (from
// here or elsewhere, see SignWith) or ctx ends. Without a token it waits for that.
func (i *Identity) Join(ctx context.Context) error {
	retry := firstRetry
	for {
		select {
		case <-i.joined:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("joining the deployment: %w", ctx.Err())
		default:
		}
		if i.cfg.Token == "" {
			select {
			case <-i.joined:
			case <-ctx.Done():
			}
			continue
		}
		err := i.joinOnce(ctx)
		if err == nil {
			i.deps.Log.Info("joined the deployment", "name", i.cfg.Name)
			return nil
		}
		i.deps.Log.Info("could not join yet, trying again", "error", err, "in", retry.String())
		i.wait(ctx, retry)
		retry = min(retry*2, lastRetry)
	}
}

// wait sleeps for about d, less if the node joined or ctx ended.
func (i *Identity) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d/2 + rand.N(d)) //nolint:gosec // spreads attempts
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-i.joined:
	}
}

func (i *Identity) joinOnce(ctx context.Context) error {
	csr, key, err := i.joinRequest()
	if err != nil {
		return err
	}
	conf := pki.ClientTLS(i.roots, nil, string(config.Store))
	signers, err := i.deps.Signers(ctx, conf)
	if err != nil {
		return fmt.Errorf("finding a store node: %w", err)
	}
	return i.ask(signers, key, func(s Signer) (*management.JoinResponse, error) {
		return s.Join(ctx, management.JoinRequest{Name: i.cfg.Name, Token: i.cfg.Token, CSR: string(csr)})
	})
}

// joinRequest makes the key on the first attempt and keeps it for all others, also over a restart: the store binds
// the token to the key, so that a node whose answer was lost may ask again, and nobody else may.
func (i *Identity) joinRequest() (csr, key []byte, err error) {
	_, keyPath := i.Files()
	if key, err = os.ReadFile(keyPath + newSuffix); err == nil {
		if csr, err = pki.Request(i.cfg.Name, key); err == nil {
			return csr, key, nil
		}
		i.deps.Log.Warn("the key of an earlier attempt to join cannot be used", "error", err)
	}
	if csr, key, err = pki.NewRequest(i.cfg.Name); err != nil {
		return nil, nil, err
	}
	if err := replaceFile(keyPath+newSuffix, key, 0o600); err != nil {
		return nil, nil, fmt.Errorf("storing the node's key: %w", err)
	}
	return csr, key, nil
}

// ask tries signers in turn and installs the first certificate.
func (i *Identity) ask(signers []Signer, key []byte, request func(Signer) (*management.JoinResponse, error)) error {
	errs := []error{errors.New("no store node signed a certificate")}
	for _, s := range signers {
		resp, err := request(s)
		if err == nil {
			return i.install([]byte(resp.Certificate), key)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Run renews the certificate when two thirds of its life are over, again and again until ctx ends.
func (i *Identity) Run(ctx context.Context) error {
	select {
	case <-i.joined:
	case <-ctx.Done():
		return nil
	}
	retry := firstRetry
	for {
		timer := time.NewTimer(max(i.renewAt().Sub(i.deps.Now()), retry))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		if err := i.renew(ctx); err != nil {
			if ctx.Err() == nil {
				i.deps.Log.Warn("renewing the certificate", "error", err, "expires", i.expires())
			}
			retry = min(retry*2, lastRenew)
			continue
		}
		retry = firstRetry
		i.deps.Log.Info("renewed the certificate", "expires", i.expires())
	}
}

func (i *Identity) renewAt() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.leaf.NotBefore.Add(i.leaf.NotAfter.Sub(i.leaf.NotBefore) * 2 / 3)
}

func (i *Identity) expires() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.leaf.NotAfter
}

func (i *Identity) renew(ctx context.Context) error {
	csr, key, err := pki.NewRequest(i.cfg.Name)
	if err != nil {
		return err
	}
	signers, err := i.deps.Signers(ctx, i.Client(config.Store))
	if err != nil {
		return fmt.Errorf("finding a store node: %w", err)
	}
	return i.ask(signers, key, func(s Signer) (*management.JoinResponse, error) {
		return s.Renew(ctx, management.RenewRequest{CSR: string(csr)})
	})
}
