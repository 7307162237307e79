package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
)

const (
	startLimit = 60 * time.Second // for a member to come up; a restarted one waits for the others' votes
	quotaBytes = 512 << 20        // configuration and registry are small
)

// Main is the child: it reads a Member from in and runs it until in ends (the parent closed it or died), ctx ends, or
// etcd fails.
func Main(ctx context.Context, in io.Reader) error {
	dec := json.NewDecoder(in)
	var m Member
	if err := dec.Decode(&m); err != nil {
		return fmt.Errorf("reading the member's settings: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		cancel()
	}()
	server, err := embed.StartEtcd(m.config())
	if err != nil {
		return fmt.Errorf("starting etcd: %w", err)
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case <-time.After(startLimit):
		return fmt.Errorf("etcd did not come up in %s", startLimit)
	case err := <-server.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-ctx.Done():
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-server.Server.StopNotify():
		return fmt.Errorf("etcd stopped by itself")
	case err := <-server.Err():
		return fmt.Errorf("etcd ended: %w", err)
	}
}

// config is the member's settings in etcd's terms.
func (m Member) config() *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = m.Name, m.data()
	c.ListenClientUrls, c.AdvertiseClientUrls = m.urls(m.ClientPort), m.urls(m.ClientPort)
	c.ListenPeerUrls, c.AdvertisePeerUrls = m.urls(m.PeerPort), m.urls(m.PeerPort)
	c.InitialCluster = m.Name + "=" + m.peerURL()
	if m.Initial != "" {
		c.InitialCluster = m.Initial
	}
	c.ForceNewCluster, c.MaxLearners = m.Force, maxLearners
	c.InitialClusterToken = m.Token
	c.ClusterState = embed.ClusterStateFlagExisting // refuses to found a cluster where the data is gone
	if m.New {
		c.ClusterState = embed.ClusterStateFlagNew
	}
	tls := transport.TLSInfo{CertFile: m.CertFile, KeyFile: m.KeyFile, TrustedCAFile: m.CAFile, ClientCertAuth: true}
	c.ClientTLSInfo, c.PeerTLSInfo = tls, tls
	c.PeerTLSInfo.AllowedHostnames = []string{m.PeerName}
	c.PeerTLSInfo.SkipClientSANVerify = true // the name above is asked for; a source address need not be the member's
	c.TlsMinVersion = "TLS1.3"
	c.EnableGRPCGateway = false
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, "1h"
	c.QuotaBackendBytes = quotaBytes
	c.LogLevel, c.LogOutputs = "error", []string{"stderr"} // its warnings tell of every slow disk sync
	return c
}
