// Package etcd runs this node's member of the site's etcd as a child process of the same binary: the store starts and
// restarts it (Supervisor), the hidden command "store etcd" is it (Main). Membership decides whether this node runs one
// at all: a site has 1, 3 or 5 voting members, its further store nodes are clients. A member that once was in a cluster
// comes back from its data folder; a new cluster is made only when an order says so, never by itself.
package etcd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
)

// Command is the argument that makes the store binary an etcd member.
const Command = "etcd"

// Member is how a member runs; the parent passes it to the child as JSON.
type Member struct {
	Name       string `json:"name"`    // store-1.site1
	Token      string `json:"token"`   // keeps clusters of different sites apart
	Address    string `json:"address"` // listened on and advertised
	ClientPort int    `json:"client_port"`
	PeerPort   int    `json:"peer_port"`
	Directory  string `json:"directory"` // of the member's data
	CertFile   string `json:"cert_file"`
	KeyFile    string `json:"key_file"`
	CAFile     string `json:"ca_file"`
	PeerName   string `json:"peer_name"` // DNS name that certificates of members hold
	New        bool   `json:"new"`       // found a cluster of this one member if the folder holds none
	Initial    string `json:"initial"`   // name=peer URL of all members, when joining an existing cluster
	Force      bool   `json:"force"`     // go on alone from what the folder holds: the others are lost
}

// Client is the address of the member for clients.
func (m Member) Client() string { return net.JoinHostPort(m.Address, strconv.Itoa(m.ClientPort)) }

func (m Member) urls(port int) []url.URL {
	return []url.URL{{Scheme: "https", Host: net.JoinHostPort(m.Address, strconv.Itoa(port))}}
}

func (m Member) data() string { return filepath.Join(m.Directory, "data") }

// peerURL names the member to the others.
func (m Member) peerURL() string { return m.urls(m.PeerPort)[0].String() }

// hasData tells whether the member has ever run.
func (m Member) hasData() bool {
	_, err := os.Stat(filepath.Join(m.data(), "member", "wal"))
	return err == nil
}

// wipe removes what a member that is in no cluster any more has left.
func (m Member) wipe() error {
	if err := os.RemoveAll(m.data()); err != nil {
		return fmt.Errorf("removing the data of a former etcd member: %w", err)
	}
	return nil
}

// Kinds of belonging to a cluster.
const (
	kindMember = ""       // this node runs a member
	kindClient = "client" // it does not: others do
)

// Founded is what is kept of a cluster that this node belongs to.
type Founded struct {
	ClusterID string `json:"cluster_id"`
	Kind      string `json:"kind,omitempty"`
	Initial   string `json:"initial,omitempty"` // of a member that is joining
}

func (m Member) foundedFile() string { return filepath.Join(m.Directory, "cluster.json") }

// Founded returns the cluster that this node belongs to, false when it was never bootstrapped to the end.
func (m Member) Founded() (Founded, bool, error) {
	text, err := os.ReadFile(m.foundedFile())
	if errors.Is(err, os.ErrNotExist) {
		return Founded{}, false, nil
	}
	var f Founded
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return Founded{}, false, fmt.Errorf("reading the cluster of this node: %w", err)
	}
	return f, true, nil
}

// SetFounded records that this node belongs to a cluster: from now on it starts by itself, and only from its data.
func (m Member) SetFounded(f Founded) error {
	text, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("recording the cluster of this node: %w", err)
	}
	if err := os.MkdirAll(m.Directory, 0o700); err != nil {
		return fmt.Errorf("recording the cluster of this node: %w", err)
	}
	if err := writeFile(m.foundedFile(), text); err != nil {
		return fmt.Errorf("recording the cluster of this node: %w", err)
	}
	return nil
}

// writeFile replaces a file whole or not at all, on disk when it returns.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
