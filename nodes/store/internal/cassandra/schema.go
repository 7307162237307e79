package cassandra

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/gocql/gocql"
)

// Keyspace is where the store keeps its tables.
const Keyspace = "clearwater"

// schemaLimit is for one change of the schema, which every node must hear of.
const schemaLimit = 30 * time.Second

// Migration is one step of the schema. Steps only go forward: a table or column is added, never changed, so that
// nodes of the version before keep working. Its statements may run again after a crash (IF NOT EXISTS).
type Migration struct {
	Version    int
	Statements []string
}

// Locker keeps others from changing the schema or the ring at the same time; the site's etcd is one.
type Locker interface {
	// Lock waits for the lock. Its holder has lost it when the context that is returned ends.
	Lock(ctx context.Context, name string) (held context.Context, unlock func(), err error)
}

// Names of locks.
const (
	lockSchema = "cassandra/schema"
	lockRing   = "cassandra/ring"
)

// Migrate brings the keyspace to the last of migrations, which are in order, and makes it if it is not there, with
// one replica in datacenter. A keyspace that is further (a newer node was here) is left as it is.
func Migrate(ctx context.Context, session *gocql.Session, datacenter string, migrations []Migration, locks Locker, log *slog.Logger) error {
	held, unlock, err := locks.Lock(ctx, lockSchema)
	if err != nil {
		return fmt.Errorf("locking the schema: %w", err)
	}
	defer unlock()
	if err := makeKeyspace(held, session, datacenter); err != nil {
		return err
	}
	at, err := schemaVersion(held, session)
	if err != nil {
		return err
	}
	for _, m := range migrations {
		if m.Version <= at {
			continue
		}
		for _, statement := range m.Statements {
			if err := change(held, session, strings.ReplaceAll(statement, "$keyspace", Keyspace)); err != nil {
				return fmt.Errorf("migrating the schema to version %d: %w", m.Version, err)
			}
		}
		if err := session.Query(`INSERT INTO `+Keyspace+`.migrations (scope, version, at) VALUES ('store', ?, toTimestamp(now()))`, m.Version).
			WithContext(held).Consistency(gocql.LocalQuorum).Exec(); err != nil {
			return fmt.Errorf("recording schema version %d: %w", m.Version, err)
		}
		log.Info("the schema was migrated", "version", m.Version)
	}
	return nil
}

func makeKeyspace(ctx context.Context, session *gocql.Session, datacenter string) error {
	replication, err := replicationOf(ctx, session, Keyspace)
	if err != nil {
		return err
	}
	if replication == nil {
		statement := `CREATE KEYSPACE IF NOT EXISTS ` + Keyspace + ` WITH replication = ` + replicationText(map[string]int{datacenter: 1})
		if err := change(ctx, session, statement); err != nil {
			return fmt.Errorf("making the keyspace: %w", err)
		}
	}
	err = change(ctx, session, `CREATE TABLE IF NOT EXISTS `+Keyspace+`.migrations (scope text, version int, at timestamp, PRIMARY KEY (scope, version)) WITH CLUSTERING ORDER BY (version DESC)`)
	if err != nil {
		return fmt.Errorf("making the table of migrations: %w", err)
	}
	return nil
}

func schemaVersion(ctx context.Context, session *gocql.Session) (int, error) {
	var at int
	err := session.Query(`SELECT version FROM ` + Keyspace + `.migrations WHERE scope = 'store' LIMIT 1`).WithContext(ctx).
		Consistency(gocql.LocalQuorum).Scan(&at)
	if err != nil && !errors.Is(err, gocql.ErrNotFound) {
		return 0, fmt.Errorf("reading the schema's version: %w", err)
	}
	return at, nil
}

// change runs a statement that changes the schema and waits until all nodes that are up have heard of it.
func change(ctx context.Context, session *gocql.Session, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, schemaLimit)
	defer cancel()
	if err := session.Query(statement).WithContext(ctx).Exec(); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return agreed(ctx, session)
}

func agreed(ctx context.Context, session *gocql.Session) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		versions := map[gocql.UUID]bool{}
		var version gocql.UUID
		for _, query := range []string{`SELECT schema_version FROM system.local`, `SELECT schema_version FROM system.peers_v2`} {
			iter := session.Query(query).WithContext(ctx).Consistency(gocql.One).Iter()
			for iter.Scan(&version) {
				versions[version] = true
			}
			if err := iter.Close(); err != nil {
				return fmt.Errorf("asking for the schema's versions: %w", err)
			}
		}
		if len(versions) == 1 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the nodes do not agree on the schema (is one down?): %w", ctx.Err())
		case <-tick.C:
		}
	}
}
