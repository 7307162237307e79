package config

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Scopes: the file that an option belongs to. Local ones may stand nowhere else; the others may stand in earlier files
// too, as in the manual, where one shell sources all of them.
const (
	scopeLocal  = "local"
	scopeShared = "shared"
	scopeUser   = "user"
	scopeAny    = "any"
)

// kind is the type of a value.
type kind int

const (
	kindText kind = iota
	kindInt
	kindFloat
	kindBool
	kindList
	kindSeconds
	kindMilliseconds
)

// spec is what is known of an option.
type spec struct {
	name, scope string
	kind        kind
	check       string // a key of checks, for text and each item of a list
	def         string
	min, max    int64
	required    bool
	why         string // of options that have no effect
	index       []int  // of the field in Options
}

// specs describes the fields of Options, from their tags.
func specs() []spec {
	t := reflect.TypeFor[Options]()
	out := make([]spec, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		if process := f.Tag.Get("process"); process != "" {
			out = append(out, throttleSpecs(f, process)...)
			continue
		}
		out = append(out, specOf(f))
	}
	return out
}

// throttleSpecs describes the options of one process's Throttle.
func throttleSpecs(f reflect.StructField, process string) []spec {
	out := make([]spec, 0, f.Type.NumField())
	for i := range f.Type.NumField() {
		s := specOf(f.Type.Field(i))
		s.name, s.index = process+"_"+s.name, append(slices.Clone(f.Index), s.index...)
		if s.def == "" && s.kind == kindInt {
			s.def = f.Tag.Get("latency")
		}
		out = append(out, s)
	}
	return out
}

func specOf(f reflect.StructField) spec {
	s := spec{name: f.Tag.Get("option"), scope: f.Tag.Get("scope"), check: f.Tag.Get("check"), def: f.Tag.Get("default"),
		required: f.Tag.Get("required") == "true", why: f.Tag.Get("why"), index: f.Index}
	s.min, _ = strconv.ParseInt(f.Tag.Get("min"), 10, 64) // a test reads every tag
	s.max, _ = strconv.ParseInt(f.Tag.Get("max"), 10, 64)
	s.kind = kindOf(f)
	return s
}

func kindOf(f reflect.StructField) kind {
	switch {
	case f.Type == reflect.TypeFor[time.Duration]() && f.Tag.Get("unit") == "ms":
		return kindMilliseconds
	case f.Type == reflect.TypeFor[time.Duration]():
		return kindSeconds
	case f.Type.Kind() == reflect.Int:
		return kindInt
	case f.Type.Kind() == reflect.Float64:
		return kindFloat
	case f.Type.Kind() == reflect.Bool:
		return kindBool
	case f.Type.Kind() == reflect.Slice:
		return kindList
	default:
		return kindText
	}
}

func byName() map[string]spec {
	out := map[string]spec{}
	for _, s := range specs() {
		out[s.name] = s
	}
	return out
}

// Defaults returns options with every documented default and nothing else.
func Defaults() *Options {
	o := &Options{}
	for _, s := range specs() {
		if s.def == "" {
			continue
		}
		v, allowed, err := s.parse(s.def)
		if err != nil {
			panic(fmt.Sprintf("config: default of %s is not %s", s.name, allowed)) //nolint:forbidigo // a wrong struct tag is a build error in disguise
		}
		s.assign(o, v)
	}
	return o
}

// assign stores what parse returned.
func (s spec) assign(o *Options, v any) {
	target := reflect.ValueOf(o).Elem().FieldByIndex(s.index)
	target.Set(reflect.ValueOf(v).Convert(target.Type()))
}

// parse reads a value; with an error it says what is allowed.
func (s spec) parse(value string) (v any, allowed string, err error) {
	switch s.kind {
	case kindInt:
		n, allowed, err := s.number(value, "")
		return int(n), allowed, err
	case kindSeconds:
		n, allowed, err := s.number(value, " (seconds)")
		return time.Duration(n) * time.Second, allowed, err
	case kindMilliseconds:
		n, allowed, err := s.number(value, " (milliseconds)")
		return time.Duration(n) * time.Millisecond, allowed, err
	case kindFloat:
		x, err := strconv.ParseFloat(value, 64)
		if err != nil || !(x >= float64(s.min) && x <= float64(s.max)) { // NaN is no number
			return nil, fmt.Sprintf("a number from %d to %d", s.min, s.max), errValue
		}
		return x, "", nil
	case kindBool:
		switch strings.ToLower(value) {
		case "y", "true":
			return true, "", nil
		case "n", "false":
			return false, "", nil
		}
		return nil, "Y or N", errValue
	case kindList:
		return s.list(value)
	default:
		allowed, err := check(s.check, value)
		return value, allowed, err
	}
}

func (s spec) number(value, unit string) (int64, string, error) {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < s.min || n > s.max {
		return 0, fmt.Sprintf("a whole number from %d to %d%s", s.min, s.max, unit), errValue
	}
	return n, "", nil
}

func (s spec) list(value string) (any, string, error) {
	var list []string
	for item := range strings.SplitSeq(value, ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		if allowed, err := check(s.check, item); err != nil {
			return nil, "a comma-separated list, each " + allowed, err
		}
		list = append(list, item)
	}
	return list, "", nil
}

// Render writes the options of one scope that differ from their defaults, as a file that Parse reads back equal. The
// local file also gets those that may stand anywhere.
func (o *Options) Render(scope string) string {
	var b strings.Builder
	def := reflect.ValueOf(Defaults()).Elem()
	for _, s := range specs() {
		if s.scope != scope && (s.scope != scopeAny || scope != scopeLocal) {
			continue
		}
		mine := reflect.ValueOf(o).Elem().FieldByIndex(s.index).Interface()
		if !reflect.DeepEqual(mine, def.FieldByIndex(s.index).Interface()) {
			_, _ = fmt.Fprintf(&b, "%s=%s\n", s.name, quote(s.format(mine)))
		}
	}
	return b.String()
}

func (s spec) format(v any) string {
	switch x := v.(type) {
	case time.Duration:
		if s.kind == kindMilliseconds {
			return strconv.FormatInt(x.Milliseconds(), 10)
		}
		return strconv.FormatInt(int64(x/time.Second), 10)
	case bool:
		if x {
			return "Y"
		}
		return "N"
	case []string:
		return strings.Join(x, ",")
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64)
	default:
		return fmt.Sprint(x)
	}
}

// quote makes a value one word of a line. A value with both kinds of quotes cannot be written; none is taken either.
func quote(value string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-:,/@+=%[]", r)
	}
	switch {
	case strings.IndexFunc(value, func(r rune) bool { return !plain(r) }) < 0:
		return value
	case strings.Contains(value, `"`):
		return "'" + value + "'"
	default:
		return `"` + value + `"`
	}
}

// Names lists the option names of a scope that have an effect, sorted.
func Names(scope string) []string {
	var out []string
	for _, s := range specs() {
		if (s.scope == scope || s.scope == scopeAny) && s.why == "" {
			out = append(out, s.name)
		}
	}
	sort.Strings(out)
	return out
}
