package layout

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Environment variables by which a process tells to which deployment and node it belongs.
const (
	StateVariable = "CLEARWATER_STATE"
	NodeVariable  = "CLEARWATER_NODE"
)

// Process is a live process of a deployment.
type Process struct {
	PID    int
	Node   string // empty: a supervisor
	Leader bool   // the node's own process, not one that it started
}

// Processes finds what runs of this deployment, from /proc alone: a process belongs to it when its executable lies in
// the folder's bin, or its environment names the folder. So nothing is missed that was started just before a crash.
func (f Folder) Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("listing processes: %w", err)
	}
	var out []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := f.process(pid); ok {
			out = append(out, p)
		}
	}
	return out, nil
}

func (f Folder) process(pid int) (Process, bool) {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil {
		return Process{}, false // ended, a kernel thread, or another user's
	}
	environment, _ := os.ReadFile(filepath.Join(proc, "environ")) // unreadable counts as empty
	mine := strings.HasPrefix(exe, f.Binaries()+string(filepath.Separator)) || value(environment, StateVariable) == string(f)
	if !mine || zombie(proc) {
		return Process{}, false
	}
	node := value(environment, NodeVariable)
	session, err := unix.Getsid(pid)
	return Process{PID: pid, Node: node, Leader: node != "" && err == nil && session == pid}, true
}

func value(environment []byte, name string) string {
	for entry := range bytes.SplitSeq(environment, []byte{0}) {
		if v, ok := bytes.CutPrefix(entry, []byte(name+"=")); ok {
			return string(v)
		}
	}
	return ""
}

// zombie tells whether the process has ended and only waits for its parent.
func zombie(proc string) bool {
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return true
	}
	end := bytes.LastIndexByte(stat, ')')
	return end >= 0 && len(stat) > end+2 && (stat[end+2] == 'Z' || stat[end+2] == 'X')
}
