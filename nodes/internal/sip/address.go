package sip

import "strings"

// Address is a name-addr or addr-spec with its header parameters (RFC 3261 20.10).
type Address struct {
	Display string // as received, quotes included
	URI     string
	Params  string // ";name=value..." behind the URI
}

// ParseAddress reads From, To, Contact, Route and the like. The URI itself is checked by ParseURI when it is needed.
func ParseAddress(value string) (Address, error) {
	open := indexUnquoted(value, '<')
	if open >= 0 {
		end := strings.IndexByte(value[open:], '>')
		if end < 0 {
			return Address{}, syntax("address %.80q", value)
		}
		end += open
		a := Address{Display: strings.TrimSpace(value[:open]), URI: value[open+1 : end], Params: trimLeft(value[end+1:])}
		if a.URI == "" || (a.Params != "" && a.Params[0] != ';') {
			return Address{}, syntax("address %.80q", value)
		}
		return a, nil
	}
	// addr-spec: what follows a semicolon belongs to the header (RFC 3261 20).
	uri, params := value, ""
	if i := strings.IndexByte(value, ';'); i >= 0 {
		uri, params = strings.TrimRight(value[:i], " \t"), value[i:]
	}
	if uri == "" || strings.IndexByte(uri, ':') <= 0 || strings.ContainsAny(uri, " \t\"<>") {
		return Address{}, syntax("address %.80q", value)
	}
	return Address{URI: uri, Params: params}, nil
}

// String prints the address with angle brackets.
func (a Address) String() string {
	if a.Display != "" {
		return a.Display + " <" + a.URI + ">" + a.Params
	}
	return "<" + a.URI + ">" + a.Params
}

// AddressURI parses the URI inside an address value.
func AddressURI(value string) (URI, error) {
	a, err := ParseAddress(value)
	if err != nil {
		return URI{}, err
	}
	return ParseURI(a.URI)
}

func indexUnquoted(s string, want byte) int {
	if first := strings.IndexByte(s, want); first < 0 || strings.IndexByte(s[:first], '"') < 0 {
		return first
	}
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == want && !quoted:
			return i
		}
	}
	return -1
}

// Param finds a parameter in ";name=value;flag" text. Quotes around the value are kept off.
func Param(params, name string) (string, bool) {
	start, end, value := findParam(params, name)
	if start == end {
		return "", false
	}
	if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
		value = value[1 : n-1]
	}
	return value, true
}

// SetParam replaces or appends a parameter; value "" makes a flag.
func SetParam(params, name, value string) string {
	text := ";" + name
	if value != "" {
		text += "=" + value
	}
	start, end, _ := findParam(params, name)
	if start == end {
		return params + text
	}
	return params[:start] + text + params[end:]
}

// DelParam removes a parameter.
func DelParam(params, name string) string {
	start, end, _ := findParam(params, name)
	return params[:start] + params[end:]
}

// findParam returns where ";name=value" stands; start == end when it does not.
func findParam(params, name string) (start, end int, value string) {
	for start < len(params) {
		if params[start] != ';' {
			start++ // white space before a semicolon
			continue
		}
		end = paramEnd(params, start+1)
		item := params[start+1 : end]
		key, val := item, ""
		if i := strings.IndexByte(item, '='); i >= 0 {
			key, val = item[:i], item[i+1:]
		}
		if len(key) > len(name) {
			key = trim(key)
		}
		if len(key) == len(name) && strings.EqualFold(key, name) {
			return start, end, trim(val)
		}
		start = end
	}
	return 0, 0, ""
}

// paramEnd is where the parameter that starts at from ends: at the next semicolon outside quotes.
func paramEnd(params string, from int) int {
	end := len(params)
	if i := strings.IndexByte(params[from:], ';'); i >= 0 {
		end = from + i
	}
	if strings.IndexByte(params[from:end], '"') < 0 {
		return end
	}
	if i := indexUnquoted(params[from:], ';'); i >= 0 {
		return from + i
	}
	return len(params)
}

// Params calls f for each parameter in order until it returns false.
func Params(params string, f func(name, value string) bool) {
	for rest := params; rest != ""; {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" || rest[0] != ';' {
			return
		}
		rest = rest[1:]
		item := rest
		if i := indexUnquoted(rest, ';'); i >= 0 {
			item, rest = rest[:i], rest[i:]
		} else {
			rest = ""
		}
		name, value, _ := strings.Cut(item, "=")
		if !f(strings.Trim(name, " \t"), strings.Trim(value, " \t")) {
			return
		}
	}
}
