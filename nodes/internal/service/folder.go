package service

// Folder is the configuration folder that the node was started with, for files of a role of its own.
func (n *Node) Folder() string { return n.live.dir }
