package peer

// health is a state of the watchdog (RFC 3539 3.4.1).
type health int

const (
	initial health = iota
	okay
	suspect // silent: its requests have gone elsewhere
	down
	reopen // back after it was down; three answers to probes make it okay
)

func (h health) String() string {
	return [...]string{"initial", "okay", "suspect", "down", "reopen"}[h]
}

// watchdog is the state machine of RFC 3539 3.4.1, without clock or connection: its methods are the events, what they
// return is to be done. Whoever holds it sets the timer again after every event.
type watchdog struct {
	state   health
	pending bool // a probe has no answer yet
	answers int  // in state reopen; -1 after a silence
}

// action is what an event of the watchdog demands.
type action struct {
	probe    bool // send a DWR
	failover bool // send what is pending elsewhere
	close    bool
}

// up is a new connection.
func (w *watchdog) up() action {
	if w.state == initial {
		w.state, w.pending = okay, false
		return action{}
	}
	w.state, w.pending, w.answers = reopen, true, 0
	return action{probe: true}
}

// answered is a DWA.
func (w *watchdog) answered() action {
	w.pending = false
	switch w.state {
	case suspect:
		w.state = okay
	case reopen:
		if w.answers++; w.answers >= 3 {
			w.state = okay
		}
	}
	return action{}
}

// heard is any other message.
func (w *watchdog) heard() action {
	if w.state == suspect {
		w.state = okay
	}
	return action{}
}

// expired is the end of the timer: a silence of Tw.
func (w *watchdog) expired() action {
	switch {
	case w.state == okay && w.pending:
		w.state = suspect
		return action{failover: true}
	case w.state == suspect, w.state == reopen && w.pending && w.answers < 0:
		w.state = down
		return action{failover: true, close: true}
	case w.state == reopen && w.pending:
		w.answers = -1
		return action{}
	case w.state == okay, w.state == reopen:
		w.pending = true
		return action{probe: true}
	}
	return action{}
}

// lost is the end of the connection.
func (w *watchdog) lost() action {
	w.state = down
	return action{failover: true, close: true}
}
