package xcap

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"

	"github.com/clearwater-ims/clearwater/nodes/internal/records"
	"github.com/clearwater-ims/clearwater/nodes/xdms/internal/simservs"
)

// Type is a kind of document: its place in the URL, its table in the store and its schema.
type Type struct {
	Path   string `json:"path"`   // application usage, such as org.etsi.ngn.simservs
	File   string `json:"file"`   // name of the document, such as simservs.xml
	Schema string `json:"schema"` // "simservs", or "" for any well-formed document
	Table  string `json:"table"`  // the store's table is doc_<table>, so that no type reads another role's rows
}

func (t Type) storeTable() string {
	if t == Simservs() {
		return t.Table
	}
	return "doc_" + t.Table
}

// TypesFile is the file of a configuration folder that adds document types.
const TypesFile = "xdms_documents.json"

// Simservs is the type that is always served.
func Simservs() Type {
	return Type{Path: "org.etsi.ngn.simservs", File: "simservs.xml", Schema: "simservs", Table: "simservs"}
}

// LoadTypes returns Simservs and the types of a file: {"documents":[{"path","file","schema","table"}]}. A file that
// does not exist adds none.
func LoadTypes(path string) ([]Type, error) {
	types := []Type{Simservs()}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return types, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading document types: %w", err)
	}
	var file struct {
		Documents []Type `json:"documents"`
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("document types in %s: %w", path, err)
	}
	for _, t := range file.Documents {
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("document types in %s: %w", path, err)
		}
	}
	return append(types, file.Documents...), nil
}

var segment = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func (t Type) check() error {
	if !segment.MatchString(t.Path) || !segment.MatchString(t.File) {
		return fmt.Errorf("document type: path %q and file %q must be letters, digits, '.', '-' and '_'", t.Path, t.File)
	}
	if t.Schema != "" && t.Schema != "simservs" {
		return fmt.Errorf("document type %s: schema %q is unknown, allowed are simservs and none", t.Path, t.Schema)
	}
	if err := records.CheckTable(t.storeTable()); err != nil {
		return fmt.Errorf("document type %s: %w", t.Path, err)
	}
	return nil
}

func (t Type) validate(document []byte) error {
	if t.Schema == "simservs" {
		return simservs.Validate(document) //nolint:wrapcheck // it goes to the client as it is
	}
	_, err := simservs.Parse(document)
	return err //nolint:wrapcheck // as above
}

func (t Type) contentType() string {
	if t.Schema == "simservs" {
		return "application/vnd.etsi.simservs+xml"
	}
	return "application/xml"
}
