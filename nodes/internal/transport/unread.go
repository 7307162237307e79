package transport

import "golang.org/x/sys/unix"

// Unread tells whether a datagram waits in a UDP socket right now that has not been found empty since the last call. Such
// sockets are read more slowly than they are written to, however quickly each message is dealt with once it is read. Only
// to look at whether something waits would not do: a process that is held up now and then looks just when it goes on, and
// so much has come by then. One goroutine may call it. Connections need no such look: a
// peer on one that is not read can send no more than a window.
func (l *Layer) Unread() bool {
	for _, u := range l.udp {
		for _, s := range u.sockets {
			if n := s.none.Load(); n != s.seen {
				s.seen = n
				continue
			}
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
