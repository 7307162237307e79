package browser

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bundle makes one script of the modules of JsSIP as npm has installed them, with the few lines that let them find each other.
func bundle(t *testing.T, root string) string {
	t.Helper()
	out, err := exec.Command(filepath.Join(root, "scripts", "jssip.sh")).Output()
	if err != nil {
		t.Fatalf("getting JsSIP: %v", err)
	}
	folder := strings.TrimSpace(string(out))
	mains := map[string]string{}
	var b strings.Builder
	b.WriteString("const modules = {\n")
	err = filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(folder, path)
		switch {
		case err != nil || d.IsDir():
			return err
		case filepath.Base(name) == "package.json" && strings.Count(name, "/") == 1:
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var p struct {
				Main    string
				Browser any
			}
			if err := json.Unmarshal(text, &p); err != nil {
				return err
			}
			if s, ok := p.Browser.(string); ok {
				p.Main = s
			}
			if p.Main == "" {
				p.Main = "index.js"
			}
			mains[filepath.Dir(name)] = filepath.Join(filepath.Dir(name), p.Main)
			fmt.Fprintf(&b, "%q: function(module, exports, require) { module.exports = %s; },\n", name, text)
		case filepath.Ext(name) == ".js" && !strings.Contains(name, "/test"):
			text, err := os.ReadFile(path)
			if err != nil || strings.HasPrefix(string(text), "#!") {
				return err
			}
			fmt.Fprintf(&b, "%q: function(module, exports, require) { %s\n},\n", name, text)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("reading JsSIP: %v", err)
	}
	names, _ := json.Marshal(mains)
	return "(() => {\n" + b.String() + "};\nconst mains = " + string(names) + loader
}

const loader = `;
const loaded = {};
function find(from, name) {
  let path = mains[name] || name;
  if (name.startsWith('.')) {
    const parts = from.split('/').slice(0, -1);
    for (const part of name.split('/')) { if (part === '..') parts.pop(); else if (part !== '.') parts.push(part); }
    path = parts.join('/');
  }
  return [path, path + '.js', path + '/index.js'].find(p => modules[p]);
}
function load(path) {
  if (!loaded[path]) {
    const module = loaded[path] = {exports: {}};
    modules[path](module, module.exports, name => load(find(path, name)));
  }
  return loaded[path].exports;
}
window.JsSIP = load(find('', 'jssip'));
})();
`
