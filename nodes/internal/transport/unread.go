package transport

import "golang.org/x/sys/unix"

// Unread tells whether a datagram waits in a UDP socket right now. Sockets that are never found empty are read more slowly
// than they are written to, however quickly each message is dealt with once it is read. Connections need no such look: a
// peer on one that is not read can send no more than a window.
func (l *Layer) Unread() bool {
	for _, u := range l.udp {
		for _, s := range u.sockets {
			waiting := 0
			err := s.raw.Control(func(fd uintptr) {
				waiting, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ) // 0 with an error
			})
			if err == nil && waiting > 0 {
				return true
			}
		}
	}
	return false
}
