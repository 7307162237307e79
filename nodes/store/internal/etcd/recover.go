package etcd

import (
	"context"
	"errors"
	"os"

	"github.com/clearwater-ims/clearwater/nodes/config"
)

// Recover makes a cluster of this node alone, where the majority of the members is lost for good: from its member's data,
// or, where that is gone, a new one from the configuration that the node has cached. It refuses with ErrHealthy.
// It returns what it goes on from.
func (m *Membership) Recover(ctx context.Context) (from string, err error) {
	askCtx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	if err := m.Site.Leader(askCtx); err == nil {
		return "", ErrHealthy
	}
	founded, _, err := m.Member.Founded()
	if err != nil {
		return "", err
	}
	if founded.Kind == kindMember && m.Member.hasData() {
		m.Log.Warn("recovering etcd from this member's data alone")
		m.force.Store(true)
		m.again()
		return "the data of its etcd member", nil
	}
	if m.Documents == nil {
		return "", errors.New("this node has no data of an etcd member")
	}
	shared, documents := m.Documents()
	if shared == "" {
		return "", errors.New("this node has neither data of an etcd member nor a copy of the shared configuration")
	}
	if m.Prepare != nil {
		if err := m.Prepare(ctx); err != nil {
			return "", err
		}
	}
	m.Log.Warn("recovering etcd as a new cluster from this node's copy of the configuration")
	if err := m.Member.wipe(); err != nil {
		return "", err
	}
	if err := m.Member.keep(order{SharedConfig: shared, Documents: documents, Author: "recovered from the disk of " + m.Member.Name}); err != nil {
		return "", err
	}
	m.again()
	return "its copy of the configuration", nil
}

// again makes the present state be thought over.
func (m *Membership) again() {
	select {
	case m.restart <- struct{}{}:
	default:
	}
}

// Cached reads the copies of documents that a node keeps in its configuration folder.
func Cached(read func(name string) ([]byte, error)) (shared string, documents map[string]string) {
	documents = map[string]string{}
	for _, typ := range config.DocumentTypes() {
		if text, err := read(typ); err == nil && len(text) > 0 {
			documents[typ] = string(text)
		}
	}
	text, err := read(config.SharedFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", documents
	}
	return string(text), documents
}
