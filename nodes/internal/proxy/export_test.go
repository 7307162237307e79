package proxy

// Remembered counts the transactions that the core's table holds.
func (c *Core) Remembered() int { return c.layer.Len() }
