package cluster

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
)

const (
	rootUser = "root" // etcd wants a user and a role of this name
	rootRole = "root"
	nodeRole = "node" // what every node may read
)

// Secure makes etcd ask who calls: its users are the names in certificates. self is this store node, which keeps all
// rights. It may be called again at any time.
func (c *Client) Secure(ctx context.Context, self string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	if status, err := c.etcd.AuthStatus(ctx); err == nil && status.Enabled {
		return nil
	}
	steps := []func() error{
		func() error { return c.addRole(ctx, rootRole) },
		func() error { return c.addUser(ctx, rootUser, rootRole) },
		func() error { return c.addUser(ctx, self, rootRole) },
		func() error { return c.addNodeRole(ctx) },
		func() error { _, err := c.etcd.AuthEnable(ctx); return err }, //nolint:wrapcheck // below
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return fmt.Errorf("setting up etcd's access control: %w", err)
		}
	}
	return nil
}

// Allow gives a node its rights: all of them to a store node; any other may read documents and the registry and write
// its own entry.
func (c *Client) Allow(ctx context.Context, node string, store bool) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	err := func() error {
		if store {
			return c.addUser(ctx, node, rootRole)
		}
		own := nodeRole + ":" + node
		if err := errors.Join(c.addNodeRole(ctx), c.addRole(ctx, own)); err != nil {
			return err
		}
		for _, kind := range []string{"nodes", "alive"} {
			if err := c.grant(ctx, own, c.key(kind, node), "", clientv3.PermissionType(clientv3.PermReadWrite)); err != nil {
				return err
			}
		}
		return c.addUser(ctx, node, nodeRole, own)
	}()
	if err != nil {
		return fmt.Errorf("giving %s its rights in etcd: %w", node, err)
	}
	return nil
}

// Disallow takes a node's rights back; one that has none is no error.
func (c *Client) Disallow(ctx context.Context, node string) error {
	ctx, cancel := limited(ctx)
	defer cancel()
	_, err := c.etcd.UserDelete(ctx, node)
	if err == nil || errors.Is(err, rpctypes.ErrUserNotFound) {
		_, err = c.etcd.RoleDelete(ctx, nodeRole+":"+node)
	}
	if err != nil && !errors.Is(err, rpctypes.ErrRoleNotFound) {
		return fmt.Errorf("taking the rights of %s in etcd back: %w", node, err)
	}
	return nil
}

func (c *Client) addNodeRole(ctx context.Context) error {
	if err := c.addRole(ctx, nodeRole); err != nil {
		return err
	}
	for _, kind := range []string{"configuration", "changes", "nodes", "alive"} {
		key := c.key(kind, "")
		if err := c.grant(ctx, nodeRole, key, clientv3.GetPrefixRangeEnd(key), clientv3.PermissionType(clientv3.PermRead)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) addRole(ctx context.Context, role string) error {
	if _, err := c.etcd.RoleAdd(ctx, role); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return err //nolint:wrapcheck // the callers say what was being done
	}
	return nil
}

func (c *Client) grant(ctx context.Context, role, key, end string, what clientv3.PermissionType) error {
	_, err := c.etcd.RoleGrantPermission(ctx, role, key, end, what)
	return err //nolint:wrapcheck // the callers say what was being done
}

func (c *Client) addUser(ctx context.Context, user string, roles ...string) error {
	_, err := c.etcd.UserAddWithOptions(ctx, user, "", &clientv3.UserAddOptions{NoPassword: true})
	if err != nil && !errors.Is(err, rpctypes.ErrUserAlreadyExist) {
		return err //nolint:wrapcheck // the callers say what was being done
	}
	for _, role := range roles {
		if _, err := c.etcd.UserGrantRole(ctx, user, role); err != nil {
			return err //nolint:wrapcheck // the callers say what was being done
		}
	}
	return nil
}
