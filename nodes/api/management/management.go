// Package management is the API by which the provider and cw steer a node: status, drain, bootstrap, join,
// configuration and cluster. It is HTTPS with mutual TLS on config.ManagementPort. This file holds the wire
// types; client.go the client. It opens no listener.
package management

import "time"

// State of a node in the cluster's registry.
type State string

// States in the order a node passes through them.
const (
	Unjoined State = "unjoined" // has a token, no certificate
	Joining  State = "joining"
	Ready    State = "ready"
	Draining State = "draining"
	Drained  State = "drained" // nothing left to serve
	Failed   State = "failed"
)

// Status is GET /v1/status.
type Status struct {
	Name        string           `json:"name"` // edge-1.site1
	Role        string           `json:"role"`
	Site        string           `json:"site"`
	Version     string           `json:"version"`
	Digest      string           `json:"digest"`      // of the binary
	Incarnation string           `json:"incarnation"` // of the machine, from local_config
	State       State            `json:"state"`
	Reasons     []string         `json:"reasons,omitempty"` // why it is not ready
	Held        map[string]int64 `json:"held,omitempty"`    // what a drain waits for: transactions, flows, dialogs, ...
	StartedAt   time.Time        `json:"started_at"`
	ClusterID   string           `json:"cluster_id,omitempty"` // store nodes: etcd cluster id once bootstrapped
	Restart     []string         `json:"restart,omitempty"`    // options whose change takes effect when the node restarts
}

// DrainRequest is POST /v1/drain. Deadline zero means: as long as it takes. Undo with DELETE /v1/drain.
type DrainRequest struct {
	DeadlineSeconds int `json:"deadline_seconds,omitempty"`
	// Decommission: the node does not come back. A store node hands its data and its part of the cluster over.
	Decommission bool `json:"decommission,omitempty"`
}

// BootstrapRequest is POST /v1/bootstrap on an unjoined store node: it becomes the first member of a new cluster.
// The connection is not yet mutually authenticated, so both sides prove the join token on it (pki.Prove): first the
// node, in the answer to GET /v1/bootstrap, and only then, on the same connection, the caller, who sends secrets.
type BootstrapRequest struct {
	Proof        string            `json:"proof"`
	SiteCA       string            `json:"site_ca"`     // PEM, signed by the deployment CA
	SiteCAKey    string            `json:"site_ca_key"` // PEM
	SharedConfig map[string]string `json:"shared_config"`
}

// BootstrapResponse answers GET with Proof, POST with both.
type BootstrapResponse struct {
	Proof     string `json:"proof"`
	ClusterID string `json:"cluster_id,omitempty"`
}

// Token is PUT /v1/tokens/<node name> on a store node: that node may join once.
type Token struct {
	SHA256    string    `json:"sha256"` // hex of the token's digest
	Role      string    `json:"role"`
	Addresses []string  `json:"addresses"` // that its certificate may name
	ExpiresAt time.Time `json:"expires_at"`
}

// JoinRequest is POST /v1/join on a store node, from a node that has only its token. No client certificate.
type JoinRequest struct {
	Name  string `json:"name"`
	Token string `json:"token"`
	CSR   string `json:"csr"` // PEM
}

// RenewRequest is POST /v1/renew on a store node, with mutual TLS: a further certificate with the name, role and
// addresses of the one that the caller shows.
type RenewRequest struct {
	CSR string `json:"csr"` // PEM
}

// JoinResponse carries the signed certificate and its chain up to the site CA.
type JoinResponse struct {
	Certificate string `json:"certificate"` // PEM chain, leaf first
}

// Document is GET /v1/config/<type>; PUT takes Text and Revision (0 = must not exist) and is a compare-and-swap:
// 409 when somebody else changed it, 422 when it does not validate.
type Document struct {
	Type      string    `json:"type"`
	Text      string    `json:"text"`
	Revision  int64     `json:"revision"`
	Author    string    `json:"author,omitempty"`
	ChangedAt time.Time `json:"changed_at,omitzero"`
	Warnings  []string  `json:"warnings,omitempty"` // of a PUT: unknown options with the nearest known
}

// AuthorityResponse answers POST /v1/authority, for store nodes only: the site CA with which they sign.
type AuthorityResponse struct {
	Certificate string `json:"certificate"` // PEM
	Key         string `json:"key"`         // PEM
}

// RecoverResponse answers POST /v1/recover: what the node's cluster of one goes on from. 409 while etcd has a quorum.
type RecoverResponse struct {
	From string `json:"from"`
}

// Cluster is GET /v1/cluster on a store node. Without a quorum it is what the node that answers remembers.
type Cluster struct {
	ID      string         `json:"id"`
	Healthy bool           `json:"healthy"`
	Problem string         `json:"problem,omitempty"` // why configuration cannot be changed now
	Members []Member       `json:"members"`
	Nodes   []Registration `json:"nodes"`
}

// Member is an etcd member.
type Member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Leader  bool   `json:"leader,omitempty"`
	Learner bool   `json:"learner,omitempty"`
	Healthy bool   `json:"healthy"`
}

// Registration is a node as the registry knows it; DELETE /v1/nodes/<name> forgets it and revokes its join token.
type Registration struct {
	Name     string           `json:"name"`
	Role     string           `json:"role"`
	Site     string           `json:"site"`
	Address  string           `json:"address"`
	Manage   string           `json:"manage,omitempty"`  // host:port of its management API
	Restart  []string         `json:"restart,omitempty"` // options whose change waits for a restart of the node
	State    State            `json:"state"`
	Applied  map[string]int64 `json:"applied,omitempty"` // document type -> revision in force on the node (cw config sync)
	LastSeen time.Time        `json:"last_seen"`
}

// Restarts is GET /v1/restarts on a store node: the rolling restart that changes of shared_config need, one node at a time.
type Restarts struct {
	Waiting []string  `json:"waiting,omitempty"` // nodes, in their order
	Current string    `json:"current,omitempty"` // that restarts now
	Since   time.Time `json:"since,omitzero"`    // of Current
	Halted  string    `json:"halted,omitempty"`  // why no node is restarted any more, until somebody resumes
}

// RestartsRequest is POST /v1/restarts: "resume" goes on after a halt, "clear" lets the nodes that wait run on as they are.
type RestartsRequest struct {
	Action string `json:"action"`
}

// Actions of a RestartsRequest.
const (
	ResumeRestarts = "resume"
	ClearRestarts  = "clear"
)

// Backup is a backup on one store node. POST /v1/backups takes one, GET lists them, POST /v1/backups/<id> reads one.
type Backup struct {
	ID   string `json:"id"`             // its time
	Size int64  `json:"size"`           // bytes
	Rows int64  `json:"rows,omitempty"` // rows and documents, when it has just been taken
}

// Restored answers POST /v1/restore.
type Restored struct {
	Rows      int64 `json:"rows"`      // put back
	Removed   int64 `json:"removed"`   // that were there and are not in the backup
	Documents int64 `json:"documents"` // put back
}

// Error is the body of every answer of 400 and above.
type Error struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
}
