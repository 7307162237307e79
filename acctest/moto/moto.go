// Package moto runs the emulator of AWS that tests use.
package moto

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Environment is what AWS tools need to know to use the emulator, and nothing of the account that somebody may have.
func Environment() map[string]string {
	return map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-west-1", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "AWS_SESSION_TOKEN": ""}
}

// Start starts the emulator on a free port of a loopback address. root is the work tree. stop ends it.
func Start(ctx context.Context, root, address string) (url string, stop func(), err error) {
	server, err := exec.CommandContext(ctx, filepath.Join(root, "scripts", "moto.sh")).Output()
	if err != nil {
		return "", nil, fmt.Errorf("scripts/moto.sh: %w", err)
	}
	port, err := freePort(ctx, address)
	if err != nil {
		return "", nil, err
	}
	cmd := exec.Command(strings.TrimSpace(string(server)), "-H", address, "-p", port)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	// It looks for a profile, even an empty one, that it does not need.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("starting moto: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-ended
	}
	url = "http://" + net.JoinHostPort(address, port)
	deadline := time.After(time.Minute)
	for {
		if answers(ctx, url) {
			return url, stop, nil
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("moto ended:\n%s", log.String())
		case <-deadline:
			stop()
			return "", nil, fmt.Errorf("moto does not answer:\n%s", log.String())
		case <-ctx.Done():
			stop()
			return "", nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func answers(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/moto-api/data.json", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

func freePort(ctx context.Context, address string) (string, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
