package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// call is a request whose body has been read.
type call struct {
	*http.Request

	header http.Header // of the answer
	body   []byte
	args   url.Values // of the URL and, unless the body is a document, of the body
}

// newCall reads the body: JSON if the content type says so, a document if it is XML or text, else form fields; without a content
// type the braces decide.
func newCall(w http.ResponseWriter, r *http.Request) (*call, error) {
	c := &call{Request: r, header: w.Header(), args: url.Values{}}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "the query is malformed")
	}
	for name, values := range query {
		c.args[name] = values
	}
	c.body, err = io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, fail(http.StatusRequestEntityTooLarge, "the body is too large")
	}
	if err != nil {
		return nil, fail(http.StatusBadRequest, "the body did not arrive")
	}
	return c, c.parse()
}

func (c *call) parse() error {
	text := bytes.TrimSpace(c.body)
	if len(text) == 0 {
		return nil
	}
	contentType := c.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case contentType != "" && err != nil:
		return fail(http.StatusBadRequest, "the content type is malformed")
	case strings.Contains(media, "json"), contentType == "" && text[0] == '{':
		return c.parseJSON(text)
	case strings.Contains(media, "xml"), media == "text/plain", contentType == "" && text[0] == '<':
		return nil
	case media == "multipart/form-data":
		return fail(http.StatusUnsupportedMediaType, "send form fields as application/x-www-form-urlencoded")
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return fail(http.StatusBadRequest, "the form fields are malformed")
	}
	for name, values := range form {
		c.args[name] = values
	}
	return nil
}

func (c *call) parseJSON(text []byte) error {
	var fields map[string]any
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil {
		return fail(http.StatusBadRequest, "the body is not a JSON object: "+err.Error())
	}
	if decoder.More() {
		return fail(http.StatusBadRequest, "there is more than one JSON object")
	}
	for name, value := range fields {
		switch v := value.(type) {
		case nil:
		case string:
			c.args.Set(name, v)
		case json.Number:
			c.args.Set(name, v.String())
		case bool:
			c.args.Set(name, map[bool]string{true: "true", false: "false"}[v])
		default:
			return fail(http.StatusBadRequest, "field "+name+" must be a string, a number or a boolean")
		}
	}
	return nil
}

// arg returns a field of the body or the URL, or "".
func (c *call) arg(name string) string { return c.args.Get(name) }

// flag reads a boolean field; absent means false.
func (c *call) flag(name string) (bool, error) {
	switch strings.ToLower(c.arg(name)) {
	case "", "false", "0", "no", "off":
		return false, nil
	case "true", "1", "yes", "on":
		return true, nil
	default:
		return false, fail(http.StatusBadRequest, name+" must be true or false")
	}
}
