// Package aws tests the aws platform from outside: Terraform against the emulator of Amazon's services, which has no
// machines. In their place this package runs a process for each instance that the emulator says is running, from that
// instance's own image, user data and address, and a name server that answers from the emulator's Route 53.
package aws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// machines runs instances as processes.
type machines struct {
	ec2    *ec2.Client
	bin    string // folder of binaries
	folder string // for configuration, data and logs
	log    *slog.Logger

	images  map[string]string // AMI -> role
	running map[string]*machine
}

type machine struct {
	node  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// look is how often the emulator is asked which instances run.
const look = 200 * time.Millisecond

// Run starts and ends processes until ctx ends; then it ends all.
func (m *machines) Run(ctx context.Context) error {
	defer func() {
		for id := range m.running {
			m.stop(id, syscall.SIGKILL)
		}
	}()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if err := m.step(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *machines) step(ctx context.Context) error {
	out, err := m.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{MaxResults: awssdk.Int32(1000)})
	if err != nil {
		return fmt.Errorf("listing instances: %w", err)
	}
	alive := map[string]bool{}
	for _, r := range out.Reservations {
		for _, i := range r.Instances {
			id := awssdk.ToString(i.InstanceId)
			if i.State.Name != types.InstanceStateNameRunning {
				continue
			}
			alive[id] = true
			if m.running[id] == nil {
				if err := m.start(ctx, i); err != nil {
					return err
				}
			}
		}
	}
	for id := range m.running {
		if !alive[id] {
			m.stop(id, syscall.SIGTERM)
		}
	}
	return nil
}

// start does what the image's boot does: it writes the files of the user data, and starts the role's binary.
func (m *machines) start(ctx context.Context, i types.Instance) error {
	id := awssdk.ToString(i.InstanceId)
	role, ok := m.images[awssdk.ToString(i.ImageId)]
	if !ok {
		return fmt.Errorf("instance %s runs %s, which was not registered", id, awssdk.ToString(i.ImageId))
	}
	out, err := m.ec2.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{InstanceId: &id, Attribute: types.InstanceAttributeNameUserData})
	if err != nil {
		return fmt.Errorf("user data of %s: %w", id, err)
	}
	text, err := base64.StdEncoding.DecodeString(awssdk.ToString(out.UserData.Value))
	if err != nil {
		return fmt.Errorf("user data of %s: %w", id, err)
	}
	node := id
	for _, t := range i.Tags {
		if awssdk.ToString(t.Key) == "clearwater:node" {
			node = awssdk.ToString(t.Value)
		}
	}
	folder := filepath.Join(m.folder, id)
	// The data of a store outlives its instance, as its volume does.
	data := filepath.Join(m.folder, "data", id)
	if role == "store" {
		data = filepath.Join(m.folder, "data", node)
	}
	if err := boot(string(text), folder, data); err != nil {
		return fmt.Errorf("booting %s: %w", id, err)
	}
	log, err := os.OpenFile(filepath.Join(m.folder, node+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(m.bin, role), "--config-dir", folder)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", node, err)
	}
	p := &machine{node: node, cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait()
	}()
	m.running[id] = p
	m.log.Info("machine started", "instance", id, "node", node, "pid", cmd.Process.Pid)
	return nil
}

// boot is cloud-init's part: write_files, here below a folder of the instance's own.
func boot(userData, folder, data string) error {
	body, ok := strings.CutPrefix(userData, "#cloud-config\n")
	if !ok {
		return errors.New("the user data is no cloud-config")
	}
	var c struct {
		Files []struct{ Path, Content string } `json:"write_files"`
	}
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return err
	}
	for _, dir := range []string{folder, data} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, f := range c.Files {
		if path.Base(f.Path) == "local_config" {
			f.Content += fmt.Sprintf("\ndata_directory=%q\n", data)
		}
		if err := os.WriteFile(filepath.Join(folder, path.Base(f.Path)), []byte(f.Content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *machines) stop(id string, signal syscall.Signal) {
	p := m.running[id]
	delete(m.running, id)
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.ended:
	case <-time.After(10 * time.Second): // as long as a machine that is terminated has to shut down
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // children too, such as etcd
	<-p.ended
	m.log.Info("machine ended", "instance", id, "node", p.node)
}
