package pcscf

import "strings"

type param struct{ name, value string } // the value as written, quotes included

// parseChallenge reads credentials or a challenge: a scheme and comma-separated parameters (RFC 3261 25.1). It refuses
// whatever it does not understand in full, so that nothing hides in it.
func parseChallenge(v string) (scheme string, params []param, ok bool) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(v), " ")
	if !ok || scheme == "" {
		return "", nil, false
	}
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; {
		name, after, found := strings.Cut(rest, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" || strings.ContainsAny(name, "\", \t;") {
			return "", nil, false
		}
		value, tail, good := cutValue(strings.TrimLeft(after, " \t"))
		if !good {
			return "", nil, false
		}
		params = append(params, param{name, value})
		tail = strings.TrimLeft(tail, " \t")
		if tail == "" {
			break
		}
		if tail[0] != ',' {
			return "", nil, false
		}
		rest = strings.TrimLeft(tail[1:], " \t,")
	}
	return scheme, params, len(params) > 0
}

// cutValue takes a token or a quoted string off the front.
func cutValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ", \t")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], !strings.Contains(s[:end], `"`)
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return s[:i+1], s[i+1:], true
		}
	}
	return "", "", false
}

func printChallenge(scheme string, params []param) string {
	var b strings.Builder
	b.WriteString(scheme)
	for i, p := range params {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(p.value)
	}
	return b.String()
}
