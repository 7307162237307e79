package aws

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// configFolder is where a node's configuration lies in every image.
const configFolder = "/etc/clearwater"

// cloudConfig is what cloud-init reads: JSON, which is YAML too. The files are the node's whole configuration.
type cloudConfig struct {
	Hostname string      `json:"hostname"`
	Files    []cloudFile `json:"write_files"`
	Run      [][]string  `json:"runcmd"`
}

type cloudFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Owner       string `json:"owner"`
	Content     string `json:"content"`
}

const cloudConfigMark = "#cloud-config\n"

// userData is what an instance boots with, and its digest. It holds no secret but the one-time join token in local_config.
func userData(host, unit string, files map[string]string) (text, digest string, err error) {
	c := cloudConfig{Hostname: host, Run: [][]string{{"systemctl", "restart", "--no-block", unit}}}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		c.Files = append(c.Files, cloudFile{Path: path.Join(configFolder, name), Permissions: "0640", Owner: "root:clearwater", Content: files[name]})
	}
	body, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", "", fmt.Errorf("user data: %w", err)
	}
	text = cloudConfigMark + string(body) + "\n"
	const most = 16 << 10 // what EC2 takes
	if len(text) > most {
		return "", "", fmt.Errorf("user data of %d bytes: EC2 takes at most %d; make user_settings shorter", len(text), most)
	}
	sum := sha256.Sum256([]byte(text))
	return text, hex.EncodeToString(sum[:16]), nil
}

// filesOf reads the node's configuration back out of an instance's user data.
func filesOf(encoded string) (map[string]string, error) {
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	body, ok := strings.CutPrefix(string(text), cloudConfigMark)
	if !ok {
		return nil, fmt.Errorf("user data is not ours: it begins with %.20q", text)
	}
	var c cloudConfig
	if err := json.Unmarshal([]byte(body), &c); err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	out := map[string]string{}
	for _, f := range c.Files {
		out[path.Base(f.Path)] = f.Content
	}
	return out, nil
}
