package testvault

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// Cluster is several servers that share their data through raft. One is
// active, the others are standbys, which pass requests on to it.
type Cluster struct {
	Nodes []*Server
}

// StartCluster starts a cluster and waits until every node has a vote: from
// then on the cluster survives the loss of a minority.
func StartCluster(ctx context.Context, cfg Config, size int) (*Cluster, error) {
	return retryPorts(func() (*Cluster, error) {
		c := &Cluster{}
		if err := c.start(ctx, cfg, size); err != nil {
			c.Stop()
			return nil, err
		}
		return c, nil
	})
}

func (c *Cluster) start(ctx context.Context, cfg Config, size int) error {
	if err := c.startFirst(ctx, cfg); err != nil {
		return err
	}
	for len(c.Nodes) < size {
		if err := c.addNode(ctx, cfg); err != nil {
			return err
		}
	}
	if err := c.waitForVoters(ctx); err != nil {
		return err
	}
	_, err := c.Active(ctx)
	return err
}

// host returns where a node runs.
func (cfg Config) host(node int) Host {
	if node < len(cfg.Hosts) {
		return cfg.Hosts[node]
	}
	return Host{}
}

// startFirst starts the node that the others join.
func (c *Cluster) startFirst(ctx context.Context, cfg Config) error {
	first, err := newServer(ctx, cfg, cfg.host(0), "")
	if err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, first)
	if err := first.bootstrap(ctx); err != nil {
		return err
	}
	first.member = true
	// Before it gives a node a vote, raft's autopilot watches it for this long:
	// ten seconds unless told otherwise. (Sys().PutRaftAutopilotConfiguration
	// sends a field with it that only Enterprise accepts.)
	_, err = first.Client().Logical().WriteWithContext(ctx, "sys/storage/raft/autopilot/configuration",
		map[string]any{"server_stabilization_time": "100ms"})
	return err
}

// addNode starts one more node and joins it to the first.
func (c *Cluster) addNode(ctx context.Context, cfg Config) error {
	first := c.Nodes[0]
	node, err := newServer(ctx, cfg, cfg.host(len(c.Nodes)), first.pluginDir)
	if err != nil {
		return err
	}
	c.Nodes = append(c.Nodes, node)
	node.member, node.unsealKey, node.RootToken = true, first.unsealKey, first.RootToken
	if err := node.launch(ctx); err != nil {
		return err
	}
	join := &api.RaftJoinRequest{LeaderAPIAddr: first.Address}
	if _, err := node.ClientWithToken("").Sys().RaftJoinWithContext(ctx, join); err != nil {
		return node.explain(err)
	}
	return node.Unseal(ctx)
}

// waitForVoters waits until autopilot has given every node a vote.
func (c *Cluster) waitForVoters(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	first := c.Nodes[0]
	err := poll(ctx, pollEvery, func() (bool, error) {
		state, err := first.Client().Sys().RaftAutopilotStateWithContext(ctx)
		if err != nil || state == nil {
			return false, err
		}
		return state.Healthy && len(state.Voters) == len(c.Nodes), nil
	})
	if err != nil {
		return first.explain(fmt.Errorf("waiting for every node to have a vote: %w", err))
	}
	return nil
}

// Active waits until all nodes that run and are unsealed agree on the active
// one, and returns it. From then on any of them serves any request.
func (c *Cluster) Active(ctx context.Context) (*Server, error) {
	return c.activeOtherThan(ctx, nil)
}

// Standbys returns the nodes that run but are not active.
func (c *Cluster) Standbys(ctx context.Context) ([]*Server, error) {
	active, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	var standbys []*Server
	for _, node := range c.Nodes {
		if node != active && node.Running() {
			standbys = append(standbys, node)
		}
	}
	return standbys, nil
}

// StepDown makes the active node give up, waits until another one is active,
// and returns that one. For the next ten seconds the node that gave up declines
// to be active again, even if raft elects it.
func (c *Cluster) StepDown(ctx context.Context) (next *Server, err error) {
	old, err := c.Active(ctx)
	if err != nil {
		return nil, err
	}
	if err := old.Client().Sys().StepDownWithContext(ctx); err != nil {
		return nil, err
	}
	return c.activeOtherThan(ctx, old)
}

// KillActive kills the active node, waits until another one is active, and
// returns both. [Server.Restart] brings the killed one back.
func (c *Cluster) KillActive(ctx context.Context) (killed, next *Server, err error) {
	killed, err = c.Active(ctx)
	if err != nil {
		return nil, nil, err
	}
	killed.Kill()
	next, err = c.activeOtherThan(ctx, killed)
	return killed, next, err
}

// activeOtherThan waits until the nodes agree on an active one that is not old.
func (c *Cluster) activeOtherThan(ctx context.Context, old *Server) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var active *Server
	err := poll(ctx, pollEvery, func() (bool, error) {
		active = c.agreed(ctx)
		return active != nil && active != old, nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting for an active node: %w", err)
	}
	return active, nil
}

// agreed returns the node that says it is active and that every other node
// takes for active, or nil.
func (c *Cluster) agreed(ctx context.Context) *Server {
	var active *Server
	addresses := map[string]bool{}
	for _, node := range c.Nodes {
		if !node.Running() {
			continue
		}
		leader, err := node.ClientWithToken("").Sys().LeaderWithContext(ctx)
		if isSealed(err) {
			continue
		}
		if err != nil {
			return nil
		}
		if leader.IsSelf {
			active = node
		}
		addresses[leader.LeaderAddress] = true
	}
	if active == nil || len(addresses) != 1 || !addresses[active.Address] {
		return nil
	}
	return active
}

// isSealed reports whether a node refused because it is sealed.
func isSealed(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == 503
}

// Stop ends all nodes and removes all that they wrote. The active node, which
// has plugins to end, goes first, because it ends quickly while there are
// others to hand over to. The standbys would wait for a quorum: they are killed.
func (c *Cluster) Stop() {
	if active := c.agreed(context.Background()); active != nil {
		active.Stop()
	}
	for _, node := range c.Nodes {
		node.Kill()
		node.Stop()
	}
}
