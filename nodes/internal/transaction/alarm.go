package transaction

import "time"

// Alarm is a timer of a User's on the wheel of a Layer. It is part of its owner and costs nothing but its place there. Its
// methods must be called under the owner's lock.
type Alarm struct {
	timer timer
	at    time.Time
}

// Alarmed owns an Alarm. Alarm is called without any lock held; it must not block. It may come just after Stop or Set: Due
// tells.
type Alarmed interface{ Alarm(now time.Time) }

// Set has the owner called after d, which replaces what was set before.
func (a *Alarm) Set(l *Layer, owner Alarmed, d time.Duration) {
	a.at = time.Now().Add(d)
	l.wheel.schedule(&a.timer, ring{owner}, a.at)
}

// Stop takes it back.
func (a *Alarm) Stop(l *Layer) {
	if !a.at.IsZero() {
		a.at = time.Time{}
		l.wheel.stop(&a.timer)
	}
}

// Due tells whether the time has come; it has not when the alarm was stopped or set anew.
func (a *Alarm) Due(now time.Time) bool { return !a.at.IsZero() && !now.Before(a.at) }

type ring struct{ owner Alarmed }

func (r ring) fire(now time.Time) { r.owner.Alarm(now) }
