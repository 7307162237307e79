package cassandra

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/gocql/gocql"
)

// Connection is how a client of Cassandra reaches it.
type Connection struct {
	Hosts      []string // addresses to begin with; the others are learnt
	Alone      bool     // speak with these hosts and learn no others
	Datacenter string   // whose nodes are asked; empty with Alone
	TLS        *tls.Config
	Log        *slog.Logger
}

// requestLimit is longer than the server's own limits, so that an answer which says what happened is not missed.
const requestLimit = 5 * time.Second

// Connect opens a session. The queries that go through it are retried by nobody but their callers.
func Connect(c Connection) (*gocql.Session, error) {
	conf := gocql.NewCluster(c.Hosts...)
	conf.Port = PortCQL
	conf.ProtoVersion = 4
	conf.Timeout, conf.WriteTimeout, conf.ConnectTimeout = requestLimit, requestLimit, requestLimit
	conf.Consistency, conf.SerialConsistency = gocql.LocalQuorum, gocql.LocalSerial
	conf.NumConns = 2
	conf.ReconnectInterval = time.Second
	conf.ReconnectionPolicy = &gocql.ConstantReconnectionPolicy{MaxRetries: 3, Interval: 300 * time.Millisecond}
	conf.DefaultTimestamp = false
	conf.Logger = logger{c.Log}
	if c.TLS != nil {
		conf.SslOpts = &gocql.SslOptions{Config: c.TLS.Clone(), EnableHostVerification: !c.TLS.InsecureSkipVerify}
	}
	if c.Alone {
		conf.DisableInitialHostLookup = true
		conf.NumConns = 1
		conf.HostFilter = gocql.WhiteListHostFilter(c.Hosts...) // after a lost connection it would learn the others
		conf.Events.DisableNodeStatusEvents, conf.Events.DisableTopologyEvents = true, true
	} else {
		conf.Keyspace = Keyspace // whose replicas are asked first
		conf.PoolConfig.HostSelectionPolicy = gocql.TokenAwareHostPolicy(gocql.DCAwareRoundRobinPolicy(c.Datacenter))
	}
	session, err := conf.CreateSession()
	if err != nil {
		return nil, fmt.Errorf("connecting to Cassandra at %v: %w", c.Hosts, err)
	}
	return session, nil
}

// logger passes what the driver says on to slog, for who looks closely: a host that goes down is told by Watch.
type logger struct{ log *slog.Logger }

func (l logger) Print(v ...any)                 { l.log.Debug("gocql: " + fmt.Sprint(v...)) }
func (l logger) Printf(format string, v ...any) { l.log.Debug("gocql: " + fmt.Sprintf(format, v...)) }
func (l logger) Println(v ...any)               { l.log.Debug("gocql: " + fmt.Sprint(v...)) }
