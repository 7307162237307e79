package portal

import (
	"context"
	"fmt"
	"net/http"
)

// SyncFindings is where the portal and the subscribers do not agree.
type SyncFindings struct {
	Lines   int      `json:"lines"`             // that accounts have
	Lost    []string `json:"lost,omitempty"`    // lines without a subscriber
	Orphans []string `json:"orphans,omitempty"` // free numbers with a subscriber
}

// Sync compares the portal's numbers with the subscribers; with repair, lost lines leave their accounts and orphans go. It needs
// the API key.
func (c *Client) Sync(ctx context.Context, repair bool) (*SyncFindings, error) {
	var out SyncFindings
	if err := c.rest.JSON(ctx, http.MethodPost, "/sync", map[string]string{"repair": fmt.Sprint(repair)}, &out); err != nil {
		return nil, fmt.Errorf("comparing the portal with the subscribers: %w", err)
	}
	return &out, nil
}
