package httpserver

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// ReadBody reads a request's body; with an error it also says which status to answer: 413 or 400.
func ReadBody(r *http.Request) (body []byte, status int, err error) {
	body, err = io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", tooLarge.Limit)
	case err != nil:
		return nil, http.StatusBadRequest, fmt.Errorf("reading the body: %w", err)
	}
	return body, http.StatusOK, nil
}
