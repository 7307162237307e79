package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/types"
)

// settings are a model's options as plain texts.
func settings(m sharedModel) map[string]string {
	out := map[string]string{}
	for name, value := range m.Settings.Elements() {
		if text, ok := value.(types.String); ok {
			out[name] = text.ValueString()
		}
	}
	return out
}

// edit sets options in a shared_config text and drops those of before that are not wanted; every other line stays as it is.
func edit(text string, wanted, before map[string]string) string {
	var out []string
	done := map[string]bool{}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		name, _, isOption := option(line)
		value, want := wanted[name]
		_, had := before[name]
		switch {
		case !isOption || (!want && !had):
			out = append(out, line)
		case want && !done[name]:
			out = append(out, assignment(name, value))
			done[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !done[name] {
			out = append(out, assignment(name, wanted[name]))
		}
	}
	return strings.TrimLeft(strings.Join(out, "\n")+"\n", "\n")
}

// current reads the options of a text: those that are listed, or, for an import, all that the provider does not own.
func current(text string, all bool, listed map[string]string) map[string]string {
	out := map[string]string{}
	for line := range strings.SplitSeq(text, "\n") {
		name, value, ok := option(line)
		if !ok {
			continue
		}
		_, mine := listed[name]
		if mine || (all && !slices.Contains(owned(), name) && name != "signup_key") {
			out[name] = value
		}
	}
	return out
}

// option splits a line as nodes do: name=value with quotes around the value, or a comment.
func option(line string) (name, value string, ok bool) {
	line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
	name, value, ok = strings.Cut(line, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" || strings.HasPrefix(name, "#") || strings.ContainsAny(name, " \t\"'") {
		return "", "", false
	}
	value = strings.TrimSpace(value)
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		if end := strings.IndexByte(value[1:], value[0]); end >= 0 {
			return name, value[1 : end+1], true
		}
	}
	if i := strings.Index(value, " #"); i >= 0 {
		value = strings.TrimSpace(value[:i])
	}
	return name, value, true
}

func assignment(name, value string) string {
	if strings.ContainsAny(value, " #\"'") {
		quote := `"`
		if strings.Contains(value, quote) {
			quote = "'"
		}
		return fmt.Sprintf("%s=%s%s%s", name, quote, value, quote)
	}
	return name + "=" + value
}
